"""A received tree, built beside the live one. Design section 7.

Rule of this file: until `DataDirectory.switch_tree` the live tree is not touched, and a tree that is
not whole cannot be switched to.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from coordsvc.storage.errors import DiskTrust, SnapshotRefused, storage_error
from coordsvc.storage.failpoints import reach
from coordsvc.storage.files import sync_path
from coordsvc.storage.tree_chunks import ChunkReader
from coordsvc.storage.tree_store import TreeStore

TREE_BYTES_MAX = 64 << 30


class SnapshotBuilder:
    """One tree under construction. For the background thread, but `release` for the storage thread."""

    def __init__(self, path: Path, number: int, trust: DiskTrust, bytes_max: int = TREE_BYTES_MAX) -> None:
        self.path = path
        self.number = number
        self._trust = trust
        self._reader = ChunkReader(bytes_max)
        self._store: TreeStore | None = TreeStore.create(path, trust)
        self._finished = False

    @property
    def complete(self) -> bool:
        """Whether the last chunk has arrived."""
        return self._reader.complete

    @property
    def store(self) -> TreeStore:
        """The tree under construction, for whoever verifies it before it is switched to."""
        assert self._store is not None, "an aborted or switched builder has no tree"
        return self._store

    def add_chunk(self, number: int, data: bytes, checksum: int) -> None:
        """Store the records of the next chunk.

        Raises:
            SnapshotRefused: The chunk is not the next one, is damaged, or exceeds the limit. Abort then.
        """
        assert self._store is not None, "an aborted or switched builder takes no chunks"
        records = self._reader.read(number, data, checksum)
        reach("snapshot_chunk_taking")
        if records:
            self._store.write(records, ())
        reach("snapshot_chunk_taken")

    def finish(self) -> None:
        """Make the whole tree durable.

        Raises:
            SnapshotRefused: The last chunk has not arrived.
        """
        assert self._store is not None, "an aborted or switched builder cannot finish"
        if not self._reader.complete:
            raise SnapshotRefused(
                f"the snapshot ended after {self._reader.next_number} chunks, before its end"
            )
        reach("snapshot_finishing")
        self._store.sync()
        try:
            sync_path(self.path.parent)
        except OSError as error:
            raise self._trust.lose(storage_error(error, self.path.parent, "sync")) from error
        self._finished = True
        reach("snapshot_finished")

    def abort(self) -> None:
        """Throw away what was built. May be called at any time, more than once."""
        if self._store is None:
            return
        self._store.close()
        self._store = None
        shutil.rmtree(self.path, ignore_errors=True)  # what stays is removed when the directory is opened

    def release(self) -> TreeStore:
        """Hand over the finished tree; for `DataDirectory.switch_tree`."""
        assert self._finished, "only a whole, durable tree may be switched to"
        assert self._store is not None, "a builder is released once"
        store, self._store = self._store, None
        return store

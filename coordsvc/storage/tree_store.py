"""The tree's records on LevelDB: the state machine's `Store`, and the snapshots taken of it.

Writes are not waited for: the log can replay them. `sync` is what allows the log to be trimmed.
Rule of this file: what LevelDB cannot read or write is never an empty answer but the end of the member.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import plyvel

from coordsvc.storage.errors import DiskTrust, SnapshotClosed, StorageError, storage_error
from coordsvc.storage.failpoints import reach
from coordsvc.storage.files import sync_directory_and_files
from coordsvc.storage.leveldb import Tuning, create_database, open_database
from coordsvc.storage.tree_chunks import TreeChunk, encode_chunks

TREE_TUNING = Tuning()

_SLOW_LOOK_S = 0.0001
_DIRECT_LOOKS_MIN = 64
_DIRECT_LOOKS_MAX = 1 << 15

Records = Iterator[tuple[bytes, bytes]]


class TreeStore:
    """An ordered map from bytes to bytes. Implements `coordsvc.statemachine.store.Store`.

    Threads: `get`, `scan`, `keys`, `write` and `snapshot` on the loop thread; `sync` and `verify_all` on the
    background thread.
    """

    def __init__(self, path: Path, database: plyvel.DB, trust: DiskTrust) -> None:
        self.path = path
        self._database = database
        self._trust = trust
        self._raw_iterator = database.raw_iterator
        self._new_batch = database.write_batch
        self._direct_looks = _DIRECT_LOOKS_MIN  # how many will follow the next slow look
        self._direct_looks_left = 0

    @classmethod
    def create(cls, path: Path, trust: DiskTrust) -> Self:
        """Make an empty tree. Not durable before `sync`."""
        return cls(path, create_database(path, TREE_TUNING), trust)

    @classmethod
    def open(cls, path: Path, trust: DiskTrust) -> Self:
        """Open an existing tree. See `verify_all`.

        Raises:
            CorruptDataError: A file is damaged or missing.
        """
        return cls(path, open_database(path, TREE_TUNING), trust)

    def close(self) -> None:
        """Release the database. No other call may be running, and none may follow."""
        self._database.close()

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        if self._trust.failure is not None:
            self._trust.check()
        try:
            if not self._direct_looks_left:
                return self._look_by_position(key)
            self._direct_looks_left -= 1
            value: bytes | None = self._database.get(key, verify_checksums=True)
        except plyvel.Error as error:
            raise self._lost(error, "read") from error
        return value

    def _look_by_position(self, key: bytes) -> bytes | None:
        # Not LevelDB's own `get`: it counts each look into a second file against the first, and soon merges
        # that with all that lies below. Under creates that was the whole tree, every few seconds.
        began_s = perf_counter()
        value = self._read_at(key)
        if value is not None:
            return value
        if perf_counter() - began_s < _SLOW_LOOK_S:
            self._direct_looks = max(_DIRECT_LOOKS_MIN, self._direct_looks // 2)
            return None
        # It waited for the disk or for a core, or it stepped over deleted records to the next that is there.
        began_s = perf_counter()
        self._read_at(key)
        if perf_counter() - began_s >= _SLOW_LOOK_S:
            self._direct_looks_left = self._direct_looks  # `get` steps over nothing
            self._direct_looks = min(_DIRECT_LOOKS_MAX, self._direct_looks * 2)
        return None

    def _read_at(self, key: bytes) -> bytes | None:
        records = self._raw_iterator(verify_checksums=True)
        try:
            records.seek(key)
            value: bytes | None = records.value() if records.valid() and records.key() == key else None
        finally:
            records.close()
        return value

    def scan(self, start: bytes, stop: bytes) -> Records:
        """Yield the records with `start <= key < stop` in ascending order, as of the call."""
        return self._records(self._database, start=start, stop=stop)

    def keys(self, start: bytes, stop: bytes) -> Iterator[bytes]:
        """Yield the keys of `scan`, without the cost of the values."""
        self._trust.check()
        try:
            keys = self._database.iterator(start=start, stop=stop, include_value=False, verify_checksums=True)
        except plyvel.Error as error:
            raise self._lost(error, "read") from error
        return self._checked(keys)

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes]) -> None:
        """Apply all at once. No key is in both lists. Not waited for the disk."""
        if self._trust.failure is not None:
            self._trust.check()
        batch = self._new_batch()
        put, delete = batch.put, batch.delete
        for key, value in puts:
            put(key, value)
        for key in deletes:
            delete(key)
        reach("tree_writing")
        try:
            batch.write()
        except plyvel.Error as error:
            raise self._lost(error, "write to") from error
        reach("tree_written")

    def sync(self) -> None:
        """Make everything written before this call durable."""
        self._trust.check()
        reach("tree_syncing")
        try:
            sync_directory_and_files(self.path)
        except StorageError as error:
            raise self._trust.lose(error) from error
        reach("tree_synced")

    def verify_all(self) -> int:
        """Read every record, checking LevelDB's checksums. Returns how many there are."""
        count = 0
        for _ in self._records(self._database, fill_cache=False):
            count += 1
        return count

    def snapshot(self) -> TreeSnapshot:
        """Pin the records as they are now. Cheap; must be closed."""
        self._trust.check()
        try:
            pinned = self._database.snapshot()
        except plyvel.Error as error:
            raise self._lost(error, "read") from error
        return TreeSnapshot(self, pinned)

    def _records(
        self,
        source: plyvel.DB | plyvel.Snapshot,
        *,
        start: bytes | None = None,
        stop: bytes | None = None,
        fill_cache: bool = True,
    ) -> Records:
        """Pin and position now, read as it is consumed; both may meet damage."""
        self._trust.check()
        try:
            records = source.iterator(start=start, stop=stop, verify_checksums=True, fill_cache=fill_cache)
        except plyvel.Error as error:
            raise self._lost(error, "read") from error
        return self._checked(records)

    def _checked(self, records: plyvel.Iterator) -> Iterator[Any]:
        try:
            with records:
                yield from records
        except plyvel.Error as error:
            raise self._lost(error, "read") from error

    def _lost(self, error: plyvel.Error, action: str) -> StorageError:
        return self._trust.lose(storage_error(error, self.path, action))


class TreeSnapshot:
    """All records as they were when it was taken, whatever is written since.

    Implements `coordsvc.statemachine.store.Records`. It may be closed on the loop thread while the background
    thread reads from it: that ends the reading.
    """

    def __init__(self, store: TreeStore, pinned: plyvel.Snapshot) -> None:
        self._store = store
        self._pinned = pinned
        self._is_closed = False
        self._positioning = threading.Lock()  # LevelDB must not lose the snapshot while it seeks in it

    def chunks(self, bytes_max: int) -> Iterator[TreeChunk]:
        """Yield the whole tree in checked chunks of about `bytes_max`. For the background thread.

        Raises:
            SnapshotClosed: It was closed before, or is while the chunks are taken.
        """
        with self._positioning:
            self._check_open()
            records = self._store._records(self._pinned, fill_cache=False)  # noqa: SLF001 - one thing, two classes
        return self._while_open(encode_chunks(records, bytes_max))

    def get(self, key: bytes) -> bytes | None:
        """Return the value as of the snapshot, or None."""
        with self._positioning:
            self._check_open()
            try:
                value: bytes | None = self._pinned.get(key, verify_checksums=True)
            except plyvel.Error as error:
                raise self._store._lost(error, "read") from error  # noqa: SLF001 - one thing, two classes
        return value

    def scan(self, start: bytes, stop: bytes) -> Records:
        """Yield the records with `start <= key < stop` in ascending order, as of the snapshot.

        What is being scanned when it is closed may be scanned to its end, as long as the tree stays open.
        """
        with self._positioning:
            self._check_open()
            return self._store._records(  # noqa: SLF001 - one thing, two classes
                self._pinned, start=start, stop=stop, fill_cache=False
            )

    def close(self) -> None:
        """Let LevelDB forget it. May be called more than once."""
        with self._positioning:
            self._is_closed = True
            self._pinned.close()

    def _while_open(self, chunks: Iterator[TreeChunk]) -> Iterator[TreeChunk]:
        while True:
            self._check_open()
            chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def _check_open(self) -> None:
        if self._is_closed:
            raise SnapshotClosed(f"the snapshot of {self._store.path} was closed while it was read")

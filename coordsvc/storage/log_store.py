"""The Raft log on LevelDB: entries, term and vote. Design section 7; Raft Figure 2.

Two threads use one store. The storage thread calls `write`, `trim` and `trim_some`, which touch only the
database. The loop thread calls `adopt` and `adopt_trim` once those have returned, and everything else.

Rule of this file: nothing is visible to readers before it is adopted, and what is adopted is on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import plyvel

from coordsvc.raft.log import Compacted, Unavailable
from coordsvc.raft.types import Configuration, Entry, HardState, Index, SnapshotMetadata, Term
from coordsvc.storage.errors import DiskTrust, StorageError, damaged, storage_error
from coordsvc.storage.failpoints import reach
from coordsvc.storage.leveldb import Tuning, create_database, open_database
from coordsvc.storage.log_records import (
    ENTRIES_BEGIN,
    ENTRIES_END,
    ENTRY_HEADER_BYTES,
    HARD_STATE_KEY,
    START_KEY,
    SYNCED_WRITES_KEY,
    BrokenRecord,
    LogStart,
    checksum_of,
    decode_entry,
    decode_hard_state,
    decode_start,
    encode_entry,
    encode_hard_state,
    encode_start,
    entry_key,
    index_of,
    start_after,
)
from coordsvc.storage.log_tail import LogTail, TermRuns
from coordsvc.storage.sync_mark import SyncMark, decode_number, encode_number, mark_path

_TUNING = Tuning(write_buffer_bytes=16 << 20, block_cache_bytes=4 << 20, bloom_bits_per_key=0)
_TRIM_BATCH_ENTRIES = 512


class _Batch(Protocol):
    def put(self, key: bytes, value: bytes) -> None: ...
    def delete(self, key: bytes) -> None: ...


class LogStore:
    """One member's log. Implements `coordsvc.raft.log.LogStorage`.

    Crash contract: after a crash the log holds every write made with `sync=True`, and of the later ones
    some prefix of whole writes.
    """

    def __init__(
        self, path: Path, database: plyvel.DB, mark: SyncMark, trust: DiskTrust, cache_bytes_max: int
    ) -> None:
        self.path = path
        self._database = database
        self._mark = mark
        self._trust = trust
        # What readers see.
        self._hard_state = HardState()
        self._first_index: Index = 1
        self._last_index: Index = 0
        self._terms = TermRuns(0, 0)
        self._tail = LogTail(cache_bytes_max, 1)
        self._bytes_since_trim = 0
        self._entries_since_trim = 0
        # What is on disk; of the storage thread.
        self._start = start_after(0, 0)
        self._disk_last: Index = 0
        self._disk_last_checksum = 0
        self._gone_through: Index = 0  # entries up to here may be missing on disk
        try:
            self._load()
            self._check_mark()
        except BrokenRecord as error:
            self.close()
            raise trust.lose(damaged(path, str(error))) from error
        except plyvel.Error as error:
            self.close()
            raise trust.lose(storage_error(error, path, "read")) from error
        except StorageError as error:
            self.close()
            raise trust.lose(error) from error

    @classmethod
    def create(cls, path: Path) -> None:
        """Make an empty log on disk, durable on return."""
        SyncMark.create(mark_path(path))
        database = create_database(path, _TUNING)
        try:
            with database.write_batch(sync=True) as batch:
                batch.put(START_KEY, encode_start(start_after(0, 0)))
                batch.put(HARD_STATE_KEY, encode_hard_state(HardState()))
                batch.put(SYNCED_WRITES_KEY, encode_number(0))
        except plyvel.Error as error:
            raise storage_error(error, path, "write") from error
        finally:
            database.close()

    @classmethod
    def open(cls, path: Path, trust: DiskTrust, cache_bytes_max: int = 16 << 20) -> Self:
        """Open an existing log and verify all of it.

        Raises:
            CorruptDataError: A record is damaged or missing.
        """
        mark = SyncMark.open(mark_path(path))
        try:
            database = open_database(path, _TUNING)
        except StorageError:
            mark.close()
            raise
        return cls(path, database, mark, trust, cache_bytes_max)

    def close(self) -> None:
        """Release the database. No other call may be running, and none may follow."""
        self._database.close()
        self._mark.close()

    # --- what is visible: the loop thread ---

    @property
    def hard_state(self) -> HardState:
        return self._hard_state

    def first_index(self) -> Index:
        return self._first_index

    def last_index(self) -> Index:
        return self._last_index

    def term(self, index: Index) -> Term:
        """Return the term of the entry at `index`; the one just before the first is known too."""
        if index < self._first_index - 1:
            raise Compacted
        if index > self._last_index:
            raise Unavailable
        return self._terms.at(index)

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        """Return the entries `low <= index < high`, cut to `bytes_max` of data but never to none."""
        if low < self._first_index:
            raise Compacted
        if high > self._last_index + 1:
            raise Unavailable
        if low >= high:
            return []
        tail = self._tail
        if low < tail.first_index:
            return self._read_entries(low, high, bytes_max)
        entries = tail.entries[low - tail.first_index : high - tail.first_index]
        size = 0
        for position, entry in enumerate(entries):
            size += len(entry.data)
            if size > bytes_max and position > 0:
                return entries[:position]
        return entries

    @property
    def first_index_in_memory(self) -> Index:
        """From here on entries are read from memory: the newest ones, up to `cache_bytes_max`."""
        return self._tail.first_index

    @property
    def bytes_since_trim(self) -> int:
        """Bytes of data appended since the log was opened, reset or trimmed last."""
        return self._bytes_since_trim

    @property
    def entries_since_trim(self) -> int:
        """Entries appended since the log was opened, reset or trimmed last."""
        return self._entries_since_trim

    def adopt(
        self, hard_state: HardState | None, entries: Sequence[Entry], snapshot: SnapshotMetadata | None
    ) -> None:
        """Make visible what `write` has put on disk."""
        reach("log_adopting")
        if hard_state is not None:
            self._hard_state = hard_state
        if snapshot is not None:
            self._first_index = snapshot.index + 1
            self._last_index = snapshot.index
            self._terms = TermRuns(snapshot.index, snapshot.term)
            self._tail.reset(snapshot.index + 1)
            self._bytes_since_trim = self._entries_since_trim = 0
        if not entries:
            return
        assert self._first_index <= entries[0].index <= self._last_index + 1, "an append leaves no gap"
        self._terms.append(entries)
        self._tail.append(entries)
        self._last_index = entries[-1].index
        self._entries_since_trim += len(entries)
        for entry in entries:
            self._bytes_since_trim += len(entry.data)

    def adopt_trim(self, index: Index) -> None:
        """Make visible what `trim` has done on disk."""
        if index < self._first_index:
            return
        self._terms.trim(index)
        self._tail.trim(index)
        self._first_index = index + 1
        self._bytes_since_trim = self._entries_since_trim = 0

    # --- what is on disk: the storage thread ---

    def write(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        snapshot: SnapshotMetadata | None,
        *,
        sync: bool,
    ) -> None:
        """Write all at once. Entries replace every stored entry at or after the first of them.

        With a snapshot the log is first emptied and starts after it. With `sync` everything written so
        far is on disk on return.
        """
        self._trust.check()
        reach("log_writing" if snapshot is None else "snapshot_log_resetting")
        try:
            with self._database.write_batch(sync=sync) as batch:
                if snapshot is not None:
                    self._put_reset(batch, start_after(snapshot.index, snapshot.term))
                if entries:
                    self._put_entries(batch, entries)
                if hard_state is not None:
                    batch.put(HARD_STATE_KEY, encode_hard_state(hard_state))
                if sync:
                    batch.put(SYNCED_WRITES_KEY, encode_number(self._mark.number + 1))
        except plyvel.Error as error:
            raise self._trust.lose(storage_error(error, self.path, "write to")) from error
        except BrokenRecord as error:
            raise self._trust.lose(damaged(self.path, str(error))) from error
        reach("log_written" if snapshot is None else "snapshot_log_reset")
        if sync:
            self._advance_mark(self._mark.number + 1)
            reach("log_marked")

    def trim(self, index: Index) -> None:
        """Delete the entries up to and including `index`. Not waited for the disk.

        The caller has made sure that the tree has applied them and is synced.
        """
        while not self.trim_some(index):
            pass

    def trim_some(self, index: Index) -> bool:
        """Do a piece of `trim` that takes about a millisecond. Returns whether it was the last one."""
        self._trust.check()
        assert index <= self._disk_last, "the log is not trimmed beyond its end"
        self._gone_through = max(self._gone_through, index)
        try:
            if self._start.index < index:
                self._trim_to(min(index, self._start.index + _TRIM_BATCH_ENTRIES))
                reach("trim_batch_written")
        except plyvel.Error as error:
            raise self._trust.lose(storage_error(error, self.path, "trim")) from error
        except BrokenRecord as error:
            raise self._trust.lose(damaged(self.path, str(error))) from error
        if self._start.index < index:
            return False
        reach("trim_done")
        return True

    def reset_to(self, index: Index, term: Term) -> None:
        """At start only: begin anew after the snapshot at (index, term). See `recovery.py`."""
        known = self._hard_state
        hard_state = HardState(
            term=max(known.term, term),
            vote=known.vote if known.term >= term else None,
            commit=index,
        )
        snapshot = SnapshotMetadata(index, term, Configuration(()))  # the tree holds the configuration
        self.write(hard_state, (), snapshot, sync=True)
        self.adopt(hard_state, (), snapshot)

    # --- inside ---

    def _load(self) -> None:
        self._start = decode_start(self._get(START_KEY))
        self._hard_state = decode_hard_state(self._get(HARD_STATE_KEY))
        self._gone_through = self._start.index
        self._first_index = self._start.index + 1
        self._last_index = self._start.index
        self._terms = TermRuns(self._start.index, self._start.term)
        self._tail.reset(self._first_index)
        self._load_entries()
        self._disk_last = self._last_index
        last_term = self._terms.at(self._last_index)
        if self._hard_state.term < last_term:
            raise BrokenRecord(f"term {self._hard_state.term} is older than the last entry's, {last_term}")
        if self._hard_state.commit > self._last_index:
            raise BrokenRecord(
                f"entries up to {self._hard_state.commit} were committed, but it ends at {self._last_index}"
            )

    def _check_mark(self) -> None:
        """See that nothing is missing that a sync has confirmed: LevelDB cannot tell."""
        number = decode_number(self._get(SYNCED_WRITES_KEY))
        if number is None:
            raise BrokenRecord("the number of its synced writes is missing or damaged")
        if number < self._mark.number:
            raise BrokenRecord(
                f"it has lost its end: it knows of {number} synced writes, and there were {self._mark.number}"
            )
        if number > self._mark.number:  # a crash came in between; what is read here is durable
            self._advance_mark(number)

    def _advance_mark(self, number: int) -> None:
        try:
            self._mark.advance(number)
        except StorageError as error:
            raise self._trust.lose(error) from error

    def _load_entries(self) -> None:
        checksum, term = self._start.checksum, self._start.term
        expected = self._start.index + 1
        chunk: list[Entry] = []
        for key, record in self._database.iterator(
            start=ENTRIES_BEGIN, stop=ENTRIES_END, verify_checksums=True, fill_cache=False
        ):
            index = index_of(key)
            if index != expected:
                raise BrokenRecord(f"entry {expected} is missing: the next one is {index}")
            entry, checksum = decode_entry(index, record, checksum)
            if entry.term < term:
                raise BrokenRecord(f"entry {index} has term {entry.term} after term {term}")
            term = entry.term
            expected += 1
            chunk.append(entry)
            if len(chunk) == 1000:
                self.adopt(None, chunk, None)
                chunk = []
        self.adopt(None, chunk, None)
        self._disk_last_checksum = checksum

    def _trim_to(self, index: Index) -> None:
        start = LogStart(index, self._disk_term(index), self._disk_checksum(index))
        with self._database.write_batch() as batch:
            for gone in range(self._start.index + 1, index + 1):
                batch.delete(entry_key(gone))
            batch.put(START_KEY, encode_start(start))
        self._start = start

    def _put_reset(self, batch: _Batch, start: LogStart) -> None:
        self._gone_through = max(self._gone_through, start.index, self._disk_last)
        for index in range(self._start.index + 1, self._disk_last + 1):
            batch.delete(entry_key(index))
        batch.put(START_KEY, encode_start(start))
        self._start = start
        self._disk_last = start.index
        self._disk_last_checksum = start.checksum

    def _put_entries(self, batch: _Batch, entries: Sequence[Entry]) -> None:
        index = entries[0].index
        assert self._start.index < index <= self._disk_last + 1, "an append leaves no gap"
        checksum = self._disk_checksum(index - 1)
        for entry in entries:
            assert entry.index == index, "entries are contiguous"
            record, checksum = encode_entry(entry, checksum)
            batch.put(entry_key(index), record)
            index += 1
        for left_over in range(index, self._disk_last + 1):
            batch.delete(entry_key(left_over))
        self._disk_last = index - 1
        self._disk_last_checksum = checksum

    def _disk_checksum(self, index: Index) -> int:
        if index == self._disk_last:
            return self._disk_last_checksum
        if index == self._start.index:
            return self._start.checksum
        return checksum_of(self._get(entry_key(index)) or b"")

    def _disk_term(self, index: Index) -> Term:
        record = self._get(entry_key(index)) or b""
        entry, _ = decode_entry(index, record, self._disk_checksum(index - 1))
        return entry.term

    def _read_entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        """Read entries that are no longer in memory; on the loop thread, while the storage thread writes."""
        self._trust.check()
        try:
            return self._scan_entries(low, high, bytes_max)
        except BrokenRecord as error:
            trimming = self._gone_through >= self._first_index  # deleted, but not adopted yet
            if trimming and low - 1 <= self._gone_through:
                raise Compacted from error
            raise self._trust.lose(damaged(self.path, str(error))) from error
        except plyvel.Error as error:
            raise self._trust.lose(storage_error(error, self.path, "read")) from error

    def _scan_entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        start = self._start
        checksum = (
            start.checksum if low - 1 == start.index else checksum_of(self._get(entry_key(low - 1)) or b"")
        )
        found: list[Entry] = []
        size = 0
        records = self._database.iterator(
            start=entry_key(low),
            stop=entry_key(high),
            include_key=False,
            verify_checksums=True,
            fill_cache=False,
        )
        with records:
            for record in records:
                size += len(record) - ENTRY_HEADER_BYTES
                if size > bytes_max and found:
                    return found
                entry, checksum = decode_entry(low + len(found), record, checksum)
                found.append(entry)
        if len(found) != high - low:
            raise BrokenRecord(f"entry {low + len(found)} is missing")
        return found

    def _get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._database.get(key, verify_checksums=True)
        return value

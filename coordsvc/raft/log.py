"""The log as consensus sees it: the durable part behind `LogStorage` and a window of entries in memory.

Rule of this file: everything above `stable` is in the window; what is at or below `commit` never changes
(R6). The window also keeps recent durable entries, so that neither followers that keep up nor apply read
the disk. Raft §5.3, thesis §10.2.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from coordsvc.raft.ready import Persist
from coordsvc.raft.types import Entry, Index, SnapshotMetadata, Term


class Compacted(LookupError):  # noqa: N818 - an answer, not a fault: the entry was there and is trimmed
    """The index lies before the first entry that is still stored."""


class Unavailable(LookupError):  # noqa: N818 - see Compacted
    """The index lies behind the last entry."""


class LogStateError(ValueError):
    """What was found on the disk at start does not fit together."""


ENTRY_OVERHEAD_BYTES: Final = 128  # about what an entry costs in memory beside its payload


class LogStorage(Protocol):
    """Synchronous reads of the durable log."""

    def first_index(self) -> Index:
        """Return the index of the first stored entry: the compacted index + 1, also when empty."""

    def last_index(self) -> Index:
        """Return the index of the last stored entry; first_index - 1 when empty."""

    def term(self, index: Index) -> Term:
        """Return the term at first_index - 1 <= index <= last_index; raise Compacted or Unavailable."""

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        """Return [low, high) up to `bytes_max` of payload, at least one; raise Compacted or Unavailable."""


class Log:
    """Invariants: applied <= applying <= min(commit, stable); commit <= last_index; stable <= handed <= last.

    Attributes:
        stable: The last index that is durable here with the very entry that this log has.
        handed: The last index that was handed out to be persisted.
        applying: The last index that was handed out to be applied.
        snapshot: A snapshot that was accepted and is not durable yet; the log then starts behind it.
    """

    __slots__ = (
        "_apply_batches",
        "_applying_bytes",
        "_cached_bytes_max",
        "_committed_bytes_max",
        "_snapshot_handed",
        "_storage",
        "_window",
        "_window_bytes",
        "_window_first",
        "applied",
        "applying",
        "commit",
        "handed",
        "last_index",
        "last_term",
        "snapshot",
        "stable",
    )

    def __init__(
        self,
        storage: LogStorage,
        *,
        commit: Index,
        applied: Index,
        committed_bytes_max: int,
        cached_bytes_max: int,
    ) -> None:
        first, last = storage.first_index(), storage.last_index()
        if not first - 1 <= applied <= last:
            raise LogStateError(f"applied index {applied} lies outside the log [{first}, {last}]")
        if commit > last:
            raise LogStateError(f"commit index {commit} lies behind the end of the log, {last}")
        self._storage = storage
        self._committed_bytes_max = committed_bytes_max
        self._cached_bytes_max = cached_bytes_max
        self._window: list[Entry] = []
        self._window_first: Index = last + 1
        self._window_bytes = 0
        self.last_index: Index = last
        self.last_term: Term = storage.term(last)
        self.stable: Index = last
        self.handed: Index = last
        # What was applied was committed; the stored commit index may lag, since it is not synced.
        self.commit: Index = max(commit, applied)
        self.applied: Index = applied
        self.applying: Index = applied
        self.snapshot: SnapshotMetadata | None = None
        self._snapshot_handed = False
        self._apply_batches: deque[tuple[Index, int]] = deque()
        self._applying_bytes = 0

    # --- reading ---------------------------------------------------------------------------------

    def first_index(self) -> Index:
        """Return the index of the first entry that can be read."""
        if self.snapshot is not None:
            return self.snapshot.index + 1
        return self._storage.first_index()

    def term(self, index: Index) -> Term:
        """Return the term of the entry at `index`, or of the snapshot just before the log.

        Raises:
            Compacted: Before that.
            Unavailable: Behind the last entry.
        """
        position = index - self._window_first
        if position >= 0:
            if index > self.last_index:
                raise Unavailable(index)
            return self._window[position].term
        if self.snapshot is not None:
            if index == self.snapshot.index:
                return self.snapshot.term
            raise Compacted(index)
        return self._storage.term(index)

    def matches(self, index: Index, term: Term) -> bool:
        """Say whether this log has an entry (or starts behind one) with that index and term."""
        if not self.first_index() - 1 <= index <= self.last_index:
            return False
        return self.term(index) == term

    def is_up_to_date(self, index: Index, term: Term) -> bool:
        """Say whether a log that ends at (`index`, `term`) is at least as new as this one. Raft §5.4.1."""
        return term > self.last_term or (term == self.last_term and index >= self.last_index)

    def slice(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        """Return entries of [low, high) within `bytes_max`: at least one, perhaps fewer than would fit.

        Raises:
            Compacted: `low` is not in the log any more.
        """
        window_first = self._window_first
        if low < window_first:
            if self.snapshot is not None:
                raise Compacted(low)  # The storage still shows the log that the snapshot replaces.
            return self._storage.entries(low, min(high, window_first), bytes_max)
        window = self._window
        start, stop = low - window_first, high - window_first
        size = 0
        for position in range(start, stop):
            size += len(window[position].data)
            if size > bytes_max and position > start:
                return window[start:position]
        return window[start:stop]

    def find_by_term(self, index: Index, term: Term) -> tuple[Index, Term]:
        """Return the last (index, term) at or before `index` whose term is at most `term`.

        Terms never decrease along a log, so this is a binary search. Where the answer lies in the
        compacted part, the index just before what is known is returned with term 0.
        """
        low = self.first_index() - 1
        if index < low:
            return index, 0
        high = min(index, self.last_index)
        if self.term(low) > term:
            return max(low - 1, 0), 0
        while low < high:
            middle = (low + high + 1) // 2
            if self.term(middle) <= term:
                low = middle
            else:
                high = middle - 1
        return low, self.term(low)

    # --- writing ---------------------------------------------------------------------------------

    def extend(self, entries: list[Entry]) -> None:
        """Append `entries`, which must follow the last one."""
        assert entries[0].index == self.last_index + 1, "R4: indexes are contiguous"
        assert entries[0].term >= self.last_term, "R4: terms never decrease"
        self._window.extend(entries)
        last = entries[-1]
        self.last_index = last.index
        self.last_term = last.term
        for entry in entries:
            self._window_bytes += len(entry.data) + ENTRY_OVERHEAD_BYTES

    def reconcile(self, entries: list[Entry]) -> list[Entry]:
        """Make the log contain `entries`, whose predecessor it has; return those that it did not have.

        Only a real conflict truncates: a message that is merely old must not cut off what came after it.
        """
        if not entries:
            return entries
        if entries[0].index == self.last_index + 1:
            self.extend(entries)
            return entries
        for position, entry in enumerate(entries):
            is_behind = entry.index > self.last_index
            if is_behind or self.term(entry.index) != entry.term:
                if not is_behind:
                    self._truncate_from(entry.index)
                new = entries[position:]
                self.extend(new)
                return new
        return []

    def commit_to(self, index: Index) -> bool:
        """Move the commit index up to `index`; False if it is there already."""
        if index <= self.commit:
            return False
        assert index <= self.last_index, "R3: commit <= last index"
        self.commit = index
        return True

    def restore(self, snapshot: SnapshotMetadata) -> None:
        """Replace the whole log by `snapshot`, which is to be persisted next."""
        assert snapshot.index > self.commit, "R6: a snapshot never takes back what is committed"
        self._window = []
        self._window_first = snapshot.index + 1
        self._window_bytes = 0
        self.last_index = self.stable = self.handed = snapshot.index
        self.last_term = snapshot.term
        self.commit = snapshot.index
        self.snapshot = snapshot
        self._snapshot_handed = False

    def _truncate_from(self, index: Index) -> None:
        assert index > self.commit, "R6: a committed entry would be replaced"
        keep = index - self._window_first
        if keep > 0:
            for entry in self._window[keep:]:
                self._window_bytes -= len(entry.data) + ENTRY_OVERHEAD_BYTES
            del self._window[keep:]
        else:
            self._window.clear()
            self._window_first = index
            self._window_bytes = 0
        self.last_index = index - 1
        self.last_term = self.term(index - 1)
        self.stable = min(self.stable, index - 1)
        self.handed = min(self.handed, index - 1)

    # --- persisting ------------------------------------------------------------------------------

    def has_unhanded(self) -> bool:
        return self.handed < self.last_index or (self.snapshot is not None and not self._snapshot_handed)

    def hand_out_snapshot(self) -> SnapshotMetadata | None:
        if self._snapshot_handed:
            return None
        self._snapshot_handed = self.snapshot is not None
        return self.snapshot

    def hand_out_entries(self) -> list[Entry]:
        entries = self._window[self.handed + 1 - self._window_first :]
        self.handed = self.last_index
        return entries

    def note_persisted(self, persist: Persist) -> None:
        """Note that `persist` is durable; the storage shows it already.

        Entries of it may have been replaced here since. An entry is named by its index and term, and
        only one batch is on its way at a time, so those that are still the same are stable and the
        others are overwritten by the next batch.
        """
        snapshot = persist.snapshot
        if snapshot is not None:
            self.applied = max(self.applied, snapshot.index)
            self.applying = max(self.applying, snapshot.index)
            self._apply_batches.clear()
            self._applying_bytes = 0
            if self.snapshot is snapshot:
                self.snapshot = None
                self._snapshot_handed = False
        if self.snapshot is not None:
            return  # A newer snapshot has replaced whatever this batch held.
        for entry in reversed(persist.entries):
            if entry.index <= self.stable:
                break
            if entry.index <= self.last_index and self.term(entry.index) == entry.term:
                self.stable = entry.index
                self.handed = max(self.handed, entry.index)
                break
        self._trim_window()

    # --- applying --------------------------------------------------------------------------------

    def has_committed(self) -> bool:
        """Say whether `take_committed` would return something."""
        return (
            self.applying < self.commit
            and self.applying < self.stable
            and self.snapshot is None
            and self._applying_bytes < self._committed_bytes_max
        )

    def take_committed(self) -> list[Entry]:
        """Hand out the next committed and durable entries, within what may be outstanding."""
        if not self.has_committed():
            return []
        end = min(self.commit, self.stable)
        room = self._committed_bytes_max - self._applying_bytes
        entries = self.slice(self.applying + 1, end + 1, room)
        size = 0
        for entry in entries:
            size += len(entry.data)
        self.applying = entries[-1].index
        self._applying_bytes += size
        self._apply_batches.append((self.applying, size))
        return entries

    def note_applied(self, index: Index) -> int:
        """Note that everything up to `index` is applied; return how many payload bytes that frees."""
        if index <= self.applied:
            return 0
        assert index <= self.applying, "R10: only what was handed out can be applied"
        self.applied = index
        freed = 0
        batches = self._apply_batches
        while batches and batches[0][0] <= index:
            freed += batches.popleft()[1]
        self._applying_bytes -= freed
        self._trim_window()
        return freed

    def _trim_window(self) -> None:
        """Drop the oldest entries that apply has got, once there are twice as many bytes as wanted."""
        if self._window_bytes <= 2 * self._cached_bytes_max:
            return
        droppable = self.applying + 1 - self._window_first
        count = 0
        while count < droppable and self._window_bytes > self._cached_bytes_max:
            self._window_bytes -= len(self._window[count].data) + ENTRY_OVERHEAD_BYTES
            count += 1
        del self._window[:count]
        self._window_first += count

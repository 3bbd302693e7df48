"""The newest entries of the log in memory, and the terms of all of them.

Rule of this file: what readers see. It changes only when the log store adopts something that is
already on disk.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from coordsvc.raft.types import Entry, Index, Term

_ENTRY_OVERHEAD_BYTES = 128  # what an entry costs in memory beside its data, about


class LogTail:
    """A contiguous run of the newest entries, at most about `bytes_max` of them (but always the last one)."""

    __slots__ = ("_bytes", "_bytes_max", "entries", "first_index")

    def __init__(self, bytes_max: int, first_index: Index) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self.first_index = first_index
        self.entries: list[Entry] = []

    def reset(self, first_index: Index) -> None:
        """Forget all: the next entry will be `first_index`."""
        self.first_index = first_index
        self.entries.clear()
        self._bytes = 0

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries, replacing those that are at or after the first of them."""
        keep = entries[0].index - self.first_index
        if keep < 0:
            self.reset(entries[0].index)
        elif keep < len(self.entries):
            self._bytes -= sum(_memory_bytes(entry) for entry in self.entries[keep:])
            del self.entries[keep:]
        self.entries += entries
        for entry in entries:
            self._bytes += len(entry.data) + _ENTRY_OVERHEAD_BYTES
        if self._bytes > self._bytes_max:
            self._evict()

    def trim(self, index: Index) -> None:
        """Drop the entries up to and including `index`."""
        count = min(index + 1 - self.first_index, len(self.entries))
        if count > 0:
            self._drop(count)
        self.first_index = max(self.first_index, index + 1)

    def _evict(self) -> None:
        # Well below the limit at once: cutting a list's head costs the length of the rest.
        goal = self._bytes_max * 3 // 4
        remaining = self._bytes
        count = 0
        while remaining > goal and count < len(self.entries) - 1:
            remaining -= _memory_bytes(self.entries[count])
            count += 1
        self._drop(count)

    def _drop(self, count: int) -> None:
        self._bytes -= sum(_memory_bytes(entry) for entry in self.entries[:count])
        del self.entries[:count]
        self.first_index += count


class TermRuns:
    """Which term each index of the log has, kept as the places where the term changes."""

    __slots__ = ("_first_indexes", "_terms")

    def __init__(self, index: Index, term: Term) -> None:
        self._first_indexes = [index]
        self._terms = [term]

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries, forgetting what was known at and after the first of them."""
        first = entries[0].index
        while self._first_indexes and self._first_indexes[-1] >= first:
            self._first_indexes.pop()
            self._terms.pop()
        known = self._terms[-1] if self._terms else None
        if entries[-1].term == known:
            return  # terms only grow: all of them are of this term
        for entry in entries:
            if entry.term != known:
                self._first_indexes.append(entry.index)
                self._terms.append(entry.term)
                known = entry.term

    def trim(self, index: Index) -> None:
        """Forget what came before `index`, whose own term stays known."""
        place = bisect_right(self._first_indexes, index) - 1
        del self._first_indexes[:place]
        del self._terms[:place]
        self._first_indexes[0] = index

    def at(self, index: Index) -> Term:
        return self._terms[bisect_right(self._first_indexes, index) - 1]


def _memory_bytes(entry: Entry) -> int:
    return len(entry.data) + _ENTRY_OVERHEAD_BYTES

"""The in-memory twin of the durable log: what `LogStorage` promises, and nothing else.

Rule of this file: it changes only through `adopt`, as the real one does, and through `compact`.
"""

from __future__ import annotations

from coordsvc.raft.log import Compacted, Unavailable
from coordsvc.raft.ready import Persist
from coordsvc.raft.types import Configuration, Entry, HardState, Index, Term


class MemoryLog:
    def __init__(self, entries: list[Entry] | None = None, *, index: Index = 0, term: Term = 0) -> None:
        """Begin with `entries`, which follow a snapshot at (`index`, `term`)."""
        self.snapshot_index = index
        self.snapshot_term = term
        self.stored = list(entries or [])
        self.hard_state = HardState()
        self.configuration: Configuration | None = None

    def first_index(self) -> Index:
        return self.snapshot_index + 1

    def last_index(self) -> Index:
        return self.snapshot_index + len(self.stored)

    def term(self, index: Index) -> Term:
        if index == self.snapshot_index:
            return self.snapshot_term
        self._check(index)
        return self.stored[index - self.snapshot_index - 1].term

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        self._check(low)
        self._check(high - 1)
        page: list[Entry] = []
        size = 0
        for entry in self.stored[low - self.snapshot_index - 1 : high - self.snapshot_index - 1]:
            size += len(entry.data)
            if page and size > bytes_max:
                break
            page.append(entry)
        return page

    def adopt(self, persist: Persist) -> None:
        """Make one batch durable: the snapshot reset, then the hard state and the entries."""
        if persist.snapshot is not None:
            self.stored = []
            self.snapshot_index = persist.snapshot.index
            self.snapshot_term = persist.snapshot.term
            self.configuration = persist.snapshot.configuration
        if persist.hard_state is not None:
            self.hard_state = persist.hard_state
        if persist.entries:
            first = persist.entries[0].index
            assert self.first_index() <= first <= self.last_index() + 1, "a batch must follow the log"
            del self.stored[first - self.snapshot_index - 1 :]
            self.stored.extend(persist.entries)

    def compact(self, index: Index) -> None:
        """Forget everything up to and including `index`."""
        term = self.term(index)
        del self.stored[: index - self.snapshot_index]
        self.snapshot_index, self.snapshot_term = index, term

    def _check(self, index: Index) -> None:
        if index <= self.snapshot_index:
            raise Compacted(index)
        if index > self.last_index():
            raise Unavailable(index)

"""A simulated disk: what was written, what of it is durable, and what a crash leaves.

A member's disk holds a log and a tree, as two databases do: each keeps, after a crash, everything synced and
some prefix of what was written after. Work that waits for the disk runs on one storage thread, step by step,
each step after its latency, so that a crash can come between any two.

Rule of this file: the contract is that of `coordsvc.storage` as its own tests prove it on real files. It
decides nothing about what to write.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from coordsvc.codec.cluster_configuration import MemberRecord
from coordsvc.raft.log import Compacted, Unavailable
from coordsvc.raft.types import Configuration, Entry, HardState, Index, SnapshotMetadata, Term
from coordsvc.storage.data_directory import InstalledSnapshot
from tests.simulation.world import World
from tests.stores import MemoryStore

Batch = tuple[Sequence[tuple[bytes, bytes]], Sequence[bytes]]


class DiskFailedError(Exception):
    """The disk refused a write or a sync; whoever sees this stops (promise G9)."""


class PowerCutError(Exception):
    """Raised at a chosen point to end the process there and then."""


class LogImage:
    """The log as some reader sees it: `LogStorage` of the consensus core, and what changes it."""

    def __init__(self) -> None:
        self.start_index: Index = 0
        self.start_term: Term = 0
        self.stored: list[Entry] = []
        self.hard_state = HardState()
        self.path = PurePath("log")

    def copy(self) -> LogImage:
        image = LogImage()
        image.start_index, image.start_term = self.start_index, self.start_term
        image.stored = list(self.stored)
        image.hard_state = self.hard_state
        return image

    def first_index(self) -> Index:
        return self.start_index + 1

    def last_index(self) -> Index:
        return self.start_index + len(self.stored)

    def term(self, index: Index) -> Term:
        position = index - self.start_index
        if position == 0:
            return self.start_term
        if position < 0:
            raise Compacted(index)
        if position > len(self.stored):
            raise Unavailable(index)
        return self.stored[position - 1].term

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        if low <= self.start_index:
            raise Compacted(low)
        if high > self.last_index() + 1:
            raise Unavailable(high)
        page: list[Entry] = []
        size = 0
        for entry in self.stored[low - self.start_index - 1 : high - self.start_index - 1]:
            size += len(entry.data)
            if page and size > bytes_max:
                break
            page.append(entry)
        return page

    def write(
        self, hard_state: HardState | None, entries: Sequence[Entry], snapshot: SnapshotMetadata | None
    ) -> None:
        """Take in one batch: entries replace every stored entry at or after the first of them."""
        if snapshot is not None:
            self.stored = []
            self.start_index, self.start_term = snapshot.index, snapshot.term
        if entries:
            position = entries[0].index - self.start_index - 1
            assert 0 <= position <= len(self.stored), "an append leaves no gap"
            del self.stored[position:]
            self.stored += entries
        if hard_state is not None:
            self.hard_state = hard_state

    def trim(self, index: Index) -> None:
        """Forget everything up to and including `index`."""
        if index > self.start_index:
            term = self.term(index)
            del self.stored[: index - self.start_index]
            self.start_index, self.start_term = index, term

    def reset_to(self, index: Index, term: Term) -> None:
        """At start only: begin anew after the snapshot at (index, term), as `LogStore.reset_to` does."""
        known = self.hard_state
        hard_state = HardState(max(known.term, term), known.vote if known.term >= term else None, index)
        self.write(hard_state, (), SnapshotMetadata(index, term, Configuration(())))


@dataclass(slots=True)
class LogChange:
    """One atomic write to the log's database."""

    hard_state: HardState | None = None
    entries: Sequence[Entry] = ()
    snapshot: SnapshotMetadata | None = None
    trim: Index = 0

    def apply_to(self, image: LogImage) -> None:
        if self.trim:
            image.trim(self.trim)
        else:
            image.write(self.hard_state, self.entries, self.snapshot)


class TreeFiles:
    """One tree's database on disk: a durable base, and the batches after it."""

    def __init__(self) -> None:
        self.base: dict[bytes, bytes] = {}
        self.unsynced: list[Batch] = []

    def keep(self, count: int) -> None:
        """The first `count` batches are durable."""
        base = self.base
        for puts, deletes in self.unsynced[:count]:
            base.update(puts)
            for key in deletes:
                base.pop(key, None)
        del self.unsynced[:count]


class SimulatedTree(MemoryStore):
    """An open tree: the state machine's store, which also writes its batches to the disk."""

    def __init__(self, files: TreeFiles, before_write: Callable[[], None]) -> None:
        records = dict(files.base)
        super().__init__(records)
        self.files = files
        self._before_write = before_write

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes]) -> None:
        self._before_write()
        puts, deletes = list(puts), list(deletes)
        super().write(puts, deletes)
        self.files.unsynced.append((puts, deletes))


def draw_member_id(world: World, owner: str, number: int = 1) -> int:
    """The id of the disk that is the `number`-th of this name."""
    return world.draw("member-id", owner, number) | 1


class SimulatedDisk:
    """What outlives a process. `log` is the durable log; `log_unsynced` what was written after it."""

    def __init__(self, world: World, owner: str, number: int = 1) -> None:
        self.world = world
        self.owner = owner
        self.log = LogImage()
        self.log_unsynced: list[LogChange] = []
        self.tree = TreeFiles()
        self.installed = InstalledSnapshot()
        self.member_id = draw_member_id(world, owner, number)
        self.joined_index: Index = 0  # of the configuration that named it when it joined; 0: a founder
        self.joined_term: Term = 0  # of its entry
        self.contacts: tuple[MemberRecord, ...] = ()
        self.is_full = False
        self.fails_after: int | None = None  # so many more operations succeed, then one fails
        self.operations = 0
        self.keeps: float | None = None  # of what is not synced at a crash, this part; None: drawn
        self._crashes = 0

    @property
    def has_unsynced(self) -> bool:
        return bool(self.log_unsynced or self.tree.unsynced)

    def write_log(self, change: LogChange) -> None:
        """Write to the log's database; durable after the next sync."""
        self.check("write")
        self.log_unsynced.append(change)

    def sync_log(self) -> None:
        self.check("sync")
        for change in self.log_unsynced:
            change.apply_to(self.log)
        self.log_unsynced.clear()

    def sync_tree(self) -> None:
        self.check("sync")
        self.tree.keep(len(self.tree.unsynced))

    def switch_tree(self, tree: TreeFiles, index: Index, term: Term) -> None:
        """Make a received tree the live one; atomic and durable."""
        self.check("switch")
        assert not tree.unsynced, "only a durable tree is switched to"
        self.tree = tree
        self.installed = InstalledSnapshot(index, term)

    def check(self, operation: str) -> None:
        """Count one operation of the disk, and fail if it is time to."""
        self.operations += 1
        if self.is_full and operation != "sync":
            raise DiskFailedError(f"no space left on the disk of {self.owner}")
        if self.fails_after is not None:
            if self.fails_after == 0:
                self.fails_after = None
                raise DiskFailedError(f"{operation} failed on the disk of {self.owner}")
            self.fails_after -= 1

    def crash(self, *, loses_power: bool) -> tuple[int, int]:
        """The process is gone. With the power, some suffix of what was not synced is lost too.

        Returns:
            How many writes to the log and to the tree were lost.
        """
        self._crashes += 1
        log_count, tree_count = len(self.log_unsynced), len(self.tree.unsynced)
        if loses_power:
            log_count = self._prefix(log_count, "log")
            tree_count = self._prefix(tree_count, "tree")
        for change in self.log_unsynced[:log_count]:
            change.apply_to(self.log)
        lost = len(self.log_unsynced) - log_count, len(self.tree.unsynced) - tree_count
        self.log_unsynced.clear()
        self.tree.keep(tree_count)
        self.tree.unsynced.clear()
        return lost

    def _prefix(self, count: int, what: str) -> int:
        """Choose how many unsynced writes survive: often none or all of them, else any number.

        A single write is kept only by `keeps` 1: it cannot be halved.
        """
        if self.keeps is not None:
            return math.ceil(count * self.keeps) if count > 1 else int(count * self.keeps)
        choice = self.world.draw("crash-keeps", self.owner, self._crashes, what)
        if choice % 3 == 0:
            return 0
        if choice % 3 == 1:
            return count
        return (choice >> 8) % (count + 1)


Step = tuple[int, Callable[[], None]]
"""How long it takes (in ns), and what it does at the end of that time."""


class StorageThread:
    """Runs jobs one after the other, each step by step. It dies with its process."""

    def __init__(self, world: World, on_failure: Callable[[Exception], None]) -> None:
        self._world = world
        self._on_failure = on_failure
        self._jobs: deque[tuple[list[Step], Callable[[], None]]] = deque()
        self._is_running = False
        self._is_dead = False
        self._is_stalled = False
        self._stalled: list[Callable[[], None]] = []
        self.after_step: Callable[[bool], None] = _go_on_anyhow  # told whether it was a job's last step

    def submit(self, steps: list[Step], then: Callable[[], None]) -> None:
        """Do the steps in order, then call `then`."""
        self._jobs.append((steps, then))
        if not self._is_running:
            self._begin()

    def kill(self) -> None:
        self._is_dead = True
        self._jobs.clear()
        self._stalled.clear()

    def stall(self) -> None:
        """From now on nothing gets done; `go_on_again` ends that."""
        self._is_stalled = True

    def go_on_again(self) -> None:
        self._is_stalled = False
        stalled, self._stalled = self._stalled, []
        for step in stalled:
            step()

    def _begin(self) -> None:
        self._is_running = True
        steps, then = self._jobs.popleft()
        self._go_on(steps, 0, then)

    def _go_on(self, steps: list[Step], position: int, then: Callable[[], None]) -> None:
        if position == len(steps):
            self._is_running = False
            then()
            if self._jobs and not self._is_running:
                self._begin()
            return
        delay_ns, work = steps[position]
        self._world.at(delay_ns, lambda: self._do(steps, position, work, then))

    def _do(
        self, steps: list[Step], position: int, work: Callable[[], None], then: Callable[[], None]
    ) -> None:
        if self._is_dead:
            return
        if self._is_stalled:
            self._stalled.append(lambda: self._do(steps, position, work, then))
            return
        try:
            work()
            self.after_step(position == len(steps) - 1)
        except (DiskFailedError, PowerCutError) as failure:
            self.kill()
            self._on_failure(failure)
            return
        self._go_on(steps, position + 1, then)


def _go_on_anyhow(_is_last: bool) -> None:
    """Nothing happens between two steps."""

"""A member's whole data directory, written and started as a member does it, without a server around it.

Rule of this file: what is started is compared as a whole: every entry, term and vote, and the tree after the
log was replayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coordsvc.raft.types import Entry, HardState
from coordsvc.statemachine.commands import Create, Write
from coordsvc.statemachine.invariants import nodes
from coordsvc.statemachine.machine import StateMachine
from coordsvc.statemachine.types import CreateMode, Limits
from coordsvc.storage.data_directory import DataDirectory
from coordsvc.storage.log_store import LogStore
from coordsvc.storage.recovery import recover_log
from coordsvc.storage.tree_store import TreeStore

TERM = 3
LIMITS = Limits(history_changes=100)


@dataclass(slots=True)
class Started:
    """What a member knows when it has started and has replayed its log."""

    hard_state: HardState
    entries: list[Entry]
    digest: int
    paths: list[str]


class OpenMember:
    """The opened directory. Opening verifies everything, as the server does."""

    def __init__(self, path: Path, member: str = "a") -> None:
        self.directory = DataDirectory.open(path, "cluster", member)
        self.log: LogStore | None = None
        self.tree: TreeStore | None = None
        try:
            self.log = self.directory.open_log()
            self.tree = self.directory.open_tree()
            self.tree.verify_all()
            self.machine = StateMachine(self.tree, LIMITS)
            if self.machine.applied_index:
                self.machine.verify()
            recover_log(self.log, self.machine.applied_index, self.directory.installed)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for opened in (self.tree, self.log, self.directory):
            if opened is not None:
                opened.close()

    def append(self, count: int, vote: str = "a") -> None:
        """Append so many entries, each durable before the next, and apply them."""
        assert self.log is not None
        for index in range(self.log.last_index() + 1, self.log.last_index() + 1 + count):
            entry = Entry(index, TERM, b"/node-%05d" % index)
            hard_state = HardState(TERM, vote, index - 1)
            self.log.write(hard_state, [entry], None, sync=True)
            self.log.adopt(hard_state, [entry], None)
            self.apply(entry)

    def trim(self, index: int) -> None:
        assert self.log is not None
        assert self.tree is not None
        self.tree.sync()
        self.log.trim(index)
        self.log.adopt_trim(index)

    def apply(self, entry: Entry) -> None:
        self.machine.begin(entry.index, entry.term, entry.index)
        path = entry.data.decode()
        self.machine.write(0, 0, Write(Create(path, b"x" * 100, CreateMode.PERSISTENT), []))
        self.machine.commit()

    def replay(self) -> Started:
        """Apply what the tree lacks, and say what is there."""
        assert self.log is not None
        assert self.tree is not None
        entries = self.log.entries(self.log.first_index(), self.log.last_index() + 1, 1 << 30)
        for entry in entries:
            if entry.index > self.machine.applied_index:
                self.apply(entry)
        if self.machine.applied_index:
            self.machine.verify()
        paths = [path for path, _ in nodes(self.tree)]
        return Started(self.log.hard_state, entries, self.machine.digest, paths)


def make_member(path: Path, member: str = "a", vote: str = "a") -> None:
    """Write a directory with sorted tables, log files, and a log that was trimmed."""
    for count in (300, 100):
        opened = OpenMember(path, member)
        opened.append(count, vote)
        opened.close()
    opened = OpenMember(path, member)
    opened.trim(150)
    opened.append(50, vote)
    opened.close()


def start_member(path: Path, member: str = "a") -> Started:
    opened = OpenMember(path, member)
    try:
        return opened.replay()
    finally:
        opened.close()

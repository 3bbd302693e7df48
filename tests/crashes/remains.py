"""What stopped members left on their disks, opened and compared as no client could.

Rule of this file: it opens what is there with the product's own code, which verifies all of it, and then
compares the members with one another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coordsvc.raft.types import Entry
from coordsvc.statemachine.invariants import nodes
from coordsvc.statemachine.machine import StateMachine
from coordsvc.statemachine.types import Limits
from coordsvc.storage.data_directory import DataDirectory
from coordsvc.storage.recovery import recover_log


@dataclass(slots=True)
class Remains:
    """One member: its log, how much of it is known to be committed, and its tree."""

    entries: dict[int, Entry]
    last_index: int
    commit: int
    applied: int
    digest: int
    paths: dict[str, bytes]
    sessions: list[int]


def read_remains(data_dir: Path, cluster_id: str, member: str) -> Remains:
    """Open the directory of a member that does not run. It must be whole."""
    directory = DataDirectory.open(data_dir, cluster_id, member)
    log, tree = directory.open_log(), directory.open_tree()
    try:
        tree.verify_all()
        machine = StateMachine(tree, Limits())
        machine.verify()
        recover_log(log, machine.applied_index, directory.installed)
        entries = log.entries(log.first_index(), log.last_index() + 1, 1 << 40)
        return Remains(
            entries={entry.index: entry for entry in entries},
            last_index=log.last_index(),
            commit=log.hard_state.commit,
            applied=machine.applied_index,
            digest=machine.digest,
            paths={path: node.value for path, node in nodes(tree)},
            sessions=sorted(machine.sessions),
        )
    finally:
        tree.close()
        log.close()
        directory.close()


def check_that_they_agree(members: Iterable[Remains]) -> None:
    """No two members hold different entries at a committed index, or different trees at the same one."""
    everyone = list(members)
    commit = max(member.commit for member in everyone)
    committed: dict[int, Entry] = {}
    digests: dict[int, int] = {}
    for member in everyone:
        for index, entry in member.entries.items():
            if index <= commit and member.last_index >= index:
                assert committed.setdefault(index, entry) == entry, f"entry {index} differs"
        assert digests.setdefault(member.applied, member.digest) == member.digest, "the trees differ"

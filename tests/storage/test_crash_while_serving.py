"""A crash at every single step of a member's life: appends, applies, trims, a snapshot, a restart.

The script is run once, and a copy of the whole directory is kept at every failpoint, the first few times
that it is reached: what a killed process leaves there. Each copy is then started as a member starts.
`tests/crashes` does the same to real processes, with a loss of power.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from coordsvc.raft.types import Configuration, HardState, SnapshotMetadata
from coordsvc.statemachine.machine import StateMachine
from coordsvc.storage import failpoints
from coordsvc.storage.snapshot_install import SnapshotBuilder
from tests.storage.whole_member import LIMITS, TERM, OpenMember, start_member

SNAPSHOT_INDEX = 60
TIMES_MAX = 5  # how often one point counts


@dataclass
class Recorder:
    """Keeps a copy of the directory, and what was promised by then, at every failpoint."""

    directory: Path
    copies: Path
    promised: list[tuple[str, int]] = field(default_factory=list)  # the point, the last index that is durable
    acknowledged: int = 0

    def keep(self, point: str) -> None:
        if sum(point == kept for kept, _ in self.promised) == TIMES_MAX:
            return
        self.promised.append((point, self.acknowledged))
        shutil.copytree(self.directory, self.copies / f"{len(self.promised):04d}")


def live(path: Path, recorder: Recorder) -> None:
    """Everything that a member does to its disk, small."""
    opened = OpenMember(path)
    for last in range(1, 13):
        opened.append(1)
        recorder.acknowledged = last
        if last % 5 == 0:
            opened.trim(last - 2)
    opened.close()
    opened = OpenMember(path)
    install_snapshot(opened, path.parent / "other", recorder)
    opened.append(2)
    recorder.acknowledged = SNAPSHOT_INDEX + 2
    opened.close()


def install_snapshot(opened: OpenMember, source: Path, recorder: Recorder) -> None:
    """As `SnapshotReceiver` does it."""
    assert opened.log is not None
    assert opened.tree is not None
    builder = opened.directory.new_tree()
    receive(builder, source)
    builder.finish()
    old = opened.tree
    opened.tree = opened.directory.switch_tree(builder, SNAPSHOT_INDEX, TERM)
    recorder.acknowledged = SNAPSHOT_INDEX
    metadata = SnapshotMetadata(SNAPSHOT_INDEX, TERM, Configuration(("a",)))
    hard_state = HardState(TERM, "a", SNAPSHOT_INDEX)
    opened.log.write(hard_state, [], metadata, sync=True)
    opened.log.adopt(hard_state, [], metadata)
    opened.machine = StateMachine(opened.tree, LIMITS)
    old.close()
    opened.directory.remove_old_trees()


def receive(builder: SnapshotBuilder, source: Path) -> None:
    other = OpenMember(source)
    assert other.tree is not None
    snapshot = other.tree.snapshot()
    for chunk in snapshot.chunks(2_000):
        builder.add_chunk(chunk.number, chunk.data, chunk.checksum)
    snapshot.close()
    other.close()


def test_a_member_starts_from_every_step_with_all_that_it_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = digests_by_index(tmp_path / "reference")
    source = OpenMember(tmp_path / "other")
    source.append(SNAPSHOT_INDEX)
    source.close()
    recorder = Recorder(tmp_path / "data", tmp_path / "copies")
    with monkeypatch.context() as patches:
        patches.setattr(failpoints, "_armed", {"every point": 1})
        patches.setattr(failpoints, "_count", lambda point: keep_if_ours(recorder, point))
        live(recorder.directory, recorder)

    assert {point for point, _ in recorder.promised} >= set(failpoints.POINTS) - {
        "recovery_log_resetting",
        "recovery_log_reset",
    }
    for number, (point, acknowledged) in enumerate(recorder.promised, start=1):
        started = start_member(tmp_path / "copies" / f"{number:04d}")
        last = started.entries[-1].index if started.entries else started.hard_state.commit
        where = f"step {number}, {point}"
        assert acknowledged <= last, f"{where}: entries are lost"
        assert started.digest == digests[last], f"{where}: the tree is not that of entry {last}"
        assert acknowledged == 0 or started.hard_state.vote == "a", f"{where}: a vote is lost"


def keep_if_ours(recorder: Recorder, point: str) -> None:
    """The member that the snapshot comes from passes the points too: it adds nothing but time."""
    if recorder.directory.exists():
        recorder.keep(point)


def digests_by_index(path: Path) -> dict[int, int]:
    """The digest of the tree after every entry."""
    opened = OpenMember(path)
    digests = {0: opened.machine.digest}
    for index in range(1, SNAPSHOT_INDEX + 3):
        opened.append(1)
        digests[index] = opened.machine.digest
    opened.close()
    return digests

"""The world of the simulation: time, dice, and the disk's contract, without a cluster."""

from __future__ import annotations

import pytest

from coordsvc.raft.types import Entry, HardState
from tests.simulation.disk import LogChange, SimulatedDisk, SimulatedTree
from tests.simulation.world import MILLISECOND, SECOND, World


def test_what_is_due_first_happens_first_and_ties_in_order_of_asking() -> None:
    world = World(1)
    happened: list[str] = []
    world.at(2 * MILLISECOND, lambda: happened.append("late"))
    world.at(MILLISECOND, lambda: happened.append("first"))
    world.at(MILLISECOND, lambda: happened.append("second"))

    world.run_until(2 * SECOND)

    assert happened == ["first", "second", "late"]
    assert world.now_ns == 2 * SECOND


def test_a_draw_depends_on_its_name_alone() -> None:
    world, other = World(7), World(7)
    other.draw("something else", 1)

    assert world.draw("loss", "a>b", 3) == other.draw("loss", "a>b", 3)
    assert world.draw("loss", "a>b", 3) != world.draw("loss", "a>b", 4)
    assert World(8).draw("loss", "a>b", 3) != world.draw("loss", "a>b", 3)


def test_a_logarithmic_draw_stays_within_its_bounds() -> None:
    world = World(3)

    drawn = [world.draw_log(10, 10_000, "size", number) for number in range(500)]

    assert min(drawn) >= 10
    assert max(drawn) <= 10_000
    assert 100 < sum(1 for size in drawn if size < 100) < 250


def test_a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest() -> None:
    kept = set()
    for seed in range(40):
        disk = SimulatedDisk(World(seed), "a")
        disk.write_log(LogChange(HardState(1, "a", 0), [Entry(1, 1, b"synced")]))
        disk.sync_log()
        for index in range(2, 6):
            disk.write_log(LogChange(None, [Entry(index, 1, b"not synced")]))
        disk.crash(loses_power=True)
        kept.add(disk.log.last_index())

    assert min(kept) == 1
    assert max(kept) == 5
    assert len(kept) > 3


@pytest.mark.parametrize(
    ("unsynced", "keeps", "kept"),
    [(1, 0.0, 0), (1, 0.5, 0), (1, 1.0, 1), (2, 0.5, 1), (3, 0.5, 2), (3, 0.0, 0), (3, 1.0, 3)],
)
def test_a_crash_can_be_told_what_to_keep(unsynced: int, keeps: float, kept: int) -> None:
    """A batch is kept or lost as a whole."""
    disk = SimulatedDisk(World(1), "a")
    disk.keeps = keeps
    for index in range(1, unsynced + 1):
        disk.write_log(LogChange(None, [Entry(index, 1, b"not synced")]))
    disk.crash(loses_power=True)
    assert disk.log.last_index() == kept


def test_a_process_that_ends_keeps_what_it_wrote() -> None:
    disk = SimulatedDisk(World(1), "a")
    tree = SimulatedTree(disk.tree, lambda: disk.check("write"))
    tree.write([(b"key", b"value")], [])

    disk.crash(loses_power=False)

    assert SimulatedTree(disk.tree, lambda: disk.check("write")).get(b"key") == b"value"

"""Simulated clients in a calm cluster: honest histories pass, spoilt ones are found, runs repeat."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coordclient.recipes.contention import Attempt
from coordproto.v1 import coordination_pb2, data_pb2
from tests.checkers.history import Violation
from tests.simulation.client_links import ClientLink
from tests.simulation.clients.calm_cluster import CalmCluster
from tests.simulation.clients.fleet import Fleet
from tests.simulation.clients.verdict import judge
from tests.simulation.clients.workload import Workload, draw_workload
from tests.simulation.probes import Probes
from tests.simulation.world import SECOND, World

ServerItem = coordination_pb2.ServerItem
Spoil = Callable[[list[ServerItem]], list[ServerItem]]

ROOT = Path(__file__).parents[3]
BUSY = Workload(clients=3, operations=60, think_ns=SECOND // 50, weak_read_percent=0, anonymous_percent=0)


class SpoiltNetwork:
    """Changes what members say to clients."""

    def __init__(self, calm: CalmCluster, spoil: Spoil) -> None:
        self._network = calm.network
        self._spoil = spoil
        calm.world.gateway = self

    def connect(self, client: str, member: str) -> ClientLink:
        link = self._network.connect(client, member)
        honest = link.items

        def items(encoded: list[bytes]) -> None:
            spoilt = self._spoil([ServerItem.FromString(item) for item in encoded])
            honest([item.SerializeToString() for item in spoilt])

        link.items = items  # type: ignore[method-assign, assignment]  # the member's end calls this
        return link


def run(seed: int, workload: Workload, spoil: Spoil | None = None) -> tuple[list[Violation], Fleet, str]:
    """Run clients to their end; return what is wrong, the clients, and the trace's digest."""
    world = World(seed)
    calm = CalmCluster(world, "a", "b", "c")
    if spoil is not None:
        SpoiltNetwork(calm, spoil)
    fleet = Fleet(world, workload, calm.names)
    fleet.start()
    try:
        is_done = world.run_until(300 * SECOND, lambda: fleet.is_done)
        assert is_done, f"L3: {fleet.unfinished()}"
        return judge(fleet, calm.complete(fleet.history()), Probes()), fleet, world.trace_digest()
    finally:
        fleet.dispose()


def invariants(violations: list[Violation]) -> set[str]:
    return {violation.invariant for violation in violations}


@pytest.mark.parametrize("seed", range(12))
def test_clients_of_an_honest_cluster_find_nothing_wrong(seed: int) -> None:
    violations, fleet, _ = run(seed, draw_workload(World(seed)))
    assert violations == []
    assert fleet.operation_count > 0


def test_a_run_does_something_of_everything() -> None:
    _, fleet, _ = run(1, BUSY)
    history = fleet.notebook
    assert {call.operation().outcome for call in history.calls} == {"ok", "fail"}
    assert any(watch.events for watch in history.watches)
    assert any(session.renewed_ns for session in history.sessions)


def test_a_stale_read_is_found() -> None:
    """Once in a while the network repeats, for a read, what it saw of the node before."""
    first_seen: dict[str, data_pb2.Node] = {}

    def spoil(items: list[ServerItem]) -> list[ServerItem]:
        for item in items:
            if item.WhichOneof("item") == "read" and item.read.HasField("node"):
                item.read.node.CopyFrom(first_seen.setdefault(item.read.node.path, item.read.node))
        return items

    violations, _, _ = run(3, BUSY, spoil)
    assert invariants(violations) & {"C1", "C2"}


def test_a_dropped_event_is_found() -> None:
    dropped: list[ServerItem] = []

    def spoil(items: list[ServerItem]) -> list[ServerItem]:
        for item in items:
            if item.HasField("delivery") and len(dropped) < 3:
                dropped.append(item)
        return [item for item in items if item not in dropped]

    violations, _, _ = run(3, BUSY, spoil)
    assert dropped
    assert invariants(violations) & {"W2", "W7"}


def test_an_event_that_comes_after_the_answer_is_found() -> None:
    held: list[ServerItem] = []

    def spoil(items: list[ServerItem]) -> list[ServerItem]:
        late, held[:] = held[:], [item for item in items if item.HasField("delivery")]
        return [item for item in items if not item.HasField("delivery")] + late

    workload = Workload(clients=1, operations=60, anonymous_percent=0)
    violations, _, _ = run(3, workload, spoil)
    assert "W3" in invariants(violations)


LOCKS = Workload(clients=0, lock_clients=3, lock_rounds=4, cancel_percent=0)


def test_locks_are_granted_and_resources_written() -> None:
    violations, fleet, _ = run(5, LOCKS)
    assert violations == []
    assert sum(1 for lock in fleet.notebook.locks if lock.granted_ns) == 12
    assert len({write.token for write in fleet.notebook.fenced_writes if write.accepted}) > 6


def test_cancelled_attempts_leave_nothing_behind() -> None:
    for seed in range(6):
        violations, fleet, _ = run(
            seed, Workload(clients=0, lock_clients=3, lock_rounds=4, cancel_percent=80)
        )
        assert violations == []
        assert any(lock.granted_ns is None for lock in fleet.notebook.locks)


def test_an_attempt_that_leaves_its_contender_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attempt, "end", lambda self: None)
    workload = Workload(clients=0, lock_clients=1, lock_rounds=1, cancel_percent=100)
    found = set()
    for seed in range(20):
        violations, _, _ = run(seed, workload)
        found |= invariants(violations)
    assert "K5" in found


_PRINT_DIGESTS = """
from tests.simulation.clients.test_clients import run
from tests.simulation.clients.workload import Workload
for seed in (1, 2):
    print(run(seed, Workload(lock_clients=3, cancel_percent=50, kills=1, pauses=1))[2])
"""


def test_the_same_seed_is_the_same_run_in_every_interpreter() -> None:
    def digests(hash_seed: str) -> str:
        environment = dict(os.environ, PYTHONHASHSEED=hash_seed, PYTHONPATH=f"{ROOT}:{ROOT / 'client'}")
        command = [sys.executable, "-c", _PRINT_DIGESTS]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout

    first = digests("1")
    assert len(set(first.split())) == 2
    assert digests("2") == first

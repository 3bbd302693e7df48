"""The search without zxids: a small part must be decided; only a run that was decided in full is counted."""

from __future__ import annotations

import pytest

from tests.checkers import linearizability
from tests.checkers.history import History, Violation
from tests.checkers.search import Call
from tests.checkers.subtrees import Reaped, What
from tests.simulation.clients.calm_cluster import CalmCluster
from tests.simulation.clients.fleet import Fleet
from tests.simulation.clients.verdict import judge
from tests.simulation.clients.workload import Workload
from tests.simulation.probes import Probes
from tests.simulation.world import World

SEARCHED = "a history was searched without zxids"


def judge_one_part(
    monkeypatch: pytest.MonkeyPatch, answered: int, unanswered: int, found: str | None
) -> tuple[list[str], int]:
    """Judge a history of one part for which the search finds `found`; return what is wrong, and the count."""
    what: What = Reaped("/a", has_number=False)
    part = [Call(what, 2 * number, 2 * number + 1) for number in range(answered)]
    part += [Call(what, 0, None) for _ in range(unanswered)]
    violation = None if found is None else Violation(found, "as searched")
    monkeypatch.setattr(linearizability, "parts", lambda history: {"/a": part})
    monkeypatch.setattr(linearizability, "check_part", lambda where, calls, budget: violation)
    world, probes = World(1), Probes()
    cluster = CalmCluster(world, "a")
    fleet = Fleet(world, Workload(clients=0), cluster.names)
    violations = judge(fleet, History(), probes)
    return [violation.invariant for violation in violations], probes.counts[SEARCHED]


@pytest.mark.parametrize(
    ("answered", "unanswered", "found", "wrong", "counted"),
    [
        (40, 0, None, [], 1),
        (400, 40, None, [], 1),
        (32, 8, "C1?", ["C1?"], 0),
        (41, 0, "C1?", [], 0),
        (20, 13, "C1?", [], 0),
        (400, 40, "C1", ["C1"], 1),
    ],
)
def test_a_small_part_must_be_decided_and_a_large_one_is_not_counted(
    monkeypatch: pytest.MonkeyPatch,
    answered: int,
    unanswered: int,
    found: str | None,
    wrong: list[str],
    counted: int,
) -> None:
    assert judge_one_part(monkeypatch, answered, unanswered, found) == (wrong, counted)

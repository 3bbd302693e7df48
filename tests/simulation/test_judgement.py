"""What is judged at the end of a run can be seen to be wrong: stores (Z7), answers (G7) and closes (G4)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coordproto.v1 import data_pb2
from tests.simulation.invariants import Violation
from tests.simulation.judgement import check_answers, check_closes, check_stores
from tests.simulation.plan import Plan
from tests.simulation.run import Simulation

_WORKLOAD = {"clients": 2, "operations": 12, "think_ns": 5_000_000, "close_percent": 100, "lock_clients": 0}


@pytest.fixture
def finished() -> Iterator[Simulation]:
    """A quiet run that has come to its good end."""
    simulation = Simulation(Plan(seed=3, safety_ms=2_000, workload=dict(_WORKLOAD)))
    try:
        simulation.go()
        yield simulation
    finally:
        simulation.fleet.dispose()


def test_stores_that_differ_are_seen(finished: Simulation) -> None:
    core = finished.core()
    check_stores(core)
    records = core[-1].tree.records
    records.pop(max(records))

    with pytest.raises(Violation, match="Z7"):
        check_stores(core)


def test_an_answer_that_is_not_that_of_the_write_is_seen(finished: Simulation) -> None:
    calls, ledger = finished.fleet.notebook.calls, finished.invariants.ledger
    check_answers(calls, ledger)
    answered = [call for call in calls if call.sequence and isinstance(call.outcome, data_pb2.WriteResult)]
    told = answered[-1].outcome
    assert isinstance(told, data_pb2.WriteResult)
    told.zxid += 1

    with pytest.raises(Violation, match="G7"):
        check_answers(calls, ledger)


def test_a_write_that_the_end_of_its_session_overtook_is_seen(finished: Simulation) -> None:
    fleet, ledger = finished.fleet, finished.invariants.ledger
    check_closes(fleet, ledger)
    closed = {session.session for session in fleet.notebook.sessions if session.closed_ns is not None}
    written = [call for call in fleet.notebook.calls if call.sequence and call.session in closed]
    written[-1].sequence += 1_000

    with pytest.raises(Violation, match="G4"):
        check_closes(fleet, ledger)

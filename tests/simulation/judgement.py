"""Everything that is judged at the end of a run.

Rule of this file: the first violation is raised. Where the search for an order must come to a verdict, and
where it may give up, stands in `clients/verdict.py`.
"""

from __future__ import annotations

from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.codec import results
from coordsvc.statemachine.machine import StateMachine
from tests.checkers.history import History
from tests.simulation.clients import verdict
from tests.simulation.clients.fleet import Fleet
from tests.simulation.clients.notebook import Call
from tests.simulation.invariants import Violation
from tests.simulation.ledger import Ledger, state_of
from tests.simulation.members import SimulatedMember
from tests.simulation.probes import Probes
from tests.stores import MemoryStore


def judge(fleet: Fleet, history: History, probes: Probes) -> None:
    """Raise the first violation that any checker finds."""
    for found in verdict.judge(fleet, history, probes):
        raise Violation(found.invariant, found.text, [repr(record) for record in found.records])


def check_stores(core: list[SimulatedMember]) -> None:
    """Z7: who has applied the same has stored the same, and what is stored is what is in memory."""
    first = core[0]
    for member in core:
        machine, records = member.machine, member.tree.records
        if machine.applied_index == first.machine.applied_index and records != first.tree.records:
            keys = sorted(
                key
                for key in {**records, **first.tree.records}
                if records.get(key) != first.tree.records.get(key)
            )
            text = f"{member.name} and {first.name} have applied the same; their stores differ at {keys[:5]}"
            raise Violation("Z7", text)
        machine.verify()
        loaded = StateMachine(MemoryStore(dict(records)), member.limits)
        if state_of(loaded) != state_of(machine):
            raise Violation("Z7", f"what {member.name} has stored is not what it has in memory")


def check_closes(fleet: Fleet, ledger: Ledger) -> None:
    """G4: what a session had sent when it was closed was carried out before its end."""
    closed = {one.session: one for one in fleet.notebook.sessions if one.closed_ns is not None}
    for call in fleet.notebook.calls:
        if not call.sequence or call.session not in closed:
            continue
        if ledger.answer(call.session, call.sequence) is None:
            text = f"session {call.session} was closed, and its write {call.sequence} was never carried out"
            raise Violation("G4", text, [repr(call), repr(closed[call.session])])


def check_answers(calls: list[Call], ledger: Ledger) -> None:
    """G7: what a client was told of a write is what that very write did."""
    for call in calls:
        told = call.outcome
        if not call.sequence or not isinstance(told, data_pb2.WriteResult):
            continue
        answer = ledger.answer(call.session, call.sequence)
        if answer is None or (told.HasField("error") and told.error.code == data_pb2.UNKNOWN_OUTCOME):
            continue
        item = coordination_pb2.ServerItem.FromString(results.write_item(call.sequence, *answer))
        if item.write != told:
            text = (
                f"write {call.sequence} of session {call.session} did {item.write}, its client heard {told}"
            )
            raise Violation("G7", text)

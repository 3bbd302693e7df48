"""The model and two state machines in lockstep: every command goes to all three, every answer is compared.

Rule of this file: the second machine has no cache and restarts now and then; both must leave the same
bytes (Z7). After every commit the invariants are checked from the store alone.
"""

from __future__ import annotations

from coordsvc.statemachine.changes import Change
from coordsvc.statemachine.commands import ListChildren, Write
from coordsvc.statemachine.invariants import check_changes, nodes
from coordsvc.statemachine.machine import Session, StateMachine
from coordsvc.statemachine.results import Children, Failure, Node
from coordsvc.statemachine.types import Limits
from coordsvc.statemachine.znodes import Znode
from tests.properties.tree_model import Model, RefusedError
from tests.stores import MemoryStore


def comparable(result: object) -> object:
    """Turn a failure into what the model tells of one; the words of messages are not compared."""
    if not isinstance(result, Failure):
        return result
    return (
        result.code,
        result.path,
        result.expected_version,
        result.actual_version,
        result.failed_index,
        result.op_codes,
    )


class Lockstep:
    """Three trees that must never differ."""

    def __init__(self) -> None:
        self.model = Model()
        self.limits = Limits()
        self.store = MemoryStore()
        self.machine = StateMachine(self.store, self.limits)
        self.other_store = MemoryStore()
        self.other = StateMachine(self.other_store, self.limits, cache_bytes=0)
        self.index = 0
        self.changes: list[Change] = []
        self.committed: dict[str, Znode] = {}
        self._begin(0)
        self.commit(0, restarts_other=True)

    def _begin(self, time_ms: int) -> None:
        self.index += 1
        self.model.time_ms = max(self.model.time_ms, time_ms)
        for machine in (self.machine, self.other):
            machine.begin(self.index, 1, time_ms)

    def commit(self, passed_ms: int, *, restarts_other: bool) -> None:
        """End the entry and begin the next one."""
        self.machine.commit()
        self.machine.verify()
        committed = dict(nodes(self.store))
        if self.committed:
            check_changes(self.committed, committed, self.changes)
        self.committed, self.changes = committed, []
        self.other.commit()
        assert self.other_store.records == self.store.records
        if restarts_other:
            self.other = StateMachine(self.other_store, self.limits, cache_bytes=0)
        self._begin(self.model.time_ms + passed_ms)

    def session_number(self, pick: int) -> int:
        """Return one of the sessions there are, or 0."""
        numbers = [0, *self.model.sessions]
        return numbers[pick % len(numbers)]

    def next_sequence(self, session: int) -> int:
        return self.model.sessions[session].last_sequence + 1 if session else 0

    def write(self, session: int, sequence: int, write: Write) -> None:
        status, result, zxid, changes = self.model.write(session, sequence, write)
        for machine in (self.machine, self.other):
            outcome = machine.write(session, sequence, write)
            assert (outcome.status.name, comparable(outcome.result)) == (status, result)
            assert (outcome.zxid, outcome.changes) == (zxid, changes)
        self.changes += changes

    def open_session(self) -> None:
        expected = self.model.open_session()
        for machine in (self.machine, self.other):
            session = machine.open_session(b"secret", 5000, "x", "m", 1)
            assert isinstance(session, Session)
            assert session.session_id == expected

    def end_session(self, session: int, *, expired: bool) -> None:
        expected = self.model.end_session(session, expired=expired)
        for machine in (self.machine, self.other):
            assert machine.end_session(session, expired=expired) == expected
        self.changes += expected[2]

    def acknowledge(self, session: int, sequence: int) -> None:
        self.model.acknowledge(session, sequence)
        for machine in (self.machine, self.other):
            machine.acknowledge(session, sequence)

    def reap(self, paths: list[str]) -> None:
        expected = self.model.reap(paths)
        for machine in (self.machine, self.other):
            assert machine.reap(paths) == expected
        self.changes += expected[1]

    def read_history(self, since: int, limit: int) -> None:
        later = [change for change in self.model.history if change.zxid > since]
        found = self.machine.history(since, limit)
        assert found is not None
        assert found == later[: len(found)]
        assert len(found) >= min(limit, len(later))
        if len(found) < len(later):
            assert later[len(found)].zxid != found[-1].zxid, "a transaction was cut"

    def list_children(self, request: ListChildren) -> None:
        try:
            expected: object = self.model.list_children(request)
        except RefusedError as refusal:
            expected = refusal.summary
        for machine in (self.machine, self.other):
            assert comparable(machine.list_children(request)) == expected

    def compare_everything(self) -> None:
        """See that all nodes, child lists and sessions are those of the model, and no others."""
        for machine in (self.machine, self.other):
            assert machine.zxid == self.model.zxid
            assert machine.node_count == len(self.model.nodes)
            for path in self.model.nodes:
                found = machine.get(path)
                assert isinstance(found, Node), found
                assert found == self.model.node(path)
            assert sorted(_reachable(machine)) == sorted(self.model.nodes)
            owned = {number: sorted(session.ephemerals) for number, session in machine.sessions.items()}
            assert owned == {number: self.model.ephemerals(number) for number in self.model.sessions}

    def finish(self) -> None:
        """Commit what is left, and compare what only commits show."""
        self.commit(0, restarts_other=True)
        for later_ms in (0, 100, 400_000):
            now_ms = self.model.time_ms + later_ms
            assert sorted(self.machine.reap_candidates(now_ms, 1000)) == self.model.due(now_ms)
        assert self.machine.history(0, 1 << 30) == self.model.history


def _reachable(machine: StateMachine) -> list[str]:
    """Walk down from the root by child lists alone."""
    seen: list[str] = []
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        seen.append(path)
        page = machine.list_children(ListChildren(path))
        assert isinstance(page, Children), page
        waiting += [path.rstrip("/") + "/" + name for name in page.names]
    return seen

"""The state machine against an obviously right model: every answer, every change, every node, at every step.

Beside it runs a second machine with no cache that commits less often and restarts after every commit; both
must leave the same bytes (Z7). After every commit the invariants are checked from the store alone.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from coordsvc.statemachine.changes import Change
from coordsvc.statemachine.commands import (
    Check,
    Compare,
    Create,
    Delete,
    Exists,
    Get,
    Guard,
    ListChildren,
    Set,
    Transaction,
    TransactionOp,
    Write,
)
from coordsvc.statemachine.invariants import check_changes, nodes
from coordsvc.statemachine.machine import Session, StateMachine
from coordsvc.statemachine.results import Children, Failure, Node
from coordsvc.statemachine.types import Limits
from coordsvc.statemachine.znodes import Znode
from tests.properties.tree_model import Model, RefusedError
from tests.stores import MemoryStore

# A small universe, so that everything collides with everything.
NAMES = ["a", "b", "a!"]
PATHS = (
    [f"/{x}" for x in NAMES] + [f"/{x}/{y}" for x in NAMES for y in NAMES] + ["/a/b/a", "/a/b/b", "/a/a/a/a"]
)
ODD_PATHS = ["/", "", "a", "/a/", "//", "/a//b", "/a/../b", "/a\0", "/\x01", "b/a"]

paths = st.sampled_from(PATHS * 3 + ODD_PATHS)
values = st.sampled_from([b"", b"x", b"yy", b"\0" * 40])
versions = st.sampled_from([-1, -1, -1, 0, 1, 2, -2])
modes = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7])
ttls = st.sampled_from([0, 0, 0, 5, 300, -1])


@st.composite
def creates(draw: st.DrawFn) -> Create:
    mode = draw(modes)
    ttl_ms = draw(st.sampled_from([5, 300])) if mode in (5, 6) and draw(st.booleans()) else draw(ttls)
    if mode not in (5, 6) and draw(st.booleans()):
        ttl_ms = 0
    return Create(draw(paths), draw(values), mode, ttl_ms, draw(st.booleans()))


sets = st.builds(Set, paths, values, versions)
deletes = st.builds(Delete, paths, versions, st.booleans())
zxid_guesses = st.integers(0, 12)
checks = st.builds(Check, paths, versions, st.none() | zxid_guesses, st.booleans())
reads = st.builds(Get, paths) | st.builds(Exists, paths)
lists = st.builds(
    ListChildren, paths, st.sampled_from(["", "a", "a!", "b"]), st.integers(0, 3), st.booleans()
)
compares = st.builds(Compare, paths, st.integers(0, 8), st.integers(0, 3), st.integers(-1, 4), values)
operations: st.SearchStrategy[TransactionOp] = creates() | sets | deletes | checks | reads | lists
branches = st.lists(operations, max_size=5)
transactions = st.builds(Transaction, st.lists(compares, max_size=2), branches, branches)
guards = st.lists(st.builds(Guard, paths, zxid_guesses), max_size=1)
writes = st.builds(Write, creates() | sets | deletes | transactions, guards | st.just([]))


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


class TreeAgainstModel(RuleBasedStateMachine):
    """Each rule is one command to the model and to both machines."""

    @initialize()
    def start(self) -> None:
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
        self.commit(0, is_other_too=True)

    def _begin(self, time_ms: int) -> None:
        self.index += 1
        self.model.time_ms = max(self.model.time_ms, time_ms)
        for machine in (self.machine, self.other):
            machine.begin(self.index, 1, time_ms)

    @rule(passed_ms=st.sampled_from([-50, 0, 1, 10, 400_000]), is_other_too=st.booleans())
    def commit(self, passed_ms: int, *, is_other_too: bool) -> None:
        """End the entry and begin the next one."""
        self.machine.commit()
        self.machine.verify()
        committed = dict(nodes(self.store))
        if self.committed:
            check_changes(self.committed, committed, self.changes)
        self.committed, self.changes = committed, []
        if is_other_too:
            self.other.commit()
            assert self.other_store.records == self.store.records
            self.other = StateMachine(self.other_store, self.limits, cache_bytes=0)
        self._begin(self.model.time_ms + passed_ms)

    @rule(session=st.integers(0, 4), ahead=st.sampled_from([1, 1, 1, 1, 0, -1, 2]), write=writes)
    def write(self, session: int, ahead: int, write: Write) -> None:
        known = self.model.sessions.get(session)
        sequence = (known.last_sequence if known is not None else 0) + ahead
        status, result, zxid, changes = self.model.write(session, sequence, write)
        for machine in (self.machine, self.other):
            outcome = machine.write(session, sequence, write)
            assert (outcome.status.name, comparable(outcome.result)) == (status, result)
            assert (outcome.zxid, outcome.changes) == (zxid, changes)
        self.changes += changes

    @rule()
    def open_session(self) -> None:
        expected = self.model.open_session()
        for machine in (self.machine, self.other):
            session = machine.open_session(b"secret", 5000, "x", "m", 1)
            assert isinstance(session, Session)
            assert session.session_id == expected

    @rule(session=st.integers(1, 4))
    def end_session(self, session: int) -> None:
        expected = self.model.end_session(session)
        for machine in (self.machine, self.other):
            assert machine.end_session(session) == expected
        self.changes += expected[2]

    @rule(session=st.integers(1, 4), sequence=st.integers(0, 9))
    def acknowledge(self, session: int, sequence: int) -> None:
        self.model.acknowledge(session, sequence)
        for machine in (self.machine, self.other):
            machine.acknowledge(session, sequence)

    @rule(paths=st.lists(st.sampled_from(PATHS), max_size=6))
    def reap(self, paths: list[str]) -> None:
        expected = self.model.reap(paths)
        for machine in (self.machine, self.other):
            assert machine.reap(paths) == expected
        self.changes += expected[1]

    @rule(since=st.integers(-1, 30), limit=st.integers(0, 4))
    def read_history(self, since: int, limit: int) -> None:
        later = [change for change in self.model.history if change.zxid > since]
        found = self.machine.history(since, limit)
        assert found is not None
        assert found == later[: len(found)]
        assert len(found) >= min(limit, len(later))
        if len(found) < len(later):
            assert later[len(found)].zxid != found[-1].zxid, "a transaction was cut"

    @rule(request=lists)
    def list_children(self, request: ListChildren) -> None:
        try:
            expected: object = self.model.list_children(request)
        except RefusedError as refusal:
            expected = refusal.summary
        for machine in (self.machine, self.other):
            assert comparable(machine.list_children(request)) == expected

    @invariant()
    def every_node_is_as_in_the_model(self) -> None:
        for machine in (self.machine, self.other):
            assert machine.zxid == self.model.zxid
            assert machine.node_count == len(self.model.nodes)
            for path in self.model.nodes:
                found = machine.get(path)
                assert isinstance(found, Node), found
                assert found == self.model.node(path)

    @invariant()
    def the_tree_is_reached_from_its_root(self) -> None:
        """Walk down by child lists alone: nothing beyond the model is there, and nothing is hidden."""
        seen: list[str] = []
        waiting = ["/"]
        while waiting:
            path = waiting.pop()
            seen.append(path)
            page = self.machine.list_children(ListChildren(path))
            assert isinstance(page, Children), page
            waiting += [path.rstrip("/") + "/" + name for name in page.names]
        assert sorted(seen) == sorted(self.model.nodes)

    @invariant()
    def every_session_owns_what_it_owns_in_the_model(self) -> None:
        for machine in (self.machine, self.other):
            owned = {number: sorted(session.ephemerals) for number, session in machine.sessions.items()}
            assert owned == {number: self.model.ephemerals(number) for number in self.model.sessions}

    def teardown(self) -> None:
        """Commit what is left, and see that reaping candidates and the history are those of the model."""
        if not hasattr(self, "machine"):
            return
        self.commit(0, is_other_too=True)
        now_ms = self.model.time_ms + 100
        assert sorted(self.machine.reap_candidates(now_ms, 1000)) == self.model.due(now_ms)
        assert self.machine.history(0, 1 << 30) == self.model.history


TestTreeAgainstModel = TreeAgainstModel.TestCase
TestTreeAgainstModel.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)

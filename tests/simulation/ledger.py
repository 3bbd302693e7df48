"""The one true course of events: what each log entry did, as the first member to apply it did it.

Every member's state machine reports here. The first application of an index is checked (Z, S) and kept: it
is the ground truth that the checkers judge the clients' histories by. Every later one must come to the same
(G9).

Rule of this file: its model of the tree is plain dictionaries, built from the changes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from coordsvc.raft.types import Index
from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.commands import Create, Transaction, Write
from coordsvc.statemachine.invariants import _replay
from coordsvc.statemachine.machine import Session, StateMachine, WriteOutcome, WriteStatus
from coordsvc.statemachine.paths import ROOT, parent_of
from coordsvc.statemachine.results import Created, Failure, WriteResult
from coordsvc.statemachine.store import Store
from coordsvc.statemachine.types import CreateMode, Limits
from tests.checkers.history import SessionEnd
from tests.simulation.probes import Probes

_SEQUENTIAL = (CreateMode.PERSISTENT_SEQUENTIAL, CreateMode.EPHEMERAL_SEQUENTIAL, CreateMode.TTL_SEQUENTIAL)


State: TypeAlias = tuple[int, int, int, int, tuple[tuple[int, ...], ...]]


class Ledger:
    """Shared by all members of one run."""

    def __init__(self, probes: Probes) -> None:
        self.probes = probes
        self.index: Index = 0
        self.changes: list[Change] = []
        self.session_ends: list[SessionEnd] = []
        self.oldest_history_zxid = 1
        self.clock: Callable[[], int] = _no_clock
        self._states: dict[Index, State] = {}
        self._answers: dict[tuple[int, int], tuple[int, WriteResult]] = {}
        self._acknowledged: dict[int, int] = {}
        self._zxid = 0
        self._time_ms = 0
        self._expected: dict[str, tuple[bytes, int, int]] = {ROOT: (b"", 0, 0)}
        self._cversions: dict[str, int] = {ROOT: 0}
        self._numbers: dict[tuple[str, int], int] = {}
        self._ephemerals: dict[int, dict[str, None]] = {}
        self._open: dict[int, int] = {}  # sequence that was applied last, by session
        self._ended: dict[int, Index] = {}

    # -- the first application of an entry --------------------------------------------------------

    def changed(self, changes: list[Change]) -> None:
        """A transaction changed the tree: Z1, Z2, Z3, Z4, Z11, and no zxid is left out."""
        if not changes:
            return
        self._zxid += 1
        for change in changes:
            assert change.zxid == self._zxid, f"Z11: zxid {change.zxid} where {self._zxid} is due"
            _replay(self._expected, self._cversions, change)
            owner = change.stat.ephemeral_owner
            if owner:
                self._follow(owner, change)
            elif change.type is ChangeType.CREATED:
                parent_owned = any(parent_of(change.path) in paths for paths in self._ephemerals.values())
                assert not parent_owned, f"Z4: {change.path} was created under an ephemeral node"
        self.changes += changes

    def _follow(self, owner: int, change: Change) -> None:
        assert owner in self._open or change.type is ChangeType.DELETED, (
            f"Z4: {change.path} belongs to session {owner}, which is over"
        )
        paths = self._ephemerals.setdefault(owner, {})
        if change.type is ChangeType.CREATED:
            paths[change.path] = None
        elif change.type is ChangeType.DELETED:
            del paths[change.path]

    def wrote(self, session_id: int, sequence: int, write: Write, outcome: WriteOutcome) -> None:
        """A write was carried out, repeated, or refused: S1, G8, Z5, Z6."""
        status = outcome.status
        if status is WriteStatus.REPEATED:
            self._repeated(session_id, sequence, outcome)
            return
        if status is WriteStatus.GAP:
            self.probes.hit("a write came out of sequence")
            return
        if status is WriteStatus.UNKNOWN_SESSION:
            self.probes.hit("a write came from a session that had ended")
            assert session_id not in self._open, f"S3: session {session_id} is open and unknown"
            return
        if session_id:
            last = self._open.get(session_id)
            assert last is not None, f"S1: session {session_id} wrote after its end"
            assert sequence == last + 1, f"G8: sequence {sequence} of session {session_id} follows {last}"
            self._open[session_id] = sequence
            self._answers[session_id, sequence] = outcome.zxid, outcome.result
        result = outcome.result
        if isinstance(result, Failure):
            assert not outcome.changes, "Z6: a write that failed changed something"
            if isinstance(write.operation, Transaction):
                self.probes.hit("a transaction was rolled back")
        elif isinstance(write.operation, Create) and isinstance(result, Created):
            self._numbered(write.operation, result)

    def acknowledged(self, session_id: int, sequence: int) -> None:
        """The client has these answers: from now on they may be forgotten."""
        self._acknowledged[session_id] = max(sequence, self._acknowledged.get(session_id, 0))

    def answer(self, session_id: int, sequence: int) -> tuple[int, WriteResult] | None:
        """Return what that write came to; None if no member carried it out."""
        return self._answers.get((session_id, sequence))

    def _repeated(self, session_id: int, sequence: int, outcome: WriteOutcome) -> None:
        """S4: what was sent again gets the first answer, or none if that was acknowledged."""
        if (outcome.zxid, outcome.result) == self._answers[session_id, sequence]:
            self.probes.hit("a repeated write got its first answer")
            return
        is_forgotten = sequence <= self._acknowledged.get(session_id, 0)
        assert is_forgotten, f"S4: write {sequence} of session {session_id} got another answer: {outcome}"

    def _numbered(self, create: Create, created: Created) -> None:
        if create.mode not in _SEQUENTIAL:
            return
        parent = parent_of(created.path)
        key = (parent, self._expected[parent][1])
        number = int(created.path[len(create.path) :])
        assert number > self._numbers.get(key, -1), f"Z5: {created.path} repeats a number under {parent}"
        self._numbers[key] = number

    def opened(self, session_id: int) -> None:
        assert session_id not in self._open, f"S6: session {session_id} is open already"
        assert session_id not in self._ended, f"S6: the id of session {session_id} is used again"
        self._open[session_id] = 0

    def ended(self, session_id: int, zxid: int, *, was_closed: bool) -> None:
        """A session is over, and what it owned has gone: Z8."""
        assert not self._ephemerals.pop(session_id, None), f"Z8: session {session_id} left ephemerals behind"
        del self._open[session_id]
        self._ended[session_id] = self.index
        self.session_ends.append(SessionEnd(session_id, zxid, was_closed, self.clock()))
        self.probes.hit("a session was closed" if was_closed else "a session expired")

    # -- every application of an entry -------------------------------------------------------------

    def applied(self, machine: WatchedMachine) -> None:
        """An entry has been applied: G9 against whoever was first."""
        index = machine.applied_index
        state = state_of(machine)
        known = self._states.setdefault(index, state)
        assert known == state, f"G9: after entry {index} there are two states, {known} and {state}"
        if machine.oldest_history_zxid > self.oldest_history_zxid:
            self.oldest_history_zxid = machine.oldest_history_zxid
            self.probes.hit("the history was trimmed")
        if index > self.index:
            assert index == self.index + 1, f"R10: entry {self.index + 1} was applied by nobody"
            assert machine.time_ms >= self._time_ms, "Z10: the time of the log went back"
            self.index, self._time_ms = index, machine.time_ms
            assert machine.zxid == self._zxid, "Z11: a transaction without changes"

    def received(self, machine: StateMachine) -> None:
        """A snapshot was installed: G9 against those who applied the log."""
        known = self._states.get(machine.applied_index)
        state = state_of(machine)
        assert known == state, f"G9: the snapshot at {machine.applied_index} is {state} and not {known}"

    def recovered(self, machine: StateMachine) -> None:
        """G12: a tree that is found on a disk is that of the index which it says that it has applied."""
        known = self._states.get(machine.applied_index)
        if known is not None:
            state = state_of(machine)
            assert known == state, f"G12: the tree found at {machine.applied_index} is {state}, not {known}"


def state_of(machine: StateMachine) -> State:
    """Return all that members agree on after an entry, small enough to be kept for every entry."""
    sessions = tuple(
        (one.session_id, one.last_sequence, one.acknowledged_sequence, len(one.results), len(one.ephemerals))
        for one in machine.sessions.values()
    )
    return machine.digest, machine.zxid, machine.time_ms, machine._sessions.next_session_id, sessions


def _no_clock() -> int:
    return 0


class WatchedMachine(StateMachine):
    """A state machine that tells the ledger what it has done, once an entry's effect is written."""

    def __init__(self, store: Store, limits: Limits, cache_bytes: int, ledger: Ledger) -> None:
        super().__init__(store, limits, cache_bytes)
        self._ledger = ledger
        self._reports: list[Callable[[], None]] = []
        self.expiring: dict[int, bool] = {}  # of the sessions that the next entry ends

    @property
    def _is_first(self) -> bool:
        return self._index > self._ledger.index

    def commit(self) -> None:
        super().commit()
        reports, self._reports = self._reports, []
        for report in reports:
            report()
        self._ledger.applied(self)

    def write(self, session_id: int, sequence: int, write: Write) -> WriteOutcome:
        outcome = super().write(session_id, sequence, write)
        if self._is_first:
            self._reports.append(partial(self._ledger.wrote, session_id, sequence, write, outcome))
        return outcome

    def acknowledge(self, session_id: int, sequence: int) -> None:
        super().acknowledge(session_id, sequence)
        if self._is_first:
            self._reports.append(partial(self._ledger.acknowledged, session_id, sequence))

    def _conclude(self) -> list[Change]:
        changes = super()._conclude()
        if self._is_first:
            self._reports.append(partial(self._ledger.changed, changes))
        return changes

    def history(self, since: int, limit: int) -> list[Change] | None:
        changes = super().history(since, limit)
        if changes is None:
            self._ledger.probes.hit("a watch was told that its history is gone")
        elif changes:
            self._ledger.probes.hit("a watch was replayed")
        return changes

    def reap(self, paths: list[str]) -> tuple[int, list[Change]]:
        zxid, changes = super().reap(paths)
        if changes:
            self._ledger.probes.hit("a node was reaped")
        return zxid, changes

    def open_session(
        self, secret: bytes, timeout_ms: int, client_name: str, member: str, connection: int
    ) -> Session | Failure:
        session = super().open_session(secret, timeout_ms, client_name, member, connection)
        if self._is_first and isinstance(session, Session):
            self._reports.append(partial(self._ledger.opened, session.session_id))
        return session

    def attach_session(
        self, session_id: int, secret: bytes, member: str, connection: int
    ) -> Session | Failure:
        session = super().attach_session(session_id, secret, member, connection)
        if self._is_first and isinstance(session, Session):
            self._ledger.probes.hit("a session moved to another connection")
        return session

    def end_session(self, session_id: int, *, expired: bool = False) -> tuple[bool, int, list[Change]]:
        known, zxid, changes = super().end_session(session_id, expired=expired)
        if any(change.type is ChangeType.CREATED for change in changes):
            self._ledger.probes.hit("an ephemeral node left a grave")
        if self._is_first and known:
            was_closed = not self.expiring[session_id]
            self._reports.append(partial(self._ledger.ended, session_id, zxid, was_closed=was_closed))
        return known, zxid, changes

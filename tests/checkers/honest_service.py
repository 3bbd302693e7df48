"""A service in one object that keeps every promise, and writes down what its clients saw.

Rule of this file: it answers out of the real state machine and watch registry, so that the checkers, which
share no code with those, are held against them. Tests take its history and spoil it.
"""

from __future__ import annotations

from coordsvc.statemachine.changes import Change
from coordsvc.statemachine.commands import Exists, Get, Guard, ListChildren, Write
from coordsvc.statemachine.machine import Session, StateMachine
from coordsvc.statemachine.results import Failure
from coordsvc.statemachine.types import Limits
from coordsvc.watch.registry import Watch, WatchKind, WatchRegistry
from tests.checkers.history import (
    FAIL,
    LINEARIZABLE,
    OK,
    ONCE_KINDS,
    History,
    Operation,
    Request,
    Result,
    SessionEnd,
    SessionRecord,
    Sync,
    Synced,
    WatchEvent,
    WatchRecord,
    WriteRequest,
)
from tests.stores import MemoryStore

STEP_NS = 1_000_000
TIMEOUT_MS = 10_000


class HonestService:
    """Every call takes one step of time. `history` grows with every call."""

    def __init__(self) -> None:
        self.history = History()
        self.history.facts.oldest_zxid = 1
        self.now_ns = 0
        self._machine = StateMachine(MemoryStore(), Limits())
        self._index = 0
        self._sessions: dict[str, SessionRecord] = {}
        self._sequences: dict[int, int] = {}
        self._numbers: dict[str, int] = {}
        self._orders: dict[str, int] = {}
        self._registry = WatchRegistry()
        self._watches: dict[int, WatchRecord] = {}
        self._product_watches: dict[int, Watch] = {}

    @property
    def zxid(self) -> int:
        return self._machine.zxid

    def _tick(self) -> int:
        self.now_ns += STEP_NS
        return self.now_ns

    def _begin(self) -> None:
        self._index += 1
        self._machine.begin(self._index, 1, 1_000_000 + self.now_ns // 1_000_000)

    def _commit(self, changes: list[Change]) -> None:
        self._machine.commit()
        self.history.committed += changes
        for firing in self._registry.match(changes):
            change = firing.change
            value = change.value if change is not None and firing.audience.with_values else b""
            stat = change.stat if change is not None else None
            for fired in firing.audience.watches:
                watch = self._watches[fired.watch_id]
                order = self._next_order(watch.client)
                watch.events.append(
                    WatchEvent(firing.event_type, firing.path, firing.zxid, self.now_ns, value, stat, order)
                )

    def _next_order(self, client: str) -> int:
        self._orders[client] = self._orders.get(client, 0) + 1
        return self._orders[client]

    # -- sessions -------------------------------------------------------------------------------

    def open(self, client: str) -> int:
        """Open a session for a client; its operations from now on belong to it."""
        self._begin()
        opened = self._machine.open_session(b"secret", TIMEOUT_MS, client, "member", 1)
        assert isinstance(opened, Session)
        self._machine.commit()
        now_ns = self._tick()
        record = SessionRecord(client, opened.session_id, TIMEOUT_MS, now_ns)
        record.renewed_ns = now_ns
        record.valid_until_ns = now_ns + TIMEOUT_MS * 1_000_000
        self._sessions[client] = record
        self._sequences[opened.session_id] = 0
        self.history.sessions.append(record)
        return opened.session_id

    def session_of(self, client: str) -> int:
        record = self._sessions.get(client)
        return record.session if record is not None else 0

    def close(self, client: str) -> None:
        """Close a client's session, with all its ephemerals."""
        record = self._sessions.pop(client)
        record.close_sent_ns = self._tick()
        self._end(record.session, was_closed=True)
        record.closed_ns = self._tick()

    def expire(self, client: str) -> None:
        """Let a client fall silent until its session has expired; the client learns of it."""
        record = self._sessions.pop(client)
        record.stopped_ns = self._tick()
        self.now_ns += TIMEOUT_MS * 1_000_000
        record.suspended_ns.append(self.now_ns - 1)
        self._end(record.session, was_closed=False)
        record.lost_ns = self._tick()
        record.lost_by_word = True

    def _end(self, session: int, *, was_closed: bool) -> None:
        self._tick()
        self._begin()
        _, zxid, changes = self._machine.end_session(session, expired=not was_closed)
        self._commit(changes)
        self.history.session_ends.append(SessionEnd(session, zxid, was_closed))

    # -- operations -----------------------------------------------------------------------------

    def do(
        self,
        client: str,
        request: Request,
        *guards: Guard,
        answered: bool = True,
        carried_out: bool = True,
        consistency: int = LINEARIZABLE,
    ) -> Operation:
        """Do one request. `answered=False`: the outcome stays unknown, and it may not be `carried_out`."""
        session = self.session_of(client)
        self._numbers[client] = self._numbers.get(client, 0) + 1
        operation = Operation(client, session, self._numbers[client], request, self._tick())
        operation.consistency = consistency
        operation.guards = list(guards)
        self.history.operations.append(operation)
        if isinstance(request, WriteRequest) and session and carried_out:
            operation.sequence = self._sequences[session] + 1
        self._tick()
        zxid, result = self._answer(operation) if carried_out else (0, None)
        if not answered:
            return operation
        if isinstance(request, WriteRequest) and session:
            record = self._sessions[client]
            record.renewed_ns = operation.invoked_ns
            record.valid_until_ns = operation.invoked_ns + TIMEOUT_MS * 1_000_000
        operation.completed_ns = self._tick()
        operation.zxid, operation.result = zxid, result
        operation.outcome = FAIL if isinstance(result, Failure) else OK
        operation.order = self._next_order(client)
        return operation

    def _answer(self, operation: Operation) -> tuple[int, Result]:
        machine, request = self._machine, operation.request
        if isinstance(request, WriteRequest):
            if operation.session:
                self._sequences[operation.session] = operation.sequence
            self._begin()
            write = Write(request, operation.guards)
            outcome = machine.write(operation.session, operation.sequence, write)
            machine.acknowledge(operation.session, operation.sequence)
            self._commit(outcome.changes)
            return outcome.zxid, outcome.result
        if isinstance(request, Get):
            return machine.zxid, machine.get(request.path)
        if isinstance(request, Exists):
            return machine.zxid, machine.exists(request.path)
        if isinstance(request, ListChildren):
            return machine.zxid, machine.list_children(request)
        assert isinstance(request, Sync)
        return machine.zxid, Synced()

    def reap(self, *paths: str) -> None:
        """Remove containers and nodes with a TTL that are due."""
        self._tick()
        self._begin()
        self._commit(self._machine.reap(list(paths))[1])

    # -- watches --------------------------------------------------------------------------------

    def watch(self, client: str, path: str, kind: int, *, with_values: bool = True) -> WatchRecord:
        """Set a watch that sees everything from now on."""
        number = len(self.history.watches) + 1
        record = WatchRecord(client, self.session_of(client), number, path, kind, self._tick(), with_values)
        record.set_zxid = self.zxid
        record.set_ns = self._tick()
        watch = Watch(1, number, path, WatchKind(kind), with_values, self.zxid)
        self._registry.add(watch)
        self._watches[number] = record
        self._product_watches[number] = watch
        self.history.watches.append(record)
        return record

    def cancel(self, record: WatchRecord) -> None:
        """Remove a watch."""
        if record.kind not in ONCE_KINDS or not record.events:
            self._registry.remove(self._product_watches[record.watch_id])
        record.cancelled_ns = self._tick()

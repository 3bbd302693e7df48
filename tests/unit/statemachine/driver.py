"""Drives a state machine as a replica would: each command is a log entry of its own.

Rule of this file: after every commit the whole store is verified, so every test also tests the invariants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from coordsvc.statemachine.changes import Change
from coordsvc.statemachine.commands import (
    Check,
    Create,
    Delete,
    Guard,
    ListChildren,
    Set,
    Transaction,
    TransactionOp,
    Unknown,
    Write,
)
from coordsvc.statemachine.machine import Session, StateMachine, WriteOutcome
from coordsvc.statemachine.results import (
    Children,
    Created,
    Deleted,
    ErrorCode,
    Failure,
    Node,
    TransactionResult,
    WasSet,
)
from coordsvc.statemachine.types import CreateMode, Limits, Stat
from tests.stores import MemoryStore

SECRET = b"a secret"


class Driver:
    """A machine, its store, and the next log entry."""

    def __init__(
        self, limits: Limits | None = None, store: MemoryStore | None = None, cache_bytes: int = 1 << 20
    ) -> None:
        self.limits = limits if limits is not None else Limits()
        self.store = store if store is not None else MemoryStore()
        self.cache_bytes = cache_bytes
        self.machine = StateMachine(self.store, self.limits, cache_bytes)
        self.now_ms = max(self.machine.time_ms, 1_000_000)
        with self.entry():
            pass  # an empty entry, such as a new leader begins with; the first one plants the root

    @contextmanager
    def entry(self) -> Iterator[StateMachine]:
        """Apply what happens inside as one log entry."""
        self.machine.begin(self.machine.applied_index + 1, 1, self.now_ms)
        yield self.machine
        self.machine.commit()
        self.machine.verify()

    def reload(self) -> None:
        """Start again from what is in the store, as after a crash."""
        self.machine = StateMachine(self.store, self.limits, self.cache_bytes)

    def write(
        self,
        operation: Create | Set | Delete | Transaction | Unknown,
        session: Session | None = None,
        guards: Sequence[Guard] = (),
    ) -> WriteOutcome:
        """Carry out the next write of a session, or one of no session."""
        with self.entry() as machine:
            if session is None:
                return machine.write(0, 0, Write(operation, list(guards)))
            current = machine.sessions[session.session_id]
            return machine.write(
                current.session_id, current.last_sequence + 1, Write(operation, list(guards))
            )

    def open_session(self, timeout_ms: int = 5_000) -> Session:
        with self.entry() as machine:
            session = machine.open_session(SECRET, timeout_ms, "a test", "member", 1)
        assert isinstance(session, Session)
        return session

    def end_session(self, session: Session, *, expired: bool = False) -> list[Change]:
        with self.entry() as machine:
            existed, _, changes = machine.end_session(session.session_id, expired=expired)
        assert existed
        return changes

    def create(
        self,
        path: str,
        value: bytes = b"",
        mode: int = CreateMode.PERSISTENT,
        *,
        ttl_ms: int = 0,
        parents: bool = False,
        session: Session | None = None,
    ) -> str:
        """Create a node, which must succeed, and return its path."""
        outcome = self.write(Create(path, value, mode, ttl_ms, parents), session)
        assert isinstance(outcome.result, Created), outcome.result
        return outcome.result.path

    def set(self, path: str, value: bytes = b"", version: int = -1) -> Stat:
        result = self.write(Set(path, value, version)).result
        assert isinstance(result, WasSet), result
        return result.stat

    def delete(self, path: str, *, recursive: bool = False) -> int:
        result = self.write(Delete(path, recursive=recursive)).result
        assert isinstance(result, Deleted), result
        return result.count

    def transact(self, *operations: TransactionOp, session: Session | None = None) -> TransactionResult:
        """Carry out a transaction without compares, which must succeed."""
        result = self.write(Transaction(success=list(operations)), session).result
        assert isinstance(result, TransactionResult), result
        return result

    def refusal(
        self,
        operation: Create | Set | Delete | Transaction | Unknown,
        session: Session | None = None,
        guards: Sequence[Guard] = (),
    ) -> Failure:
        """Carry out a write that must fail, use up no zxid and leave the tree as it is (Z6)."""
        machine = self.machine
        before = (machine.zxid, machine.digest, machine.node_count)
        outcome = self.write(operation, session, guards)
        assert outcome.changes == []
        assert outcome.zxid == before[0]
        assert (machine.zxid, machine.digest, machine.node_count) == before
        return failure(outcome.result)

    def check_refusal(self, check: Check) -> ErrorCode:
        """Return the code with which a check fails in a transaction."""
        return self.refusal(Transaction(success=[check])).op_codes[0]

    def node(self, path: str) -> Node:
        node = self.machine.get(path)
        assert isinstance(node, Node), node
        return node

    def stat(self, path: str) -> Stat:
        return self.node(path).stat

    def is_there(self, path: str) -> bool:
        return isinstance(self.machine.get(path), Node)

    def children(self, path: str) -> list[str]:
        page = self.machine.list_children(ListChildren(path))
        assert isinstance(page, Children), page
        return page.names


def failure(result: object) -> Failure:
    assert isinstance(result, Failure), result
    return result

"""What the clients of a run asked for and were told: the records of the checkers, gathered cheaply.

A call keeps the messages themselves, and is put into the words of the checkers when the run is over.

Rule of this file: it records, and judges nothing. Times are the world's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coordclient.errors import CoordError
from coordclient.pipeline import Answer
from coordproto.v1 import coordination_pb2, data_pb2
from tests.checkers.history import (
    FAIL,
    UNKNOWN,
    FencedWrite,
    History,
    LockRecord,
    Operation,
    SessionRecord,
    WatchRecord,
)
from tests.checkers.recording import read_answer, read_request, write_answer, write_request


@dataclass(slots=True, eq=False)
class Call:
    """One operation and what came of it. Attributes as in `tests.checkers.history.Operation`.

    Attributes:
        outcome: The answer, or the error of the client; None while there is none.
        may_have_been_applied: It was sent, or may have been, and has no answer.
    """

    client: str
    number: int
    request: data_pb2.Write | coordination_pb2.Read
    invoked_ns: int
    session: int = 0
    sequence: int = 0
    completed_ns: int | None = None
    order: int = 0
    outcome: Answer | CoordError | None = None
    may_have_been_applied: bool = False

    def operation(self) -> Operation:
        """Return the call as the checkers want to see it."""
        request = self.request
        if isinstance(request, data_pb2.Write):
            asked, guards = write_request(request)
            operation = Operation(
                self.client, self.session, self.number, asked, self.invoked_ns, guards=guards
            )
        else:
            looked, consistency, min_zxid = read_request(request)
            operation = Operation(
                self.client,
                self.session,
                self.number,
                looked,
                self.invoked_ns,
                consistency=consistency,
                min_zxid=min_zxid,
            )
        operation.sequence = self.sequence
        operation.completed_ns = self.completed_ns
        operation.order = self.order
        self._tell_outcome(operation)
        return operation

    def _tell_outcome(self, operation: Operation) -> None:
        outcome = self.outcome
        if isinstance(outcome, data_pb2.WriteResult):
            operation.outcome, operation.zxid, operation.result = write_answer(outcome)
        elif isinstance(outcome, data_pb2.ReadResult):
            operation.outcome, operation.zxid, operation.result = read_answer(outcome)
        else:
            operation.outcome = UNKNOWN if self.may_have_been_applied else FAIL


@dataclass(slots=True)
class Notebook:
    """Everything that was noted in one run.

    Attributes:
        failures: What a client came to that no client should, in words.
        newest_zxid: The newest transaction that any client has seen: handed from one to another.
    """

    calls: list[Call] = field(default_factory=list)
    watches: list[WatchRecord] = field(default_factory=list)
    sessions: list[SessionRecord] = field(default_factory=list)
    locks: list[LockRecord] = field(default_factory=list)
    fenced_writes: list[FencedWrite] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    newest_zxid: int = 0

    def history(self) -> History:
        """Return what the checkers judge; the members' part is still to be filled in."""
        return History(
            operations=[call.operation() for call in self.calls],
            watches=self.watches,
            sessions=self.sessions,
            locks=self.locks,
            fenced_writes=self.fenced_writes,
        )

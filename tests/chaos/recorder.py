"""Writes down what a client of the SDK did and saw, for the checkers.

The notes are taken where frames are taken apart, not where callers look at results: the order of answers
and events is the one in which they arrived.

Rule of this file: an operation is written when it ends; watches, sessions and locks at the end of all.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TextIO

from coordclient.errors import CoordError
from coordclient.pipeline import Answer, Operation
from coordclient.types import Event, EventType
from coordclient.watch_records import WatchRecord
from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.statemachine.results import ErrorCode, Failure
from coordsvc.statemachine.types import Stat
from tests.checkers import history
from tests.checkers.history_files import read_history, write_record
from tests.checkers.recording import read_answer, read_request, write_answer, write_request

NS = 1_000_000_000


def now_ns() -> int:
    """Return the time on the clock of the SDK, which all processes of one machine share."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Recorder:
    """The notes of one client, for as long as it lives: over any number of connections and sessions."""

    def __init__(self, client: str, file: TextIO, called: TextIO | None = None) -> None:
        """Write to `file`; and each write that is called to `called`, in case the process is killed."""
        self.client = client
        self.sessions: list[history.SessionRecord] = []
        self.locks: list[history.LockRecord] = []
        self.watches: list[history.WatchRecord] = []
        self.operation_count = 0
        self._file = file
        self._called = called
        self._order = 0
        self._number = 0
        self._pending: dict[Operation, history.Operation] = {}
        self._watches: dict[WatchRecord, history.WatchRecord] = {}

    def write(self, record: history.Record) -> None:
        write_record(self._file, record)

    def _next_order(self) -> int:
        self._order += 1
        return self._order

    # -----------------------------------------------------------------------------------------
    # Operations

    def called(self, operation: Operation, session: int) -> None:
        """A request is about to be submitted."""
        if operation.watch is not None:
            self._watch_requested(operation.watch, session)
        if operation.read is not None and operation.read.WhichOneof("op") == "watch":
            return  # It sets a stream: no read of the tree.
        self._number += 1
        if operation.write is not None:
            request, guards = write_request(operation.write)
            noted = history.Operation(self.client, session, self._number, request, now_ns(), guards=guards)
            if self._called is not None:
                write_record(self._called, noted)
        else:
            assert operation.read is not None
            noted = self._read(operation.read, session)
        self._pending[operation] = noted

    def _read(self, read: coordination_pb2.Read, session: int) -> history.Operation:
        request, consistency, min_zxid = read_request(read)
        return history.Operation(
            self.client,
            session,
            self._number,
            request,
            now_ns(),
            consistency=consistency,
            min_zxid=min_zxid,
        )

    def numbered(self, operation: Operation, session: int) -> None:
        """A request leaves for the first time, in this session."""
        noted = self._pending.get(operation)
        if noted is not None:
            noted.session = session
            noted.sequence = operation.sequence if operation.write is not None else 0

    def settled(self, operation: Operation, outcome: Answer | CoordError) -> None:
        """A request has its answer, or never will have one."""
        noted = self._pending.pop(operation, None)
        order = self._next_order()
        if noted is not None:
            self._note_outcome(noted, outcome, may_be_applied=operation.may_have_been_applied)
            noted.order = order
            self._write_operation(noted)
        if operation.watch is not None:
            self._watch_answered(operation.watch, outcome)

    def abandoned(self, operation: Operation) -> None:
        """The caller was cancelled: what became of the request is not known."""
        noted = self._pending.pop(operation, None)
        if noted is None:
            return
        if not noted.is_write:
            noted.outcome = history.FAIL
            noted.result = Failure(ErrorCode.REQUEST_TIMEOUT, "cancelled by the caller")
        self._write_operation(noted)

    def read_outside(
        self, read: coordination_pb2.Read, invoked_ns: int, outcome: data_pb2.ReadResult | CoordError
    ) -> None:
        """A stale read was made without a session."""
        self._number += 1
        noted = self._read(read, 0)
        noted.invoked_ns = invoked_ns
        self._note_outcome(noted, outcome, may_be_applied=False)
        self._write_operation(noted)

    def _note_outcome(
        self, noted: history.Operation, outcome: Answer | CoordError, *, may_be_applied: bool
    ) -> None:
        noted.completed_ns = now_ns()
        if isinstance(outcome, data_pb2.WriteResult):
            noted.outcome, noted.zxid, noted.result = write_answer(outcome)
        elif isinstance(outcome, data_pb2.ReadResult):
            noted.outcome, noted.zxid, noted.result = read_answer(outcome)
        else:
            noted.outcome = history.UNKNOWN if may_be_applied else history.FAIL
            noted.result = Failure(ErrorCode(outcome.code or ErrorCode.REQUEST_TIMEOUT), outcome.message)
        if noted.outcome != history.OK:
            noted.zxid = noted.zxid or None

    def _write_operation(self, noted: history.Operation) -> None:
        self.operation_count += 1
        self.write(noted)

    # -----------------------------------------------------------------------------------------
    # Watches

    def _watch_requested(self, record: WatchRecord, session: int) -> None:
        known = self._watches.get(record)
        if known is not None:
            # A stream that its slow reader had paused goes on where it stopped: behind what came meanwhile.
            known.cancelled_ns = None
            known.is_immediate = False
            return
        noted = history.WatchRecord(
            self.client,
            session,
            len(self.watches) + 1,
            record.path,
            int(record.kind),
            now_ns(),
            with_values=record.with_values,
            since=record.since,
        )
        self._watches[record] = noted
        self.watches.append(noted)

    def _watch_answered(self, record: WatchRecord, outcome: Answer | CoordError) -> None:
        noted = self._watches[record]
        is_refused = isinstance(outcome, CoordError) or outcome.HasField("error")
        if is_refused:
            return
        assert isinstance(outcome, data_pb2.ReadResult)
        if noted.set_ns is None:
            noted.set_ns, noted.set_zxid = now_ns(), outcome.zxid

    def event(self, record: WatchRecord, event: Event) -> None:
        """An event has arrived at a watch."""
        stat = None if event.stat is None else Stat(**event.stat._asdict())
        self._watches[record].events.append(
            history.WatchEvent(
                int(EventType(event.type)),
                event.path,
                event.zxid,
                now_ns(),
                event.value,
                stat,
                self._next_order(),
            )
        )

    def watch_cancelled(self, record: WatchRecord, complete_to: int) -> None:
        """The watch is taken off. Every event up to `complete_to` has had its chance."""
        noted = self._watches.get(record)
        if noted is not None and noted.cancelled_ns is None:
            noted.cancelled_ns = now_ns()
            noted.complete_to = complete_to if noted.set_ns is not None else 0

    # -----------------------------------------------------------------------------------------
    # Sessions

    def session_opened(self, session: int, timeout_s: float) -> None:
        self.sessions.append(history.SessionRecord(self.client, session, round(timeout_s * 1000), now_ns()))

    def renewed(self, session: int, sent_at_s: float, valid_until_s: float) -> None:
        """A renewal that was sent at this time was answered."""
        if self.sessions and self.sessions[-1].session == session:
            record = self.sessions[-1]
            record.renewed_ns = max(record.renewed_ns, round(sent_at_s * NS))
            record.valid_until_ns = round(valid_until_s * NS)

    def closed(self, answered_zxid: int) -> None:
        """The client is closed, and so are its watches. Those that were set saw all up to this."""
        for record, watch in self._watches.items():
            if watch.cancelled_ns is None:
                watch.cancelled_ns = now_ns()
                watch.complete_to = answered_zxid if record.is_set else 0

    def finish(self) -> None:
        """Write what is known only at the end."""
        for watch in self.watches:
            self.write(watch)
        for session in self.sessions:
            self.write(session)
        for lock in self.locks:
            self.write(lock)
        self._file.flush()


def called_file(history_file: Path) -> Path:
    """Return the file of the writes that were called, beside that of what has ended."""
    return history_file.with_suffix(".called")


def keep_unfinished(history_file: Path) -> None:
    """After the end of a killed process: its writes that never ended become part of the history."""
    ended = {(each.client, each.number) for each in read_history([history_file]).operations}
    called = read_history([called_file(history_file)]).operations
    with history_file.with_suffix(".unfinished.jsonl").open("w", encoding="utf-8") as file:
        for operation in called:
            if (operation.client, operation.number) not in ended:
                write_record(file, operation)

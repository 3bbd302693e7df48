"""The session core: what to send, re-send, expect and resume, and when to take the session for lost.

Rule of this file: pure. Operations, frames, connections and clock readings come in as values; frames,
answers, events and changes of state go out as values. `now` is always seconds of one clock that never
goes back. A write keeps its sequence until it is answered, over any number of connections: the service
answers a repeat with the first answer, so every write is applied exactly once while the session lives.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from coordclient.errors import (
    ClientClosedError,
    CoordError,
    RequestTimeoutError,
    SessionExpiredError,
    error_from_wire,
)
from coordclient.renewal import Renewal
from coordclient.states import State
from coordclient.types import Event
from coordclient.watch_records import WatchRecord, WatchTable
from coordproto.v1 import coordination_pb2, data_pb2

# The service allows a session 1024 operations in flight, and may count a frame until all of it is answered.
FRAME_OPERATIONS_MAX = 256
IN_FLIGHT_MAX = 1024 - FRAME_OPERATIONS_MAX
IN_FLIGHT_BYTES_MAX = 16 << 20
FRAME_BYTES_GOAL = 1 << 20  # a frame is full when it has reached this
OPERATION_BYTES_MAX = (3 << 20) - 4096  # so that a frame stays below the service's 4 MiB
RETRY_SECONDS = 0.1
IN_FLIGHT_MIN = 4  # a service with lower limits than ours is met half way, again and again, down to this
REFUSALS_MAX = 12  # frames refused one after the other, before their session is given up

_Code = data_pb2.ErrorCode
# The member could not do it now. A read is tried again; a write goes again over a new connection.
_PASSING = frozenset(
    {
        _Code.SEQUENCE_GAP,
        _Code.NO_LEADER,
        _Code.CATCHING_UP,
        _Code.SHUTTING_DOWN,
        _Code.UNKNOWN_OUTCOME,
        _Code.REQUEST_TIMEOUT,
    }
)

Answer = data_pb2.WriteResult | data_pb2.ReadResult


@dataclass(slots=True, eq=False)
class Operation:
    """One write or read on its way.

    Attributes:
        waiter: Whoever waits for the answer; the core only carries it.
        sequence: Of a write, or the id of a read; 0 until it has been put into a frame.
        is_settled: The caller has its answer, or does not want it any more.
    """

    deadline: float
    write: data_pb2.Write | None = None
    read: coordination_pb2.Read | None = None
    waiter: object = None
    watch: WatchRecord | None = None
    sequence: int = 0
    size: int = 0
    is_settled: bool = False
    refusal: str = ""


class SessionCore:
    """One client's session, over any number of connections, and the sessions that follow it."""

    def __init__(self, *, timeout_ms: int, client_name: str) -> None:
        assert timeout_ms > 0
        self.wanted_timeout_ms = timeout_ms
        self.client_name = client_name
        self.state = State.SUSPENDED
        self.session_id = 0
        self.watches = WatchTable()
        self.member = ""
        self.endpoints: tuple[str, ...] = ()
        self.is_attached = False
        self.last_zxid = 0
        self.broken = ""  # why the present connection must be given up; empty while it is fine
        # Outputs, taken away by the shell.
        self.completed: list[tuple[Operation, Answer | CoordError]] = []
        self.deliveries: list[tuple[WatchRecord, Event]] = []
        self.transitions: list[State] = []

        self._secret = b""
        self._last_sequence = 0
        self._read_ids = 0
        self._unanswered: deque[Operation] = deque()  # writes that were sent, contiguous in sequence
        self._reads: dict[int, Operation] = {}  # reads that were sent, by id
        self._resend: deque[Operation] = deque()
        self._waiting: deque[Operation] = deque()
        self._in_flight_bytes = 0
        self._postponed: list[Operation] = []
        self._in_flight_max = IN_FLIGHT_MAX
        self._frame_bytes_goal = FRAME_BYTES_GOAL
        self._refusals = 0
        self._retry_at = math.inf
        self._earliest_deadline = math.inf
        self._renewal = Renewal(timeout_ms / 1000)
        self._waiting_since = 0.0  # answers have been owed, and nothing was heard, since then
        self._answered_zxid = 0
        self._answers_at_last_ping = 0
        self.answers = 0  # how many operations the service has answered, over all sessions
        self._attaching_session_id = 0
        self._is_moving = False  # nobody need know of a change of connection that succeeds at once
        self._close_wanted = False

    def __repr__(self) -> str:
        return (
            f"<SessionCore {self.state.value} session={self.session_id:#x} sequence={self._last_sequence}"
            f" unanswered={len(self._unanswered)} reads={len(self._reads)} waiting={len(self._waiting)}"
            f" watches={len(self.watches)} zxid={self.last_zxid}>"
        )

    @property
    def pending_count(self) -> int:
        """Return how many operations have been submitted and not yet answered."""
        return len(self._unanswered) + len(self._reads) + len(self._waiting)

    @property
    def valid_until(self) -> float:
        """Return until when the session is certainly alive; -inf without a session."""
        return self._renewal.valid_until

    @property
    def timeout_s(self) -> float:
        """Return the session timeout, as negotiated."""
        return self._renewal.timeout_s

    # -----------------------------------------------------------------------------------------
    # Operations

    def submit(self, operation: Operation) -> None:
        """Queue an operation. Operations leave in the order in which they were submitted."""
        assert self.state is not State.CLOSED
        self._waiting.append(operation)
        if operation.deadline < self._earliest_deadline:
            self._earliest_deadline = operation.deadline

    def abandon(self, operation: Operation) -> None:
        """Forget an operation whose caller has gone. A write that was sent may still be applied.

        What was sent counts as in flight until it is answered, because the service counts it, too.
        """
        operation.is_settled = True
        if operation.watch is not None:
            self.cancel_watch(operation.watch)

    def cancel_watch(self, record: WatchRecord) -> None:
        """Take a watch off the service. A stream can be set again later, where it stopped."""
        self.watches.cancel(record, self._answered_zxid)

    def close(self) -> None:
        """End the session once everything that was submitted has been sent."""
        self._close_wanted = True

    # -----------------------------------------------------------------------------------------
    # Connection

    def attach_frame(self, now: float) -> bytes:
        """Return the first frame of a new connection."""
        assert not self.is_attached
        self.broken = ""
        self._renewal.attach_sent(now)
        self._attaching_session_id = self.session_id
        attach = coordination_pb2.Attach(
            session_id=self.session_id,
            secret=self._secret,
            timeout_ms=self.wanted_timeout_ms,
            last_zxid=self.last_zxid,
            client_name=self.client_name,
            watches=self.watches.to_resume(),
        )
        return coordination_pb2.ClientFrame(attach=attach).SerializeToString()

    def connection_lost(self) -> None:
        """The connection is gone. While moving nobody is told, unless the next attempt fails."""
        if self.is_attached:
            self.is_attached = False
            self._renewal.detached()
            self.watches.detached(self._answered_zxid)
            self._collect_for_resend()
        if not self._is_moving and self.state is State.CONNECTED:
            self._change_state(State.SUSPENDED)

    def attach_failed(self) -> None:
        """An attempt to attach has failed."""
        self._is_moving = False
        self.connection_lost()

    def _collect_for_resend(self) -> None:
        self._reads = {number: read for number, read in self._reads.items() if not read.is_settled}
        for operation in self._reads.values():
            record = operation.watch
            if record is not None and record.since is not None and not record.is_once:
                assert operation.read is not None
                operation.read.watch.since = record.since  # what has been replayed is not asked for again
        everything = [*self._unanswered, *self._reads.values()]
        everything.sort(key=_place_in_session)
        self._resend = deque(everything)
        self._in_flight_bytes = sum(operation.size for operation in everything)
        self._postponed.clear()
        self._retry_at = math.inf

    def take_frame(self, now: float) -> bytes | None:
        """Return everything that may be sent now, as one frame; None if there is nothing."""
        if not self.is_attached:
            return None
        frame = coordination_pb2.ClientFrame()
        if not self._unanswered and not self._reads:
            self._waiting_since = now
        is_worth_sending = self._fill(frame) > 0
        cancelled = self.watches.take_cancelled()
        if cancelled:
            frame.cancelled_watches.extend(cancelled)
            is_worth_sending = True
        if self._renewal.is_due:
            self._add_ping(frame, now)
            is_worth_sending = True
        if self._close_wanted and not self._waiting and not self._resend:
            self._close_wanted = False
            frame.close = True
            is_worth_sending = True
        if not is_worth_sending:
            return None
        unanswered = self._unanswered
        frame.acknowledged_sequence = unanswered[0].sequence - 1 if unanswered else self._last_sequence
        return frame.SerializeToString()

    def _add_ping(self, frame: coordination_pb2.ClientFrame, now: float) -> None:
        frame.ping = self._renewal.ping_sent(now)
        is_idle = self.answers == self._answers_at_last_ping
        self._answers_at_last_ping = self.answers
        if not len(self.watches) or not is_idle:
            return
        # An idle watcher would fall behind the history that is kept, although it has missed nothing:
        # any answer says up to where its watches are complete.
        read = coordination_pb2.Read(consistency=data_pb2.STALE, exists=data_pb2.Exists(path="/"))
        operation = Operation(math.inf, read=read, is_settled=True)
        self._number(operation)
        frame.reads.append(read)

    def _fill(self, frame: coordination_pb2.ClientFrame) -> int:
        """Move operations into the frame: first those to be sent again, then the waiting ones."""
        count = frame_bytes = 0
        next_sequence = 0
        append_write = frame.writes.writes.append
        append_read = frame.reads.append
        in_flight_max = self._in_flight_max
        operations_max = min(FRAME_OPERATIONS_MAX, max(1, in_flight_max // 3))
        while count < operations_max and frame_bytes < self._frame_bytes_goal:
            # What is to be sent again is not in flight on this connection yet.
            if len(self._unanswered) + len(self._reads) - len(self._resend) >= in_flight_max:
                break
            if self._resend:
                operation = self._resend.popleft()
                if operation.read is not None and operation.is_settled:
                    continue
            elif self._waiting and self._in_flight_bytes < IN_FLIGHT_BYTES_MAX:
                operation = self._waiting.popleft()
                if operation.is_settled:
                    continue
                self._number(operation)
            else:
                break
            count += 1
            frame_bytes += operation.size
            if operation.write is not None:
                if not next_sequence:
                    next_sequence = frame.first_sequence = operation.sequence
                assert operation.sequence == next_sequence, "writes leave without gaps"
                next_sequence += 1
                append_write(operation.write)
            else:
                assert operation.read is not None
                append_read(operation.read)
        return count

    def _number(self, operation: Operation) -> None:
        """Give an operation that leaves for the first time its place in the session."""
        if operation.write is not None:
            operation.size = operation.write.ByteSize()
            self._last_sequence += 1
            operation.sequence = self._last_sequence
            self._unanswered.append(operation)
        else:
            read = operation.read
            assert read is not None
            operation.size = read.ByteSize()
            self._read_ids += 1
            operation.sequence = read.id = self._read_ids
            read.after_sequence = self._last_sequence
            self._reads[read.id] = operation
        self._in_flight_bytes += operation.size

    # -----------------------------------------------------------------------------------------
    # Frames from the service

    def receive(self, frame: coordination_pb2.ServerFrame, now: float) -> None:
        """Take in one frame. Answers, events and changes of state are left in the outputs."""
        self._waiting_since = now
        for item in frame.items:
            kind = item.WhichOneof("item")
            if kind == "write":
                self._write_answered(item.write)
            elif kind == "read":
                self._read_answered(item.read, now)
            elif kind == "delivery":
                event, records = self.watches.deliver(item.delivery)
                self.last_zxid = max(self.last_zxid, event.zxid)
                self.deliveries.extend((record, event) for record in records)
            elif kind == "pong":
                self._renewal.ponged(item.pong)
            elif kind == "attached":
                self._attached(item.attached, now)
            elif kind == "error":
                self._refused(item.error)
            elif kind == "closed":
                self._closed()
            elif kind == "move":
                self._is_moving = True
                self.broken = f"the member asked to move: {item.move.reason}"
            # An item of a kind that this version does not know is none of its business.

    def _write_answered(self, result: data_pb2.WriteResult) -> None:
        unanswered = self._unanswered
        sequence = result.sequence
        if not unanswered or sequence < unanswered[0].sequence:
            return  # A repeat of an answer that has arrived before.
        operation = unanswered[0]
        if sequence != operation.sequence:
            self.broken = f"the member answered write {sequence} before write {operation.sequence}"
            return
        if result.HasField("error") and result.error.code in _PASSING:
            self._is_moving = True
            self.broken = operation.refusal = result.error.message
            return
        unanswered.popleft()
        self._in_flight_bytes -= operation.size
        self._saw_answer(result.zxid)
        self._settle(operation, result)

    def _read_answered(self, result: data_pb2.ReadResult, now: float) -> None:
        operation = self._reads.get(result.id)
        if operation is None:
            return
        is_error = result.HasField("error")
        if is_error and result.error.code in _PASSING and not operation.is_settled:
            operation.refusal = result.error.message
            self._postponed.append(operation)
            self._retry_at = min(self._retry_at, now + RETRY_SECONDS)
            return
        del self._reads[result.id]
        self._in_flight_bytes -= operation.size
        record = operation.watch
        if record is not None and is_error:
            self.watches.forget(record)
        elif record is not None:
            self.watches.answered(record, result.zxid)
        if not is_error:
            self._saw_answer(result.zxid)
        self._settle(operation, result)

    def _saw_answer(self, zxid: int) -> None:
        self.answers += 1
        self._refusals = 0
        # Every event up to here stands before this answer (promise G6).
        if zxid > self._answered_zxid:
            self._answered_zxid = zxid
            self.last_zxid = max(self.last_zxid, zxid)

    def _attached(self, attached: coordination_pb2.Attached, now: float) -> None:
        if self.is_attached or self._attaching_session_id != self.session_id:
            return  # The session was given up while this attach was under way.
        self.session_id = attached.session_id
        self._secret = attached.secret
        self.member = attached.member
        self.endpoints = tuple(attached.endpoints)
        self._renewal.attached(attached.timeout_ms / 1000, now)
        self.is_attached = True
        self._is_moving = False
        self._change_state(State.CONNECTED)

    def _refused(self, error: data_pb2.Error) -> None:
        self.broken = error.message or data_pb2.ErrorCode.Name(error.code)
        if error.code == _Code.SESSION_EXPIRED and self._attaching_session_id == self.session_id:
            self._lose(error_from_wire(error).message)
        elif error.code in (_Code.SESSION_MOVED, _Code.SHUTTING_DOWN):
            self._is_moving = True
        elif self.is_attached and error.code in (_Code.LIMIT_EXCEEDED, _Code.MALFORMED):
            self.frame_refused(self.broken)

    def frame_refused(self, reason: str) -> None:
        """The service would not take our last frames: send less at once from now on."""
        self._in_flight_max = max(IN_FLIGHT_MIN, self._in_flight_max // 2)
        self._frame_bytes_goal = max(1, self._frame_bytes_goal // 2)
        self._refusals += 1
        if self._refusals >= REFUSALS_MAX:
            self._refusals = 0
            self._lose(f"the service refuses what this session sends: {reason}")

    def _closed(self) -> None:
        self.broken = "the session was closed"
        self.give_up()

    def give_up(self) -> None:
        """The client is closed: nothing more will be sent or expected."""
        if self.state is State.CLOSED:
            return
        self.is_attached = False
        self._fail_everything(ClientClosedError, "the client has been closed")
        self.watches.clear()
        self._change_state(State.CLOSED)

    # -----------------------------------------------------------------------------------------
    # Time

    def tick(self, now: float) -> None:
        """Do what the time has come for."""
        if self.session_id and now >= self.valid_until:
            self._lose(f"session {self.session_id:#x} could not be renewed in time")
        if self.is_attached:
            self._renewal.tick(now)
            if now >= self._worry_at():
                self._renewal.ask(now)
            if self._renewal.is_silent(now):
                self.broken = f"member {self.member} did not answer a ping in time"
        if now >= self._retry_at:
            self._resend.extend(self._postponed)
            self._postponed.clear()
            self._retry_at = math.inf
        if now >= self._earliest_deadline:
            self._time_out(now)

    def next_wakeup(self) -> float:
        """Return when `tick` must be called at the latest."""
        wakeup = min(self._earliest_deadline, self._retry_at)
        if self.session_id:
            wakeup = min(wakeup, self.valid_until)
        if self.is_attached:
            wakeup = min(wakeup, self._renewal.next_wakeup(), self._worry_at())
        return wakeup

    def _worry_at(self) -> float:
        if not self._unanswered and not self._reads:
            return math.inf
        return self._renewal.worry_at(self._waiting_since)

    def _time_out(self, now: float) -> None:
        earliest = math.inf
        for operation in [*self._unanswered, *self._reads.values(), *self._waiting]:
            if operation.is_settled:
                continue
            if operation.deadline > now:
                earliest = min(earliest, operation.deadline)
                continue
            self._settle(operation, self._timeout_error(operation))
            self.abandon(operation)
        self._earliest_deadline = earliest
        self._waiting = deque(operation for operation in self._waiting if not operation.is_settled)

    def _timeout_error(self, operation: Operation) -> RequestTimeoutError:
        if operation.sequence == 0:
            message = "the request was not sent in time" + self._state_of_things()
        elif operation.write is None:
            message = "the read was not answered in time" + self._state_of_things()
        else:
            message = "the write was not answered in time and may still be applied" + self._state_of_things()
        if operation.refusal:
            message += f"; the service last said: {operation.refusal}"
        error = RequestTimeoutError(message)
        error.may_have_been_applied = operation.sequence != 0 and operation.write is not None
        return error

    def _state_of_things(self) -> str:
        return " (connected)" if self.is_attached else " (not connected)"

    # -----------------------------------------------------------------------------------------
    # Ends

    def _lose(self, reason: str) -> None:
        """The session is gone. Said once; a new session can only come after this."""
        if not self.session_id:
            return
        self._is_moving = True  # LOST says it all: no SUSPENDED before it
        self.connection_lost()
        self._is_moving = False
        self.broken = self.broken or reason
        self.session_id = 0
        self._secret = b""
        self._renewal.lost()
        self._fail_everything(SessionExpiredError, reason)
        self._last_sequence = 0
        self._change_state(State.LOST)

    def _fail_everything(self, kind: type[CoordError], reason: str) -> None:
        for operation in [*self._unanswered, *self._reads.values(), *self._waiting]:
            error = kind(reason)
            error.may_have_been_applied = operation.write is not None and operation.sequence != 0
            if operation.watch is not None:
                self.watches.forget(operation.watch)
            self._settle(operation, error)
        for queue in (self._unanswered, self._waiting, self._resend):
            queue.clear()
        self._reads.clear()
        self._postponed.clear()
        self._retry_at = self._earliest_deadline = math.inf
        self._in_flight_bytes = 0

    def _settle(self, operation: Operation, outcome: Answer | CoordError) -> None:
        if operation.is_settled:
            return
        operation.is_settled = True
        self.completed.append((operation, outcome))

    def _change_state(self, state: State) -> None:
        assert self.state is not State.CLOSED, "closed is the end"
        if state is self.state:
            return
        assert not (self.state is State.LOST and state is State.SUSPENDED), "after LOST comes a new session"
        self.state = state
        self.transitions.append(state)


def _place_in_session(operation: Operation) -> tuple[int, bool, int]:
    """Sort key: a read stands after the write that it was sent after."""
    if operation.read is not None:
        return operation.read.after_sequence, True, operation.sequence
    return operation.sequence, False, 0

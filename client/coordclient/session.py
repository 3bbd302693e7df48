"""The session core: attaching, resuming, renewing, and when to take the session for lost.

Rule of this file: pure. Operations, frames, connections and clock readings come in as values; frames,
answers, events and changes of state go out as values. `now` is always seconds of one clock that never
goes back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from coordclient.errors import ClientClosedError, CoordError, SessionExpiredError
from coordclient.pipeline import Answer, ConnectionUnusableError, Operation, Pipeline
from coordclient.renewal import Renewal
from coordclient.silence import Silence
from coordclient.states import State
from coordclient.types import Event
from coordclient.watch_records import WatchRecord, WatchTable
from coordproto.v1 import coordination_pb2, data_pb2

REFUSALS_MAX = 12  # connections in a row that end in a refusal, before their session is given up

ACKNOWLEDGE_BYTES = 1 << 20  # of answers, before they are acknowledged although nothing else is to be sent

_Code = data_pb2.ErrorCode


class SessionCore:
    """One client's session, over any number of connections, and the sessions that follow it.

    Attributes:
        broken: Why the present connection must be given up; empty while it is fine.
        endpoints: The client addresses of the members, as the service told last.
        answers: How many operations the service has answered, over all sessions.
        last_zxid: The newest transaction seen.
    """

    def __init__(self, *, timeout_ms: int, client_name: str) -> None:
        assert timeout_ms > 0
        self.wanted_timeout_ms = timeout_ms
        self.client_name = client_name
        self.state = State.SUSPENDED
        self.session_id = 0
        self.member = ""
        self.endpoints: tuple[str, ...] = ()
        self.is_attached = False
        self.last_zxid = 0
        self.answers = 0
        self.broken = ""
        self.pipeline = Pipeline()
        self.watches = WatchTable()
        # Outputs, taken away by the shell; the completed operations are in the pipeline.
        self.deliveries: list[tuple[WatchRecord, Event]] = []
        self.transitions: list[State] = []

        self._secret = b""
        self._renewal = Renewal(timeout_ms / 1000)
        self._silence = Silence()
        self._unacknowledged_bytes = 0  # of answers: the service keeps them, up to a limit, for repeats
        self._answered_zxid = 0
        self._answers_at_last_ping = 0
        self._attaching_session_id = 0
        self._refusals = 0
        self._is_moving = False  # nobody need know of a change of connection that succeeds at once
        self._close_wanted = False
        self._is_closing = False

    def __repr__(self) -> str:
        return (
            f"<SessionCore {self.state.value} session={self.session_id:#x} zxid={self.last_zxid}"
            f" watches={len(self.watches)} {self.pipeline}>"
        )

    @property
    def valid_until(self) -> float:
        """Return until when the session is certainly alive; -inf without a session."""
        return self._renewal.valid_until

    @property
    def timeout_s(self) -> float:
        """Return the session timeout, as negotiated."""
        return self._renewal.timeout_s

    def take_completed(self) -> list[tuple[Operation, Answer | CoordError]]:
        """Return what has been answered, or failed, since the last time."""
        completed = self.pipeline.completed
        if completed:
            self.pipeline.completed = []
        return completed

    # -----------------------------------------------------------------------------------------
    # Operations

    def submit(self, operation: Operation) -> None:
        """Queue an operation. Operations leave in the order in which they were submitted."""
        assert self.state is not State.CLOSED
        self.pipeline.submit(operation)

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
        """End the session once everything that was submitted has been sent. No other one follows it."""
        self._close_wanted = self._is_closing = True

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
        # Also a connection that was given up while it was being attached may have brought events.
        self.watches.detached(self._answered_zxid)
        if self.is_attached:
            self.is_attached = False
            self._renewal.detached()
            self._silence.detached()
            self.pipeline.detached()
            self._close_wanted = self._is_closing  # Whether the service heard it is not known.
        if not self._is_moving and self.state is State.CONNECTED:
            self._change_state(State.SUSPENDED)

    def attach_failed(self) -> None:
        """An attempt to attach has failed."""
        self._is_moving = False
        self.connection_lost()

    @property
    def wants_to_send(self) -> bool:
        """Return whether it is worth asking for a frame."""
        return (
            self.pipeline.has_unsent
            or self._renewal.is_due
            or self.watches.has_cancelled
            or self._silence.is_knock_due
            or self._close_wanted
            or self._unacknowledged_bytes >= ACKNOWLEDGE_BYTES
        )

    def take_frame(self, now: float) -> bytes | None:
        """Return everything that may be sent now, as one frame; None if there is nothing."""
        if not self.is_attached:
            return None
        pipeline = self.pipeline
        if not pipeline.is_owed:
            self._silence.nothing_owed(now)
        if not self.wants_to_send:
            return None
        frame = coordination_pb2.ClientFrame()
        is_worth_sending = pipeline.fill(frame)
        cancelled = self.watches.take_cancelled()
        if cancelled:
            frame.cancelled_watches.extend(cancelled)
            is_worth_sending = True
        if self._renewal.is_due:
            self._add_ping(frame, now)
            is_worth_sending = True
        if self._silence.is_knock_due:
            self._add_probe(frame)
            self._silence.knocked(now)
            is_worth_sending = True
        if self._close_wanted and not pipeline.has_unsent:
            self._close_wanted = False
            frame.close = True
            is_worth_sending = True
        if not is_worth_sending and self._unacknowledged_bytes < ACKNOWLEDGE_BYTES:
            return None
        self._unacknowledged_bytes = 0
        frame.acknowledged_sequence = pipeline.acknowledged_sequence
        data = frame.SerializeToString()
        self._silence.sent(len(data))
        return data

    def _add_ping(self, frame: coordination_pb2.ClientFrame, now: float) -> None:
        frame.ping = self._renewal.ping_sent(now)
        is_idle = self.answers == self._answers_at_last_ping
        self._answers_at_last_ping = self.answers
        if len(self.watches) and is_idle:
            # An idle watcher would fall behind the history that is kept, although it has missed nothing:
            # any answer says up to where its watches are complete.
            self._add_probe(frame)

    def _add_probe(self, frame: coordination_pb2.ClientFrame) -> None:
        """Ask what the member answers by itself and at once, with a leader or without."""
        read = coordination_pb2.Read(consistency=data_pb2.STALE, exists=data_pb2.Exists(path="/"))
        self.pipeline.add_probe(frame, read)

    # -----------------------------------------------------------------------------------------
    # Frames from the service

    def receive(self, frame: coordination_pb2.ServerFrame, now: float) -> None:
        """Take in one frame. Answers, events and changes of state are left in the outputs."""
        if self._has_run_out(now):
            return  # It came too late to renew what everybody has been told to take for lost.
        self._silence.heard(now)
        self._unacknowledged_bytes += frame.ByteSize()
        try:
            for item in frame.items:
                self._take_in(item, now)
        except ConnectionUnusableError as error:
            self._is_moving = True
            self.broken = str(error)
            self._count_refusal()

    def _take_in(self, item: coordination_pb2.ServerItem, now: float) -> None:
        kind = item.WhichOneof("item")
        if kind == "write":
            if self.pipeline.write_answered(item.write):
                self._saw_answer(item.write.zxid)
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
            self.broken = "the session was closed"
            self.give_up()
        elif kind == "move":
            self._is_moving = True
            self.broken = f"the member asked to move: {item.move.reason}"
        elif kind == "endpoints":
            self._learn_endpoints(item.endpoints.endpoints)
        # An item of a kind that this version does not know is none of its business.

    def _read_answered(self, result: data_pb2.ReadResult, now: float) -> None:
        operation = self.pipeline.read_answered(result, now)
        if operation is None:
            return
        is_error = result.HasField("error")
        record = operation.watch
        if record is not None and is_error:
            self.watches.forget(record)
        elif record is not None:
            self.watches.answered(record, result.zxid)
        self._saw_answer(0 if is_error else result.zxid)

    def _saw_answer(self, zxid: int) -> None:
        self.answers += 1
        self._refusals = 0
        self._silence.answered()
        # Every event up to here stands before this answer (promise G6).
        if zxid > self._answered_zxid:
            self._answered_zxid = zxid
            self.last_zxid = max(self.last_zxid, zxid)

    def _attached(self, attached: coordination_pb2.Attached, now: float) -> None:
        if self.is_attached or self._attaching_session_id != self.session_id:
            return  # The session was given up while this attach was under way.
        self.session_id = self._attaching_session_id = attached.session_id
        self._secret = attached.secret
        self.member = attached.member
        self._learn_endpoints(attached.endpoints)
        self._renewal.attached(attached.timeout_ms / 1000, now)
        self.is_attached = True
        self._is_moving = False
        self._change_state(State.CONNECTED)

    def _learn_endpoints(self, endpoints: Iterable[str]) -> None:
        """Note where the members are; nothing said means nothing known."""
        self.endpoints = tuple(endpoints) or self.endpoints

    def _refused(self, error: data_pb2.Error) -> None:
        self.broken = error.message or _Code.Name(error.code)
        if error.code == _Code.SESSION_EXPIRED and self._attaching_session_id == self.session_id:
            self._lose(self.broken)
        elif error.code in (_Code.SESSION_MOVED, _Code.SHUTTING_DOWN):
            self._is_moving = True
        elif self.is_attached and error.code in (_Code.LIMIT_EXCEEDED, _Code.MALFORMED):
            self.frame_refused(self.broken)

    def frame_refused(self, reason: str) -> None:
        """The service would not take our last frames: send less at once from now on."""
        self.broken = reason
        self.pipeline.send_less()
        self._count_refusal()

    def _count_refusal(self) -> None:
        """Give a session up that gets nowhere: else one operation could stop all others for ever."""
        self._refusals += 1
        if self._refusals >= REFUSALS_MAX:
            self._refusals = 0
            self._lose(f"the service refuses what this session sends: {self.broken}")

    # -----------------------------------------------------------------------------------------
    # Time

    def tick(self, now: float) -> None:
        """Do what the time has come for."""
        self._has_run_out(now)
        if self.is_attached:
            self._renewal.tick(now)
            if now >= self._knock_at():
                self._silence.ask()
                self._renewal.worry(now)
            if self._renewal.is_silent(now):
                self.broken = f"member {self.member} did not answer a ping in time"
            elif self._silence.is_over(now, self.timeout_s):
                self._silence.left()
                self.broken = f"member {self.member} says nothing"
        for operation in self.pipeline.tick(now, is_attached=self.is_attached):
            self.abandon(operation)

    def _has_run_out(self, now: float) -> bool:
        """Give the session up if its time is over; return whether that was so."""
        if not self.session_id or now < self.valid_until:
            return False
        self._lose(f"session {self.session_id:#x} could not be renewed in time")
        return True

    def next_wakeup(self) -> float:
        """Return when `tick` must be called at the latest."""
        wakeup = self.pipeline.next_wakeup()
        if self.session_id:
            wakeup = min(wakeup, self.valid_until)
        if self.is_attached:
            leave_at = self._silence.leave_at(self.timeout_s)
            wakeup = min(wakeup, self._renewal.next_wakeup(), self._knock_at(), leave_at)
        return wakeup

    def _knock_at(self) -> float:
        if self._is_closing or not self.pipeline.is_owed:
            return math.inf  # Closing has a limit of its own.
        if len(self.endpoints) == 1:
            return math.inf  # There is no other member: to leave it would only make it busier.
        return self._silence.knock_at(self.timeout_s)

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
        self._change_state(State.LOST)
        if self._is_closing:
            self.give_up()

    def give_up(self) -> None:
        """The client is closed: nothing more will be sent or expected."""
        if self.state is State.CLOSED:
            return
        self.is_attached = False
        self._fail_everything(ClientClosedError, "the client has been closed")
        self.watches.clear()
        self._change_state(State.CLOSED)

    def _fail_everything(self, kind: type[CoordError], reason: str) -> None:
        for operation in self.pipeline.fail_everything(kind, reason):
            if operation.watch is not None:
                self.watches.forget(operation.watch)

    def _change_state(self, state: State) -> None:
        assert self.state is not State.CLOSED, "closed is the end"
        if state is self.state:
            return
        assert not (self.state is State.LOST and state is State.SUSPENDED), "after LOST comes a new session"
        self.state = state
        self.transitions.append(state)

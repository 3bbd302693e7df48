"""What clients send: attach frames and frames of operations, checked and taken in.

Owns the admission of client input: whatever a client may send wrong is refused here with a typed error and
the end of its stream, before anything enters the log. What is wrong with a single operation is answered for
that operation, by the state machine.
"""

from __future__ import annotations

from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.codec import entries
from coordsvc.codec.operations import decode_list_children
from coordsvc.replica.admission import refuse_oversized
from coordsvc.replica.connections import (
    STALE,
    Connection,
    ConnectionState,
    OutstandingFrame,
    PendingRead,
    SyncRead,
    WatchRead,
)
from coordsvc.replica.delivery import Delivery
from coordsvc.replica.proposals import Proposals
from coordsvc.replica.reads import Reads
from coordsvc.replica.sessions import Sessions
from coordsvc.replica.state import ReplicaState
from coordsvc.statemachine.commands import Exists, Get, ListChildren
from coordsvc.statemachine.failures import session_expired
from coordsvc.statemachine.paths import explain_invalid
from coordsvc.statemachine.results import ErrorCode, Failure
from coordsvc.statemachine.sessions import CLIENT_NAME_LENGTH_MAX, SECRET_BYTES_MAX
from coordsvc.watch.registry import ONCE_KINDS, Watch, WatchKind

_WATCH_KINDS = frozenset(int(kind) for kind in WatchKind)
_FROM_THE_START = -1  # `since` of a watch: everything that the history holds
_FROM_NOW = -2


class FrameRefusedError(Exception):
    """The frame breaks the rules: the stream ends with this."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Clients:
    def __init__(
        self, state: ReplicaState, delivery: Delivery, reads: Reads, proposals: Proposals, sessions: Sessions
    ) -> None:
        self._state = state
        self._delivery = delivery
        self._reads = reads
        self._proposals = proposals
        self._sessions = sessions

    # -----------------------------------------------------------------------------------------
    # Connections come and go

    def open_without_session(self) -> Connection:
        """Begin a unary or streaming call that has no session of its own."""
        connection = Connection(self._state.take_number())
        self._state.connections[connection.number] = connection
        return connection

    def open(self, attach: coordination_pb2.Attach, fresh_secret: bytes) -> Connection:
        """Begin a session's connection. The answer comes when the attach has gone through the log."""
        state = self._state
        connection = Connection(state.take_number(), state=ConnectionState.ATTACHING)
        state.connections[connection.number] = connection
        try:
            watches = self._resumed_watches(connection, attach)
        except FrameRefusedError as refused:
            state.fail_connection(connection, refused.code, refused.message)
            return connection
        if attach.session_id == 0:
            settings = state.settings
            wanted_ms = max(attach.timeout_ms, settings.session_timeout_ms_min)
            attach.timeout_ms = min(wanted_ms, settings.session_timeout_ms_max)
            attach.client_name = attach.client_name[:CLIENT_NAME_LENGTH_MAX]
            self._sessions.open(connection, fresh_secret, attach, watches)
        elif len(attach.secret) > SECRET_BYTES_MAX:
            # No session has such a secret: this need not cost every member its size in the log.
            failure = session_expired(attach.session_id)
            state.fail_connection(connection, failure.code, failure.message)
        else:
            self._sessions.attach(connection, attach.session_id, attach.secret, watches)
        return connection

    def close(self, connection: Connection) -> None:
        """The client has gone. Its session lives on until it expires or is attached again."""
        if connection.state is ConnectionState.ATTACHING:
            self._sessions.forget_attaching(connection)
        self._proposals.done(connection.number)
        self._state.drop_connection(connection)

    def _resumed_watches(self, connection: Connection, attach: coordination_pb2.Attach) -> list[Watch]:
        if len(attach.watches) > self._state.settings.watches_per_session_max:
            raise FrameRefusedError(ErrorCode.TOO_MANY_WATCHES, self._too_many_watches())
        watches: dict[int, Watch] = {}
        for message in attach.watches:
            watch = self._decode_watch(connection, message)
            problem = self._why_unwatchable(watch.path, watch.kind)
            if problem:
                raise FrameRefusedError(ErrorCode.INVALID_PATH, problem)
            if watch.watch_id in watches:
                raise FrameRefusedError(ErrorCode.INVALID_ARGUMENT, f"watch {watch.watch_id} is named twice")
            watch.since = max(0, message.since if message.HasField("since") else attach.last_zxid)
            watches[watch.watch_id] = watch
        return list(watches.values())

    # -----------------------------------------------------------------------------------------
    # Frames

    def frame(self, connection: Connection, frame: coordination_pb2.ClientFrame) -> None:
        """Take in a frame of operations; one that breaks the rules ends the connection."""
        if connection.is_closed:
            return
        if connection.session_id:
            self._reads.touch(connection.session_id)
        if connection.state is not ConnectionState.LIVE:
            self._keep_for_later(connection, frame)
            return
        try:
            self._take_in(connection, frame)
        except FrameRefusedError as refused:
            self._state.fail_connection(connection, refused.code, refused.message)

    def _keep_for_later(self, connection: Connection, frame: coordination_pb2.ClientFrame) -> None:
        settings = self._state.settings
        connection.backlog_bytes += frame.ByteSize()
        is_too_much = connection.backlog_bytes > settings.pause_outstanding_bytes
        if is_too_much or len(connection.backlog) >= settings.inflight_per_session_max:
            message = "too many frames before the answer to the attach frame"
            self._state.fail_connection(connection, ErrorCode.LIMIT_EXCEEDED, message)
            return
        connection.backlog.append(frame)

    def caught_up(self, connection: Connection) -> None:
        """The connection is live: take in what came meanwhile."""
        backlog = connection.backlog
        connection.backlog = []
        connection.backlog_bytes = 0
        for number, frame in enumerate(backlog):
            assert isinstance(frame, coordination_pb2.ClientFrame)
            self.frame(connection, frame)
            if connection.is_closed:
                return
            if connection.state is not ConnectionState.LIVE:
                connection.backlog += backlog[number + 1 :]
                return

    def _take_in(self, connection: Connection, frame: coordination_pb2.ClientFrame) -> None:
        if frame.HasField("attach"):
            raise FrameRefusedError(
                ErrorCode.MALFORMED, "a second attach frame; open another stream to attach again"
            )
        if frame.acknowledged_sequence > connection.acknowledged_sequence:
            connection.acknowledged_sequence = frame.acknowledged_sequence
            if connection.outstanding and not frame.HasField("writes"):
                self._proposals.acknowledge(connection)
            if connection.waits_for_room:
                connection.waits_for_room = False
                connection.send_again = True
        sent_before = max(connection.next_sequence - 1, 0)
        if frame.HasField("writes"):
            self._take_writes(connection, frame)
        if frame.reads:
            self._take_reads(connection, frame, sent_before)
        if frame.cancelled_watches:
            self._cancel_watches(connection, set(frame.cancelled_watches))
        if frame.ping:
            self._reads.ping(connection, frame.ping, connection.session_id)
        if frame.close:
            self._sessions.end_after_writes(connection)

    def _cancel_watches(self, connection: Connection, watch_ids: set[int]) -> None:
        """Take watches off, also those whose reads still wait for their turn."""
        for watch_id in sorted(watch_ids & connection.watches.keys()):
            self._delivery.remove(connection, watch_id)
        for read in (*connection.reads, *connection.parked):
            if read.watch is not None and read.watch.watch_id in watch_ids:
                read.is_watch_cancelled = True

    def _take_writes(self, connection: Connection, frame: coordination_pb2.ClientFrame) -> None:
        count = len(frame.writes.writes)
        first = frame.first_sequence
        if count == 0:
            return
        limit = self._state.settings.inflight_per_session_max
        if connection.outstanding_operations + count > limit:
            raise FrameRefusedError(
                ErrorCode.LIMIT_EXCEEDED,
                f"more than {limit} writes of one session in flight; wait for results before sending more",
            )
        self._check_sequence(connection, first)
        refuse_oversized(frame.writes, self._state.settings)
        encoded = frame.writes.SerializeToString()
        connection.next_sequence = max(connection.next_sequence, first + count)
        state = self._state
        command = entries.session_writes(
            state.name, 0, connection.session_id, first, connection.acknowledged_sequence, encoded
        )
        self._proposals.submit_frame(connection, OutstandingFrame(first + count - 1, count, command))

    def _check_sequence(self, connection: Connection, first: int) -> None:
        expected = connection.next_sequence
        if expected == 0:
            session = self._state.machine.sessions.get(connection.session_id)
            expected = session.last_sequence + 1 if session is not None else 1
            connection.next_sequence = expected
            connection.answered_sequence = min(first, expected) - 1
        if first == 0 or first > expected:
            raise FrameRefusedError(
                ErrorCode.SEQUENCE_GAP,
                f"writes begin with sequence {first}, but {expected} comes next; "
                "attach again and send from there",
            )

    def _take_reads(
        self, connection: Connection, frame: coordination_pb2.ClientFrame, sent_before: int
    ) -> None:
        limit = self._state.settings.inflight_per_session_max
        waiting = len(connection.reads) + len(connection.parked) + len(connection.watching_replies)
        if waiting + len(frame.reads) > limit:
            raise FrameRefusedError(
                ErrorCode.LIMIT_EXCEEDED,
                f"more than {limit} reads of one session in flight; wait for results before sending more",
            )
        for message in frame.reads:
            read = self._decode_read(connection, message)
            # A read never comes before a write of an earlier frame, whatever the client says: what is
            # answered ahead of a write must have been sent ahead of it (see `reads`).
            read.after_sequence = max(read.after_sequence, sent_before)
            if not self._answer_unreadable(read, message) and not self._answer_unwatchable(read):
                self._reads.submit(read)
            if connection.is_closed:
                return

    def _answer_unreadable(self, read: PendingRead, message: coordination_pb2.Read) -> bool:
        """Answer a read that is too long to be kept waiting."""
        limit = self._state.settings.path_bytes_max
        if message.ByteSize() <= limit:
            return False
        watched = read.watch.path if read.watch is not None else ""
        path = watched if isinstance(read.operation, WatchRead | SyncRead) else read.operation.path
        after = read.operation.after if isinstance(read.operation, ListChildren) else ""
        if max(len(path.encode()), len(after.encode())) <= limit:
            return False
        failure = Failure(ErrorCode.INVALID_PATH, f"a path or name is longer than {limit} bytes", path[:256])
        self._reads.answer(read, failure)
        return True

    def _answer_unwatchable(self, read: PendingRead) -> bool:
        """Answer a read whose watch cannot be set. The client's other operations need not suffer from it."""
        watch = read.watch
        if watch is None:
            return False
        connection = read.connection
        failure = None
        problem = self._why_unwatchable(watch.path, watch.kind)
        if problem:
            failure = Failure(ErrorCode.INVALID_PATH, problem, watch.path[:256])
        elif self._has_all_its_watches(connection):
            failure = Failure(ErrorCode.TOO_MANY_WATCHES, self._too_many_watches(), watch.path)
        if failure is None:
            return False
        self._reads.answer(read, failure)
        return True

    def _has_all_its_watches(self, connection: Connection) -> bool:
        """Whether no more may be set, besides those that are about to be set."""
        left = self._state.settings.watches_per_session_max - len(connection.watches)
        if len(connection.reads) + len(connection.parked) < left:
            return False
        waiting = (*connection.reads, *connection.parked)
        return sum(1 for read in waiting if read.watch is not None) >= left

    def _decode_read(self, connection: Connection, message: coordination_pb2.Read) -> PendingRead:
        kind = message.WhichOneof("op")
        operation: Get | Exists | ListChildren | SyncRead | WatchRead
        watch = None
        if kind == "get":
            operation = Get(message.get.path)
            once = data_pb2.ONCE_DATA
        elif kind == "exists":
            operation = Exists(message.exists.path)
            once = data_pb2.ONCE_EXISTS
        elif kind == "list_children":
            operation = decode_list_children(message.list_children)
            once = data_pb2.ONCE_CHILDREN
        elif kind == "sync":
            return PendingRead(
                connection, message.id, SyncRead(), message.after_sequence, 0, message.min_zxid, None
            )
        elif kind == "watch":
            watch = self._new_watch(connection, message.watch)
            consistency = min(message.consistency, 1)  # a watch is never set at a stale state
            return PendingRead(
                connection,
                message.id,
                WatchRead(),
                message.after_sequence,
                consistency,
                message.min_zxid,
                watch,
            )
        else:
            raise FrameRefusedError(
                ErrorCode.MALFORMED, f"read {message.id} has no operation that this server knows"
            )
        if message.watch_id:
            watch = self._new_watch(
                connection, data_pb2.Watch(watch_id=message.watch_id, path=operation.path, kind=once)
            )
        consistency = int(message.consistency)
        if not 0 <= consistency <= STALE:
            raise FrameRefusedError(
                ErrorCode.MALFORMED, f"read {message.id} asks for an unknown consistency {consistency}"
            )
        return PendingRead(
            connection, message.id, operation, message.after_sequence, consistency, message.min_zxid, watch
        )

    # -----------------------------------------------------------------------------------------
    # Watches

    def _new_watch(self, connection: Connection, message: data_pb2.Watch) -> Watch:
        watch = self._decode_watch(connection, message)
        if watch.watch_id in connection.watches:
            raise FrameRefusedError(ErrorCode.INVALID_ARGUMENT, f"watch {watch.watch_id} is set already")
        if message.HasField("since") and message.since < _FROM_THE_START:
            raise FrameRefusedError(ErrorCode.INVALID_ARGUMENT, f"since={message.since} is not a zxid")
        watch.since = message.since if message.HasField("since") else _FROM_NOW
        return watch

    def _decode_watch(self, connection: Connection, message: data_pb2.Watch) -> Watch:
        if message.watch_id == 0:
            raise FrameRefusedError(ErrorCode.INVALID_ARGUMENT, "a watch needs an id other than 0")
        if message.kind not in _WATCH_KINDS:
            raise FrameRefusedError(ErrorCode.INVALID_ARGUMENT, f"unknown kind of watch {message.kind}")
        kind = WatchKind(message.kind)
        return Watch(connection.number, message.watch_id, message.path, kind, message.with_values)

    def _why_unwatchable(self, path: str, kind: WatchKind) -> str:
        """Say what is wrong with a watched path. That of a one-shot watch is judged with its read."""
        problem = "" if kind in ONCE_KINDS else explain_invalid(path, self._state.settings.path_bytes_max)
        return f"cannot watch {path[:256]!r}: {problem}" if problem else ""

    def set_watch(self, read: PendingRead) -> None:
        """The state that this read sees is the present one: set its watch here."""
        connection = read.connection
        watch = read.watch
        assert watch is not None, "called for reads with a watch"
        if read.is_watch_cancelled:
            if isinstance(read.operation, WatchRead):
                self._delivery.confirm_watch(read)
            return
        if watch.watch_id in connection.watches:
            return  # Set twice in flight under one id: the first one stands.
        machine = self._state.machine
        replays = isinstance(read.operation, WatchRead) and watch.since != _FROM_NOW
        if not replays:
            read.set_zxid = machine.zxid
            self._delivery.add_live(connection, watch)
        else:
            if watch.since == _FROM_THE_START:
                watch.since = machine.oldest_history_zxid - 1
            self._delivery.replay(connection, [watch])
        if not isinstance(read.operation, WatchRead):
            return
        if connection.catch_up is not None:
            connection.watching_replies.append(read)
        else:
            self._delivery.confirm_watch(read)

    def _too_many_watches(self) -> str:
        return f"more than {self._state.settings.watches_per_session_max} watches of one session; cancel some"

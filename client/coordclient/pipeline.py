"""The operations of a session on their way: waiting, sent, to be sent again, answered, timed out.

Rule of this file: pure. Operations leave in the order in which they were submitted. A write keeps its
sequence until it is answered, over any number of connections; only what was never sent can be dropped.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from coordclient.errors import CoordError, RequestTimeoutError
from coordclient.watch_records import WatchRecord
from coordproto.v1 import coordination_pb2, data_pb2

# The service allows a session 1024 operations in flight, and may count a frame until all of it is answered.
# Several small frames rather than one large: the service works on the first while we make the next.
FRAME_OPERATIONS_MAX = 128
IN_FLIGHT_MAX = 1024 - FRAME_OPERATIONS_MAX
IN_FLIGHT_MIN = 4  # a service with lower limits than ours is met half way, again and again, down to this
IN_FLIGHT_BYTES_MAX = 16 << 20
FRAME_BYTES_GOAL = 1 << 20  # a frame is full when it has reached this
OPERATION_BYTES_MAX = (3 << 20) - 4096  # so that a frame stays below the service's 4 MiB
RETRY_SECONDS = 0.1

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


class ConnectionUnusableError(Exception):
    """What the member says makes no sense here, or not now: send everything again over a new connection."""


@dataclass(slots=True, eq=False)
class Operation:
    """One write or read on its way.

    Attributes:
        waiter: Whoever waits for the answer; only carried along.
        sequence: Of a write, or the id of a read; 0 until it has been put into a frame.
        is_settled: The caller has its answer, or does not want it any more.
        refusal: Why it was last put off.
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

    @property
    def may_have_been_applied(self) -> bool:
        return self.write is not None and self.sequence != 0


class Pipeline:
    """All operations of one client that are not answered yet."""

    def __init__(self) -> None:
        self.completed: list[tuple[Operation, Answer | CoordError]] = []  # output, taken away by the shell
        self.last_sequence = 0
        self._last_read_id = 0
        self._unanswered: deque[Operation] = deque()  # writes that were sent, contiguous in sequence
        self._reads: dict[int, Operation] = {}  # reads that were sent, by id
        self._resend: deque[Operation] = deque()  # of these two: what is not sent on this connection yet
        self._waiting: deque[Operation] = deque()
        self._postponed: list[Operation] = []
        self._retry_at = math.inf
        self._earliest_deadline = math.inf
        self._in_flight_bytes = 0
        self._in_flight_max = IN_FLIGHT_MAX
        self._frame_bytes_goal = FRAME_BYTES_GOAL

    def __repr__(self) -> str:
        return (
            f"<Pipeline sequence={self.last_sequence} unanswered={len(self._unanswered)}"
            f" reads={len(self._reads)} waiting={len(self._waiting)}>"
        )

    @property
    def pending_count(self) -> int:
        """Return how many operations have been submitted and not yet answered."""
        return len(self._unanswered) + len(self._reads) + len(self._waiting)

    @property
    def is_owed(self) -> bool:
        """Return whether something was sent and not answered yet."""
        return bool(self._unanswered or self._reads)

    @property
    def has_unsent(self) -> bool:
        return bool(self._waiting or self._resend)

    @property
    def acknowledged_sequence(self) -> int:
        """Return up to which write all answers have arrived."""
        return self._unanswered[0].sequence - 1 if self._unanswered else self.last_sequence

    def next_wakeup(self) -> float:
        return min(self._earliest_deadline, self._retry_at)

    # -----------------------------------------------------------------------------------------
    # Sending

    def submit(self, operation: Operation) -> None:
        self._waiting.append(operation)
        if operation.deadline < self._earliest_deadline:
            self._earliest_deadline = operation.deadline

    def fill(self, frame: coordination_pb2.ClientFrame) -> bool:
        """Move operations into the frame: first those to be sent again, then those that wait."""
        count = frame_bytes = next_sequence = 0
        append_write = frame.writes.writes.append
        append_read = frame.reads.append
        operations_max = min(FRAME_OPERATIONS_MAX, max(1, self._in_flight_max // 3))
        while count < operations_max and frame_bytes < self._frame_bytes_goal:
            operation = self._take_next()
            if operation is None:
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
        return count > 0

    def _take_next(self) -> Operation | None:
        """Return the next operation that may leave, with its number."""
        resend = self._resend
        # What is to be sent again is not in flight on this connection yet.
        if len(self._unanswered) + len(self._reads) - len(resend) >= self._in_flight_max:
            return None
        while resend:
            operation = resend.popleft()
            if operation.write is not None or not operation.is_settled:
                return operation
            # Given up since the connection broke: the service does not know of it, so we need not either.
            del self._reads[operation.sequence]
            self._in_flight_bytes -= operation.size
        waiting = self._waiting
        while waiting and self._in_flight_bytes < IN_FLIGHT_BYTES_MAX:
            operation = waiting.popleft()
            if not operation.is_settled:
                self._number(operation)
                return operation
        return None

    def _number(self, operation: Operation) -> None:
        """Give an operation that leaves for the first time its place in the session."""
        read = operation.read
        if read is None:
            assert operation.write is not None
            operation.size = operation.write.ByteSize()
            self.last_sequence += 1
            operation.sequence = self.last_sequence
            self._unanswered.append(operation)
        else:
            operation.size = read.ByteSize()
            self._last_read_id += 1
            operation.sequence = read.id = self._last_read_id
            read.after_sequence = self.last_sequence
            self._reads[read.id] = operation
        self._in_flight_bytes += operation.size

    def add_probe(self, frame: coordination_pb2.ClientFrame, read: coordination_pb2.Read) -> None:
        """Put a read into the frame for which nobody waits, and which need not be sent again."""
        self._number(Operation(math.inf, read=read, is_settled=True))
        frame.reads.append(read)

    def send_less(self) -> None:
        """The service would not take so much at once."""
        self._in_flight_max = max(IN_FLIGHT_MIN, self._in_flight_max // 2)
        self._frame_bytes_goal = max(1, self._frame_bytes_goal // 2)

    def detached(self) -> None:
        """The connection is gone: everything that was sent is to be sent again, as it was."""
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

    # -----------------------------------------------------------------------------------------
    # Answers

    def write_answered(self, result: data_pb2.WriteResult) -> bool:
        """Take the answer to a write. Return whether it is news.

        Raises:
            ConnectionUnusableError: It is not the next one, or a refusal that will pass.
        """
        unanswered = self._unanswered
        sequence = result.sequence
        if not unanswered or sequence < unanswered[0].sequence:
            return False  # A repeat of an answer that has arrived before.
        operation = unanswered[0]
        if sequence != operation.sequence:
            raise ConnectionUnusableError(f"write {sequence} was answered before write {operation.sequence}")
        if result.HasField("error") and result.error.code in _PASSING:
            operation.refusal = result.error.message
            raise ConnectionUnusableError(operation.refusal)
        unanswered.popleft()
        self._in_flight_bytes -= operation.size
        self._settle(operation, result)
        return True

    def read_answered(self, result: data_pb2.ReadResult, now: float) -> Operation | None:
        """Take the answer to a read. None: nobody asked, or it was put off and will be asked again."""
        operation = self._reads.get(result.id)
        if operation is None:
            return None
        if result.HasField("error") and result.error.code in _PASSING and not operation.is_settled:
            operation.refusal = result.error.message
            self._postponed.append(operation)
            self._retry_at = min(self._retry_at, now + RETRY_SECONDS)
            return None
        del self._reads[result.id]
        self._in_flight_bytes -= operation.size
        self._settle(operation, result)
        return operation

    def _settle(self, operation: Operation, outcome: Answer | CoordError) -> None:
        if operation.is_settled:
            return
        operation.is_settled = True
        self.completed.append((operation, outcome))

    # -----------------------------------------------------------------------------------------
    # Time, and the end

    def tick(self, now: float, *, is_attached: bool) -> list[Operation]:
        """Send again what was put off. Return the operations that have timed out."""
        if now >= self._retry_at:
            self._resend.extend(self._postponed)
            self._postponed.clear()
            self._retry_at = math.inf
        if now < self._earliest_deadline:
            return []
        timed_out = []
        earliest = math.inf
        for operation in [*self._unanswered, *self._reads.values(), *self._waiting]:
            if operation.is_settled:
                continue
            if operation.deadline > now:
                earliest = min(earliest, operation.deadline)
                continue
            self._settle(operation, _timeout_error(operation, is_attached=is_attached))
            timed_out.append(operation)
        self._earliest_deadline = earliest
        self._waiting = deque(operation for operation in self._waiting if not operation.is_settled)
        return timed_out

    def fail_everything(self, kind: type[CoordError], reason: str) -> list[Operation]:
        """The session is over: nothing will be answered any more. Return what was pending."""
        pending = [*self._unanswered, *self._reads.values(), *self._waiting]
        for operation in pending:
            error = kind(reason)
            error.may_have_been_applied = operation.may_have_been_applied
            self._settle(operation, error)
        for queue in (self._unanswered, self._waiting, self._resend):
            queue.clear()
        self._reads.clear()
        self._postponed.clear()
        self._retry_at = self._earliest_deadline = math.inf
        self._in_flight_bytes = self.last_sequence = 0
        return pending


def _timeout_error(operation: Operation, *, is_attached: bool) -> RequestTimeoutError:
    if operation.sequence == 0:
        message = "the request was not sent in time"
    elif operation.write is None:
        message = "the read was not answered in time"
    else:
        message = "the write was not answered in time and may still be applied"
    message += " (connected)" if is_attached else " (not connected)"
    if operation.refusal:
        message += f"; the service last said: {operation.refusal}"
    error = RequestTimeoutError(message)
    error.may_have_been_applied = operation.may_have_been_applied
    return error


def _place_in_session(operation: Operation) -> tuple[int, bool, int]:
    """Sort key: a read stands after the write that it was sent after."""
    if operation.read is not None:
        return operation.read.after_sequence, True, operation.sequence
    return operation.sequence, False, 0

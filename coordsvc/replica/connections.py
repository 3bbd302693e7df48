"""The clients attached to this member: one `Connection` each, with everything that waits for them.

Rule of this file: a connection holds what is owed to one client and in which order; it decides nothing
about the cluster. A connection with `session_id` 0 serves one unary or streaming call without a session.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from coordsvc.statemachine.commands import Exists, Get, ListChildren
from coordsvc.watch.catchup import CatchUp
from coordsvc.watch.registry import Watch

LINEARIZABLE = 0  # the numbers of coordproto.v1.Consistency
SESSION = 1
STALE = 2

NOT_CONFIRMED = -1
NOT_SET = -1

FRAME_BYTES_GOAL = 1 << 20  # one frame to a client carries so much, or one larger item


class ConnectionState(Enum):
    ATTACHING = "attaching"  # the attach is on its way through the log
    CATCHING_UP = "catching up"  # its watches are being replayed; other answers are held
    LIVE = "live"
    CLOSED = "closed"


@dataclass(slots=True)
class SyncRead:
    """A read of nothing: its answer is the zxid."""


@dataclass(slots=True)
class WatchRead:
    """Set a watch at the state that is read."""


@dataclass(slots=True, eq=False)
class PendingRead:
    """A read in its session's order. `index`: apply this much first; NOT_CONFIRMED until a round says so.

    `set_zxid`: the state at which its watch was set, for a watch from now on; the answer may have to wait.
    """

    connection: Connection
    read_id: int
    operation: Get | Exists | ListChildren | SyncRead | WatchRead
    after_sequence: int
    consistency: int
    min_zxid: int
    watch: Watch | None
    index: int = NOT_CONFIRMED
    parked_until_ms: int = 0
    is_watch_cancelled: bool = False
    set_zxid: int = NOT_SET


@dataclass(slots=True)
class OutstandingFrame:
    """Writes on their way through the log: forwarded again if nothing is heard of them."""

    last_sequence: int
    operations: int
    command: bytes


@dataclass(slots=True, eq=False)
class Connection:
    number: int
    session_id: int = 0
    state: ConnectionState = ConnectionState.LIVE
    outgoing: list[bytes] = field(default_factory=list)  # encoded ServerItems
    outgoing_bytes: int = 0
    held: list[bytes] = field(default_factory=list)  # answers that must follow the replayed events
    held_bytes: int = 0  # counted in `outgoing_bytes` too
    backlog: list[object] = field(default_factory=list)  # frames that came while not live
    backlog_bytes: int = 0
    next_sequence: int = 0  # 0: the first frame after attaching may begin anywhere up to last applied + 1
    answered_sequence: int = -1  # -1: nothing was asked for on this connection yet
    acknowledged_sequence: int = 0
    outstanding: deque[OutstandingFrame] = field(default_factory=deque)
    outstanding_operations: int = 0
    outstanding_bytes: int = 0
    progress_ms: int = 0  # when something outstanding was last answered, or sent
    send_again: bool = False
    is_ending: bool = False  # the client has asked for the end of its session
    waits_for_room: bool = False  # its results must be acknowledged before more writes can be applied
    reads: deque[PendingRead] = field(default_factory=deque)
    parked: list[PendingRead] = field(default_factory=list)
    watches: dict[int, Watch] = field(default_factory=dict)
    resumed_watches: list[Watch] = field(default_factory=list)  # while attaching
    catch_up: CatchUp | None = None
    watching_replies: list[PendingRead] = field(default_factory=list)  # answered when caught up

    @property
    def is_closed(self) -> bool:
        return self.state is ConnectionState.CLOSED

    def push(self, item: bytes) -> None:
        """Queue one item for the client, in order."""
        self.outgoing.append(item)
        self.outgoing_bytes += len(item)

    @property
    def unread_bytes(self) -> int:
        """How much could be sent and was not taken yet."""
        return self.outgoing_bytes - self.held_bytes

    def reply(self, item: bytes) -> None:
        """Queue an answer; while events are being replayed it waits behind them."""
        if self.catch_up is not None:
            self.held.append(item)
            self.held_bytes += len(item)
            self.outgoing_bytes += len(item)
        else:
            self.push(item)

    def release_held(self) -> None:
        self.outgoing += self.held
        self.held = []
        self.held_bytes = 0

    def release_held_unless_replaying(self) -> None:
        """At the end: answers must not overtake events that are still to be replayed. They come again."""
        if self.catch_up is None:
            self.release_held()
        else:
            self.held.clear()

    def take(self) -> list[bytes]:
        """Hand over what waits to be sent: everything, or as much as one frame should carry."""
        items = self.outgoing
        if self.unread_bytes <= FRAME_BYTES_GOAL:
            self.outgoing = []
            self.outgoing_bytes = self.held_bytes
            return items
        count = size = 0
        for item in items:
            if count and size + len(item) > FRAME_BYTES_GOAL:
                break
            size += len(item)
            count += 1
        self.outgoing = items[count:]
        self.outgoing_bytes -= size
        return items[:count]

    def settle(self, sequence: int, now_ms: int) -> None:
        """Everything up to `sequence` has been answered here."""
        outstanding = self.outstanding
        self.progress_ms = now_ms
        while outstanding and outstanding[0].last_sequence <= sequence:
            frame = outstanding.popleft()
            self.outstanding_operations -= frame.operations
            self.outstanding_bytes -= len(frame.command)

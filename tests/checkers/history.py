"""What clients did and were told, and what the members kept: the evidence that all checkers judge.

Rule of this file: plain values that a recorder fills in and nobody interprets here. Requests and results are
told in the words of the state machine (its value classes); none of its code is used to judge them. All times
are nanoseconds of one clock that never goes back, shared by all clients of a history.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coordsvc.statemachine.changes import Change
from coordsvc.statemachine.commands import (
    Create,
    Delete,
    Exists,
    Get,
    Guard,
    ListChildren,
    Set,
    Transaction,
)
from coordsvc.statemachine.results import (
    Checked,
    Children,
    Created,
    Deleted,
    ExistsResult,
    Failure,
    Node,
    TransactionResult,
    WasSet,
)
from coordsvc.statemachine.types import Stat

LINEARIZABLE, SESSION, STALE = range(3)  # the numbers of coordproto.v1.Consistency
STREAM, STREAM_RECURSIVE, ONCE_DATA, ONCE_EXISTS, ONCE_CHILDREN = range(5)  # of coordproto.v1.WatchKind
ONCE_KINDS = frozenset({ONCE_DATA, ONCE_EXISTS, ONCE_CHILDREN})
CREATED, CHANGED, DELETED, CHILDREN, RESYNC = range(5)  # of coordproto.v1.EventType
EVENT_NAMES = ("CREATED", "CHANGED", "DELETED", "CHILDREN", "RESYNC")

OK, FAIL, UNKNOWN = "ok", "fail", "unknown"


@dataclass(slots=True)
class Sync:
    """A linearizable read of nothing: its answer is a zxid alone."""


@dataclass(slots=True)
class Synced:
    """The answer of a Sync."""


WriteRequest = Create | Set | Delete | Transaction
ReadRequest = Get | Exists | ListChildren | Sync
Request = WriteRequest | ReadRequest
Result = (
    Created
    | WasSet
    | Deleted
    | TransactionResult
    | Checked
    | Node
    | ExistsResult
    | Children
    | Synced
    | Failure
)


@dataclass(slots=True)
class Operation:
    """One request of a client, from the call to the answer.

    Attributes:
        session: The one in which it was answered, or else last sent; 0 for a request outside any session.
        number: Its place among the requests of the client, in the order in which they were called.
        completed_ns: None: it never ended.
        outcome: "ok": answered. "fail": certainly without effect, `result` says why. "unknown": anything.
        zxid: As the answer says: the transaction, or the newest one that a read or a refused write saw.
            None if the answer names none (refused before it came to the state machine).
        sequence: The session's number of this write; 0 for reads and outside sessions.
        order: Its answer's place among all answers and events that this client received; 0: not recorded.
    """

    client: str
    session: int
    number: int
    request: Request
    invoked_ns: int
    completed_ns: int | None = None
    outcome: str = UNKNOWN
    zxid: int | None = None
    result: Result | None = None
    sequence: int = 0
    consistency: int = LINEARIZABLE
    min_zxid: int = 0
    guards: list[Guard] = field(default_factory=list)
    order: int = 0

    @property
    def is_write(self) -> bool:
        return isinstance(self.request, WriteRequest)

    @property
    def path(self) -> str:
        """Return what the request names; empty for a transaction and a sync."""
        return "" if isinstance(self.request, Transaction | Sync) else self.request.path


@dataclass(slots=True)
class WatchEvent:
    """One event as it reached the watcher. `order` as in `Operation`, from the same counter."""

    type: int
    path: str
    zxid: int
    arrived_ns: int
    value: bytes = b""
    stat: Stat | None = None
    order: int = 0


@dataclass(slots=True)
class WatchRecord:
    """One watch from its request to its end, over all connections on which it was resumed.

    Attributes:
        watch_id: Unique among the watches of this client; only a name.
        since: What the client asked for; None: from the moment it is set.
        set_ns: When the client was told that the watch is set; None: never.
        set_zxid: What that answer said: the watch sees everything after this. With `since`, that counts.
        cancelled_ns: From when on nothing may arrive any more: the removal was done, or the client closed.
        complete_to: The recorder knows that every event up to this zxid has had its chance (0: it does not).
        is_immediate: Events were recorded where they arrive, so that they stand before later answers. False
            for readers of a stream that take events out of a buffer when they like.
    """

    client: str
    session: int
    watch_id: int
    path: str
    kind: int
    requested_ns: int
    with_values: bool = True
    since: int | None = None
    set_ns: int | None = None
    set_zxid: int | None = None
    cancelled_ns: int | None = None
    complete_to: int = 0
    is_immediate: bool = True
    events: list[WatchEvent] = field(default_factory=list)


@dataclass(slots=True)
class SessionRecord:
    """One session as its client saw it.

    Attributes:
        renewed_ns: When the newest request was *sent* that the service answered as a renewal: the session
            cannot end before this plus its timeout.
        valid_until_ns: What the client last believed: the session is alive at least until then.
        suspended_ns: Each time at which the client was told SUSPENDED.
        stopped_ns: From then on the client has sent nothing (it died, was killed, paused for good).
        lost_ns: When the client took the session for lost. `lost_by_word`: because the service said so.
        close_sent_ns: When the client asked to close it. `closed_ns`: when it was told that it is closed.
    """

    client: str
    session: int
    timeout_ms: int
    opened_ns: int
    renewed_ns: int = 0
    valid_until_ns: int = 0
    suspended_ns: list[int] = field(default_factory=list)
    stopped_ns: int | None = None
    lost_ns: int | None = None
    lost_by_word: bool = False
    close_sent_ns: int | None = None
    closed_ns: int | None = None


@dataclass(slots=True)
class LockRecord:
    """One attempt to hold a lock or to lead.

    Attributes:
        lock: The lock's path; what excludes each other has the same.
        node: The znode that stands for the grant, and `token` its czxid; 0 and empty until granted.
        granted_ns: When the holder was told; None: never.
        believed_until_ns: The last moment at which the holder took itself for the holder: its local deadline
            at the end, or when it was told of the loss or began the release, whichever came first.
        released_ns: When it began to give the lock back; None: never.
        lost_ns: When it was told of the loss; None: never.
        was_paused: It was stopped, or its clock ran wrong, while it held the lock.
    """

    client: str
    session: int
    lock: str
    requested_ns: int
    node: str = ""
    token: int = 0
    granted_ns: int | None = None
    believed_until_ns: int | None = None
    released_ns: int | None = None
    lost_ns: int | None = None
    was_paused: bool = False


@dataclass(slots=True)
class FencedWrite:
    """One write to a resource outside that compares tokens. `order`: as the resource handled them."""

    resource: str
    order: int
    client: str
    token: int
    accepted: bool
    at_ns: int = 0


@dataclass(slots=True)
class MemberDigest:
    """What one member holds at the end."""

    member: str
    applied_index: int
    zxid: int
    digest: int


@dataclass(slots=True)
class SessionEnd:
    """The members' word: a session ended with transaction `zxid` (the newest one if nothing went with it)."""

    session: int
    zxid: int
    was_closed: bool = False  # by its client; else it expired
    applied_ns: int | None = None  # when the first member carried it out, where that is known


@dataclass(slots=True)
class Facts:
    """What the recorder knows of the run as a whole.

    Attributes:
        name: Where this comes from, for the reports ("seed 123").
        healed_ns: From then on nothing was disturbed; None: never, or not known.
        finished_ns: When the recording ended.
        oldest_zxid: The oldest transaction that every member's history still had at the end; 1: no member
            ever trimmed anything. None: not known.
        clock_error: How much faster or slower than true any clock may have run, as a fraction.
        has_pauses: Clients were paused or clocks jumped, so beliefs about locks may overlap.
    """

    name: str = ""
    healed_ns: int | None = None
    finished_ns: int | None = None
    oldest_zxid: int | None = None
    clock_error: float = 0.0
    has_pauses: bool = False


@dataclass(slots=True)
class History:
    """Everything. `committed` is read back from the members: every change from zxid 1, in order."""

    operations: list[Operation] = field(default_factory=list)
    watches: list[WatchRecord] = field(default_factory=list)
    sessions: list[SessionRecord] = field(default_factory=list)
    locks: list[LockRecord] = field(default_factory=list)
    fenced_writes: list[FencedWrite] = field(default_factory=list)
    committed: list[Change] = field(default_factory=list)
    session_ends: list[SessionEnd] = field(default_factory=list)
    digests: list[MemberDigest] = field(default_factory=list)
    facts: Facts = field(default_factory=Facts)


Record = (
    Operation
    | WatchRecord
    | SessionRecord
    | LockRecord
    | FencedWrite
    | Change
    | SessionEnd
    | MemberDigest
    | Facts
)


@dataclass(slots=True)
class Violation:
    """A promise that was broken: which one, in words, and the records that show it."""

    invariant: str
    text: str
    records: list[Record] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"

    @property
    def operations(self) -> list[Operation]:
        return [record for record in self.records if isinstance(record, Operation)]

"""The values that the SDK hands out and takes: nodes, stats, events, instances.

Annotations are not postponed here: `help()` would show a NamedTuple's as `ForwardRef('str')`.

Rule of this file: immutable values without behaviour, and their translation from the wire. What comes with
every answer is a NamedTuple: a frozen dataclass takes five times as long to make, a quarter of a read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from coordproto.v1 import data_pb2

ANY_VERSION = -1


class Consistency(IntEnum):
    """How new a read must be."""

    LINEARIZABLE = 0  # sees every write acknowledged anywhere before the read was sent
    SESSION = 1  # local; never older than what this session has seen
    STALE = 2  # local, at once; works without a leader


class EventType(IntEnum):
    """What happened. RESYNC: history was trimmed, events are missing up to its zxid; read again."""

    CREATED = 0
    CHANGED = 1
    DELETED = 2
    CHILDREN = 3
    RESYNC = 4


class Stat(NamedTuple):
    """What the service knows about a node. Times in ms since the epoch.

    Attributes:
        czxid: The transaction that created it; tells two lives of a path apart.
        mzxid: The transaction that set its value last.
        pzxid: The transaction that created or deleted a direct child last.
        ctime: When it was created.
        mtime: When its value was set last.
        version: How often its value was set.
        cversion: How many direct children were created and deleted, together.
        aversion: How often its access list was changed: there is none yet.
        ephemeral_owner: The session that it lives as long as; 0: it stays.
        data_length: The length of its value in bytes.
        num_children: How many direct children it has.
    """

    czxid: int
    mzxid: int
    pzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    data_length: int
    num_children: int


class Node(NamedTuple):
    """A node as it was read.

    Attributes:
        path: As this client names it, without its namespace.
        value: At most 1 MiB, unless the service has another limit.
        stat: Its versions, times, and the session that it belongs to.
    """

    path: str
    value: bytes
    stat: Stat


class Event(NamedTuple):
    """A change as told to a watcher.

    Attributes:
        type: What happened.
        path: The node that it happened to, as this client names it, without its namespace.
        zxid: The transaction that did it.
        value: The new value, if the watch asked for values; else empty.
        stat: The node's stat after the change (DELETED: its last one); None for CHILDREN and RESYNC.
    """

    type: EventType
    path: str
    zxid: int
    value: bytes = b""
    stat: Stat | None = None


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads: the value that the leader published, and the token that fences its writes."""

    value: bytes
    token: int


class Status(StrEnum):
    """Whether an instance of a service can be used. The words are Consul's; each equals its text."""

    PASSING = "passing"  # use it
    WARNING = "warning"  # it works, but not well: use it if there is no better one
    CRITICAL = "critical"  # it does not work, or nobody has checked it yet
    DRAINING = "draining"  # it finishes what it has begun, and takes nothing new


@dataclass(frozen=True, slots=True)
class Instance:
    """One registered instance of a service.

    Attributes:
        payload: Whatever the instance published about itself; JSON types only.
        status: Whether it can be used, by its health checks and by its own word.
        registered_at_ms: When it registered, in ms since the epoch, by the service's clock.
        token: The transaction that registered it; tells two lives of one id apart.
        tags: Words by which consumers choose, in the order in which they were given.
        weight: Its share of the work, in proportion to that of the others; at least 1.
        note: Why it has its status, for people: what the health check that decided it saw.
    """

    name: str
    id: str
    address: str
    port: int
    payload: Mapping[str, Any] = field(default_factory=dict, hash=False)  # JSON as the application chose it
    status: Status = Status.PASSING
    registered_at_ms: int = 0
    token: int = 0
    tags: tuple[str, ...] = ()
    weight: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True)
class Deleted:
    """The answer of a delete in a transaction: how many nodes went."""

    count: int


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer of a check in a transaction: it held."""


class Created(NamedTuple):
    """The answer of a create in a transaction.

    Attributes:
        path: With its number, if the node is sequential.
        stat: The new node's.
    """

    path: str
    stat: Stat


OperationResult: TypeAlias = Created | Stat | Deleted | Checked | Node | list[str] | None


@runtime_checkable
class Guarding(Protocol):
    """Something that can guard a write: a held lock, a term of leadership."""

    @property
    def guard(self) -> tuple[str, int]:
        """Return `(path, czxid)` of the node that must still exist."""
        ...  # pragma: no cover


Guard: TypeAlias = Guarding | tuple[str, int] | Iterable[Guarding | tuple[str, int]]


# ---------------------------------------------------------------------------------------------
# From the wire


def stat_from_wire(stat: data_pb2.Stat) -> Stat:
    return Stat(
        stat.czxid,
        stat.mzxid,
        stat.pzxid,
        stat.ctime,
        stat.mtime,
        stat.version,
        stat.cversion,
        stat.aversion,
        stat.ephemeral_owner,
        stat.data_length,
        stat.num_children,
    )


def node_from_wire(node: data_pb2.Node) -> Node:
    return Node(node.path, node.value, stat_from_wire(node.stat))


_EVENT_TYPES = {int(member): member for member in EventType}


def event_from_wire(event: data_pb2.Event | data_pb2.Change) -> Event:
    """Translate an event. A type that this version does not know means: read again."""
    kind = _EVENT_TYPES.get(int(event.type), EventType.RESYNC)
    stat = stat_from_wire(event.stat) if event.HasField("stat") else None
    return Event(kind, event.path, event.zxid, event.value, stat)

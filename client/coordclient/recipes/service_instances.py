"""What instances say about themselves, and the views that consumers have of them.

Rule of this file: nothing here does I/O. A record that this version cannot read, or a status that it does
not know, never makes an instance usable, and never breaks a view.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from coordclient.errors import InvalidArgumentError
from coordclient.types import Event, EventType, Instance, Node, Status

SCHEMA = 1
WEIGHT_MAX = 65535


def checked_name(name: str, what: str) -> str:
    """Return a name that can be one element of a path."""
    if not name or "/" in name or name in (".", ".."):
        raise InvalidArgumentError(f'{what} {name!r} must be a name without "/"')
    return name


def checked_status(status: Status | str) -> Status:
    """Return a status that was given as one, or as its text."""
    try:
        return Status(status)
    except ValueError:
        known = ", ".join(member.value for member in Status)
        raise InvalidArgumentError(f"{status!r} is not a status; there are {known}") from None


def checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Return tags as they are compared: a single text would be taken for its letters, so it is refused."""
    if isinstance(tags, str) or not all(tags):
        raise InvalidArgumentError(f"tags must be a sequence of words, like ['blue'], not {tags!r}")
    return tuple(tags)


@dataclass(frozen=True, slots=True)
class Record:
    """What an instance says about itself."""

    address: str
    port: int
    payload: Mapping[str, Any] = field(default_factory=dict)  # JSON as the application chose it
    tags: tuple[str, ...] = ()
    weight: int = 1
    status: Status = Status.PASSING
    note: str = ""

    def encode(self) -> bytes:
        """Return the value of the instance's node.

        Raises:
            InvalidArgumentError: It makes no sense, or the payload is not JSON.
        """
        if not 0 <= self.port < 65536:
            raise InvalidArgumentError(f"{self.port} is not a port")
        if not 1 <= self.weight <= WEIGHT_MAX:
            raise InvalidArgumentError(f"a weight must be from 1 to {WEIGHT_MAX}, not {self.weight}")
        content = {
            "schema": SCHEMA,
            "address": self.address,
            "port": self.port,
            "payload": dict(self.payload),
            "tags": list(self.tags),
            "weight": self.weight,
            "status": self.status.value,
            "note": self.note,
        }
        try:
            return json.dumps(content, separators=(",", ":"), sort_keys=True).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgumentError(f"the payload cannot be written as JSON: {error}") from error


def instance_of(node: Node) -> Instance | None:
    """Read an instance from its node; None for a node that is none."""
    directory, _, identifier = node.path.rpartition("/")
    try:
        content = json.loads(node.value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    address, port = content.get("address"), content.get("port")
    payload = content.get("payload") or {}
    if not isinstance(address, str) or not isinstance(port, int) or not isinstance(payload, dict):
        return None
    tags = content.get("tags")
    weight = content.get("weight")
    return Instance(
        name=directory.rpartition("/")[2],
        id=identifier,
        address=address,
        port=port,
        payload=payload,
        status=_status_of(content.get("status", Status.PASSING)),
        registered_at_ms=node.stat.ctime,
        token=node.stat.czxid,
        tags=tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
        weight=weight if type(weight) is int and 1 <= weight <= WEIGHT_MAX else 1,
        note=str(content.get("note", "")),
    )


def _status_of(word: object) -> Status:
    """Return the status that a record says. One from the future may mean anything: do not use it."""
    return Status(word) if isinstance(word, str) and word in tuple(Status) else Status.CRITICAL


class Instances(tuple[Instance, ...]):
    """A view of a service: its instances, sorted by id. It never changes; it is a tuple in all else.

    Attributes:
        is_stale: The service could not be reached when this view was given out: it is the last one known,
            and may be out of date.
    """

    is_stale: bool

    def __new__(cls, instances: Iterable[Instance] = (), *, is_stale: bool = False) -> Self:
        """Make a view of instances."""
        view = super().__new__(cls, tuple(instances))
        view.is_stale = is_stale
        return view

    def __repr__(self) -> str:
        return f"<Instances{' stale' if self.is_stale else ''} {list(self)!r}>"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which instances a consumer wants: only passing ones, with all of some tags."""

    passing: bool = False
    tags: tuple[str, ...] = ()

    def of(self, instances: Iterable[Instance]) -> list[Instance]:
        """Return the instances that are wanted."""
        return [instance for instance in instances if self._has(instance)]

    def _has(self, instance: Instance) -> bool:
        if self.passing and instance.status is not Status.PASSING:
            return False
        return all(tag in instance.tags for tag in self.tags)


class InstanceView:
    """The instances of one service, kept up to date by events."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._zxid = 0
        self._nodes: dict[str, Node] = {}
        self._instances: dict[str, Instance] = {}

    def reset(self, zxid: int, nodes: Sequence[Node]) -> None:
        """Take in a snapshot that has everything up to a transaction."""
        self._zxid = zxid
        self._nodes = {}
        self._instances = {}
        for node in nodes:
            self._put(node)

    def apply(self, event: Event) -> bool:
        """Take in an event. False: the view must be read anew."""
        if event.type is EventType.RESYNC:
            return False
        if event.zxid <= self._zxid or event.path.rpartition("/")[0] != self._directory:
            return True
        known = self._nodes.get(event.path)
        if event.type is EventType.DELETED:
            if known is not None and event.stat is not None and known.stat.czxid <= event.stat.czxid:
                del self._nodes[event.path]
                self._instances.pop(event.path, None)
        elif event.stat is not None and (known is None or known.stat.mzxid <= event.stat.mzxid):
            self._put(Node(event.path, event.value, event.stat))
        return True

    def _put(self, node: Node) -> None:
        self._nodes[node.path] = node
        instance = instance_of(node)
        if instance is None:
            self._instances.pop(node.path, None)
        else:
            self._instances[node.path] = instance

    def instances(self) -> tuple[Instance, ...]:
        """Return the instances, sorted by id."""
        return tuple(self._instances[path] for path in sorted(self._instances))

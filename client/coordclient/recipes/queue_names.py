"""How a queue lies in the tree: the names of its nodes, and what stands in an item's node.

    <root>                      container, like all below it but the items themselves
      items/ready/e-100-0000000007        an item of priority 100 that can be taken
      items/ready/e-100-0000000007r<hex>  the same, put back in its place by somebody who did not want it
      items/delayed/w-100-2500-0000000003-<hex>... an item that becomes ready 2500 ms after its creation
      items/claims/<name of an item>      ephemeral: a consumer of a work queue is at it
      consumers/                  the line of idle consumers, a lock
      receipts/<hex>              for a while: this attempt to put or take has been carried out
      dead/d-0000000001           an item of a work queue that has failed too often

An item's node holds one line of JSON about the item, a line feed, and then the application's bytes.

Rule of this file: pure. Nodes that others put there are ignored by name; an item without the line of JSON is
somebody's raw bytes, and is served as such.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from coordclient.errors import InvalidArgumentError, InvalidPathError

PRIORITY_MAX = 999
DELAY_MS_MAX = 0xFFFFFFFFFF
_READY = re.compile(r"e-(\d{3})-(\d{10,})(?:r[0-9a-f]{32})?\Z")
_DELAYED = re.compile(r"w-(\d{3})-(\d{1,13})-[0-9a-f]{32}-(\d{10,})\Z")
_DEAD = re.compile(r"d-(\d{10,})\Z")
_HEADER_START = b'{"id":'
_ROOM_BYTES = len(', "attempts": ') + 10  # kept free, so that an item which could be put can be claimed, too


class Layout:
    """Where the parts of a queue lie."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.items = f"{root}/items"
        self.ready = f"{root}/items/ready"
        self.delayed = f"{root}/items/delayed"
        self.claims = f"{root}/items/claims"
        self.consumers = f"{root}/consumers"
        self.receipts = f"{root}/receipts"
        self.dead = f"{root}/dead"

    @property
    def containers(self) -> tuple[str, ...]:
        """Return what must be there before anything can be put or taken, parents first."""
        items = (self.items, self.ready, self.delayed, self.claims)
        return self.root, *items, self.consumers, self.receipts, self.dead


@dataclass(frozen=True, slots=True)
class Envelope:
    """What an item's node holds.

    Attributes:
        attempts: How often somebody has begun to work on it.
        reason: How the last attempt ended.
    """

    id: str
    value: bytes
    attempts: int = 0
    reason: str = ""
    priority: int = 100


def check_root(path: str) -> str:
    """Return the path, or raise InvalidPathError if no queue can be there."""
    if path == "/" or not path.startswith("/"):
        raise InvalidPathError('a queue needs a path like "/queues/name"', path=path)
    return path


def check_priority(priority: object, path: str) -> None:
    # Of a name that is made with anything but an integer no consumer would know that it is an item's.
    if not isinstance(priority, int) or isinstance(priority, bool) or not 0 <= priority <= PRIORITY_MAX:
        raise InvalidArgumentError(
            f"priority {priority!r} is no integer between 0 and {PRIORITY_MAX}", path=path
        )


def delay_ms_of(delay: float, path: str) -> int:
    """Return a delay in whole milliseconds, rounded up: never early."""
    milliseconds = -int(-delay * 1000 // 1) if 0 <= delay < DELAY_MS_MAX else -1
    if not 0 <= milliseconds <= DELAY_MS_MAX:
        raise InvalidArgumentError(f"a delay of {delay} s is out of range", path=path)
    return milliseconds


def ready_prefix(priority: int) -> str:
    """Return the name of a ready item, up to the number that the service adds."""
    return f"e-{priority:03}-"


def put_back_name(name: str) -> str:
    """Return a name in the same place of the queue that nobody has had before."""
    return f"{name.partition('r')[0]}r{uuid.uuid4().hex}"


def delayed_prefix(priority: int, delay_ms: int) -> str:
    """Return the name of a delayed item, up to the number that the service adds."""
    return f"w-{priority:03}-{delay_ms}-{uuid.uuid4().hex}-"


def ready_order(name: str) -> tuple[int, int, str] | None:
    """Return the place of an item in the queue; None for a node that is no item."""
    match = _READY.match(name)
    return (int(match[1]), int(match[2]), name) if match else None


def in_order(names: Iterable[str]) -> list[str]:
    """Return the items among the names: by priority, then first come first served."""
    orders = (ready_order(name) for name in names)
    return [name for _, _, name in sorted(order for order in orders if order is not None)]


def priority_of(name: str) -> int:
    """Return the priority of a ready or delayed item."""
    match = _READY.match(name) or _DELAYED.match(name)
    assert match is not None, "names are looked at before"
    return int(match[1])


def delay_ms_in(name: str) -> int | None:
    """Return the delay of a delayed item; None for a node that is none."""
    match = _DELAYED.match(name)
    return int(match[2]) if match else None


def sequence_of_delayed(name: str) -> int:
    match = _DELAYED.match(name)
    assert match is not None, "names are looked at before"
    return int(match[3])


def dead_order(name: str) -> int | None:
    """Return the number of a dead letter; None for a node that is none."""
    match = _DEAD.match(name)
    return int(match[1]) if match else None


def pack(envelope: Envelope) -> bytes:
    """Return what an item's node is to hold."""
    header: dict[str, str | int] = {"id": envelope.id, "priority": envelope.priority}
    width = len(json.dumps(header)) + _ROOM_BYTES
    if envelope.attempts:
        header["attempts"] = envelope.attempts
    if envelope.reason:
        header["reason"] = envelope.reason
    return json.dumps(header).ljust(width).encode() + b"\n" + envelope.value


def unpack(name: str, raw: bytes) -> Envelope:
    """Return what an item's node holds. What is not ours is a value without a header."""
    order = ready_order(name)
    plain = Envelope(id=name, value=raw, priority=order[0] if order else 100)
    line, separator, value = raw.partition(b"\n")
    if not separator or not line.startswith(_HEADER_START):
        return plain
    try:
        header = json.loads(line)
    except ValueError:
        return plain
    item_id, attempts, priority = header.get("id"), header.get("attempts", 0), header.get("priority")
    if not isinstance(item_id, str) or not isinstance(attempts, int) or not isinstance(priority, int):
        return plain
    if not 0 <= priority <= PRIORITY_MAX or attempts < 0:
        return plain
    reason = str(header.get("reason", ""))
    return Envelope(item_id, value, attempts=attempts, reason=reason, priority=priority)

"""Contenders: the nodes by which locks, permits and elections queue, their names and what they hold.

A contender is a node `<uuid>-<kind>-<number>` below the root of its recipe; its value says, in JSON, who
it is, and what has become of it: whether it was granted, and whether somebody asked it to let go. Most
are ephemeral. One without an owner is a grave: the service put it there in place of a contender whose
session has expired, to keep its place for a while (the lock delay).

Rule of this file: no I/O, and numbers are compared as numbers. What cannot be read belongs to somebody
else, and is left out.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from coordclient.types import Node

_NAME = re.compile(r"[0-9a-f]{32}-(lock|read|write|permit)-([0-9]{10,})\Z")

LOCK = "lock"
READ = "read"
WRITE = "write"
PERMIT = "permit"


@dataclass(frozen=True, slots=True)
class Position:
    """A contender as the decision whose turn it is sees it.

    Attributes:
        weight: How many permits it takes.
        is_marked: It has written down that it was granted. Only semaphores, and locks with a delay, do that.
    """

    name: str
    sequence: int
    kind: str
    weight: int = 1
    is_marked: bool = False


@dataclass(frozen=True, slots=True)
class Behind:
    """Not our turn before this contender is granted or gone."""

    name: str


@dataclass(frozen=True, slots=True)
class Crowded:
    """Not our turn before some holder has gone, whichever that is, or the limit is changed."""


Obstacle: TypeAlias = Behind | Crowded
"""What a contender has to wait for; None means that it is its turn."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who holds a lock, permits or leadership, or waits for it.

    Attributes:
        sequence: The place in the queue: lower ones come first.
        token: The fencing token that it has, or will have; 0 where tokens are given out with the grant, and
            it has none yet.
        session_id: 0 if its session has expired and only its place is kept for a while.
        process_id: On its host.
        since_ms: Since when, in ms since the epoch by the service's clock.
        kind: "read" or "write"; empty where there is but one kind.
        weight: How many permits it takes.
        is_holder: Whether it holds, or only waits.
    """

    path: str
    sequence: int
    token: int
    session_id: int
    client: str = ""
    host: str = ""
    process_id: int = 0
    since_ms: int = 0
    kind: str = ""
    weight: int = 1
    is_holder: bool = False


# ---------------------------------------------------------------------------------------------
# Names


def new_name_prefix(kind: str) -> str:
    """Return a name without its number. A new one for every attempt: no two are ever taken for each other."""
    return f"{uuid.uuid4().hex}-{kind}-"


def name_as(kind: str, name: str) -> str:
    """Return the name of a contender when it changes its kind.

    It sorts where the old one did: a long list is read in pages, in the order of the names, and whoever
    changes meanwhile must not slip from a page that comes into one that was read.
    """
    unique, _, number = name.split("-")
    return f"{unique}-{kind}-{number}"


def position_of(name: str) -> Position | None:
    """Return what a name says; None for a node that is no contender."""
    match = _NAME.match(name)
    return Position(name, int(match[2]), match[1]) if match else None


def sequence_of(name: str) -> int | None:
    """Return a contender's number; None for a node that is no contender."""
    match = _NAME.match(name)
    return int(match[2]) if match else None


def positions_of(names: Iterable[str]) -> list[Position]:
    """Return the contenders among some names, in no order."""
    found = (position_of(name) for name in names)
    return [position for position in found if position is not None]


def last_part(path: str) -> str:
    """Return a node's own name."""
    return path.rpartition("/")[2]


# ---------------------------------------------------------------------------------------------
# Values


@dataclass(frozen=True, slots=True)
class Details:
    """What a contender's value says.

    Attributes:
        who: The client, host, process and weight, as JSON has them.
        is_marked: It was granted.
        revocation: Why somebody asks it to let go; None if nobody does.
        token: Its fencing token, if that does not follow from the transaction which made the node.
    """

    who: dict[str, Any]  # JSON as it was read
    is_marked: bool = False
    revocation: str | None = None
    token: int | None = None

    def encoded(self) -> bytes:
        value = dict(self.who)
        if self.is_marked:
            value["held"] = True
        if self.revocation is not None:
            value["revoke"] = self.revocation
        if self.token is not None:
            value["token"] = self.token
        return json.dumps(value).encode()

    @property
    def weight(self) -> int:
        return _integer(self.who, "weight", 1)


def new_details(client_name: str, weight: int = 1) -> Details:
    """Describe this process."""
    who = _details(client_name)
    if weight != 1:
        who["weight"] = weight
    return Details(who)


def _details(client_name: str) -> dict[str, str | int]:
    return {
        "client": client_name,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": round(time.time() * 1000),
    }


def read_details(value: bytes) -> Details:
    """Read a contender's value. What cannot be read is left out: somebody has set the node by hand."""
    try:
        who = json.loads(value)
    except ValueError:
        who = None
    if not isinstance(who, dict):
        who = {}
    is_marked = who.pop("held", False) is True
    revocation = who.pop("revoke", None)
    token = _integer(who, "token", 0) or None
    who.pop("token", None)
    return Details(who, is_marked, None if revocation is None else str(revocation), token)


def _integer(who: dict[str, Any], key: str, default: int) -> int:
    value = who.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default


# ---------------------------------------------------------------------------------------------
# Nodes


def standing(nodes: Iterable[Node]) -> list[tuple[Position, Node]]:
    """Return the contenders that count, with their nodes, in the order of their numbers.

    The grave of one that was never granted does not: it blocks nobody.
    """
    found = []
    for node in nodes:
        position = position_of(last_part(node.path))
        if position is None:
            continue
        details = read_details(node.value)
        if is_grave(node) and not details.is_marked:
            continue
        position = Position(
            position.name, position.sequence, position.kind, details.weight, details.is_marked
        )
        found.append((position, node))
    return sorted(found, key=lambda pair: pair[0].sequence)


def token_of(kind: str, czxid: int) -> int:
    """Return the fencing token of a contender that transaction `czxid` made.

    Those of readers and writers are even, so that there is room for a reader that becomes a writer between
    those who held before it and those who wait already.
    """
    return 2 * czxid if kind in (READ, WRITE) else czxid


def is_grave(node: Node) -> bool:
    return node.stat.ephemeral_owner == 0


def contender_of(position: Position, node: Node, *, is_holder: bool) -> Contender:
    """Describe a contender for people."""
    details = read_details(node.value)
    who = details.who
    token = details.token or token_of(position.kind, node.stat.czxid)
    if position.kind == PERMIT:
        token = node.stat.mzxid if position.is_marked else 0
    return Contender(
        path=node.path,
        sequence=position.sequence,
        token=token,
        session_id=node.stat.ephemeral_owner,
        client=str(who.get("client", "")),
        host=str(who.get("host", "")),
        process_id=_integer(who, "pid", 0),
        since_ms=node.stat.ctime,
        kind=position.kind if position.kind in (READ, WRITE) else "",
        weight=position.weight,
        is_holder=is_holder,
    )


# ---------------------------------------------------------------------------------------------
# Whose turn it is


def behind_all(mine: Position, others: Sequence[Position]) -> Obstacle | None:
    """Exclusive: the nearest before us, of any kind, must go first."""
    return _behind(mine, others)


def behind_writers(mine: Position, others: Sequence[Position]) -> Obstacle | None:
    """Read and write: a writer is behind all, a reader behind the nearest before it that is no reader."""
    if mine.kind == READ:
        others = [other for other in others if other.kind != READ]
    return _behind(mine, others)


def may_become_writer(mine: Position, others: Sequence[Position]) -> bool:
    """Whether a reader that holds may write in its place: it is alone, and nobody was there before it."""
    if any(other.sequence < mine.sequence for other in others):
        return False
    readers = [other for other in others if other.kind == READ]
    return all(behind_writers(reader, others) is not None for reader in readers)


def behind_permits(mine: Position, others: Sequence[Position], permits: int) -> Obstacle | None:
    """Semaphore: all who came before us, and all who hold, must leave us enough.

    The first who waits listens for any holder that goes. Everybody else listens to the one who waits
    before them: when that is granted or gone they look again. So a release wakes those whose turn it may
    be, one after the other, and no release is missed by all (watching only the holder `permits` places
    before us would miss the release of another).
    """
    before = [other for other in others if other.sequence < mine.sequence]
    holders_behind = [other for other in others if other.sequence > mine.sequence and other.is_marked]
    taken = sum(other.weight for other in (*before, *holders_behind))
    if taken + mine.weight <= permits:
        return None
    waiting = [other for other in before if not other.is_marked]
    return Behind(max(waiting, key=lambda other: other.sequence).name) if waiting else Crowded()


def _behind(mine: Position, others: Iterable[Position]) -> Obstacle | None:
    before = [other for other in others if other.sequence < mine.sequence]
    return Behind(max(before, key=lambda other: other.sequence).name) if before else None

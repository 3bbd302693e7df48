"""The watch index of one member: changes in, firings out. ZooKeeper's tables, plus recursive streams.

Rule of this file: it matches, it never delivers, and it does not know what a connection is beyond a
number. Firing order is the order of the changes, then the order in which watches were set; the watches of
one connection that are told the very same are told it together, so that a change costs by connections and
not by watches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from coordsvc.statemachine.changes import Change, ChangeType

CHILDREN_EVENT = 3  # the numbers of coordproto.v1.EventType
RESYNC_EVENT = 4


class WatchKind(IntEnum):
    """The numbers are those of `coordproto.v1.WatchKind`."""

    STREAM = 0
    STREAM_RECURSIVE = 1
    ONCE_DATA = 2
    ONCE_EXISTS = 3
    ONCE_CHILDREN = 4


# Which kinds, set at the very path of a change, a change of this type fires.
_FIRED_AT_PATH: dict[ChangeType, frozenset[WatchKind]] = {
    ChangeType.CREATED: frozenset({WatchKind.STREAM, WatchKind.ONCE_EXISTS}),
    ChangeType.CHANGED: frozenset({WatchKind.STREAM, WatchKind.ONCE_DATA, WatchKind.ONCE_EXISTS}),
    ChangeType.DELETED: frozenset(
        {WatchKind.STREAM, WatchKind.ONCE_DATA, WatchKind.ONCE_EXISTS, WatchKind.ONCE_CHILDREN}
    ),
}
_FIRED_AT_PARENT = frozenset({WatchKind.STREAM, WatchKind.ONCE_CHILDREN})
_RECURSIVE = frozenset({WatchKind.STREAM_RECURSIVE})
ONCE_KINDS = frozenset({WatchKind.ONCE_DATA, WatchKind.ONCE_EXISTS, WatchKind.ONCE_CHILDREN})


@dataclass(slots=True, eq=False)
class Watch:
    """One watch of one connection. `since`: it has been told everything up to this zxid."""

    connection: int
    watch_id: int
    path: str
    kind: WatchKind
    with_values: bool
    since: int = 0


@dataclass(slots=True, eq=False)
class Audience:
    """Watches of one connection, set at one path, that one change fires alike; in the order they were set.

    It is the same object from change to change, while no watch is set or removed at its path. `encoded_ids`
    is for whoever tells them: their ids on the wire.
    """

    connection: int
    with_values: bool
    watches: list[Watch]
    has_once: bool = False
    encoded_ids: bytes = b""


@dataclass(slots=True)
class Firing:
    """Each watch of the audience gets one event. `change` is None for CHILDREN and RESYNC."""

    audience: Audience
    event_type: int
    path: str
    zxid: int
    change: Change | None


class _WatchedPath:
    """The watches set at one path, and the audiences that they make, by which kinds of them are meant."""

    __slots__ = ("_audiences", "watches")

    def __init__(self) -> None:
        self.watches: dict[Watch, None] = {}
        self._audiences: dict[frozenset[WatchKind], list[Audience]] = {}

    def add(self, watch: Watch) -> None:
        assert watch not in self.watches, "a watch is set once"
        self.watches[watch] = None
        self._audiences.clear()

    def remove(self, watch: Watch) -> None:
        del self.watches[watch]
        self._audiences.clear()

    def audiences(self, kinds: frozenset[WatchKind]) -> list[Audience]:
        known = self._audiences.get(kinds)
        if known is None:
            known = self._audiences[kinds] = self._gather(kinds)
        return known

    def _gather(self, kinds: frozenset[WatchKind]) -> list[Audience]:
        gathered: dict[tuple[int, bool], Audience] = {}
        for watch in self.watches:
            if watch.kind not in kinds:
                continue
            key = (watch.connection, watch.with_values)
            audience = gathered.get(key)
            if audience is None:
                audience = gathered[key] = Audience(watch.connection, watch.with_values, [])
            audience.watches.append(watch)
            audience.has_once |= watch.kind in ONCE_KINDS
        return list(gathered.values())


def parent_of(path: str) -> str:
    """Return the parent's path; the root has none and yields the empty string."""
    if path == "/":
        return ""
    cut = path.rfind("/")
    return path[:cut] or "/"


class WatchRegistry:
    """The live watches. A watch that is being replayed from history is not in here."""

    def __init__(self) -> None:
        self._at_path: dict[str, _WatchedPath] = {}
        self._recursive: dict[str, _WatchedPath] = {}
        self.count = 0

    def add(self, watch: Watch) -> None:
        table = self._table_of(watch)
        watched = table.get(watch.path)
        if watched is None:
            watched = table[watch.path] = _WatchedPath()
        watched.add(watch)
        self.count += 1

    def remove(self, watch: Watch) -> None:
        """Remove a watch; one that has already gone is fine."""
        table = self._table_of(watch)
        watched = table.get(watch.path)
        if watched is None or watch not in watched.watches:
            return
        watched.remove(watch)
        self.count -= 1
        if not watched.watches:
            del table[watch.path]

    def _table_of(self, watch: Watch) -> dict[str, _WatchedPath]:
        return self._recursive if watch.kind is WatchKind.STREAM_RECURSIVE else self._at_path

    def watches(self) -> list[Watch]:
        """Return every watch, in no promised order."""
        tables = (self._at_path, self._recursive)
        return [watch for table in tables for watched in table.values() for watch in watched.watches]

    def match(self, changes: Iterable[Change]) -> list[Firing]:
        """Return what the changes of one write fire, and remove the one-shot watches among them."""
        firings: list[Firing] = []
        if not self.count:
            return firings
        told_children: set[tuple[str, int]] = set()
        for change in changes:
            watched = self._at_path.get(change.path)
            if watched is not None:
                self._fire(watched, _FIRED_AT_PATH[change.type], change, firings)
            if change.type is not ChangeType.CHANGED:
                self._match_at_parent(change, firings, told_children)
            if self._recursive:
                self._match_above(change, firings)
        return firings

    def _match_at_parent(self, change: Change, firings: list[Firing], told: set[tuple[str, int]]) -> None:
        parent = parent_of(change.path)
        watched = self._at_path.get(parent)
        if watched is None or (parent, change.zxid) in told:
            return  # One CHILDREN event tells of all the children that one transaction made or removed.
        told.add((parent, change.zxid))
        for audience in watched.audiences(_FIRED_AT_PARENT):
            firings.append(Firing(audience, CHILDREN_EVENT, parent, change.zxid, None))
            self._remove_once(audience)

    def _match_above(self, change: Change, firings: list[Firing]) -> None:
        path = change.path
        while path:
            watched = self._recursive.get(path)
            if watched is not None:
                self._fire(watched, _RECURSIVE, change, firings)
            path = parent_of(path)

    def _fire(
        self, watched: _WatchedPath, kinds: frozenset[WatchKind], change: Change, firings: list[Firing]
    ) -> None:
        for audience in watched.audiences(kinds):
            firings.append(Firing(audience, int(change.type), change.path, change.zxid, change))
            self._remove_once(audience)

    def _remove_once(self, audience: Audience) -> None:
        if not audience.has_once:
            return
        for watch in audience.watches:
            if watch.kind in ONCE_KINDS:
                self.remove(watch)

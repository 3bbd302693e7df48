"""The watch index of one member: changes in, firings out. ZooKeeper's tables, plus recursive streams.

Rule of this file: it matches, it never delivers, and it does not know what a connection is beyond a
number. Firing order is the order of the changes, then the order in which watches were set.
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


@dataclass(slots=True)
class Firing:
    """`watch` gets one event. `change` is None for CHILDREN."""

    watch: Watch
    event_type: int
    path: str
    zxid: int
    change: Change | None


def parent_of(path: str) -> str:
    """Return the parent's path; the root has none and yields the empty string."""
    if path == "/":
        return ""
    cut = path.rfind("/")
    return path[:cut] or "/"


class WatchRegistry:
    """The live watches. A watch that is being replayed from history is not in here."""

    def __init__(self) -> None:
        self._at_path: dict[str, dict[Watch, None]] = {}
        self._recursive: dict[str, dict[Watch, None]] = {}
        self.count = 0

    def add(self, watch: Watch) -> None:
        table = self._table_of(watch)
        watches = table.setdefault(watch.path, {})
        assert watch not in watches, "a watch is set once"
        watches[watch] = None
        self.count += 1

    def remove(self, watch: Watch) -> None:
        """Remove a watch; one that has already gone is fine."""
        table = self._table_of(watch)
        watches = table.get(watch.path)
        if watches is None or watch not in watches:
            return
        del watches[watch]
        self.count -= 1
        if not watches:
            del table[watch.path]

    def _table_of(self, watch: Watch) -> dict[str, dict[Watch, None]]:
        return self._recursive if watch.kind is WatchKind.STREAM_RECURSIVE else self._at_path

    def watches(self) -> list[Watch]:
        """Return every watch, in no promised order."""
        tables = (self._at_path, self._recursive)
        return [watch for table in tables for watches in table.values() for watch in watches]

    def match(self, changes: Iterable[Change]) -> list[Firing]:
        """Return what the changes of one write fire, and remove the one-shot watches among them."""
        firings: list[Firing] = []
        if not self.count:
            return firings
        told_children: set[tuple[str, int]] = set()
        for change in changes:
            self._match_at_path(change, firings)
            if change.type is not ChangeType.CHANGED:
                self._match_at_parent(change, firings, told_children)
            if self._recursive:
                self._match_above(change, firings)
        return firings

    def _match_at_path(self, change: Change, firings: list[Firing]) -> None:
        watches = self._at_path.get(change.path)
        if watches is None:
            return
        fired = [watch for watch in watches if watch.kind in _FIRED_AT_PATH[change.type]]
        for watch in fired:
            firings.append(Firing(watch, int(change.type), change.path, change.zxid, change))
            if watch.kind in ONCE_KINDS:
                self.remove(watch)

    def _match_at_parent(self, change: Change, firings: list[Firing], told: set[tuple[str, int]]) -> None:
        parent = parent_of(change.path)
        watches = self._at_path.get(parent)
        if watches is None or (parent, change.zxid) in told:
            return  # One CHILDREN event tells of all the children that one transaction made or removed.
        told.add((parent, change.zxid))
        fired = [watch for watch in watches if watch.kind in _FIRED_AT_PARENT]
        for watch in fired:
            firings.append(Firing(watch, CHILDREN_EVENT, parent, change.zxid, None))
            if watch.kind in ONCE_KINDS:
                self.remove(watch)

    def _match_above(self, change: Change, firings: list[Firing]) -> None:
        path = change.path
        while path:
            watches = self._recursive.get(path)
            if watches is not None:
                for watch in watches:
                    firings.append(Firing(watch, int(change.type), change.path, change.zxid, change))  # noqa: PERF401
            path = parent_of(path)

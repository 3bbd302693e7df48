"""What a group looks like: an immutable view, and the table that follows the group's events.

Rule of this file: pure. The same state of the group gives the same view, with the same generation, in every
process, whether it was read or followed event by event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from coordclient.types import Event, EventType, Node, Stat


def _nobody() -> Mapping[str, bytes]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class GroupView:
    """The members of a group at one moment.

    Attributes:
        members: What each member says of itself, by name, sorted. It cannot be changed.
        generation: The transaction that made the group what it is here: a later view of the same group has
            a larger one, and two processes that see the same generation see the same members. 0: there is
            no record of the group, because it never had a member or has had none for a while.
        is_stale: The service cannot be reached at present, so the group may have changed since.
    """

    members: Mapping[str, bytes] = field(default_factory=_nobody)
    generation: int = 0
    is_stale: bool = False

    def __contains__(self, name: object) -> bool:
        return name in self.members

    def __len__(self) -> int:
        return len(self.members)


@dataclass(frozen=True, slots=True)
class GroupState:
    """What was read of a group at once: its node, if there is one, and its children."""

    zxid: int
    stat: Stat | None
    children: list[Node]


class MemberTable:
    """The members of one group, kept up to date by the events below its path."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._complete_zxid = 0  # every join and leave up to here is in the table
        self._generation = 0
        self._members: dict[str, Node] = {}

    @property
    def is_empty(self) -> bool:
        return not self._members

    def reset(self, state: GroupState) -> None:
        """Take in what was read."""
        self._complete_zxid = state.zxid if state.stat is None else state.stat.pzxid
        self._generation = generation_of(state)
        self._members = {node.path: node for node in state.children if is_member(node.stat)}

    def apply(self, event: Event) -> bool:
        """Take in an event. False: the group must be read anew."""
        if event.type is EventType.RESYNC:
            return False
        if event.stat is None:
            return True
        if event.path == self._path:
            if event.zxid > self._complete_zxid:
                self._generation = max(self._generation, event.stat.pzxid)
        elif event.path.rpartition("/")[0] == self._path:
            self._child_changed(event, event.stat)
        return True

    def _child_changed(self, event: Event, stat: Stat) -> None:
        if event.zxid > self._complete_zxid:  # Else it is in the generation, unless all of it has gone since.
            self._generation = max(self._generation, event.zxid)
        known = self._members.get(event.path)
        if event.type is EventType.CHANGED:
            if known is not None and known.stat.czxid == stat.czxid and known.stat.mzxid < stat.mzxid:
                self._members[event.path] = Node(event.path, event.value, stat)
        elif event.zxid <= self._complete_zxid:
            return
        elif event.type is EventType.DELETED:
            self._members.pop(event.path, None)
        elif event.type is EventType.CREATED and is_member(stat):
            self._members[event.path] = Node(event.path, event.value, stat)

    def view(self, *, is_stale: bool = False) -> GroupView:
        return _view(self._members.values(), self._generation, is_stale=is_stale)


def is_member(stat: Stat) -> bool:
    """Return whether a child stands for a member: whatever outlives its session does not."""
    return stat.ephemeral_owner != 0


def generation_of(state: GroupState) -> int:
    """Return the last transaction that changed the group."""
    if state.stat is None:
        return 0
    return max([state.stat.pzxid, *(node.stat.mzxid for node in state.children)])


def view_of(state: GroupState) -> GroupView:
    """Return the view of what was read."""
    members = [node for node in state.children if is_member(node.stat)]
    return _view(members, generation_of(state), is_stale=False)


def _view(nodes: Iterable[Node], generation: int, *, is_stale: bool) -> GroupView:
    members = {node.path.rpartition("/")[2]: node.value for node in nodes}
    ordered = {name: members[name] for name in sorted(members)}
    return GroupView(MappingProxyType(ordered), generation, is_stale)

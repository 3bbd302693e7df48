"""A copy of a part of the tree, kept up to date by events: the pure part of caches.

Rule of this file: pure. A node never goes back: what is older than what is known, by the transaction that
wrote it, is ignored; versions are never compared, because they begin anew with every node.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coordclient.types import Event, EventType, Node


@dataclass(frozen=True, slots=True)
class CacheChange:
    """A difference between what the cache held and what it holds now.

    Attributes:
        type: CREATED, CHANGED or DELETED.
        node: The node as it is now; None if it was deleted.
        previous: The node as it was before; None if there was none. If it was deleted and made anew
            between two looks, the type is CHANGED and the two have different `stat.czxid`.
    """

    type: EventType
    path: str
    node: Node | None
    previous: Node | None


def difference(path: str, previous: Node | None, node: Node | None) -> CacheChange | None:
    """Return what has changed at a path; None if nothing but, at most, what a stat says of the children."""
    if _writing(previous) == _writing(node):
        return None
    kind = EventType.CREATED if previous is None else EventType.DELETED if node is None else EventType.CHANGED
    return CacheChange(kind, path, node, previous)


def _writing(node: Node | None) -> tuple[int, int, int] | None:
    """Return what tells two writings of a path apart. The version does so only within one transaction."""
    return None if node is None else (node.stat.czxid, node.stat.mzxid, node.stat.version)


class Mirror:
    """Nodes by path, and the names of the children of each.

    Attributes:
        nodes: Every node that is known. Not to be changed from outside.
    """

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self.nodes: dict[str, Node] = {}
        self._children: dict[str, set[str]] = {}
        for node in nodes:
            self._put(node)

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return f"<Mirror of {len(self.nodes)} nodes>"

    def children(self, path: str) -> list[str]:
        """Return the names of a node's children, sorted."""
        return sorted(self._children.get(path, ()))

    def apply(self, event: Event) -> CacheChange | None:
        """Take an event in; return the difference that it made, or None.

        Events may reach back behind what is known: then they are told again up to there, and all of them
        together lead to the same end.
        """
        known = self.nodes.get(event.path)
        if event.type is EventType.DELETED:
            if known is None or known.stat.czxid > event.zxid:
                return None
            self._remove(event.path)
            return difference(event.path, known, None)
        if event.type not in (EventType.CREATED, EventType.CHANGED) or event.stat is None:
            return None
        # Of two writes of one transaction the later counts, so only what is really older is left out.
        if known is not None and event.stat.mzxid < known.stat.mzxid:
            return None
        node = Node(event.path, event.value, event.stat)
        self._put(node)
        return difference(event.path, known, node)

    def adopt(self, other: Mirror) -> list[CacheChange]:
        """Become like `other`; return the differences: what has gone, children first, then what has come."""
        mine, theirs = self.nodes, other.nodes
        gone = [path for path in mine if path not in theirs]
        changes = [difference(path, mine[path], None) for path in sorted(gone, reverse=True)]
        changes += [difference(path, mine.get(path), theirs[path]) for path in sorted(theirs)]
        self.nodes, self._children = other.nodes, other._children
        return [change for change in changes if change is not None]

    def _put(self, node: Node) -> None:
        self.nodes[node.path] = node
        parent, _, name = node.path.rpartition("/")
        if name:
            self._children.setdefault(parent or "/", set()).add(name)

    def _remove(self, path: str) -> None:
        del self.nodes[path]
        parent, _, name = path.rpartition("/")
        siblings = self._children.get(parent or "/")
        if siblings is not None:
            siblings.discard(name)
            if not siblings:
                del self._children[parent or "/"]

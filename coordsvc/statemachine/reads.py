"""Reads: of one node, of whether it exists, of a page of its children.

Rule of this file: it changes nothing, not even what the tree remembers having changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from coordsvc.statemachine import failures
from coordsvc.statemachine.commands import Exists, Get, ListChildren
from coordsvc.statemachine.paths import child_of, explain_invalid
from coordsvc.statemachine.results import Children, ExistsResult, Failure, Node
from coordsvc.statemachine.tree import Tree
from coordsvc.statemachine.types import Limits, Stat
from coordsvc.statemachine.znodes import STAT_BYTES, decode_znode

_NAMES_AT_ONCE = 250  # looked at one by one only where the page may end among them
_NAME_BYTES = 8  # what a name costs in an answer beyond its own bytes


@dataclass(slots=True)
class Room:
    """How many bytes an answer may still take. Shared by all reads of a transaction."""

    bytes: int


def get(tree: Tree, limits: Limits, path: str) -> Node | Failure:
    """Return the node at `path`."""
    node = tree.find(path)
    if node is None:
        return missing(limits, path)
    return Node(path, node.value, node.stat)


def exists(tree: Tree, limits: Limits, path: str) -> ExistsResult | Failure:
    """Return the stat of the node at `path`, or that there is none."""
    node = tree.find(path)
    if node is not None:
        return ExistsResult(node.stat)
    reason = explain_invalid(path, limits.path_bytes)
    return failures.invalid_path(path, reason) if reason is not None else ExistsResult(None)


def list_children(tree: Tree, limits: Limits, request: ListChildren, room: Room) -> Children | Failure:
    """Return the next page of children: as many as fit in the limits and in `room`, but one at least."""
    path = request.path
    node = tree.find(path)
    if node is None:
        return missing(limits, path)
    if request.limit < 0:
        return failures.invalid_argument(path, f"a page cannot have {request.limit} children")
    page = limits.children_page_nodes if request.with_nodes else limits.children_page
    count_max = min(request.limit or page, page)
    if not node.stat.num_children:
        return Children([], [], node.stat, more=False)
    if request.with_nodes:
        return _with_nodes(tree, path, node.stat, request.after, count_max, room)
    names: list[str] = []
    found = tree.child_names(path, request.after)
    while batch := list(islice(found, min(_NAMES_AT_ONCE, count_max - len(names) + 1))):
        size = _NAME_BYTES * len(batch) + sum(map(len, batch))
        if size < room.bytes and len(names) + len(batch) <= count_max:
            names += batch
            room.bytes -= size
            continue
        for name in batch:
            if len(names) >= count_max or (names and room.bytes <= 0):
                return Children(names, [], node.stat, more=True)
            names.append(name)
            room.bytes -= _NAME_BYTES + len(name)
    return Children(names, [], node.stat, more=False)


def _with_nodes(tree: Tree, path: str, stat: Stat, after: str, count_max: int, room: Room) -> Children:
    names: list[str] = []
    nodes: list[Node] = []
    for name, found in tree.children(path, after):
        if len(names) >= count_max or (names and room.bytes <= 0):
            return Children(names, nodes, stat, more=True)
        names.append(name)
        child_path = child_of(path, name)
        child = decode_znode(child_path, found) if isinstance(found, bytes) else found
        nodes.append(Node(child_path, child.value, child.stat))
        room.bytes -= _NAME_BYTES + len(name) + STAT_BYTES + len(child_path) + len(child.value)
    return Children(names, nodes, stat, more=False)


def read_in_transaction(
    tree: Tree, limits: Limits, operation: Get | Exists | ListChildren, room: Room
) -> Node | ExistsResult | Children | Failure:
    """Carry out one read of a transaction, whose answers all together must fit in `room`."""
    path = operation.path
    if room.bytes <= 0:
        return failures.limit_exceeded(
            path, f"the reads of one transaction may return {limits.children_page_bytes} bytes"
        )
    if isinstance(operation, ListChildren):
        return list_children(tree, limits, operation, room)
    room.bytes -= STAT_BYTES
    if isinstance(operation, Exists):
        return exists(tree, limits, path)
    result = get(tree, limits, path)
    if isinstance(result, Node):
        room.bytes -= len(path) + len(result.value)
    return result


def missing(limits: Limits, path: str) -> Failure:
    """Return the refusal of a path that no node has: it may be invalid in the first place."""
    reason = explain_invalid(path, limits.path_bytes)
    return failures.invalid_path(path, reason) if reason is not None else failures.no_node(path)

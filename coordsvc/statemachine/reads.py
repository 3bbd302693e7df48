"""Reads: of one node, of whether it exists, of a page of its children.

Rule of this file: it changes nothing, not even what the tree remembers having changed.
"""

from __future__ import annotations

from dataclasses import dataclass

from coordsvc.statemachine import failures
from coordsvc.statemachine.commands import Exists, Get, ListChildren
from coordsvc.statemachine.paths import child_of, explain_invalid
from coordsvc.statemachine.results import Children, ExistsResult, Failure, Node
from coordsvc.statemachine.tree import Tree
from coordsvc.statemachine.types import Limits
from coordsvc.statemachine.znodes import STAT_BYTES, decode_znode

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
    names: list[str] = []
    nodes: list[Node] = []
    if not node.stat.num_children:
        return Children(names, nodes, node.stat, more=False)
    for name, found in tree.children(path, request.after):
        if len(names) >= count_max or (names and room.bytes <= 0):
            return Children(names, nodes, node.stat, more=True)
        names.append(name)
        room.bytes -= _NAME_BYTES + len(name)
        if not request.with_nodes:
            continue
        child_path = child_of(path, name)
        child = decode_znode(child_path, found) if isinstance(found, bytes) else found
        nodes.append(Node(child_path, child.value, child.stat))
        room.bytes -= STAT_BYTES + len(child_path) + len(child.value)
    return Children(names, nodes, node.stat, more=False)


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

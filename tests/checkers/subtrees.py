"""A subtree as one hashable value, and what each call makes of it: the model of the search.

Rule of this file: a step says whether the answer that was told is possible at this state, and what follows.
Zxids and times are zero everywhere. What depends on a zxid (guards, compares of zxids, checks of a czxid) is
believed as it was told, for this search knows no zxids.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import cast

from coordsvc.statemachine.commands import Check, Compare, Transaction, TransactionOp
from coordsvc.statemachine.results import (
    Children,
    Created,
    ErrorCode,
    ExistsResult,
    Failure,
    Node,
    OpResult,
    TransactionResult,
    WasSet,
)
from coordsvc.statemachine.types import Stat
from tests.checkers.history import Operation, Request, Result
from tests.checkers.judging import agrees
from tests.checkers.tree import Tree, Znode, parent_of

_ZXID_TARGETS = (3, 4, 5)  # of coordproto.v1.Compare.Target

NodeState = tuple[
    str, bytes, int, int, int, int, bool, bool
]  # path, value, version, created, deleted, owner, may_go, lingers
State = tuple[tuple[NodeState, ...], tuple[int, ...]]  # the nodes by path, the sessions that have ended

EMPTY: State = ((), ())


@dataclass(slots=True, eq=False)
class Asked:
    """A request and what was told. `told` is None if nothing was: then it must succeed to matter.

    `branch`: of a transaction, the one to carry out; None: the one that follows from its compares.
    """

    operation: Operation
    request: Request
    told: Result | None
    branch: bool | None = None


@dataclass(slots=True, eq=False)
class SessionOver:
    """A session ends, and its ephemerals go. `is_certain`: also if there are none to go.

    `expired`: it was not closed, so ephemerals that linger leave a node that may go.
    """

    session: int
    is_certain: bool
    expired: bool = False


@dataclass(slots=True, eq=False)
class Reaped:
    """The service removes a container or a node with a TTL. `has_number`: `path` lacks its number."""

    path: str
    has_number: bool


What = Asked | SessionOver | Reaped


def step(state: Hashable, what: What) -> State | None:
    """Return the state after a call, or None if the call is not possible here."""
    nodes, ended = cast("State", state)
    tree = _thaw(nodes)
    if isinstance(what, SessionOver):
        return _end_session(tree, ended, what)
    if isinstance(what, Reaped):
        return _reap(tree, ended, what)
    session = what.operation.session
    if session in ended:
        return None
    for guard in what.operation.guards:
        if guard.path not in tree.nodes and what.operation.is_write:
            return None
    if isinstance(what.request, Transaction):
        return _transact(tree, ended, what, what.request)
    result = tree.carry_out(what.request, [], zxid=0, time_ms=0, session=session)
    if not _is_possible(what.told, result):
        return None
    return _freeze(tree, ended)


def _is_possible(told: Result | None, result: Result) -> bool:
    return not isinstance(result, Failure) if told is None else agrees(told, result)


def _thaw(nodes: tuple[NodeState, ...]) -> Tree:
    tree = Tree()
    for path, value, version, created, deleted, owner, may_go, lingers in nodes:
        tree.nodes[path] = Znode(value, 0, 0, 0, 0, 0, owner, version, created, deleted, may_go, lingers)
        tree.names[path] = {}
        tree.names[parent_of(path)][path[path.rfind("/") + 1 :]] = None
        if owner:
            tree.ephemerals.setdefault(owner, {})[path] = None
    return tree


def _freeze(tree: Tree, ended: tuple[int, ...]) -> State:
    nodes = tuple(
        (
            path,
            node.value,
            node.version,
            node.created,
            node.deleted,
            node.owner,
            node.may_go,
            node.lingers,
        )
        for path, node in sorted(tree.nodes.items())
        if path != "/"
    )
    return nodes, ended


def _end_session(tree: Tree, ended: tuple[int, ...], what: SessionOver) -> State | None:
    paths = sorted(tree.ephemerals.get(what.session, ()))
    if what.session in ended or not (paths or what.is_certain):
        return None
    tree.begin(0, 0, 0)
    tree.end_session(what.session, expired=what.expired)
    return _freeze(tree, tuple(sorted((*ended, what.session))))


def _reap(tree: Tree, ended: tuple[int, ...], what: Reaped) -> State | None:
    for path, node in tree.nodes.items():
        is_it = path == what.path
        if what.has_number:
            is_it = path.startswith(what.path) and path[len(what.path) :].isdigit()
        if is_it and node.may_go and not tree.names[path]:
            tree.remove_all([path])
            return _freeze(tree, ended)
    return None


# -- transactions ---------------------------------------------------------------------------------


def is_believed(compare: Compare) -> bool:
    """Whether only the service can know how a compare comes out."""
    return compare.target in _ZXID_TARGETS or compare.path == "/"


def _transact(tree: Tree, ended: tuple[int, ...], what: Asked, transaction: Transaction) -> State | None:
    judged = [compare for compare in transaction.compares if not is_believed(compare)]
    possible = [all(tree.holds(compare) for compare in judged)]
    if possible[0] and len(judged) < len(transaction.compares):
        possible.append(False)
    told = what.told
    if isinstance(told, TransactionResult):
        possible = [told.succeeded] if told.succeeded in possible else []
    elif what.branch is not None:
        possible = [what.branch] if what.branch in possible else []
    for succeeded in possible:
        branch = transaction.success if succeeded else transaction.failure
        if isinstance(told, Failure):
            if _can_have_failed(tree, what, branch, told):
                return _freeze(tree, ended)
            continue
        places = [place for place, each in enumerate(branch) if each.path != "/"]
        request = Transaction([], [_without_czxid(branch[place]) for place in places])
        result = tree.carry_out(request, [], zxid=0, time_ms=0, session=what.operation.session)
        if told is None and isinstance(result, TransactionResult):
            return _freeze(tree, ended)
        if isinstance(told, TransactionResult) and _branch_agrees(told, result, places, len(branch)):
            return _freeze(tree, ended)
        tree.undo()
    return None


def _branch_agrees(told: TransactionResult, result: Result, places: list[int], count: int) -> bool:
    if not isinstance(result, TransactionResult) or len(told.results) != count:
        return False
    return all(agrees(told.results[place], mine) for place, mine in zip(places, result.results, strict=True))


def _can_have_failed(tree: Tree, what: Asked, branch: list[TransactionOp], told: Failure) -> bool:
    """Whether just this operation of the branch fails. Leaves the tree as it was."""
    index = told.failed_index
    if index is None or len(branch) != len(told.op_codes):
        return False
    last = branch[index]
    if last.path == "/" or (isinstance(last, Check) and last.czxid is not None):
        return True
    kept = [each for each in branch[: index + 1] if each.path != "/"]
    request = Transaction([], [_without_czxid(each) for each in kept])
    result = tree.carry_out(request, [], zxid=0, time_ms=0, session=what.operation.session)
    if not isinstance(result, Failure):
        tree.undo()
        return False
    return (
        result.failed_index == len(kept) - 1
        and result.op_codes[-1] == told.op_codes[index]
        and result.path == told.path
        and result.expected_version == told.expected_version
        and result.actual_version == told.actual_version
    )


def _without_czxid(operation: TransactionOp) -> TransactionOp:
    if isinstance(operation, Check) and operation.czxid is not None:
        return replace(operation, czxid=None)
    return operation


# -- answers without zxids --------------------------------------------------------------------------


def _stat(stat: Stat) -> Stat:
    return replace(stat, czxid=0, mzxid=0, pzxid=0, ctime=0, mtime=0)


def _node(node: Node) -> Node:
    return replace(node, stat=_stat(node.stat))


def _plain(result: OpResult) -> OpResult:
    match result:
        case Created() | WasSet():
            return replace(result, stat=_stat(result.stat))
        case Node():
            return _node(result)
        case ExistsResult():
            return ExistsResult(_stat(result.stat) if result.stat is not None else None)
        case Children():
            return replace(result, stat=_stat(result.stat), nodes=[_node(node) for node in result.nodes])
        case _:
            return result


def without_zxids(result: Result | None) -> Result | None:
    """Return what was told, with every zxid and time zero."""
    if isinstance(result, TransactionResult):
        return TransactionResult(result.succeeded, [_plain(each) for each in result.results])
    if isinstance(result, Created | WasSet | Node | ExistsResult | Children):
        return _plain(result)
    return result


def depends_on_zxids(told: Result | None) -> bool:
    """Whether a refusal is to be believed, because only zxids can explain it."""
    return isinstance(told, Failure) and told.code == ErrorCode.GUARD_FAILED

"""The tree as the checkers understand it: a dictionary of znodes, and what each request does to it.

Rule of this file: it follows the documented rules and shares no code with the state machine but the words.
Every step can be taken back (`undo`), which is also how a failed request leaves no trace. Limits are not
modelled: what exceeds one is refused without effect, and that is judged by its lack of effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.commands import (
    Check,
    Compare,
    Create,
    Delete,
    Exists,
    Get,
    Guard,
    ListChildren,
    Set,
    Transaction,
    TransactionOp,
)
from coordsvc.statemachine.results import (
    Checked,
    Children,
    Created,
    Deleted,
    ErrorCode,
    ExistsResult,
    Failure,
    Node,
    OpResult,
    TransactionResult,
    WasSet,
)
from coordsvc.statemachine.types import Stat
from tests.checkers.history import Request, Result, Sync, Synced

PERSISTENT, EPHEMERAL, PERSISTENT_SEQUENTIAL, EPHEMERAL_SEQUENTIAL, CONTAINER, TTL, TTL_SEQUENTIAL = range(7)
SEQUENTIAL = (PERSISTENT_SEQUENTIAL, EPHEMERAL_SEQUENTIAL, TTL_SEQUENTIAL)
EXISTS_TARGET, VALUE_TARGET = 0, 8


class RefusedError(Exception):
    """A request is refused, with this failure."""

    def __init__(
        self, code: ErrorCode, path: str, expected: int | None = None, actual: int | None = None
    ) -> None:
        super().__init__(code, path)
        self.failure = Failure(code, "", path, expected, actual)


@dataclass(slots=True)
class Znode:
    """`created` and `deleted` count its children, ever. `may_go`: a container or one with a TTL.

    `lingers`: an ephemeral one that leaves a grave if its session expires.
    """

    value: bytes
    czxid: int
    mzxid: int
    pzxid: int
    ctime: int
    mtime: int
    owner: int = 0
    version: int = 0
    created: int = 0
    deleted: int = 0
    may_go: bool = False
    lingers: bool = False


def parent_of(path: str) -> str:
    return path[: path.rfind("/")] or "/"


def is_valid(path: str) -> bool:
    if path == "/":
        return True
    if not path.startswith("/"):
        return False
    return all(
        name not in ("", ".", "..") and all(ord(letter) > 31 and ord(letter) != 127 for letter in name)
        for name in path[1:].split("/")
    )


class Tree:
    """All znodes. `carry_out` does one request as transaction `zxid`, whose effect stands in `changes`."""

    def __init__(self) -> None:
        self.nodes: dict[str, Znode] = {"/": Znode(b"", 0, 0, 0, 0, 0)}
        self.names: dict[str, dict[str, None]] = {"/": {}}  # of the children, in no order
        self.ephemerals: dict[int, dict[str, None]] = {}  # paths by session
        self.changes: list[Change] = []
        self._zxid = 0
        self._time_ms = 0
        self._session = 0
        self._undo: list[Callable[[], None]] = []

    def begin(self, zxid: int, time_ms: int, session: int) -> None:
        self._zxid, self._time_ms, self._session = zxid, time_ms, session
        self.changes = []
        self._undo = []

    def undo(self) -> None:
        """Take back everything since `begin`."""
        steps = self._undo
        self._undo = []
        for step in reversed(steps):
            step()
        self._undo = []  # Taking back notes how to take that back.
        self.changes = []

    def carry_out(
        self, request: Request, guards: list[Guard], *, zxid: int, time_ms: int, session: int
    ) -> Result:
        """Do one request. What is refused has no effect."""
        self.begin(zxid, time_ms, session)
        try:
            for guard in guards:
                node = self.nodes.get(guard.path)
                if node is None or node.czxid != guard.czxid:
                    raise RefusedError(ErrorCode.GUARD_FAILED, guard.path)
            if isinstance(request, Transaction):
                return self._transaction(request)
            if isinstance(request, Sync):
                return Synced()
            return self._operation(request)
        except RefusedError as refusal:
            self.undo()
            return refusal.failure

    # -- looking --------------------------------------------------------------------------------

    def stat(self, path: str) -> Stat:
        node = self.nodes[path]
        return Stat(
            node.czxid,
            node.mzxid,
            node.pzxid,
            node.ctime,
            node.mtime,
            node.version,
            node.created + node.deleted,
            0,
            node.owner,
            len(node.value),
            len(self.names[path]),
        )

    def node(self, path: str) -> Node:
        return Node(path, self.nodes[path].value, self.stat(path))

    def _list(self, request: ListChildren) -> Children:
        self._expect(request.path)
        names = sorted(name for name in self.names[request.path] if name > request.after)
        shown = names[: request.limit] if request.limit else names
        prefix = request.path.rstrip("/") + "/"
        nodes = [self.node(prefix + name) for name in shown] if request.with_nodes else []
        return Children(shown, nodes, self.stat(request.path), more=len(names) > len(shown))

    def _expect(self, path: str) -> Znode:
        node = self.nodes.get(path)
        if node is not None:
            return node
        raise RefusedError(ErrorCode.NO_NODE if is_valid(path) else ErrorCode.INVALID_PATH, path)

    def _expect_version(self, path: str, version: int) -> Znode:
        node = self._expect(path)
        if version not in (-1, node.version):
            raise RefusedError(ErrorCode.BAD_VERSION, path, version, node.version)
        return node

    # -- transactions ---------------------------------------------------------------------------

    def _transaction(self, transaction: Transaction) -> TransactionResult | Failure:
        succeeded = all(self.holds(compare) for compare in transaction.compares)
        results: list[OpResult] = []
        branch = transaction.success if succeeded else transaction.failure
        for index, operation in enumerate(branch):
            try:
                results.append(self._operation(operation))
            except RefusedError as refusal:
                self.undo()
                cause = refusal.failure
                after = [ErrorCode.RUNTIME_INCONSISTENCY] * (len(branch) - index - 1)
                return Failure(
                    ErrorCode.TRANSACTION_FAILED,
                    "",
                    operation.path,
                    cause.expected_version,
                    cause.actual_version,
                    index,
                    [ErrorCode.OK] * index + [cause.code] + after,
                )
        return TransactionResult(succeeded, results)

    def holds(self, compare: Compare) -> bool:
        node = self.nodes.get(compare.path)
        left: int | bytes
        right: int | bytes = compare.number
        if compare.target == VALUE_TARGET:
            if node is None:
                return compare.operator in (1, 2)
            left, right = node.value, compare.value
        elif compare.target == EXISTS_TARGET:
            left = int(node is not None)
        elif node is None:
            left = -1
        else:
            stat = self.stat(compare.path)
            numbers = (stat.version, stat.cversion, stat.czxid, stat.mzxid, stat.pzxid)
            left = (*numbers, stat.ephemeral_owner, stat.num_children)[compare.target - 1]
        order = (left > right) - (left < right)  # type: ignore[operator]  # both numbers, or both bytes
        return (order == 0, order != 0, order < 0, order > 0)[compare.operator]

    def _operation(self, operation: TransactionOp) -> OpResult:
        match operation:
            case Set():
                return self._set(operation)
            case Create():
                return self._create(operation)
            case Delete():
                return self._delete(operation)
            case Get():
                self._expect(operation.path)
                return self.node(operation.path)
            case Exists():
                if operation.path in self.nodes:
                    return ExistsResult(self.stat(operation.path))
                if not is_valid(operation.path):
                    raise RefusedError(ErrorCode.INVALID_PATH, operation.path)
                return ExistsResult(None)
            case ListChildren():
                return self._list(operation)
            case Check():
                return self._check(operation)

    def _check(self, check: Check) -> Checked:
        path = check.path
        if not is_valid(path):
            raise RefusedError(ErrorCode.INVALID_PATH, path)
        if check.absent:
            if path in self.nodes:
                raise RefusedError(ErrorCode.CHECK_FAILED, path)
            return Checked()
        node = self._expect_version(path, check.version)
        if check.czxid is not None and check.czxid != node.czxid:
            raise RefusedError(ErrorCode.CHECK_FAILED, path)
        return Checked()

    # -- changing -------------------------------------------------------------------------------

    def _set(self, operation: Set) -> WasSet:
        path = operation.path
        node = self._expect_version(path, operation.version)
        before = (node.value, node.version, node.mzxid, node.mtime)

        def back() -> None:
            node.value, node.version, node.mzxid, node.mtime = before

        self._undo.append(back)
        node.value = operation.value
        node.version += 1
        node.mzxid = self._zxid
        node.mtime = self._time_ms
        stat = self.stat(path)
        self.changes.append(Change(ChangeType.CHANGED, path, self._zxid, operation.value, stat))
        return WasSet(stat)

    def _create(self, operation: Create) -> Created:
        path, mode = operation.path, operation.mode
        has_ttl = mode in (TTL, TTL_SEQUENTIAL)
        is_ephemeral = mode in (EPHEMERAL, EPHEMERAL_SEQUENTIAL)
        if mode not in range(7) or operation.ttl_ms < 0:
            raise RefusedError(ErrorCode.INVALID_ARGUMENT, path)
        if has_ttl != (operation.ttl_ms != 0) and not is_ephemeral:
            raise RefusedError(ErrorCode.INVALID_ARGUMENT, path)
        if is_ephemeral and not self._session:
            raise RefusedError(ErrorCode.SESSION_REQUIRED, path)
        if "/" not in path or "\0" in path:
            raise RefusedError(ErrorCode.INVALID_PATH, path)
        if operation.parents:
            self._create_parents(path)
        parent = parent_of(path)
        if parent not in self.nodes:
            raise RefusedError(ErrorCode.NO_NODE, parent)
        if mode in SEQUENTIAL:
            path += f"{self.nodes[parent].created:010d}"
        if not is_valid(path):
            raise RefusedError(ErrorCode.INVALID_PATH, path)
        if path in self.nodes:
            raise RefusedError(ErrorCode.NODE_EXISTS, path)
        if self.nodes[parent].owner:
            raise RefusedError(ErrorCode.NO_CHILDREN_FOR_EPHEMERALS, parent)
        owner = self._session if is_ephemeral else 0
        lingers = is_ephemeral and operation.ttl_ms > 0
        self._add(path, operation.value, owner, may_go=has_ttl or mode == CONTAINER, lingers=lingers)
        return Created(path, self.stat(path))

    def _create_parents(self, path: str) -> None:
        parent = parent_of(path)
        if parent in self.nodes:
            return
        if not is_valid(parent):
            raise RefusedError(ErrorCode.INVALID_PATH, path)
        self._create_parents(parent)
        grandparent = parent_of(parent)
        if self.nodes[grandparent].owner:
            raise RefusedError(ErrorCode.NO_CHILDREN_FOR_EPHEMERALS, grandparent)
        self._add(parent, b"", 0, may_go=False)

    def _add(self, path: str, value: bytes, owner: int, *, may_go: bool, lingers: bool = False) -> None:
        zxid, now_ms = self._zxid, self._time_ms
        node = Znode(value, zxid, zxid, zxid, now_ms, now_ms, owner, may_go=may_go, lingers=lingers)
        self._plant(path, node)
        self._count(path, created=1, deleted=0)
        self.changes.append(Change(ChangeType.CREATED, path, zxid, value, self.stat(path)))

    def _plant(self, path: str, node: Znode) -> None:
        self.nodes[path] = node
        self.names[path] = {}
        self.names[parent_of(path)][path[path.rfind("/") + 1 :]] = None
        if node.owner:
            self.ephemerals.setdefault(node.owner, {})[path] = None
        self._undo.append(lambda: self._uproot(path))

    def _uproot(self, path: str) -> None:
        node = self.nodes.pop(path)
        del self.names[path]
        parent_names = self.names.get(parent_of(path))
        if parent_names is not None:
            del parent_names[path[path.rfind("/") + 1 :]]
        if node.owner:
            del self.ephemerals[node.owner][path]
        self._undo.append(lambda: self._plant(path, node))

    def _count(self, path: str, *, created: int, deleted: int) -> None:
        """Note at the parent of `path` that a child came or went."""
        parent = self.nodes[parent_of(path)]
        before = (parent.created, parent.deleted, parent.pzxid)

        def back() -> None:
            parent.created, parent.deleted, parent.pzxid = before

        self._undo.append(back)
        parent.created += created
        parent.deleted += deleted
        parent.pzxid = self._zxid

    def _delete(self, operation: Delete) -> Deleted:
        path = operation.path
        if path == "/":
            raise RefusedError(ErrorCode.INVALID_ARGUMENT, path)
        self._expect_version(path, operation.version)
        if self.names[path] and not operation.recursive:
            raise RefusedError(ErrorCode.NOT_EMPTY, path)
        doomed = self.below(path)
        # The stats told are those before: no node of a subtree is seen to lose its children first.
        for each in doomed:
            self.changes.append(Change(ChangeType.DELETED, each, self._zxid, b"", self.stat(each)))
        for each in doomed:
            self._uproot(each)
        self._count(path, created=0, deleted=1)
        return Deleted(len(doomed))

    def below(self, path: str) -> list[str]:
        """Return the subtree at `path`, children first and in order."""
        found: list[str] = []
        for name in sorted(self.names[path]):
            found += self.below(path + "/" + name)
        found.append(path)
        return found

    def end_session(self, session: int, *, expired: bool) -> None:
        """Remove a session's nodes. If it expired, those that linger leave a node of nobody that may go."""
        paths = sorted(self.ephemerals.get(session, ()))
        graves = [(path, self.nodes[path].value) for path in paths if expired and self.nodes[path].lingers]
        self.remove_all(paths)
        for path, value in graves:
            self._add(path, value, 0, may_go=True)

    def remove_all(self, paths: list[str]) -> None:
        """Remove leaves one by one, as the end of a session does."""
        for path in paths:
            self.changes.append(Change(ChangeType.DELETED, path, self._zxid, b"", self.stat(path)))
            self._uproot(path)
            self._count(path, created=0, deleted=1)

    def follow(self, changes: list[Change]) -> None:
        """Make the tree what these committed changes say, whatever led to them."""
        for change in changes:
            stat = change.stat
            self.begin(change.zxid, stat.mtime, 0)
            if change.type is ChangeType.DELETED:
                for path in self.below(change.path) if change.path in self.nodes else []:
                    self._uproot(path)
                if parent_of(change.path) in self.nodes:
                    self._count(change.path, created=0, deleted=1)
            elif change.type is ChangeType.CHANGED and change.path in self.nodes:
                node = self.nodes[change.path]
                node.value, node.version, node.mzxid = change.value, stat.version, stat.mzxid
                node.mtime = stat.mtime
            elif parent_of(change.path) in self.nodes and change.path not in self.nodes:
                self._add(change.path, change.value, stat.ephemeral_owner, may_go=True)

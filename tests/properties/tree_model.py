"""The tree as a flat dictionary: slow, plain, and meant to be obviously right.

Rule of this file: it shares no code with the state machine but the words (commands, results). A transaction
works on a copy of everything, and the copy is thrown away if an operation fails. Counts are counted.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

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
    Write,
)
from coordsvc.statemachine.results import (
    Checked,
    Children,
    Created,
    Deleted,
    ErrorCode,
    ExistsResult,
    Node,
    OpResult,
    TransactionResult,
    WasSet,
)
from coordsvc.statemachine.types import Stat

PERSISTENT, EPHEMERAL, PERSISTENT_SEQUENTIAL, EPHEMERAL_SEQUENTIAL, CONTAINER, TTL, TTL_SEQUENTIAL = range(7)
FIVE_MINUTES_MS = 300_000


class RefusedError(Exception):
    """An operation is refused: the code, the path, and what else the failure tells."""

    def __init__(self, code: ErrorCode, path: str = "", **details: object) -> None:
        super().__init__(code, path, details)
        self.summary = (
            code,
            path,
            details.get("expected"),
            details.get("actual"),
            details.get("failed_index"),
            details.get("op_codes", []),
        )
        self.code = code


@dataclass
class ModelNode:
    value: bytes
    czxid: int
    ctime: int
    owner: int = 0
    kind: int = PERSISTENT
    ttl_ms: int = 0
    mzxid: int = 0
    pzxid: int = 0
    mtime: int = 0
    version: int = 0
    created: int = 0  # children, ever
    deleted: int = 0


@dataclass
class ModelSession:
    last_sequence: int = 0
    acknowledged: int = 0
    answers: dict[int, tuple[object, int]] = field(default_factory=dict)


def parent_of(path: str) -> str:
    head, _, _ = path.rpartition("/")
    return head or "/"


def is_valid(path: str) -> bool:
    if path == "/":
        return True
    names = path.split("/")
    if names[0] != "" or len(names) < 2:
        return False
    for name in names[1:]:
        if name in ("", ".", "..") or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
            return False
    return True


class Model:
    """All state, and one method a command."""

    def __init__(self) -> None:
        self.nodes = {"/": ModelNode(b"", 0, 0)}
        self.sessions: dict[int, ModelSession] = {}
        self.sessions_opened = 0
        self.zxid = 0
        self.time_ms = 0
        self.history: list[Change] = []
        self.changes: list[Change] = []  # of the command under way

    # -- looking --------------------------------------------------------------------------------

    def children(self, path: str) -> list[str]:
        prefix = path.rstrip("/") + "/"
        return sorted(
            other[len(prefix) :]
            for other in self.nodes
            if other != "/" and other.startswith(prefix) and "/" not in other[len(prefix) :]
        )

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
            len(self.children(path)),
        )

    def node(self, path: str) -> Node:
        return Node(path, self.nodes[path].value, self.stat(path))

    def ephemerals(self, session_id: int) -> list[str]:
        return sorted(path for path, node in self.nodes.items() if session_id and node.owner == session_id)

    def due(self, now_ms: int) -> list[str]:
        """Return what a leader may reap, sorted by path."""
        return sorted(path for path in self.nodes if self.is_due(path, now_ms))

    def is_due(self, path: str, now_ms: int) -> bool:
        node = self.nodes.get(path)
        if node is None or self.children(path):
            return False
        if node.kind == TTL:
            return now_ms - node.mtime > node.ttl_ms
        if node.kind == CONTAINER:
            return node.created > 0 or now_ms - node.mtime > FIVE_MINUTES_MS
        return False

    # -- sessions and exactly once --------------------------------------------------------------

    def open_session(self) -> int:
        self.sessions_opened += 1
        self.sessions[self.sessions_opened] = ModelSession()
        return self.sessions_opened

    def end_session(self, session_id: int, *, expired: bool) -> tuple[bool, int, list[Change]]:
        if session_id not in self.sessions:
            return False, self.zxid, []
        self.changes = []
        gone = [(path, self.nodes[path]) for path in self.ephemerals(session_id)]
        for path, _ in gone:
            self._remove(path)
        for path, node in gone:
            if expired and node.ttl_ms:
                self._add(path, node.value, 0, TTL, node.ttl_ms)
        del self.sessions[session_id]
        self._conclude()
        return True, self.zxid, self.changes

    def acknowledge(self, session_id: int, sequence: int) -> None:
        session = self.sessions.get(session_id)
        if session is None:
            return
        session.acknowledged = max(session.acknowledged, min(sequence, session.last_sequence))
        session.answers = {
            each: answer for each, answer in session.answers.items() if each > session.acknowledged
        }

    def write(self, session_id: int, sequence: int, write: Write) -> tuple[str, object, int, list[Change]]:
        """Return the status, the result (a failure as its summary), the zxid and the changes."""
        if session_id == 0:
            result = self._carry_out(0, write)
            return "APPLIED", result, self.zxid, self.changes
        session = self.sessions.get(session_id)
        if session is None:
            return "UNKNOWN_SESSION", RefusedError(ErrorCode.SESSION_EXPIRED).summary, self.zxid, []
        if sequence in session.answers:
            answer, zxid = session.answers[sequence]
            return "REPEATED", answer, zxid, []
        if 1 <= sequence <= session.acknowledged:
            return "REPEATED", RefusedError(ErrorCode.UNKNOWN_OUTCOME).summary, self.zxid, []
        if sequence < 1:
            return "GAP", RefusedError(ErrorCode.INVALID_ARGUMENT).summary, self.zxid, []
        if sequence > session.last_sequence + 1:
            return "GAP", RefusedError(ErrorCode.SEQUENCE_GAP).summary, self.zxid, []
        result = self._carry_out(session_id, write)
        session.last_sequence = sequence
        session.answers[sequence] = (result, self.zxid)
        return "APPLIED", result, self.zxid, self.changes

    def _carry_out(self, session_id: int, write: Write) -> object:
        before = deepcopy(self.nodes)
        self.changes = []
        result: object
        try:
            for guard in write.guards:
                self._hold(guard)
            if isinstance(write.operation, Transaction):
                result = self._transaction(session_id, write.operation)
            else:
                assert isinstance(write.operation, Create | Set | Delete)
                result = self._operation(session_id, write.operation)
        except RefusedError as refusal:
            self.nodes = before
            self.changes = []
            return refusal.summary
        self._conclude()
        return result

    def _conclude(self) -> None:
        if self.changes:
            self.zxid += 1
            self.history.extend(self.changes)

    def _hold(self, guard: Guard) -> None:
        node = self.nodes.get(guard.path)
        if node is None or node.czxid != guard.czxid:
            raise RefusedError(ErrorCode.GUARD_FAILED, guard.path)

    # -- transactions ---------------------------------------------------------------------------

    def _transaction(self, session_id: int, transaction: Transaction) -> TransactionResult:
        succeeded = all(self._compare(compare) for compare in transaction.compares)
        branch = transaction.success if succeeded else transaction.failure
        results: list[OpResult] = []
        for index, operation in enumerate(branch):
            try:
                results.append(self._operation(session_id, operation))
            except RefusedError as refusal:
                codes = [ErrorCode.OK] * index + [refusal.code]
                codes += [ErrorCode.RUNTIME_INCONSISTENCY] * (len(branch) - index - 1)
                raise RefusedError(
                    ErrorCode.TRANSACTION_FAILED,
                    operation.path,
                    expected=refusal.summary[2],
                    actual=refusal.summary[3],
                    failed_index=index,
                    op_codes=codes,
                ) from refusal
        return TransactionResult(succeeded, results)

    def _compare(self, compare: Compare) -> bool:
        exists = compare.path in self.nodes
        left: int | bytes
        right: int | bytes = compare.number
        if compare.target == 8:
            if not exists:
                return compare.operator in (1, 2)
            left, right = self.nodes[compare.path].value, compare.value
        elif compare.target == 0:
            left = 1 if exists else 0
        elif not exists:
            left = -1
        else:
            stat = self.stat(compare.path)
            left = (
                stat.version,
                stat.cversion,
                stat.czxid,
                stat.mzxid,
                stat.pzxid,
                stat.ephemeral_owner,
                stat.num_children,
            )[compare.target - 1]
        order = (left > right) - (left < right)  # type: ignore[operator]  # both are numbers, or both bytes
        return (order == 0, order != 0, order < 0, order > 0)[compare.operator]

    def _operation(self, session_id: int, operation: TransactionOp) -> OpResult:
        match operation:
            case Create():
                return self._create(session_id, operation)
            case Set():
                return self._set(operation)
            case Delete():
                return self._delete(operation)
            case Check():
                return self._check(operation)
            case Get():
                self._expect_node(operation.path)
                return self.node(operation.path)
            case Exists():
                if operation.path in self.nodes:
                    return ExistsResult(self.stat(operation.path))
                self._expect_valid(operation.path)
                return ExistsResult(None)
            case ListChildren():
                return self.list_children(operation)

    def list_children(self, request: ListChildren) -> Children:
        self._expect_node(request.path)
        names = [name for name in self.children(request.path) if name > request.after]
        shown = names[: request.limit] if request.limit else names
        nodes = (
            [self.node(request.path.rstrip("/") + "/" + name) for name in shown] if request.with_nodes else []
        )
        return Children(shown, nodes, self.stat(request.path), more=len(names) > len(shown))

    # -- operations -----------------------------------------------------------------------------

    def _expect_valid(self, path: str) -> None:
        if not is_valid(path):
            raise RefusedError(ErrorCode.INVALID_PATH, path)

    def _expect_node(self, path: str) -> ModelNode:
        self._expect_valid(path)
        if path not in self.nodes:
            raise RefusedError(ErrorCode.NO_NODE, path)
        return self.nodes[path]

    def _expect_version(self, path: str, version: int) -> None:
        actual = self.nodes[path].version
        if version != -1 and version != actual:
            raise RefusedError(ErrorCode.BAD_VERSION, path, expected=version, actual=actual)

    def _create(self, session_id: int, operation: Create) -> Created:
        path, mode = operation.path, operation.mode
        if mode not in range(7):
            raise RefusedError(ErrorCode.INVALID_ARGUMENT, path)
        has_ttl = mode in (TTL, TTL_SEQUENTIAL)
        is_ephemeral = mode in (EPHEMERAL, EPHEMERAL_SEQUENTIAL)
        fits = operation.ttl_ms > 0 if has_ttl else operation.ttl_ms == 0
        if is_ephemeral:
            fits = operation.ttl_ms >= 0  # how long it lingers
        if not fits:
            raise RefusedError(ErrorCode.INVALID_ARGUMENT, path)
        if is_ephemeral and session_id == 0:
            raise RefusedError(ErrorCode.SESSION_REQUIRED, path)
        if "/" not in path or "\0" in path:
            raise RefusedError(ErrorCode.INVALID_PATH, path)
        if operation.parents:
            self._create_parents(path)
        parent = parent_of(path)
        if parent not in self.nodes:
            raise RefusedError(ErrorCode.NO_NODE, parent)
        if mode in (PERSISTENT_SEQUENTIAL, EPHEMERAL_SEQUENTIAL, TTL_SEQUENTIAL):
            path += str(self.nodes[parent].created).rjust(10, "0")
        self._expect_valid(path)
        if path in self.nodes:
            raise RefusedError(ErrorCode.NODE_EXISTS, path)
        if self.nodes[parent].owner:
            raise RefusedError(ErrorCode.NO_CHILDREN_FOR_EPHEMERALS, parent)
        kind = (
            EPHEMERAL if is_ephemeral else TTL if has_ttl else CONTAINER if mode == CONTAINER else PERSISTENT
        )
        self._add(path, operation.value, session_id if is_ephemeral else 0, kind, operation.ttl_ms)
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
        self._add(parent, b"", 0, PERSISTENT, 0)

    def _add(self, path: str, value: bytes, owner: int, kind: int, ttl_ms: int) -> None:
        zxid, now_ms = self.zxid + 1, self.time_ms
        self.nodes[path] = ModelNode(value, zxid, now_ms, owner, kind, ttl_ms, zxid, zxid, now_ms)
        parent = self.nodes[parent_of(path)]
        parent.created += 1
        parent.pzxid = zxid
        self.changes.append(Change(ChangeType.CREATED, path, zxid, value, self.stat(path)))

    def _set(self, operation: Set) -> WasSet:
        node = self._expect_node(operation.path)
        self._expect_version(operation.path, operation.version)
        node.value = operation.value
        node.version += 1
        node.mzxid = self.zxid + 1
        node.mtime = self.time_ms
        stat = self.stat(operation.path)
        self.changes.append(Change(ChangeType.CHANGED, operation.path, self.zxid + 1, operation.value, stat))
        return WasSet(stat)

    def _check(self, operation: Check) -> Checked:
        path = operation.path
        self._expect_valid(path)
        if operation.absent:
            if path in self.nodes:
                raise RefusedError(ErrorCode.CHECK_FAILED, path)
            return Checked()
        node = self._expect_node(path)
        self._expect_version(path, operation.version)
        if operation.czxid is not None and operation.czxid != node.czxid:
            raise RefusedError(ErrorCode.CHECK_FAILED, path)
        return Checked()

    def _delete(self, operation: Delete) -> Deleted:
        path = operation.path
        if path == "/":
            raise RefusedError(ErrorCode.INVALID_ARGUMENT, path)
        self._expect_node(path)
        self._expect_version(path, operation.version)
        if self.children(path) and not operation.recursive:
            raise RefusedError(ErrorCode.NOT_EMPTY, path)
        doomed = self._postorder(path)
        # The stats told are those that could be seen before: no node of a subtree loses its children first.
        stats = {each: self.stat(each) for each in doomed}
        for each in doomed:
            del self.nodes[each]
            self.changes.append(Change(ChangeType.DELETED, each, self.zxid + 1, b"", stats[each]))
        self._count_deleted(path)
        return Deleted(len(doomed))

    def _postorder(self, path: str) -> list[str]:
        found: list[str] = []
        for name in self.children(path):
            found += self._postorder(path + "/" + name)
        return [*found, path]

    def _count_deleted(self, path: str) -> None:
        parent = self.nodes[parent_of(path)]
        parent.deleted += 1
        parent.pzxid = self.zxid + 1

    def _remove(self, path: str) -> None:
        self.changes.append(Change(ChangeType.DELETED, path, self.zxid + 1, b"", self.stat(path)))
        del self.nodes[path]
        self._count_deleted(path)

    def reap(self, paths: list[str]) -> tuple[int, list[Change]]:
        self.changes = []
        for path in paths:
            if self.is_due(path, self.time_ms):
                self._remove(path)
        self._conclude()
        return self.zxid, self.changes

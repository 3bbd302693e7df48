"""The operations on the tree, each with ZooKeeper's order of checks: the first one that fails is the answer.

Rule of this file: an operation first checks, then changes; one that returns a `Failure` has changed nothing
(`create` with `parents` takes back what it did). Reference: ZooKeeper's PrepRequestProcessor.
"""

from __future__ import annotations

from coordsvc.statemachine import failures
from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.commands import Check, Create, Delete, Guard, Set
from coordsvc.statemachine.paths import ROOT, ancestors_of, explain_invalid, parent_of, sequential
from coordsvc.statemachine.reads import missing
from coordsvc.statemachine.records import Session
from coordsvc.statemachine.results import Checked, Created, Deleted, Failure, WasSet
from coordsvc.statemachine.tree import Tree
from coordsvc.statemachine.types import ANY_VERSION, CreateMode, Limits, Stat
from coordsvc.statemachine.znodes import (
    CONTAINER,
    EPHEMERAL,
    PERSISTENT,
    TTL,
    Znode,
    creations,
    deadline_ms,
)

TTL_MS_MAX = 0xFF_FFFF_FFFF  # 40 bits, ZooKeeper's limit: about 34 years

# Create mode to (kind, sequential).
_MODES: dict[int, tuple[int, bool]] = {
    CreateMode.PERSISTENT: (PERSISTENT, False),
    CreateMode.EPHEMERAL: (EPHEMERAL, False),
    CreateMode.PERSISTENT_SEQUENTIAL: (PERSISTENT, True),
    CreateMode.EPHEMERAL_SEQUENTIAL: (EPHEMERAL, True),
    CreateMode.CONTAINER: (CONTAINER, False),
    CreateMode.TTL: (TTL, False),
    CreateMode.TTL_SEQUENTIAL: (TTL, True),
}

_CREATED = ChangeType.CREATED
_CHANGED = ChangeType.CHANGED
_DELETED = ChangeType.DELETED


class Operations:
    """What one write may do. `begin` opens it; `changes` is what it has done, in order."""

    __slots__ = ("changes", "limits", "session", "time_ms", "tree", "zxid")

    def __init__(self, tree: Tree, limits: Limits) -> None:
        self.tree = tree
        self.limits = limits
        self.session: Session | None = None
        self.zxid = 0
        self.time_ms = 0
        self.changes: list[Change] = []

    def begin(self, session: Session | None, zxid: int, time_ms: int) -> None:
        """Start a write, which becomes transaction `zxid` if it changes anything."""
        self.session = session
        self.zxid = zxid
        self.time_ms = time_ms
        self.changes = []

    # -- guards and checks ----------------------------------------------------------------------

    def hold_guards(self, guards: list[Guard]) -> Failure | None:
        """Return why the guards do not hold, or None."""
        if len(guards) > self.limits.transaction_ops:
            return failures.limit_exceeded(
                "", f"a write may carry {self.limits.transaction_ops} guards at most"
            )
        for guard in guards:
            node = self.tree.find(guard.path)
            if node is None:
                return failures.guard_failed(guard.path, guard.czxid, None)
            if node.stat.czxid != guard.czxid:
                return failures.guard_failed(guard.path, guard.czxid, node.stat.czxid)
        return None

    def check(self, operation: Check) -> Checked | Failure:
        path = operation.path
        node = self.tree.find(path)
        if operation.absent:
            if node is not None:
                return failures.check_failed(path, "the node exists")
            reason = explain_invalid(path, self.limits.path_bytes)
            return failures.invalid_path(path, reason) if reason is not None else Checked()
        if node is None:
            return missing(self.limits, path)
        version = node.stat.version
        if operation.version not in (ANY_VERSION, version):
            return failures.bad_version(path, operation.version, version)
        if operation.czxid is not None and operation.czxid != node.stat.czxid:
            return failures.check_failed(
                path, f"it was created by transaction {node.stat.czxid}, not {operation.czxid}"
            )
        return Checked()

    # -- set ------------------------------------------------------------------------------------

    def set(self, operation: Set) -> WasSet | Failure:
        path = operation.path
        node = self.tree.find(path)
        if node is None:
            return missing(self.limits, path)
        old = node.stat
        if operation.version != old.version and operation.version != ANY_VERSION:
            return failures.bad_version(path, operation.version, old.version)
        value = operation.value
        size = len(value)
        if size > self.limits.value_bytes:
            return self._value_too_large(path, size)
        stat = Stat(
            old.czxid,
            self.zxid,
            old.pzxid,
            old.ctime,
            self.time_ms,
            old.version + 1,
            old.cversion,
            old.aversion,
            old.ephemeral_owner,
            size,
            old.num_children,
        )
        self.tree.replace(path, node, Znode(value, stat, node.kind, node.ttl_ms))
        self.changes.append(Change(_CHANGED, path, self.zxid, value, stat))
        return WasSet(stat)

    def _value_too_large(self, path: str, size: int) -> Failure:
        return failures.limit_exceeded(
            path, f"a value may have {self.limits.value_bytes} bytes at most, not {size}"
        )

    # -- create ---------------------------------------------------------------------------------

    def create(self, operation: Create) -> Created | Failure:
        path = operation.path
        mode = _MODES.get(operation.mode)
        if mode is None:
            return failures.invalid_argument(path, f"there is no create mode {operation.mode}")
        kind, is_sequential = mode
        if kind == TTL and not 1 <= operation.ttl_ms <= TTL_MS_MAX:
            return failures.invalid_argument(
                path, f"a TTL must be 1 to {TTL_MS_MAX} ms, not {operation.ttl_ms}"
            )
        if kind == EPHEMERAL and not 0 <= operation.ttl_ms <= TTL_MS_MAX:
            return failures.invalid_argument(
                path, f"an ephemeral node may linger for 0 to {TTL_MS_MAX} ms, not {operation.ttl_ms}"
            )
        if kind not in (TTL, EPHEMERAL) and operation.ttl_ms:
            return failures.invalid_argument(path, "only the TTL and ephemeral modes take a time")
        if kind == EPHEMERAL and self.session is None:
            return failures.session_required(path)
        if "/" not in path or "\0" in path:
            return missing(self.limits, path)
        if not operation.parents:
            return self._create(operation, kind, is_sequential)
        mark = self.tree.mark()
        changes = len(self.changes)
        result = self._create_parents(path) or self._create(operation, kind, is_sequential)
        if isinstance(result, Failure):
            self.tree.roll_back(mark)
            del self.changes[changes:]
        return result

    def _create_parents(self, path: str) -> Failure | None:
        """Create the missing ancestors of `path`, as empty persistent nodes."""
        parent = parent_of(path)
        if self.tree.find(parent) is not None:
            return None
        reason = explain_invalid(parent, self.limits.path_bytes)
        if reason is not None:
            return failures.invalid_path(path, reason)
        for ancestor in [*ancestors_of(parent), parent]:
            if self.tree.find(ancestor) is not None:
                continue
            result = self._create(Create(ancestor), PERSISTENT, is_sequential=False)
            if isinstance(result, Failure):
                return result
        return None

    def _create(self, operation: Create, kind: int, is_sequential: bool) -> Created | Failure:
        path = operation.path
        tree = self.tree
        limits = self.limits
        parent_path = parent_of(path)
        parent = tree.find(parent_path)
        if parent is None:
            return failures.no_parent(parent_path, path)
        if is_sequential:
            path = sequential(path, creations(parent.stat))
        reason = explain_invalid(path, limits.path_bytes)
        if reason is not None:
            return failures.invalid_path(path, reason)
        # A parent without children spares the search for a node that cannot be there.
        if (parent.stat.num_children or path == ROOT) and tree.find(path) is not None:
            return failures.node_exists(path)
        if parent.kind == EPHEMERAL:
            return failures.no_children_for_ephemerals(parent_path)
        value = operation.value
        if len(value) > limits.value_bytes:
            return self._value_too_large(path, len(value))
        owner = 0
        if kind == EPHEMERAL:
            assert self.session is not None, "the session was checked first"
            if self._too_many_ephemerals():
                reason = f"a session may own {limits.ephemerals_per_session} ephemeral nodes at most"
                return failures.limit_exceeded(path, reason)
            owner = self.session.session_id
        zxid = self.zxid
        stat = Stat(zxid, zxid, zxid, self.time_ms, self.time_ms, 0, 0, 0, owner, len(value), 0)
        tree.add(path, Znode(value, stat, kind, operation.ttl_ms), parent_path, parent)
        self.changes.append(Change(_CREATED, path, zxid, value, stat))
        return Created(path, stat)

    def _too_many_ephemerals(self) -> bool:
        """Whether the session owns all that it may, this very write counted in."""
        assert self.session is not None, "only sessions own ephemerals"
        limit = self.limits.ephemerals_per_session
        count = len(self.session.ephemerals)
        if count + len(self.changes) < limit:
            return False
        for change in self.changes:
            if change.stat.ephemeral_owner == self.session.session_id and change.type is not _CHANGED:
                count += 1 if change.type is _CREATED else -1
        return count >= limit

    # -- delete ---------------------------------------------------------------------------------

    def delete(self, operation: Delete) -> Deleted | Failure:
        path = operation.path
        if path == ROOT:
            return failures.invalid_argument(path, "the root cannot be deleted")
        node = self.tree.find(path)
        if node is None:
            return missing(self.limits, path)
        if operation.version not in (ANY_VERSION, node.stat.version):
            return failures.bad_version(path, operation.version, node.stat.version)
        if not node.stat.num_children:
            self.remove(path, node)
            return Deleted(1)
        if not operation.recursive:
            return failures.not_empty(path, node.stat.num_children)
        return self._delete_subtree(path, node)

    def remove(self, path: str, node: Znode) -> None:
        """Delete a node that has no children."""
        self.tree.discard(path, node)
        self.tree.lose_children(parent_of(path), 1, self.zxid)
        self.changes.append(Change(_DELETED, path, self.zxid, b"", node.stat))

    def _delete_subtree(self, path: str, node: Znode) -> Deleted | Failure:
        """Delete a node with all below it. Their last stats are those that could be seen before."""
        limit = self.limits.recursive_delete_nodes
        doomed = self.tree.subtree(path, node, limit - len(self.changes))
        if doomed is None:
            reason = (
                f"{path} has too much below it: a transaction may delete {limit} nodes; delete parts first"
            )
            return failures.limit_exceeded(path, reason)
        for each, gone in doomed:
            self.tree.discard(each, gone)
            self.changes.append(Change(_DELETED, each, self.zxid, b"", gone.stat))
        self.tree.lose_children(parent_of(path), 1, self.zxid)
        return Deleted(len(doomed))

    def remove_all(self, paths: list[str], *, leaves_graves: bool) -> None:
        """Delete the ephemeral nodes of a session that ends, in this order.

        Args:
            leaves_graves: Those that linger are followed, at the same path, by a TTL node that nobody owns.
        """
        orphaned: dict[str, int] = {}
        graves: list[Create] = []
        for path in paths:
            node = self.tree.find(path)
            assert node is not None, f"Z4: the ephemeral node {path} is missing"
            assert not node.stat.num_children, f"Z4: the ephemeral node {path} has children"
            self.tree.discard(path, node)
            self.changes.append(Change(_DELETED, path, self.zxid, b"", node.stat))
            if leaves_graves and node.ttl_ms:
                graves.append(Create(path, node.value, CreateMode.TTL, node.ttl_ms))
            parent = parent_of(path)
            orphaned[parent] = orphaned.get(parent, 0) + 1
        for parent, count in orphaned.items():
            self.tree.lose_children(parent, count, self.zxid)
        for grave in graves:
            self._create(grave, TTL, is_sequential=False)  # One that is refused, by a limit, is not made.

    def reap(self, path: str) -> None:
        """Delete a container or TTL node if it is still due, by the time of the log entry."""
        node = self.tree.find(path)
        if node is None:
            return
        deadline = deadline_ms(node)
        if deadline is not None and self.time_ms > deadline:
            self.remove(path, node)

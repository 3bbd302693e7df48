"""The znodes: what is committed in the store, and over it what the current log entry has changed so far.

Rule of this file: it knows paths, parents and records, but no rules of the operations. Every change
goes through `replace`, so one place keeps the overlay, the undo list and the base of the digest.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator

from coordsvc.statemachine.cache import ZnodeCache
from coordsvc.statemachine.layout import (
    children_prefix,
    children_range,
    deadline_key,
    deadlines_before,
    ephemeral_key,
    node_key,
    numbered_path,
)
from coordsvc.statemachine.paths import child_of, parent_of
from coordsvc.statemachine.store import Store
from coordsvc.statemachine.types import Stat
from coordsvc.statemachine.znodes import (
    CONTAINER,
    DIGEST_MASK,
    PERSISTENT,
    TTL,
    Znode,
    deadline_ms,
    decode_znode,
    encode_znode,
    fingerprint,
)


class _TouchedNames:
    """Names under one parent that were created or deleted since the last commit; sorted when asked."""

    __slots__ = ("_names", "_ordered")

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._ordered: list[str] | None = None

    def add(self, name: str) -> None:
        if name in self._names:
            return
        self._names[name] = None
        if self._ordered is not None:
            insort(self._ordered, name)

    def after(self, name: str) -> list[str]:
        if self._ordered is None:
            self._ordered = sorted(self._names)
        return self._ordered[bisect_right(self._ordered, name) :] if name else list(self._ordered)


class Tree:
    """Path to znode, over a store."""

    __slots__ = ("_base", "_cache", "_dirty", "_store", "_touched", "_undo", "digest")

    def __init__(self, store: Store, cache_bytes: int, digest: int) -> None:
        self.digest = digest  # of what is committed
        self._store = store
        self._cache = ZnodeCache(cache_bytes)
        self._dirty: dict[str, Znode | None] = {}
        self._base: dict[str, Znode | None] = {}  # what is committed at each dirty path
        self._touched: dict[str, _TouchedNames] = {}
        self._undo: list[tuple[str, bool, Znode | None]] = []

    @property
    def is_clean(self) -> bool:
        """Whether everything is in the store."""
        return not self._dirty

    def find(self, path: str) -> Znode | None:
        """Return the node at `path`, or None. Any text is taken: an invalid path has no node."""
        if path in self._dirty:
            return self._dirty[path]
        node = self._cache.get(path)
        if node is not None:
            return node
        if not path.startswith("/"):
            return None
        record = self._store.get(node_key(path))
        if record is None:
            return None
        node = decode_znode(path, record)
        self._cache.put(path, node)
        return node

    def children(self, path: str, after: str = "") -> Iterator[tuple[str, Znode | bytes]]:
        """Yield the children of `path` beyond `after`: each as a node, or as a record not yet decoded."""
        prefix = children_prefix(path)
        start = len(prefix)
        records = self._store.scan(*children_range(prefix, after))
        touched = self._touched.get(path)
        if touched is None and not self._dirty:
            for key, record in records:
                yield key[start:].decode(), record
            return
        pending = iter(touched.after(after) if touched is not None else ())
        waiting = next(pending, None)
        for key, record in records:
            name = key[start:].decode()
            while waiting is not None and waiting < name:
                yield from self._overlaid(path, waiting)
                waiting = next(pending, None)
            if waiting == name:
                waiting = next(pending, None)
            child = child_of(path, name)
            if child in self._dirty:
                yield from self._overlaid(path, name)
            else:
                yield name, record
        while waiting is not None:
            yield from self._overlaid(path, waiting)
            waiting = next(pending, None)

    def child_names(self, path: str, after: str = "") -> Iterator[str]:
        """Yield the names of the children of `path` beyond `after`; half the work of `children`."""
        if self._dirty or path in self._touched:
            return (name for name, _ in self.children(path, after))
        prefix = children_prefix(path)
        start = len(prefix)
        return (key[start:].decode() for key in self._store.keys(*children_range(prefix, after)))

    def _overlaid(self, parent: str, name: str) -> Iterator[tuple[str, Znode]]:
        """Yield the child if the overlay holds one (it was deleted again, or its creation undone, if not)."""
        node = self._dirty.get(child_of(parent, name))
        if node is not None:
            yield name, node

    def subtree(self, path: str, node: Znode, limit: int) -> list[tuple[str, Znode]] | None:
        """Return the node and all below it, sorted, children before parents; None if more than `limit`.

        The nodes are good for `discard` only: values that had to be read are dropped at once.
        """
        found: list[tuple[str, Znode]] = []
        stack = [(path, node)]
        while stack:
            path, node = stack.pop()
            found.append((path, node))
            if len(found) + len(stack) + node.stat.num_children > limit:
                return None
            if not node.stat.num_children:
                continue
            for name, child in self.children(path):
                child_path = child_of(path, name)
                if isinstance(child, bytes):
                    child = _without_value(child_path, child)
                stack.append((child_path, child))
        found.reverse()
        return found

    def replace(self, path: str, old: Znode | None, new: Znode | None) -> None:
        """Put `new` where `find` has just returned `old`."""
        dirty = self._dirty
        if path in dirty:
            self._undo.append((path, True, dirty[path]))
        else:
            self._base[path] = old
            self._undo.append((path, False, None))
        dirty[path] = new

    def add(self, path: str, node: Znode, parent_path: str, parent: Znode) -> None:
        """Put a new node where none is, under a parent that `find` has just returned."""
        self.replace(path, None, node)
        self._touch(parent_path, path)
        self.count_children(parent_path, parent, 1, 0, node.stat.czxid)

    def discard(self, path: str, node: Znode) -> None:
        """Take `node` away from `path`. The parent is told by `lose_children`."""
        self.replace(path, node, None)
        self._touch(parent_of(path), path)

    def _touch(self, parent: str, path: str) -> None:
        """Note that the child of `parent` at `path` comes or goes."""
        touched = self._touched.get(parent)
        if touched is None:
            touched = self._touched[parent] = _TouchedNames()
        touched.add(path[path.rindex("/") + 1 :])

    def lose_children(self, path: str, count: int, zxid: int) -> None:
        """Tell the parent at `path` that children went."""
        node = self.find(path)
        assert node is not None, f"Z1: the parent {path} of a child is missing"
        self.count_children(path, node, 0, count, zxid)

    def count_children(self, path: str, node: Znode, created: int, deleted: int, zxid: int) -> None:
        """Note in the parent, which is `node` at `path`, that children came or went."""
        old = node.stat
        num_children = old.num_children + created - deleted
        assert num_children >= 0, f"Z2: {path} would have {num_children} children"
        stat = Stat(
            old.czxid,
            old.mzxid,
            zxid,
            old.ctime,
            old.mtime,
            old.version,
            old.cversion + created + deleted,
            old.aversion,
            old.ephemeral_owner,
            old.data_length,
            num_children,
        )
        self.replace(path, node, Znode(node.value, stat, node.kind, node.ttl_ms))

    def settle(self) -> None:
        """Make what was done so far final: it can no longer be rolled back."""
        self._undo.clear()

    def mark(self) -> int:
        """Return a point to roll back to, valid until `settle`."""
        return len(self._undo)

    def roll_back(self, mark: int) -> None:
        """Take back every change since `mark`."""
        undo = self._undo
        while len(undo) > mark:
            path, was_dirty, previous = undo.pop()
            if was_dirty:
                self._dirty[path] = previous
            else:
                del self._dirty[path]
                del self._base[path]

    def due(self, now_ms: int, limit: int) -> list[str]:
        """Return up to `limit` committed nodes whose deadline has passed, the most overdue first."""
        found: list[str] = []
        for key, _ in self._store.scan(*deadlines_before(now_ms)):
            if len(found) >= limit:
                break
            found.append(numbered_path(key)[1])
        return found

    def flush(self, puts: list[tuple[bytes, bytes]], deletes: list[bytes]) -> None:
        """Hand over what is to be written, and go on as if it were."""
        digest = self.digest
        base = self._base
        cache = self._cache
        for path, node in self._dirty.items():
            old = base[path]
            if node is old:
                continue
            key = node_key(path)
            if old is not None:
                share = old.fingerprint
                digest -= share if share is not None else fingerprint(key, encode_znode(old))
            if node is None:
                deletes.append(key)
                cache.drop(path)
            else:
                record = encode_znode(node)
                puts.append((key, record))
                node.fingerprint = share = fingerprint(key, record)
                digest += share
                cache.put(path, node)
            if (node is not None and node.kind != PERSISTENT) or (old is not None and old.kind != PERSISTENT):
                _flush_indexes(path, old, node, puts, deletes)
        self.digest = digest & DIGEST_MASK
        self._dirty.clear()
        base.clear()
        self._touched.clear()


def _without_value(path: str, record: bytes) -> Znode:
    """Decode a node that is about to go: its value counts for the digest only."""
    node = decode_znode(path, record)
    node.fingerprint = fingerprint(node_key(path), record)
    node.value = b""
    return node


def index_keys(path: str, node: Znode | None) -> list[bytes]:
    """Return the keys under which other parts find this node: by owner, by deadline."""
    if node is None or node.kind == PERSISTENT:
        return []
    if node.kind in (CONTAINER, TTL):
        deadline = deadline_ms(node)
        return [] if deadline is None else [deadline_key(deadline, path)]
    return [ephemeral_key(node.stat.ephemeral_owner, path)]


def _flush_indexes(
    path: str,
    old: Znode | None,
    new: Znode | None,
    puts: list[tuple[bytes, bytes]],
    deletes: list[bytes],
) -> None:
    before = index_keys(path, old)
    after = index_keys(path, new)
    if before == after:
        return
    deletes.extend(before)
    puts.extend((key, b"") for key in after)

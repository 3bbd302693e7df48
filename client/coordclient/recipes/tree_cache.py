"""TreeCache: a node and everything below it, in memory, kept up to date by the service's events.

Rule of this file: the cache never lies about its age. It is as it was at `zxid`, it says when it may be
stale, and what it missed it learns as differences: its content never goes away to come back.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Self

from coordclient.operations import Operations
from coordclient.recipes.faces import BlockingFace, iterate
from coordclient.recipes.following import Following
from coordclient.recipes.mirror import CacheChange, difference
from coordclient.types import EventType, Node


class AsyncTreeCache:
    """A copy of a subtree in memory. Use it in `async with`, or call `start()` and `close()`.

    Guarantees: the content is the subtree as it was at transaction `zxid`, and only moves forward. No
    change is missed, whatever happens to connections and sessions, although a slow reader of `changes()`
    is told several changes of a node as one. `wait_for(zxid)` makes a write of one's own, or of another,
    visible in the cache before one goes on. The root need not exist; it may come and go.

    SUSPENDED: the content stays, and `is_stale` is true until everything that happened meanwhile is in.

    LOST: the same. The watch is resumed in the next session from where it stopped; if the service no
    longer has the history for that, everything is read again and only the differences are told.

    Reading takes no time and asks nobody. All nodes are kept in memory, so it is for subtrees of moderate
    size. A node's `stat` is that of its last creation or change: `num_children`, `cversion` and `pzxid` in
    it do not follow its children, `children()` does.
    """

    def __init__(self, client: Operations, root: str) -> None:
        """Describe a cache of the node `root` and everything below it."""
        self.root = root
        self._readers: weakref.WeakSet[CacheChanges] = weakref.WeakSet()
        self._following = Following(client, root, recursive=True, publish=self._changed)

    def __repr__(self) -> str:
        state = "stale" if self.is_stale else "fresh"
        return f"<AsyncTreeCache {self.root} nodes={len(self._following.mirror)} zxid={self.zxid} {state}>"

    async def start(self, *, timeout: float | None = None) -> Self:
        """Begin, and return once everything has been read.

        Args:
            timeout: How many seconds to wait at most; None: as long as it takes. RecipeTimeoutError after.
        """
        await self._following.start(timeout=timeout)
        return self

    async def close(self) -> None:
        """Follow no more. The content stays as it is; whoever iterates over `changes()` comes to the end."""
        await self._following.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def zxid(self) -> int:
        """Return a transaction up to which everything is in the cache."""
        return self._following.zxid

    @property
    def is_stale(self) -> bool:
        """Return whether the service may know more: not started, or the connection is not back yet."""
        return self._following.is_stale

    def get(self, path: str) -> Node | None:
        """Return a node, or None if there is none (or it lies outside of the subtree)."""
        self._following.check_started()
        return self._following.mirror.nodes.get(path)

    def children(self, path: str) -> list[str]:
        """Return the names of a node's children, sorted; an empty list if it has none, or is not there."""
        self._following.check_started()
        return self._following.mirror.children(path)

    def nodes(self) -> Mapping[str, Node]:
        """Return all nodes by path, as they are now: a copy that does not change."""
        self._following.check_started()
        return MappingProxyType(dict(self._following.mirror.nodes))

    async def wait_for(self, zxid: int, *, timeout: float | None = None) -> None:
        """Return once everything up to a transaction is in the cache.

        Args:
            zxid: For example the `mzxid` of a stat that a write returned, or `client.last_zxid`.
            timeout: How many seconds to wait at most; None: as long as it takes. RecipeTimeoutError after.
        """
        await self._following.wait_for(zxid, timeout=timeout)

    def changes(self) -> CacheChanges:
        """Return an iterator over the changes from now on, for `async for`. It ends when the cache is closed.

        Of a node that changes again before the iterator has come to it, only the net difference is told;
        so a slow reader costs no more memory than the subtree.
        """
        self._following.check_open()
        self._following.check_started()
        reader = CacheChanges(self._following)
        self._readers.add(reader)
        return reader

    def _changed(self, changes: list[CacheChange]) -> None:
        for reader in list(self._readers):
            reader.push(changes)


class CacheChanges:
    """The changes of a cache: an asynchronous iterator."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._waiting: dict[str, Node | None] = {}  # each as the reader knows it, in the order of telling
        self._news = asyncio.Event()
        self._is_closed = False

    def push(self, changes: list[CacheChange]) -> None:
        """For the cache: something has changed, or the end has come."""
        waiting = self._waiting
        for change in changes:
            if change.type is EventType.CHANGED:
                waiting.setdefault(change.path, change.previous)
            else:
                # Last again: so a node never comes before its parent, nor goes after it.
                waiting[change.path] = waiting.pop(change.path, change.previous)
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CacheChange:
        while True:
            self._news.clear()
            change = self._next()
            if change is not None:
                return change
            if self._is_closed or self._following.is_closed:
                raise StopAsyncIteration
            if self._following.failure is not None:
                raise self._following.failure
            await self._news.wait()

    def _next(self) -> CacheChange | None:
        nodes = self._following.mirror.nodes
        while self._waiting and not self._is_closed:
            path = next(iter(self._waiting))
            change = difference(path, self._waiting.pop(path), nodes.get(path))
            if change is not None:
                return change
        return None

    async def aclose(self) -> None:
        """End the iteration."""
        self._is_closed = True
        self._waiting.clear()
        self._news.set()


# ---------------------------------------------------------------------------------------------
# For threads


class TreeCache:
    """A copy of a subtree in memory, for threads. Use it in `with`, or call `start()` and `close()`.

    Guarantees and duties are those of `AsyncTreeCache`: it only moves forward and misses nothing; through
    SUSPENDED and LOST it keeps its content and says `is_stale`.
    """

    def __init__(self, client: BlockingFace, root: str) -> None:
        """Describe a cache of the node `root` and everything below it."""
        self._portal = client.portal
        self._cache = AsyncTreeCache(client.asynchronous, root)
        self.root = root

    def __repr__(self) -> str:
        return repr(self._cache).replace("AsyncTreeCache", "TreeCache", 1)

    def start(self, *, timeout: float | None = None) -> Self:
        """Begin, and return once everything has been read."""
        self._portal.run(self._cache.start(timeout=timeout))
        return self

    def close(self) -> None:
        """Follow no more. The content stays as it is; whoever iterates over `changes()` comes to the end."""
        self._portal.run(self._cache.close())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def zxid(self) -> int:
        """Return a transaction up to which everything is in the cache."""
        return self._cache.zxid

    @property
    def is_stale(self) -> bool:
        """Return whether the service may know more: not started, or the connection is not back yet."""
        return self._cache.is_stale

    def get(self, path: str) -> Node | None:
        """Return a node, or None if there is none (or it lies outside of the subtree)."""
        return self._cache.get(path)

    def children(self, path: str) -> list[str]:
        """Return the names of a node's children, sorted; an empty list if it has none, or is not there."""
        return self._cache.children(path)

    def nodes(self) -> Mapping[str, Node]:
        """Return all nodes by path, as they are now: a copy that does not change."""
        return self._cache.nodes()

    def wait_for(self, zxid: int, *, timeout: float | None = None) -> None:
        """Return once everything up to a transaction is in the cache; RecipeTimeoutError after `timeout`."""
        self._portal.run(self._cache.wait_for(zxid, timeout=timeout))

    def changes(self) -> Iterator[CacheChange]:
        """Return an iterator over the changes from now on. It ends when the cache is closed."""
        return iterate(self._portal, self._portal.run(self._begin_changes()))

    async def _begin_changes(self) -> CacheChanges:
        return self._cache.changes()

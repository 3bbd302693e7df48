"""What one member of a partitioner holds: for every item a lock that is wanted, held, or on its way out.

Rule of this file: an item's lock is asked for only when nothing of an earlier hold of it is left here, and
given back only by whoever works with it; what nobody has been told of is given back at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Generic, TypeAlias, TypeVar

from coordclient.errors import (
    ClientClosedError,
    CoordError,
    LockRevokedError,
    OutcomeUnknownError,
    RequestError,
)
from coordclient.operations import Operations
from coordclient.recipes.grants import Grant
from coordclient.recipes.lock import AsyncLock, AsyncLockHandle
from coordclient.recipes.partition_plan import node_name
from coordclient.recipes.signals import Signal

logger = logging.getLogger("coordclient.recipes")

H = TypeVar("H")

PAUSE_SECONDS = 1.0  # after a refusal that may pass


class AsyncPartitionHandle(Grant):
    """The sole right to work on one item. Usable as `guard=` on every write.

    Attributes:
        item: What it is for.
        revoke_requested: Whether the work has to stop: the item belongs to another member now, or the right
            is lost, or the partitioner is left. `reason` says which.
    """

    def __init__(self, client: Operations, item: str, lock: AsyncLockHandle) -> None:
        """For the partitioner."""
        super().__init__(client, lock.path, lock.guard[1], lock.session_id, token=lock.token)
        self.item = item
        self.revoke_requested = Signal()
        self._lock = lock
        self._released: Callable[[], object] | None = None
        lock.lost.add_callback(self._lock_lost)

    def _lock_lost(self) -> None:
        self.lose(self._lock.lost.reason)

    def on_release(self, callback: Callable[[], object]) -> None:
        """For the partitioner: call back when this is given back, or now if it has been."""
        if self.is_released:
            callback()
        else:
            self._released = callback

    def abandon(self) -> asyncio.Task[None] | None:
        """Give the item back without waiting. What is begun here is finished by the client's janitor."""
        task = super().abandon()
        if task is not None and self._released is not None:
            self._released()
        return task

    async def _remove(self) -> None:
        self._lock.lost.remove_callback(self._lock_lost)
        await self._lock.release()


@dataclass(frozen=True, slots=True)
class Assigned(Generic[H]):
    """An item has become this member's: begin to work on it."""

    item: str
    handle: H


@dataclass(frozen=True, slots=True)
class Revoked(Generic[H]):
    """An item is this member's no longer: stop the work, then release the handle."""

    item: str
    handle: H


Change: TypeAlias = Assigned[H] | Revoked[H]


class Holdings:
    """The locks of one member.

    Attributes:
        news: Set when there are changes to take, or the end has come.
    """

    def __init__(self, client: Operations, root: str) -> None:
        self.news = asyncio.Event()
        self._client = client
        self._root = root
        self._wanted: frozenset[str] = frozenset()
        self._acquiring: dict[str, asyncio.Task[AsyncPartitionHandle]] = {}
        self._held: dict[str, AsyncPartitionHandle] = {}
        self._leaving: dict[str, AsyncPartitionHandle] = {}  # revoked, and not given back yet
        self._changes: deque[Change[AsyncPartitionHandle]] = deque()
        self._failure: BaseException | None = None
        self._is_closed = False

    @property
    def held(self) -> Mapping[str, AsyncPartitionHandle]:
        held = self._held.copy()  # At once: it may be asked for from another thread.
        return MappingProxyType({item: held[item] for item in sorted(held)})

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def check(self) -> None:
        """Raise what has made an end of it, if anything has."""
        if self._failure is not None:
            raise self._failure

    def fail(self, failure: BaseException) -> None:
        """It cannot go on."""
        self._failure = self._failure or failure
        self.news.set()

    def take_change(self) -> Change[AsyncPartitionHandle] | None:
        """Return the next change that nobody has been told of."""
        return self._changes.popleft() if self._changes else None

    # -----------------------------------------------------------------------------------------
    # Following a plan

    def want(self, items: frozenset[str], reason: str = "it belongs to another member now") -> None:
        """Let go of everything else, and acquire what is missing."""
        self._wanted = items
        for item in [item for item in self._held if item not in items]:
            self._revoke(item, reason)
        for item, task in self._acquiring.items():
            if item not in items:
                task.cancel()
        for item in sorted(items):
            self._seek(item)

    def _seek(self, item: str) -> None:
        is_under_way = item in self._acquiring or item in self._held or item in self._leaving
        if self._is_closed or is_under_way or item not in self._wanted:
            return
        task = asyncio.get_running_loop().create_task(self._acquire(item), name="coordclient partition")
        self._acquiring[item] = task
        task.add_done_callback(partial(self._acquired, item))

    async def _acquire(self, item: str) -> AsyncPartitionHandle:
        lock = AsyncLock(self._client, f"{self._root}/{node_name(item)}")
        while True:
            try:
                return AsyncPartitionHandle(self._client, item, await lock.acquire())
            except LockRevokedError:
                continue  # Somebody deleted our place in the queue: we still want it.
            except (RequestError, OutcomeUnknownError) as error:
                logger.warning("%s cannot be acquired, trying again: %s", lock.path, error)
                await asyncio.sleep(PAUSE_SECONDS)

    def _acquired(self, item: str, task: asyncio.Task[AsyncPartitionHandle]) -> None:
        del self._acquiring[item]
        if not task.cancelled() and task.exception() is None:
            self._take(task.result())
        elif not task.cancelled():
            failure = task.exception()
            assert isinstance(failure, CoordError), failure
            if not (self._is_closed and isinstance(failure, ClientClosedError)):
                self.fail(failure)
            return
        self._seek(item)  # It may have been wanted again while its acquisition was being cancelled.

    def _take(self, handle: AsyncPartitionHandle) -> None:
        item = handle.item
        if self._is_closed or item not in self._wanted or handle.lost:
            handle.abandon()
            return
        self._held[item] = handle
        handle.on_release(partial(self._released, handle))
        self._tell(Assigned(item, handle))
        handle.lost.add_callback(partial(self._lost, handle))

    # -----------------------------------------------------------------------------------------
    # Letting go

    def _lost(self, handle: AsyncPartitionHandle) -> None:
        if self._held.get(handle.item) is handle:
            self._revoke(handle.item, f"it was lost: {handle.lost.reason}")

    def _revoke(self, item: str, reason: str) -> None:
        handle = self._held.pop(item)
        self._leaving[item] = handle
        handle.revoke_requested.set(reason)
        assigned = Assigned(item, handle)
        if assigned in self._changes:
            self._changes.remove(assigned)
            handle.abandon()  # Nobody has been told of it, so nobody works with it.
        else:
            self._tell(Revoked(item, handle))

    def _released(self, handle: AsyncPartitionHandle) -> None:
        """A handle was given back: by one who was told to, or of their own accord."""
        item = handle.item
        for handles in (self._held, self._leaving):
            if handles.get(item) is handle:
                del handles[item]
        self._changes = deque(change for change in self._changes if change.handle is not handle)
        self._seek(item)

    def _tell(self, change: Change[AsyncPartitionHandle]) -> None:
        self._changes.append(change)
        self.news.set()

    def close(self, *, in_use: Collection[AsyncPartitionHandle], reason: str) -> list[asyncio.Task[None]]:
        """Give everything back but what somebody works with: they do it themselves, when they have ended."""
        self._is_closed = True
        self._wanted = frozenset()
        for acquiring in self._acquiring.values():
            acquiring.cancel()
        handles = [*self._held.values(), *self._leaving.values()]
        for handle in handles:
            handle.revoke_requested.set(reason)
        self.news.set()
        return _tasks(handle.abandon() for handle in handles if handle not in in_use)


def _tasks(tasks: Iterable[asyncio.Task[None] | None]) -> list[asyncio.Task[None]]:
    return [task for task in tasks if task is not None]

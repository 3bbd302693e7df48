"""Partitioner: a fixed set of items, divided among the members that are there.

The members form a group. From who is in it each works out by itself which items are its own, and takes
their locks; whoever has a lock that is no longer theirs stops working and releases it. The plan may differ
from member to member for a while, the locks cannot.

Rule of this file: the group says who should have an item, its lock says who has it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Self

from coordclient import clock
from coordclient.errors import (
    ClientStateError,
    CoordError,
    InvalidArgumentError,
    InvalidPathError,
    MismatchError,
)
from coordclient.operations import Operations
from coordclient.recipes.faces import BlockingFace, BlockingGrant, iterate
from coordclient.recipes.group import AsyncGroup, AsyncMembership
from coordclient.recipes.group_views import GroupView
from coordclient.recipes.partition_crew import Crew, Work, Working, call_in_thread
from coordclient.recipes.partition_holdings import (
    Assigned,
    AsyncPartitionHandle,
    Change,
    Holdings,
    Revoked,
)
from coordclient.recipes.partition_plan import (
    Settling,
    checked_items,
    fingerprint_of,
    fingerprints,
    payload_of,
    share_of,
)
from coordclient.recipes.signals import BlockingSignal
from coordclient.states import State

logger = logging.getLogger("coordclient.recipes")

__all__ = [
    "Assigned",
    "AsyncPartitionHandle",
    "AsyncPartitioner",
    "PartitionHandle",
    "Partitioner",
    "Revoked",
]


class AsyncPartitioner:
    """A set of items, divided among the members of a group. `async with` joins it, its end leaves.

        async with AsyncPartitioner(client, "/shards", ["a", "b", "c"]) as partitioner:
            await partitioner.run(work)  # work(item, handle), a task for every item that is ours

    1. It guarantees that an item is owned by one member at a time, by the lock that its handle stands for:
       tokens grow from owner to owner, and a write with `guard=handle` is refused once the handle is gone.
       While any member is up, every item comes to be owned. A member that joins takes about its part and
       nothing else moves; one that leaves or dies has its items spread over the others. The shares are
       equal on average, not exactly. All members must be given the same items.
    2. While the connection is SUSPENDED a member keeps what it owns, and the work goes on; each handle has
       the `valid_until` before which nobody else can own the item. It learns of no changes.
    3. When the session is LOST so is every item: all work is stopped. The member joins again in the next
       session, and gets its items as the group then divides them, with new tokens.
    """

    def __init__(
        self,
        client: Operations,
        path: str,
        items: Iterable[str],
        *,
        name: str | None = None,
        settle: float = 1.0,
    ) -> None:
        """Describe a member; does no I/O.

        Args:
            items: What is divided: texts, the same for all members, in any order.
            name: The member's own, unique among the members; made up if not given. A member that comes back
                under its name gets the same items. If the name is taken, joining waits for as long as a
                crashed process of that name may take to go: twice the session timeout.
            settle: For how many seconds the group must be quiet before the items are divided anew, so that
                members that come at the same time are taken into account together. A group that is never
                quiet is waited for five times as long.
        """
        if path == "/" or not path.startswith("/"):
            raise InvalidPathError('a partitioner needs a path like "/shards/name"', path=path)
        if not settle >= 0:
            raise InvalidArgumentError(f"settle must be a number of seconds, not {settle!r}", path=path)
        self.path = path
        self.items = checked_items(items, path)
        self._client = client
        self._name = name
        self._settle = settle
        self._fingerprint = fingerprint_of(self.items)
        self._group = AsyncGroup(client, f"{path}/members")
        self._holdings = Holdings(client, f"{path}/items")
        self._membership: AsyncMembership | None = None
        self._view: GroupView | None = None
        self._group_news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._working: Working = {}
        self._is_followed = False
        self._must_stop = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} owns {len(self.owned)} of {len(self.items)}>"

    @property
    def name(self) -> str:
        """Return the member's name; empty before it has joined, if it was not given one."""
        return self._membership.name if self._membership is not None else self._name or ""

    @property
    def owned(self) -> Mapping[str, AsyncPartitionHandle]:
        """Return what this member owns at this moment. It does not change; ask again for what is new."""
        return self._holdings.held

    async def members(self, *, timeout: float | None = None) -> GroupView:
        """Return who divides the items at this moment, by a linearizable read."""
        return await self._group.members(timeout=timeout)

    # -----------------------------------------------------------------------------------------
    # Joining and leaving

    async def __aenter__(self) -> Self:
        """Join.

        Raises:
            MismatchError: Other members divide other items at this path.
            MemberNameTakenError: Another session has the name, and still had it after a while.
        """
        if self._membership is not None:
            raise ClientStateError("a partitioner is entered once: make a new one", path=self.path)
        patience = 2 * self._client.session_timeout
        payload = payload_of(self._fingerprint)
        membership = await self._group.join(self._name, payload, timeout=patience if self._name else 0.0)
        try:
            self._check_items(await self._group.members())
            self._client.add_internal_listener(self._state_changed)
        except BaseException:
            membership.give_up()
            raise
        self._membership = membership
        for work in (self._follow(), self._balance(membership)):
            self._tasks.append(asyncio.get_running_loop().create_task(work, name="coordclient partitioner"))
        return self

    def _check_items(self, view: GroupView) -> None:
        for name, fingerprint in fingerprints(view.members).items():
            if fingerprint != self._fingerprint:
                raise MismatchError(
                    f"member {name} divides other items at {self.path}:"
                    " give all members the same items, or use another path",
                    path=self.path,
                )

    def give_up(self) -> list[asyncio.Task[None]]:
        """Begin to leave, without waiting; return what will be done in the background.

        What `run` still works on it stops by itself; it is given back when that work has ended.
        """
        assert self._membership is not None, "who has not joined cannot leave"
        self._client.remove_internal_listener(self._state_changed)
        for following in self._tasks:
            following.cancel()
        leaving = self._holdings.close(in_use=self._working, reason="the partitioner was left")
        return [*leaving, *self._tasks, self._membership.give_up()]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leaving = self.give_up()
        if self._working:
            await asyncio.wait(list(self._working.values()))
        await asyncio.wait(leaving, timeout=self._client.request_timeout)

    # -----------------------------------------------------------------------------------------
    # Who should have what

    def _state_changed(self, state: State) -> None:
        if state is State.LOST:
            self._holdings.want(frozenset(), "the session is gone")
            self._group_news.set()

    async def _follow(self) -> None:
        """Keep the view of the group."""
        try:
            async for view in self._group.watch():
                if not view.is_stale:
                    self._view = view
                    self._group_news.set()
        except CoordError as failure:
            self._holdings.fail(failure)

    async def _balance(self, membership: AsyncMembership) -> None:
        """Divide the items anew whenever the group has changed and come to rest."""
        settling = Settling(self._settle)
        while True:
            due = settling.due
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - clock.now())):
                    await self._group_news.wait()
            except TimeoutError:
                if settling.take(clock.now()):
                    self._holdings.want(self._share(membership))
                continue
            self._group_news.clear()
            settling.note(clock.now())

    def _share(self, membership: AsyncMembership) -> frozenset[str]:
        if self._view is None or not membership.is_member:
            return frozenset()
        known = fingerprints(self._view.members)
        others = sorted(name for name, fingerprint in known.items() if fingerprint != self._fingerprint)
        if others:
            logger.warning("%s: other items are divided here by %s", self.path, ", ".join(others))
        members = [name for name, fingerprint in known.items() if fingerprint == self._fingerprint]
        return share_of(membership.name, self.items, members)

    # -----------------------------------------------------------------------------------------
    # Working

    def changes(self) -> AsyncIterator[Change[AsyncPartitionHandle]]:
        """Iterate over what becomes this member's, and what is so no longer.

        After `Revoked` stop the work on the item, then `await change.handle.release()`: until then no other
        member gets it, unless it was lost. An item that is released without having been revoked is acquired
        again. An iterator goes on where the one before has stopped, and ends when the partitioner is left.

        Raises:
            ClientStateError: Something else waits for a change, or `run` does; or not in `async with`.
        """
        self._check_joined()
        return _Changes(self._next_change)

    async def _next_change(self) -> Change[AsyncPartitionHandle] | None:
        self._begin_following()
        try:
            while not self._holdings.is_closed:
                change = self._holdings.take_change()
                if change is not None:
                    return change
                await self._wait_for_news()
        finally:
            self._is_followed = False
        return None

    async def run(self, work: Work) -> None:
        """Run `await work(item, handle)` for every item that is owned, each in a task of its own.

        The task is cancelled when the item is revoked or lost; the item is given back when the task has
        ended, so work that takes its time to stop holds up nobody's token but its own item. Work that returns
        is not called again, and keeps its item, until that is revoked. Returns after `stop()`; otherwise it
        runs until it is cancelled or fails, and then stops all work and waits for its end.

        Raises:
            Exception: The first error that came out of the work; but an error of the client's counts for
                nothing if the item is lost, because it says only that.
            ClientStateError: Something else iterates over the changes; or not in `async with`.
        """
        self._begin_following()
        crew = Crew(work, self._working, self._holdings.news)
        try:
            while not self._must_stop and not self._holdings.is_closed:
                while (change := self._holdings.take_change()) is not None:
                    crew.take(change)
                await self._wait_for_news()
                if crew.failure is not None:
                    raise crew.failure
        finally:
            self._is_followed = False
            self._must_stop = False
            await crew.stop("the work was stopped")

    async def stop(self) -> None:
        """Make `run` stop its work and return. Does not wait for that."""
        self._must_stop = True
        self._holdings.news.set()

    def _check_joined(self) -> None:
        if self._membership is None:
            raise ClientStateError("join first: use the partitioner in a with statement", path=self.path)

    def _begin_following(self) -> None:
        self._check_joined()
        if self._is_followed:
            raise ClientStateError("only one can follow the changes of a partitioner", path=self.path)
        self._is_followed = True

    async def _wait_for_news(self) -> None:
        self._holdings.check()
        await self._holdings.news.wait()
        self._holdings.news.clear()
        self._holdings.check()


class _Changes:
    """What `changes` returns. It holds nothing, so it can be left at any time."""

    def __init__(self, next_change: Callable[[], Awaitable[Change[AsyncPartitionHandle] | None]]) -> None:
        self._next_change = next_change

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change[AsyncPartitionHandle]:
        change = await self._next_change()
        if change is None:
            raise StopAsyncIteration
        return change


# ---------------------------------------------------------------------------------------------
# For threads


class PartitionHandle(BlockingGrant[AsyncPartitionHandle]):
    """The sole right to work on one item, for threads."""

    @property
    def item(self) -> str:
        """Return what it is for."""
        return self._grant.item

    @property
    def revoke_requested(self) -> BlockingSignal:
        """Whether the work has to stop: the item is another's now, or lost, or the partitioner is left."""
        return self._signal(self._grant.revoke_requested)


class Partitioner:
    """A set of items, divided among the members of a group, for threads. `with` joins it, its end leaves.

        with Partitioner(client, "/shards", ["a", "b", "c"]) as partitioner:
            partitioner.run(work)  # work(item, handle), a thread for every item that is ours

    See `AsyncPartitioner` for what it guarantees, and for SUSPENDED and LOST. A thread cannot be cancelled:
    work asks `handle.revoke_requested`, or waits for it, and returns when it is set.
    """

    def __init__(
        self,
        client: BlockingFace,
        path: str,
        items: Iterable[str],
        *,
        name: str | None = None,
        settle: float = 1.0,
    ) -> None:
        """Describe a member; the arguments are those of `AsyncPartitioner`."""
        self.path = path
        self._portal = client.portal
        self._partitioner = AsyncPartitioner(client.asynchronous, path, items, name=name, settle=settle)
        self.items = self._partitioner.items

    def __repr__(self) -> str:
        return repr(self._partitioner).replace("Async", "")

    @property
    def name(self) -> str:
        """Return the member's name; empty before it has joined, if it was not given one."""
        return self._partitioner.name

    @property
    def owned(self) -> Mapping[str, PartitionHandle]:
        """Return what this member owns at this moment. It does not change; ask again for what is new."""
        owned = self._partitioner.owned.items()
        return MappingProxyType({item: PartitionHandle(self._portal, handle) for item, handle in owned})

    def members(self, *, timeout: float | None = None) -> GroupView:
        """Return who divides the items at this moment, by a linearizable read."""
        return self._portal.run(self._partitioner.members(timeout=timeout))

    def changes(self) -> Iterator[Change[PartitionHandle]]:
        """Iterate over what becomes this member's, and what is so no longer.

        After `Revoked` stop the work on the item, then `change.handle.release()`.
        """
        for change in iterate(self._portal, self._partitioner.changes()):
            handle = PartitionHandle(self._portal, change.handle)
            if isinstance(change, Assigned):
                yield Assigned(change.item, handle)
            else:
                yield Revoked(change.item, handle)

    def run(self, work: Callable[[str, PartitionHandle], object]) -> None:
        """Call `work(item, handle)` for every item that is owned, each in a thread of its own.

        When the item is revoked or lost, `handle.revoke_requested` is set: work must return soon then. The
        item is given back when it has returned. Blocks until another thread calls `stop()`, or work fails.
        """

        async def in_thread(item: str, handle: AsyncPartitionHandle) -> None:
            blocking = PartitionHandle(self._portal, handle)
            await call_in_thread(lambda: work(item, blocking), f"coordclient {self.path} {item}")

        self._portal.run(self._partitioner.run(in_thread))

    def stop(self) -> None:
        """Make `run` stop its work and return, from another thread. Does not wait for that."""
        self._portal.run(self._partitioner.stop())

    def __enter__(self) -> Self:
        self._portal.run(self._partitioner.__aenter__(), undo=AsyncPartitioner.give_up)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.run(self._partitioner.__aexit__(None, None, None))

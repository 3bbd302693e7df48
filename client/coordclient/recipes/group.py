"""Group: who is there, under which name, and what each says of itself.

A member is an ephemeral node below the group's path; its value is the member's own. The membership comes
back in every new session. Everybody who looks sees the group as a view that can be compared with what
another process has seen.

Rule of this file: a view is never changed, only followed by a newer one; nobody is told that a group has
become empty, or is up to date again, before the service has confirmed it.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self

from coordclient.errors import (
    InvalidArgumentError,
    InvalidPathError,
    MemberNameTakenError,
    NoNodeError,
    SessionExpiredError,
)
from coordclient.operations import Operations
from coordclient.portal import Portal
from coordclient.recipes.faces import BlockingFace, iterate
from coordclient.recipes.group_views import GroupState, GroupView, MemberTable, view_of
from coordclient.recipes.registrations import Announcement
from coordclient.states import State
from coordclient.types import Event
from coordclient.watches import WatchStream

FOREVER = math.inf

__all__ = ["AsyncGroup", "AsyncMembership", "Group", "GroupView", "Membership"]


class AsyncGroup:
    """A group at a path. The object is only a description: one client may join it under several names.

    1. It guarantees that a name belongs to one session at a time; that a member is seen by all from the
       return of `join` until it leaves or its session ends; and that views with the same `generation` are
       the same in every process. A view is what the service has confirmed, and may be old when it is read:
       that a member is in it does not mean that it is alive, nor that it holds anything.
    2. While the connection is SUSPENDED a member stays in the group, and a changed value is announced when
       the service can be reached. `watch` yields the last view again with `is_stale`, and the group as it
       is then once the service has confirmed it.
    3. When the session is LOST the member is out of the group, as soon as the service has given the session
       up; the membership is made again, with the newest value, in the session that follows.
    """

    def __init__(self, client: Operations, path: str) -> None:
        """Describe a group."""
        if path == "/" or not path.startswith("/"):
            raise InvalidPathError('a group needs a path like "/groups/name"', path=path)
        self.path = path
        self._client = client

    def __repr__(self) -> str:
        return f"<AsyncGroup {self.path}>"

    async def join(
        self, name: str | None = None, value: bytes = b"", *, timeout: float | None = 0.0
    ) -> AsyncMembership:
        """Become a member, until `leave`, also over lost sessions.

        Args:
            name: Unique in the group; made up if not given.
            value: What the others see of this member.
            timeout: How many seconds to wait for a name that another session has: what a crashed process
                has left goes with its session. 0: not at all; None: as long as it takes.

        Raises:
            MemberNameTakenError: Another session, or another membership of this one, has the name.
        """
        name = uuid.uuid4().hex if name is None else name
        membership = AsyncMembership(self._client, self.path, name, value)
        await membership.open(timeout)
        return membership

    async def members(self, *, timeout: float | None = None) -> GroupView:
        """Return who is there now, by a linearizable read; nobody, if there is no such group."""
        return view_of(await read_group(self._client, self.path, timeout=timeout))

    async def watch(self) -> AsyncIterator[GroupView]:
        """Yield the view as it is now, and then whenever it has changed, or is stale, or no longer so.

        Several changes may come as one. It never ends by itself; ClientClosedError when the client closes.
        """
        async with self._client.watch(self.path, recursive=True) as events:
            follower = _Follower(self._client, self.path, events)
            try:
                known = None
                while True:
                    view = await follower.next()
                    if view != known:
                        known = view
                        yield known
            finally:
                await follower.close()


class AsyncMembership:
    """A place in a group. `leave`, or the end of `async with`, gives it up.

    1. It guarantees that the member is seen under its name from the start, with the value set last, and
       that nothing of it is left after `leave`.
    2. While the connection is SUSPENDED the others still see it.
    3. When the session is LOST it is not a member until the next session, in which it joins by itself; if
       somebody else has taken its name meanwhile, when they have left.

    Attributes:
        name: Its name in the group.
        path: Its node.
    """

    def __init__(self, client: Operations, group: str, name: str, value: bytes) -> None:
        """For `AsyncGroup.join`."""
        if not name or "/" in name or name in (".", ".."):
            raise InvalidArgumentError(f'a member\'s name must be without "/", not {name!r}', path=group)
        self.name = name
        self.path = f"{group}/{name}"
        self._announcement = Announcement(client, self.path, value, taken=MemberNameTakenError)

    def __repr__(self) -> str:
        state = "member" if self.is_member else "left" if self._announcement.is_closed else "absent"
        return f"<Membership {self.path} {state}>"

    @property
    def is_member(self) -> bool:
        """Return whether the present session is a member, as far as this client knows. Asks nobody."""
        return self._announcement.is_announced and not self._announcement.is_closed

    @property
    def value(self) -> bytes:
        """Return what is announced, or will be as soon as it can be."""
        return self._announcement.value

    async def open(self, timeout: float | None) -> None:
        """For `AsyncGroup.join`."""
        await self._announcement.open(timeout)

    async def update(self, value: bytes) -> None:
        """Let the others see another value.

        It is noted at once. Returns when it is announced, but after the client's `request_timeout` at the
        latest: then, and without a session, it is announced as soon as the service can be reached.

        Raises:
            InvalidArgumentError: This membership has been left.
            RequestError: The service refused the value; the one before stays.
        """
        await self._announcement.update(value)

    async def leave(self) -> None:
        """Leave the group. Idempotent; once begun, it is carried out even if the caller is cancelled."""
        await self._announcement.close()

    def give_up(self) -> asyncio.Task[None]:
        """Begin to leave, without waiting."""
        return self._announcement.give_up()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()


async def read_group(
    client: Operations,
    path: str,
    *,
    timeout: float | None = FOREVER,
) -> GroupState:
    """Read a group as it was at one moment."""
    while True:
        zxid = await client.sync(timeout=timeout)
        before = await client.exists(path, timeout=timeout)
        try:
            children = await client.get_children_nodes(path, timeout=timeout)
        except NoNodeError:
            children = []
        after = await client.exists(path, timeout=timeout)
        identity = (before.czxid, before.pzxid) if before is not None else None
        if identity == ((after.czxid, after.pzxid) if after is not None else None):
            return GroupState(zxid, after, children)


class _Follower:
    """Follows one group for one `watch`: by events while connected, by reading it again afterwards."""

    def __init__(self, client: Operations, path: str, events: WatchStream) -> None:
        self._client = client
        self._path = path
        self._events = events
        self._table = MemberTable(path)
        self._has_read = False
        self._must_read = True
        self._state_news = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._batch: list[Event] = []
        self._read_state: GroupState | None = None
        client.add_internal_listener(self._state_changed)

    def _state_changed(self, _: State) -> None:
        self._state_news.set()

    async def next(self) -> GroupView:
        """Wait until something has happened; return the view."""
        while True:
            await self._wait()
            self._take_in()
            if self._has_read and self._client.state is not State.CONNECTED:
                self._must_read = True
                return self._table.view(is_stale=True)
            if not self._must_read:
                return self._table.view()

    async def _wait(self) -> None:
        """Wait for a change of state, and for events or, if they are not enough, for what is read."""
        # Events that come while the group is read are taken in after it.
        other = ("read", self._read) if self._must_read else ("batch", self._take_batch)
        waits_for = []
        for name, work in (("state", self._wait_for_state), other):
            if name not in self._tasks:
                self._tasks[name] = asyncio.get_running_loop().create_task(
                    work(), name=f"coordclient group {name}"
                )
            waits_for.append(self._tasks[name])
        await asyncio.wait(waits_for, return_when=asyncio.FIRST_COMPLETED)
        for name, task in list(self._tasks.items()):
            if task in waits_for and task.done():
                del self._tasks[name]
                task.result()

    def _take_in(self) -> None:
        if self._read_state is not None:
            self._table.reset(self._read_state)
            self._read_state = None
            self._has_read = True
            self._must_read = False
        elif not self._must_read and self._batch:
            batch, self._batch = self._batch, []
            was_empty = self._table.is_empty
            is_known = all(self._table.apply(event) for event in batch)
            # That all have gone is too grave to be believed without asking.
            self._must_read = not is_known or (self._table.is_empty and not was_empty)

    async def _wait_for_state(self) -> None:
        await self._state_news.wait()
        self._state_news.clear()

    async def _take_batch(self) -> None:
        self._batch = await self._events.batch()

    async def _read(self) -> None:
        while self._read_state is None:
            try:
                self._read_state = await read_group(self._client, self._path)
            except SessionExpiredError:
                continue

    async def close(self) -> None:
        self._client.remove_internal_listener(self._state_changed)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


# ---------------------------------------------------------------------------------------------
# For threads


class Membership:
    """A place in a group. `leave`, or the end of `with`, gives it up; see `AsyncMembership`."""

    def __init__(self, portal: Portal, membership: AsyncMembership) -> None:
        """For `Group.join`."""
        self.name = membership.name
        self.path = membership.path
        self._portal = portal
        self._membership = membership

    def __repr__(self) -> str:
        return repr(self._membership)

    @property
    def is_member(self) -> bool:
        """Return whether the present session is a member, as far as this client knows. Asks nobody."""
        return self._membership.is_member

    @property
    def value(self) -> bytes:
        """Return what is announced, or will be as soon as it can be."""
        return self._membership.value

    def update(self, value: bytes) -> None:
        """Let the others see another value; at the latest as soon as the service can be reached."""
        self._portal.run(self._membership.update(value))

    def leave(self) -> None:
        """Leave the group. Idempotent."""
        self._portal.run(self._membership.leave())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class Group:
    """A group at a path, for threads; see `AsyncGroup` for what it guarantees, SUSPENDED and LOST."""

    def __init__(self, client: BlockingFace, path: str) -> None:
        """Describe a group."""
        self.path = path
        self._portal = client.portal
        self._group = AsyncGroup(client.asynchronous, path)

    def __repr__(self) -> str:
        return f"<Group {self.path}>"

    def join(self, name: str | None = None, value: bytes = b"", *, timeout: float | None = 0.0) -> Membership:
        """Become a member, until `leave`, also over lost sessions; MemberNameTakenError if it is taken.

        Args:
            timeout: How many seconds to wait for a name that another session has; None: as long as it takes.
        """
        work = self._group.join(name, value, timeout=timeout)
        return Membership(self._portal, self._portal.run(work, undo=AsyncMembership.give_up))

    def members(self, *, timeout: float | None = None) -> GroupView:
        """Return who is there now, by a linearizable read; nobody, if there is no such group."""
        return self._portal.run(self._group.members(timeout=timeout))

    def watch(self) -> Iterator[GroupView]:
        """Yield the view as it is now, and then whenever it has changed, or is stale, or no longer so."""
        return iterate(self._portal, self._group.watch())

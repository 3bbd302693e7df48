"""Following a part of the tree: a watch, a snapshot after it, the events after that, and so on for ever.

First the watch is set, at transaction S. Then everything is read, each node at some time after S. Then the
service is asked for its newest transaction Z: with the answer every event up to Z has arrived, and what was
read, brought forward by the events after S, is the tree as it was at Z. When the service no longer has the
history to resume the watch from, the same is done again, and only the differences are published.

Rule of this file: the copy is called stale from the moment the connection is lost until everything that
happened up to a moment after the reconnection has been taken in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from coordclient.errors import (
    ClientStateError,
    CoordError,
    ForkedClientError,
    InvalidPathError,
    NoNodeError,
    SessionExpiredError,
)
from coordclient.operations import Operations
from coordclient.recipes.deadlines import FOREVER, deadline
from coordclient.recipes.mirror import CacheChange, Mirror
from coordclient.states import State
from coordclient.types import Consistency, EventType, Node
from coordclient.watches import BUFFER_EVENTS_MAX, WatchStream

logger = logging.getLogger("coordclient.recipes")

LISTINGS_MAX = 16  # of a snapshot, under way at once


class Following:
    """Keeps a mirror of one path, or of it and everything below it.

    Attributes:
        mirror: What is known. It changes only between two awaits.
        zxid: Everything up to this transaction is in the mirror.
        failure: Why it goes on no more; None while it does.
    """

    def __init__(
        self,
        client: Operations,
        path: str,
        *,
        recursive: bool,
        publish: Callable[[list[CacheChange]], None],
    ) -> None:
        """Prepare to follow.

        Args:
            publish: Called on the loop with every difference, after the mirror has it. It must not block or
                raise. Called with nothing, too: when the end has come.
        """
        if not path.startswith("/"):
            raise InvalidPathError('what is to be followed needs a path like "/config"', path=path)
        self.path: Final = path
        self.mirror = Mirror()
        self.zxid = 0
        self.failure: CoordError | None = None
        self.is_closed = False
        self._client = client
        self._is_recursive = recursive
        self._publish = publish
        self._stream: WatchStream | None = None
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Event()  # set, and replaced, at every progress
        self._heard = 0  # every event up to this transaction has arrived
        self._has_snapshot = False
        self._is_resuming = False
        self._epoch = 0  # how often the connection was lost
        self._fresh_epoch = -1  # of the connection during which we last had everything

    @property
    def is_started(self) -> bool:
        return self._task is not None

    @property
    def is_stale(self) -> bool:
        """Return whether something may have happened that is not in the mirror, for want of a connection."""
        return not (
            self._has_snapshot
            and self._fresh_epoch == self._epoch
            and self._client.state is State.CONNECTED
            and self.failure is None
            and not self.is_closed
        )

    # -----------------------------------------------------------------------------------------
    # Begin and end

    async def start(self, *, timeout: float | None = None) -> None:
        """Begin, and return once everything has been read. Idempotent."""
        self.check_open()
        try:
            async with deadline(timeout, self.path):
                if self._stream is None:
                    await self._begin()
                await self.wait_until(lambda: self._has_snapshot)
        except BaseException:
            await self.close()
            raise

    async def _begin(self) -> None:
        stream = self._client.watch(self.path, recursive=self._is_recursive, buffer_size=BUFFER_EVENTS_MAX)
        self._stream = stream
        self._client.add_internal_listener(self._state_changed)
        await stream.start(timeout=FOREVER)
        self._task = asyncio.get_running_loop().create_task(
            self._run(stream), name=f"coordclient follow {self.path}"
        )
        self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Follow no more. What is known stays, and is stale. Idempotent."""
        if self.is_closed:
            return
        self.is_closed = True
        self._client.remove_internal_listener(self._state_changed)
        if self._stream is not None:
            await self._stream.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._announce([])

    def check_started(self) -> None:
        """Raise if nothing is known, or if nothing more will ever be: before `start`, and after a fork."""
        if self._client.is_forked:
            raise ForkedClientError
        if not self.is_started:
            raise ClientStateError(f"{self.path} is not followed yet: call start(), or use a `with` block")

    def check_open(self) -> None:
        """Raise why this follows no more, if so."""
        if self.failure is not None:
            raise self.failure
        if self.is_closed:
            raise ClientStateError(f"what followed {self.path} has been closed; make a new one")

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self.is_closed:
            return
        error = task.exception()
        if isinstance(error, CoordError):
            self.failure = error
        else:
            logger.error("following %s failed", self.path, exc_info=error)
            self.failure = ClientStateError(f"following {self.path} failed: {error!r}")
        self._client.remove_internal_listener(self._state_changed)
        self._announce([])

    def _announce(self, changes: list[CacheChange]) -> None:
        self._publish(changes)
        turn, self._turn = self._turn, asyncio.Event()
        turn.set()

    # -----------------------------------------------------------------------------------------
    # Following

    async def _run(self, stream: WatchStream) -> None:
        since = stream.zxid
        while not self.is_closed:
            found = await self._snapshot(stream, since)
            if isinstance(found, Mirror):
                self._take_over(found)
                since = await self._follow(stream)
            else:
                since = found  # History that we would need has gone meanwhile: the next does without.

    async def _snapshot(self, stream: WatchStream, since: int) -> Mirror | int:
        """Return the tree as it was at some moment after this call; or up to when events are missing."""
        client = self._client
        while True:
            epoch = self._epoch
            try:
                if self._is_recursive:
                    mirror = Mirror(await read_tree(client, self.path, since))
                else:
                    mirror = Mirror(await _read_node(client, self.path, since))
                zxid = await client.sync(timeout=FOREVER)
            except SessionExpiredError:
                continue
            break
        self._heard = max(self._heard, zxid)
        while True:
            await self._go_on(stream)
            if stream.is_drained:
                break
            events = await stream.batch()
            if any(event.type is EventType.RESYNC for event in events):
                return events[-1].zxid
            for event in events:
                mirror.apply(event)
        if epoch == self._epoch:
            self._fresh_epoch = epoch
        return mirror

    def _take_over(self, mirror: Mirror) -> None:
        changes = self.mirror.adopt(mirror)
        self._has_snapshot = True
        self.zxid = max(self.zxid, self._heard)
        self._announce(changes)

    async def _follow(self, stream: WatchStream) -> int:
        """Take events in until some are missing; return the transaction up to which they are."""
        while True:
            await self._go_on(stream)
            events = await stream.batch()
            changes: list[CacheChange] = []
            for event in events:
                if event.type is EventType.RESYNC:
                    self._has_snapshot = False
                    self._announce(changes)
                    return events[-1].zxid
                change = self.mirror.apply(event)
                if change is not None:
                    changes.append(change)
            if events:
                # The rest of the last transaction may still be on its way.
                self.zxid = max(self.zxid, events[-1].zxid - 1)
            self._advance()
            self._announce(changes)
            if self.is_closed:
                return self.zxid

    async def _go_on(self, stream: WatchStream) -> None:
        """Let the stream go on if we were so slow that it paused."""
        self._is_resuming = True  # What it has left out is on its way, even if nothing waits to be read.
        await stream.go_on()
        self._is_resuming = False
        zxid = self.zxid
        self._advance()
        if self.zxid != zxid:
            self._announce([])

    # -----------------------------------------------------------------------------------------
    # How far we are

    def _advance(self) -> None:
        """Note how far we are, if everything that has arrived is in the mirror."""
        if not self._has_snapshot or self._is_resuming or self._stream is None:
            return
        if self._stream.is_drained:
            self.zxid = max(self.zxid, self._heard)

    def _state_changed(self, state: State) -> None:
        if state is State.CONNECTED:
            self._client.janitor.start(self._catch_up(self._epoch), f"catch up with {self.path}")
        else:
            self._epoch += 1
        self._announce([])

    async def _catch_up(self, epoch: int) -> None:
        """Find out when we have everything again after a reconnection."""
        try:
            zxid = await self._client.sync(timeout=FOREVER)
            await self.reach(zxid)
        except SessionExpiredError:
            return  # The next connection brings the next attempt.
        if epoch == self._epoch:
            self._fresh_epoch = epoch
            self._announce([])

    async def reach(self, zxid: int) -> None:
        """Wait until everything up to a transaction is in the mirror, of which we know that it has happened.

        To be called when the service has answered something at that state or later: then the events have
        arrived.
        """
        self._heard = max(self._heard, zxid)
        self._advance()
        await self.wait_until(lambda: self.zxid >= zxid)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true of what is followed; raise if it can never become so."""
        while not condition():
            self.check_open()
            await self._turn.wait()

    async def wait_for(self, zxid: int, *, timeout: float | None = None) -> None:
        """Return once everything up to a transaction is in the mirror.

        Raises:
            RecipeTimeoutError: It was not within `timeout` seconds.
        """
        async with deadline(timeout, self.path):
            while self.zxid < zxid:
                self.check_open()
                try:
                    await self._client.exists(self.path, min_zxid=zxid, timeout=FOREVER)
                except SessionExpiredError:
                    continue
                await self.reach(zxid)


# ---------------------------------------------------------------------------------------------
# Reading


async def read_tree(client: Operations, root: str, min_zxid: int) -> list[Node]:
    """Read a node and everything below it, each as it was at some time not before `min_zxid`."""
    found = await _read_node(client, root, min_zxid)
    waiting = [node.path for node in found]
    while waiting:
        paths, waiting = waiting[:LISTINGS_MAX], waiting[LISTINGS_MAX:]
        listings = [_read_children(client, path, min_zxid) for path in paths]
        # All of them end, also when one fails: none goes on without us.
        for listing in await asyncio.gather(*listings, return_exceptions=True):
            if isinstance(listing, BaseException):
                raise listing
            found += listing
            waiting += [node.path for node in listing if node.stat.num_children]
    return found


async def _read_node(client: Operations, path: str, min_zxid: int) -> list[Node]:
    try:
        return [await client.get(path, consistency=Consistency.SESSION, min_zxid=min_zxid, timeout=FOREVER)]
    except NoNodeError:
        return []


async def _read_children(client: Operations, path: str, min_zxid: int) -> list[Node]:
    try:
        return await client.get_children_nodes(
            path, consistency=Consistency.SESSION, min_zxid=min_zxid, timeout=FOREVER
        )
    except NoNodeError:
        return []

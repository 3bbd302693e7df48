"""Following a service: a view of its instances each time something has changed.

Rule of this file: a view is never emptied because nobody could be reached. It stays as it was, says that
it is stale, and is replaced by one that was read anew.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing

from coordclient.errors import NoNodeError, OutcomeUnknownError, SessionExpiredError
from coordclient.operations import Operations
from coordclient.recipes.service_instances import Instances, InstanceView, Selection
from coordclient.states import State
from coordclient.types import Event, Instance, Node
from coordclient.watches import WatchStream

FOREVER = math.inf


async def follow(client: Operations, directory: str, selection: Selection) -> AsyncGenerator[Instances, None]:
    """Yield the instances as they are now, and then whenever what is selected has changed.

    A view with `is_stale` comes when the connection is suspended, a fresh one once it is back.
    """
    async with client.watch(directory, recursive=True) as events:
        follower = _Follower(client, directory, events)
        async with aclosing(follower.views()) as views:
            known: Instances | None = None
            async for present, is_stale in views:
                selected = Instances(selection.of(present), is_stale=is_stale)
                if known is None or selected != known or known.is_stale is not is_stale:
                    known = selected
                    yield selected


class _Follower:
    """Waits for events, for an answer and for changes of the client's state at once."""

    def __init__(self, client: Operations, directory: str, events: WatchStream) -> None:
        self._client = client
        self._directory = directory
        self._events = events
        self._view = InstanceView(directory)
        self._is_suspect = False  # the connection was lost since the view was read
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # the state has
        self._reading: asyncio.Task[None] | None = None
        self._batch: asyncio.Task[list[Event]] | None = None

    async def views(self) -> AsyncGenerator[tuple[tuple[Instance, ...], bool], None]:
        """Yield the instances, and whether that is stale."""
        self._client.add_internal_listener(self._state_changed)
        try:
            await self._read()
            shown = self._view.instances()
            while True:
                yield shown, self._is_suspect
                await self._wait()
                if self._batch is not None and self._batch.done() and not self._batch.result():
                    return  # The stream was closed.
                if self._reading is None:
                    shown = self._view.instances()
        finally:
            self._client.remove_internal_listener(self._state_changed)
            await _end(self._reading, self._batch)

    def _state_changed(self, state: State) -> None:
        if state is not State.CONNECTED:
            self._is_suspect = True
        if not self._changed.done():
            self._changed.set_result(None)

    async def _wait(self) -> None:
        """Return when the view has changed, or whether it is stale."""
        if self._is_suspect and self._client.state is State.CONNECTED:
            self._read_soon()
        # While it is read anew, events stay where they are: they may be newer than what is read.
        source: asyncio.Task[None] | asyncio.Task[list[Event]]
        if self._reading is not None:
            source = self._reading
        else:
            source = self._batch = self._batch or asyncio.create_task(
                self._events.batch(), name="coordclient service events"
            )
        await asyncio.wait([source, self._changed], return_when=asyncio.FIRST_COMPLETED)
        if self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        if self._reading is not None and self._reading.done():
            self._reading.result()
            self._reading = None
        elif (
            self._batch is not None and self._batch.done() and self._reading is None and self._batch.result()
        ):
            batch, self._batch = self._batch.result(), None
            self._take(batch)

    def _take(self, batch: list[Event]) -> None:
        had_instances = bool(self._view.instances())
        is_complete = all(self._view.apply(event) for event in batch)
        if not is_complete or (had_instances and not self._view.instances()):
            self._read_soon()  # Nobody is left: that is worth asking again before anybody is told.

    def _read_soon(self) -> None:
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="coordclient service view")

    async def _read(self) -> None:
        """Read the view anew, from a majority, however long that takes."""
        while True:
            try:
                zxid = await self._client.sync(timeout=FOREVER)
                nodes = await self._nodes()
            except (SessionExpiredError, OutcomeUnknownError):
                continue  # A read fails with its session; it is asked again in the next one.
            self._view.reset(zxid, nodes)
            self._is_suspect = self._client.state is not State.CONNECTED
            return

    async def _nodes(self) -> list[Node]:
        try:
            return await self._client.get_children_nodes(self._directory, timeout=FOREVER)
        except NoNodeError:
            return []


async def _end(*tasks: asyncio.Task[None] | asyncio.Task[list[Event]] | None) -> None:
    """Cancel what still runs, and wait until it has ended."""
    for task in tasks:
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # Fetched here: there is nobody left to be told.

"""The crew of one `run`: a task for every item that is owned, stopped before the item is given back.

Rule of this file: an item is given back when its work has ended, however long that takes, and not before.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial

from coordclient.errors import ClientClosedError, CoordError, GuardFailedError
from coordclient.recipes.partition_holdings import Assigned, AsyncPartitionHandle, Change

logger = logging.getLogger("coordclient.recipes")

Work = Callable[[str, AsyncPartitionHandle], Awaitable[object]]
Working = dict[AsyncPartitionHandle, "asyncio.Task[object]"]


class Crew:
    """The tasks of one `run`.

    Attributes:
        failure: The first error that came out of the work.
    """

    def __init__(self, work: Work, working: Working, news: asyncio.Event) -> None:
        """Prepare; what works is noted in `working`, and `news` is set when work has failed."""
        self.failure: BaseException | None = None
        self._work = work
        self._working = working
        self._news = news
        self._idle: set[AsyncPartitionHandle] = set()  # their work returned; they are owned nevertheless
        self._stopping: set[AsyncPartitionHandle] = set()
        self._is_closed = False

    def take(self, change: Change[AsyncPartitionHandle]) -> None:
        """Begin the work on an item, or bring it to its end."""
        if isinstance(change, Assigned):
            self._begin(change.handle)
        else:
            self._stop(change.handle)

    def _begin(self, handle: AsyncPartitionHandle) -> None:
        task = asyncio.get_running_loop().create_task(self._call(handle), name=f"coordclient {handle.path}")
        self._working[handle] = task
        task.add_done_callback(partial(self._ended, handle))

    async def _call(self, handle: AsyncPartitionHandle) -> object:
        return await self._work(handle.item, handle)

    def _stop(self, handle: AsyncPartitionHandle) -> None:
        task = self._working.get(handle)
        if task is None:
            self._idle.discard(handle)
            handle.abandon()
            return
        self._stopping.add(handle)
        task.cancel()

    def _ended(self, handle: AsyncPartitionHandle, task: asyncio.Task[object]) -> None:
        del self._working[handle]
        failure = None if task.cancelled() else task.exception()
        if isinstance(failure, GuardFailedError) and failure.path == handle.path:
            handle.lose("a write that it guarded was refused")
        if handle.lost and isinstance(failure, CoordError) and not isinstance(failure, ClientClosedError):
            # The work has noticed the loss by itself, or its requests went with the session.
            logger.info("the work on %s ended with its loss: %s", handle.item, failure)
            failure = None
        if failure is not None:
            self.failure = self.failure or failure
            self._news.set()
        if failure is not None or self._is_closed or handle in self._stopping:
            self._stopping.discard(handle)
            handle.abandon()
        else:
            self._idle.add(handle)

    async def stop(self, reason: str) -> None:
        """Stop all work and wait for its end. If that is cancelled, what goes on still holds its item."""
        self._is_closed = True
        for handle in list(self._idle):
            self._stop(handle)
        mine = dict(self._working)
        for handle, task in mine.items():
            handle.revoke_requested.set(reason)
            if handle not in self._stopping:
                task.cancel()
        if mine:
            await asyncio.wait(mine.values())


async def call_in_thread(work: Callable[[], object], name: str) -> None:
    """Call a function in a thread of its own. It cannot be cancelled: this returns when it has ended."""
    loop = asyncio.get_running_loop()
    outcome: Future[object] = Future()
    ended = asyncio.Event()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001  # raised again where the thread is waited for
            outcome.set_exception(error)
        if not loop.is_closed():
            loop.call_soon_threadsafe(ended.set)

    # A daemon: work that never ends must not keep the program from ending.
    threading.Thread(target=run, name=name, daemon=True).start()
    is_cancelled = False
    while not ended.is_set():
        try:
            await ended.wait()
        except asyncio.CancelledError:
            is_cancelled = True
    failure = outcome.exception()
    if failure is not None:
        raise failure
    if is_cancelled:
        raise asyncio.CancelledError

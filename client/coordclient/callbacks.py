"""Calls to the application's own functions: in order, one at a time, away from the I/O path.

Rule of this file: every subscriber has its own queue, so a slow or failing one holds up nobody else, and
a callback may call the client. A subscriber costs a task or a thread only while it has something to do.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger("coordclient.callbacks")

GRACE_SECONDS = 0.2  # for callbacks that run while their client is closed

T = TypeVar("T")
Callback = Callable[[T], object]  # what a coroutine function returns is awaited, the rest ignored


class Callbacks:
    """Runs the callbacks of one client.

    With `in_threads` plain functions run in threads, and may block. Without, they run on the event loop in
    a task of their own, and must not block, like everything else there. Coroutine functions are awaited.
    """

    def __init__(self, *, in_threads: bool) -> None:
        self._in_threads = in_threads
        self._tasks: set[asyncio.Task[None]] = set()

    def subscriber(self, callback: Callback[T]) -> Subscriber[T]:
        return Subscriber(self, callback)

    def start(self, subscriber: Subscriber[T]) -> None:
        """Begin to work off what a subscriber has waiting. Called on the loop."""
        task = asyncio.get_running_loop().create_task(subscriber.drain(), name="coordclient callback")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def call(self, callback: Callback[T], argument: T) -> None:
        """Call one callback and wait until it is done. Its exceptions are logged."""
        if self._in_threads and not inspect.iscoroutinefunction(callback):
            await _call_in_thread(callback, argument)
        else:
            await _call_here(callback, argument)

    async def close(self) -> None:
        """Let go of the callbacks. One that runs in a thread is not waited for."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        if not tasks:
            return
        _, unfinished = await asyncio.wait(tasks, timeout=GRACE_SECONDS)
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished)


class Subscriber(Generic[T]):
    """One callback and what it has not been told yet."""

    def __init__(self, callbacks: Callbacks, callback: Callback[T]) -> None:
        self._callbacks = callbacks
        self.callback = callback
        self._waiting: deque[T] = deque()
        self._is_running = False

    def push(self, item: T) -> None:
        """Queue one call. Never blocks, never raises what the callback raises."""
        self._waiting.append(item)
        if not self._is_running:
            self._is_running = True
            self._callbacks.start(self)

    async def drain(self) -> None:
        try:
            while self._waiting:
                await self._callbacks.call(self.callback, self._waiting.popleft())
        finally:
            self._is_running = False


async def _call_here(callback: Callback[T], argument: T) -> None:
    try:
        result = callback(argument)
        if inspect.isawaitable(result):
            await result
    except Exception:
        logger.exception("a callback failed: %r", callback)


async def _call_in_thread(callback: Callback[T], argument: T) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def run() -> None:
        try:
            callback(argument)
        except Exception:
            logger.exception("a callback failed: %r", callback)
        if not loop.is_closed():
            loop.call_soon_threadsafe(_finish, done)

    # A daemon: a callback that never returns must not keep the program from ending.
    threading.Thread(target=run, name="coordclient callback", daemon=True).start()
    await done


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)

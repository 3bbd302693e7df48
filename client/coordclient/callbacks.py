"""Calls to the application's own functions: in order, one at a time, away from the I/O path.

Rule of this file: every subscriber has its own queue, so a slow or failing one holds up nobody else, and
a callback may call the client. A subscriber costs a task or a thread only while it has something to do,
and none at all if its callback is a plain function that runs on the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Generic, Protocol, TypeVar

from coordclient import clock
from coordclient.callback_threads import CallbackThreads

logger = logging.getLogger("coordclient.callbacks")

GRACE_SECONDS = 0.2  # for callbacks that run while their client is closed
SLICE_SECONDS = 0.005  # of calls on the loop, before it turns to its other work
_CALLS_PER_LOOK = 16  # subscribers, between two looks at the clock

T = TypeVar("T")
Callback = Callable[[T], object]  # what a coroutine function returns is awaited, the rest ignored


class _Ready(Protocol):
    def call_waiting(self) -> None: ...  # pragma: no cover


class Callbacks:
    """Runs the callbacks of one client.

    With `in_threads` plain functions run in threads, and may block. Without, they run on the event loop, a
    thousand of them in one pass if need be, and must not block, like everything else there. Coroutine
    functions are awaited in a task.
    """

    def __init__(self, *, in_threads: bool) -> None:
        self.threads = CallbackThreads() if in_threads else None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: deque[_Ready] = deque()
        self._is_scheduled = False

    def subscriber(self, callback: Callback[T]) -> Subscriber[T]:
        return Subscriber(self, callback)

    def call_soon(self, subscriber: _Ready) -> None:
        """Have a subscriber call what it has waiting, after what the loop does now. Called on the loop."""
        self._ready.append(subscriber)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._call_ready)

    def _call_ready(self) -> None:
        ready = self._ready
        until = clock.now() + SLICE_SECONDS
        try:
            while ready:
                for _ in range(min(len(ready), _CALLS_PER_LOOK)):
                    ready.popleft().call_waiting()
                if clock.now() > until:
                    break
        finally:
            # Also when a callback ended the program: what is left is called while it cleans up.
            self._is_scheduled = False
            if ready:
                self._schedule()

    def start(
        self, drain: Coroutine[object, object, None], context: contextvars.Context | None = None
    ) -> asyncio.Task[None]:
        """Work off in a task what a subscriber has waiting, if it takes time. Called on the loop."""
        task = asyncio.get_running_loop().create_task(drain, name="coordclient callback", context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

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
    """One callback and what it has not been told yet.

    Attributes:
        waiting: What it is still to be called with. `push` adds to it.
        when_drained: Awaited once, when nothing is waiting any more, so that who has stopped pushing goes on.
    """

    def __init__(self, callbacks: Callbacks, callback: Callback[T]) -> None:
        self.callback = callback
        self.when_drained: Callable[[], Awaitable[None]] | None = None
        self._callbacks = callbacks
        is_plain = not inspect.iscoroutinefunction(callback)
        self._threads = callbacks.threads if is_plain else None
        self._context = contextvars.copy_context()
        self.waiting: deque[T] = deque()
        self._is_running = False
        self._task: asyncio.Task[None] | None = None

    def push(self, item: T) -> None:
        """Queue one call. Never blocks, never raises what the callback raises."""
        self.waiting.append(item)
        if self._is_running:
            return
        self._is_running = True
        if self._threads is None:
            self._callbacks.call_soon(self)
        else:
            self._task = self._callbacks.start(self._drain(None))

    def call_waiting(self) -> None:
        """Call a callback that runs on the loop, until it has something to wait for."""
        waiting = self.waiting
        run = self._context.run
        while waiting:
            try:
                result = run(self.callback, waiting.popleft())
            except Exception:
                logger.exception("a callback failed: %r", self.callback)
                continue
            except BaseException:
                self._callbacks.call_soon(
                    self
                )  # It ends the program, which may still want to hear of the end.
                raise
            if result is not None and inspect.isawaitable(result):
                self._task = self._callbacks.start(self._drain(result), self._context)
                return
        if self.when_drained is not None:
            self._task = self._callbacks.start(self._drain(None))
            return
        self._is_running = False

    async def close(self) -> None:
        """Drop what is waiting, and cancel a coroutine that runs; a function in a thread runs on."""
        self.waiting.clear()
        self.when_drained = None
        task = self._task
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait([task])

    async def _drain(self, begun: Awaitable[object] | None) -> None:
        """Finish the call that was begun, and make all others, those that come meanwhile too."""
        try:
            if begun is not None:
                await self._await_result(begun)
            while self.waiting or self.when_drained is not None:
                if not self.waiting:
                    when_drained, self.when_drained = self.when_drained, None
                    assert when_drained is not None
                    await when_drained()
                elif self._threads is not None:
                    await self._threads.run(self._call_in_thread)
                else:
                    await self._call_here(self.waiting.popleft())
        finally:
            self._is_running = False
            self._task = None

    async def _await_result(self, result: Awaitable[object]) -> None:
        try:
            await result
        except Exception:
            logger.exception("a callback failed: %r", self.callback)

    async def _call_here(self, item: T) -> None:
        try:
            result = self.callback(item)
        except Exception:
            logger.exception("a callback failed: %r", self.callback)
            return
        if inspect.isawaitable(result):
            await self._await_result(result)

    def _call_in_thread(self) -> None:
        """Make the calls that are waiting, in a thread; `close` may take them away at any moment."""
        while self.waiting:
            try:
                item = self.waiting.popleft()
            except IndexError:
                return
            try:
                self.callback(item)
            except Exception:
                logger.exception("a callback failed: %r", self.callback)

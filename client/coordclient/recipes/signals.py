"""Signals: something that happens once to a grant, and stays so: its loss, a request to let go.

Rule of this file: a signal is set on the event loop, and can be asked and waited for from any thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial

from coordclient import forks
from coordclient.callbacks import Callbacks, Subscriber
from coordclient.errors import ClientStateError
from coordclient.portal import Portal

logger = logging.getLogger("coordclient.recipes")


class Signal:
    """False until it is set, and then true for good.

    `if signal: ...` and `signal.is_set()` ask, `signal.wait(timeout)` waits in a thread.

    Attributes:
        reason: Why it was set; empty before.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._generation = forks.generation()
        self._event = threading.Event()
        self._callbacks: list[Callable[[], object]] = []

    def __bool__(self) -> bool:
        return self._event.is_set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.reason}>" if self else f"<{type(self).__name__}: not set>"

    def is_set(self) -> bool:
        """Return whether it has happened. Asks nobody: cheap, from any thread. The same as `bool(signal)`."""
        return bool(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Block this thread until it is set, or `timeout` seconds are over; return whether it is.

        For threads. A coroutine that called this would stop its event loop: there are `wait_lost()` and
        `wait_revoke_requested()` for that.

        Raises:
            ClientStateError: In a running event loop, or in a child that was forked, where it may never be
                set.
        """
        if self._event.is_set() or timeout == 0:
            return self._event.is_set()
        forks.check(self._generation)
        if asyncio._get_running_loop() is not None:  # noqa: SLF001  # documented, and the one that does not raise
            raise ClientStateError(
                "to block for a signal would stop the running event loop: await `happens()` there, or"
                " `wait_lost()` and `wait_revoke_requested()` of what is held"
            )
        return self._event.wait(timeout)

    def set(self, reason: str) -> None:
        """For recipes: it has happened. Only the first reason counts."""
        if self._event.is_set():
            return
        self.reason = reason
        self._event.set()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._call(callback)

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call `callback()` on the event loop at the moment it is set, or now if it is.

        It must be a plain function and must not block; what it raises is logged.
        """
        if self._event.is_set():
            self._call(callback)
        else:
            self._callbacks.append(callback)

    def remove_callback(self, callback: Callable[[], object]) -> None:
        """Take a callback back, so that it is not called. Idempotent."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    async def happens(self) -> None:
        """Return when it is set. For asyncio what `wait` is for threads."""
        is_set = asyncio.Event()
        self.add_callback(is_set.set)
        try:
            await is_set.wait()
        finally:
            self.remove_callback(is_set.set)

    def _call(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception:
            logger.exception("a callback failed: %r", callback)


class BlockingSignal:
    """A signal as threads see it: false until it is set, and then true for good.

    `if held.lost: ...` and `held.lost.is_set()` ask, `held.lost.wait(timeout)` waits, and
    `held.lost.add_callback(function)` calls back, in a thread that may block.
    """

    def __init__(self, portal: Portal, callbacks: Callbacks, signal: Signal) -> None:
        self._portal = portal
        self._callbacks = callbacks
        self._signal = signal
        self._subscribers: dict[Callable[[], object], Callable[[], None]] = {}

    def __bool__(self) -> bool:
        return bool(self._signal)

    def __repr__(self) -> str:
        return repr(self._signal)

    @property
    def reason(self) -> str:
        """Why it was set; empty before."""
        return self._signal.reason

    def is_set(self) -> bool:
        """Return whether it has happened. Asks nobody: cheap, from any thread. The same as `bool(signal)`."""
        return self._signal.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block this thread until it is set, or `timeout` seconds are over; return whether it is.

        Raises:
            ClientStateError: In a running event loop, which this would stop; or in a child that was forked.
        """
        return self._signal.wait(timeout)

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call `callback()` once it is set, or soon if it is already.

        It is called in a thread of its own, so it may block and call the client; what it raises is logged.
        """

        def call(_: None) -> object:
            return callback()

        subscriber: Subscriber[None] = self._callbacks.subscriber(call)
        push = self._subscribers[callback] = partial(subscriber.push, None)
        self._portal.call_soon(partial(self._signal.add_callback, push))

    def remove_callback(self, callback: Callable[[], object]) -> None:
        """Take a callback back, unless it is being called. Idempotent."""
        push = self._subscribers.pop(callback, None)
        if push is not None:
            self._portal.call_soon(partial(self._signal.remove_callback, push))

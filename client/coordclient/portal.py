"""From threads to the event loop: one background loop for all blocking clients of the process.

Rule of this file: a call that is interrupted, by Ctrl-C for instance, is cancelled on the loop, and what
it had already obtained is undone.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from coordclient import forks
from coordclient.errors import ClientStateError, ForkedClientError

T = TypeVar("T")


def _event_loop() -> asyncio.AbstractEventLoop:
    # It comes with coordsvc. The SDK alone must do without: there is none for Windows, or for a new Python.
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class Portal:
    """Runs coroutines on an event loop in a thread of its own."""

    def __init__(self) -> None:
        self._generation = forks.generation()
        self._loop = _event_loop()
        self._loop.set_exception_handler(_report)
        # A daemon: a program that ends without closing its clients must end all the same.
        self._thread = threading.Thread(target=self._loop.run_forever, name="coordclient loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], *, undo: Callable[[T], object] | None = None) -> T:
        """Run a coroutine on the loop and wait for it.

        Args:
            undo: Called on the loop with a result that came too late for the caller.
        """
        if self._generation != forks.generation():
            work.close()
            raise ForkedClientError
        if threading.current_thread() is self._thread:
            work.close()
            raise ClientStateError(
                "a blocking call on the client's own event loop would never return: make the callback a plain"
                " function, which runs in a thread, or use `client.asynchronous` in it"
            )
        if asyncio._get_running_loop() is not None:  # noqa: SLF001  # documented, and the one that does not raise
            work.close()
            raise ClientStateError(
                "a blocking call in a running event loop would stop all else in it: use AsyncClient there"
            )
        call = _Call(self._loop, work, undo)
        self._loop.call_soon_threadsafe(call.begin)
        try:
            result: T = call.outcome.result()
        except BaseException as error:
            if not call.raised(error):
                self._loop.call_soon_threadsafe(call.give_up)
            raise
        return result

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call a function on the loop, soon."""
        self._loop.call_soon_threadsafe(function)


class _Call:
    """One call from a thread. Everything but `outcome` belongs to the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, Any],  # whatever it returns
        undo: Callable[[Any], object] | None,
    ) -> None:
        self.outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._loop = loop
        self._work = work
        self._undo = undo
        self._task: asyncio.Task[Any] | None = None
        self._is_abandoned = False

    def begin(self) -> None:
        self._task = self._loop.create_task(self._work)
        self._task.add_done_callback(self._ended)

    def raised(self, error: BaseException) -> bool:
        """Return whether the error is the outcome, and not an interruption of the caller."""
        if not self.outcome.done():
            return False
        return self.outcome.cancelled() or self.outcome.exception() is error

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self.outcome.cancel()
            return
        error = task.exception()
        if self._is_abandoned:
            self._undo_result(task, error)
        elif error is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())

    def _undo_result(self, task: asyncio.Task[Any], error: BaseException | None) -> None:
        if error is None and self._undo is not None:
            self._undo(task.result())

    def give_up(self) -> None:
        """The caller was interrupted before it had the outcome."""
        assert self._task is not None
        self._is_abandoned = True
        if self._task.done() and not self._task.cancelled():
            self._undo_result(self._task, self._task.exception())
        else:
            self._task.cancel()


class _Shared:
    """The portal of this process."""

    portal: Portal | None = None
    lock = threading.Lock()


def shared_portal() -> Portal:
    """Return the portal of this process; it is made when first needed."""
    with _Shared.lock:
        if _Shared.portal is None:
            _Shared.portal = Portal()
        return _Shared.portal


def _forget() -> None:
    _Shared.portal = None
    _Shared.lock = threading.Lock()


forks.forget_in_child(_forget)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # gRPC's poller is shared by the loops of a process and wakes the wrong one now and then
    # (github.com/grpc/grpc/issues/25364): harmless, and nobody can do anything about it.
    error = context.get("exception")
    if isinstance(error, BlockingIOError):
        return
    # The same poller hands an answer to a loop that has ended meanwhile; that loop's error comes out here.
    if isinstance(error, RuntimeError) and str(error) == "Event loop is closed":
        return
    loop.default_exception_handler(context)

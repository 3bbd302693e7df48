"""A thread on which the disk is waited for. Design section 7.

A member has two: one for what somebody waits for, the log; one for what takes long and has time.

Rule of this file: first come, first served; after the first failure nothing is carried out any more.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from coordsvc.storage.errors import DiskNotTrustedError, SnapshotRefused, StorageError

Result = TypeVar("Result")
_Work = tuple[Callable[[], Any], Callable[[Any], None], Callable[[BaseException], None]]


class StorageThread:
    """Carries out callables in the order they were submitted, one at a time.

    Made and used on the event loop's thread.
    """

    def __init__(self, name: str = "storage") -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._failure: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        """Queue `work`; await what it returns or raises.

        A StorageError, and any error that is a fault of ours, ends the thread's service: this and every
        later future fails. A SnapshotRefused is only delivered.
        """
        future: asyncio.Future[Result] = self._loop.create_future()
        self.carry_out(work, partial(_set_result, future), partial(_set_exception, future))
        return future

    def carry_out(
        self,
        work: Callable[[], Result],
        then: Callable[[Result], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Queue `work`, and have one of the others called on the event loop: a pass earlier than by a future.

        See `submit` for what a failure means. Neither may raise.
        """
        assert not self._closed, "nothing is submitted to a closed storage thread"
        self._queue.put((work, then, failed))

    async def close(self) -> None:
        """Carry out what is queued, then end the thread."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            work, then, failed = item
            if self._failure is not None:
                self._deliver(
                    failed, DiskNotTrustedError(f"refused after an earlier failure: {self._failure}")
                )
                continue
            try:
                result = work()
            except SnapshotRefused as error:
                self._deliver(failed, error)
            except StorageError as error:
                self._failure = error
                self._deliver(failed, error)
            except Exception as error:  # noqa: BLE001 - the thread's top: handed whole to whoever waits
                self._failure = error
                self._deliver(failed, error)
            else:
                self._deliver(then, result)

    def _deliver(self, tell: Callable[[Any], None], outcome: object) -> None:
        try:
            self._loop.call_soon_threadsafe(tell, outcome)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more


def _set_result(future: asyncio.Future[Result], result: Result) -> None:
    if not future.done():  # else whoever waited was cancelled
        future.set_result(result)


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)

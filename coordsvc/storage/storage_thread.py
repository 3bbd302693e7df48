"""A thread on which the disk is waited for. Design section 7.

A member has two: one for what somebody waits for, the log; one for what takes long and has time.

Rule of this file: first come, first served; after the first failure nothing is carried out any more.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from coordsvc.storage.errors import DiskNotTrustedError, SnapshotRefused, StorageError

Result = TypeVar("Result")
_Work = tuple[Callable[[], Any], "asyncio.Future[Any]"]


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
        assert not self._closed, "nothing is submitted to a closed storage thread"
        future: asyncio.Future[Result] = self._loop.create_future()
        self._queue.put((work, future))
        return future

    async def close(self) -> None:
        """Carry out what is queued, then end the thread."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            work, future = item
            if self._failure is not None:
                self._deliver(
                    future, None, DiskNotTrustedError(f"refused after an earlier failure: {self._failure}")
                )
                continue
            try:
                result = work()
            except SnapshotRefused as error:
                self._deliver(future, None, error)
            except StorageError as error:
                self._failure = error
                self._deliver(future, None, error)
            except Exception as error:  # noqa: BLE001 - the thread's top: handed whole to whoever waits
                self._failure = error
                self._deliver(future, None, error)
            else:
                self._deliver(future, result, None)

    def _deliver(self, future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
        try:
            self._loop.call_soon_threadsafe(_settle, future, result, error)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return  # whoever waited was cancelled
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)

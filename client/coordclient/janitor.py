"""Cleaning up after callers who have gone: contenders of locks that nobody waits for any more.

Rule of this file: what is begun here is finished, or dies with the session, whatever happens to the
caller. A session's writes are applied exactly once, so one delete without a deadline is enough.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from coordclient.errors import CoordError

logger = logging.getLogger("coordclient.recipes")

T = TypeVar("T")


class Janitor:
    """Owns the tasks that must outlive a cancellation of whoever began them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()  # whatever their results

    @property
    def task_count(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run `work` to its end. The caller may wait for the task, with `asyncio.wait`, or leave it."""
        task = asyncio.get_running_loop().create_task(work, name=f"coordclient {name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()  # Fetched here, so that one which nobody waits for is not reported as lost.
        if error is not None and not isinstance(error, CoordError):
            logger.error("%s failed", task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Let go: the session ends now, and what was to be cleaned up goes with it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

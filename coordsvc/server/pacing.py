"""Long work in short pieces with rests between them, so that a member doing it stays quick.

Rule of this file: the rest is measured by the piece. Where cores are idle the work merely takes longer; where
they are not, whoever writes and reads gets its share.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from coordsvc.storage.storage_thread import StorageThread

Result = TypeVar("Result")

STEP_S = 0.002


async def at_ease(thread: StorageThread, work: Callable[[], Result], rest: float) -> Result:
    """Do a short piece of work on `thread`, then rest `rest` times as long. Returns its result."""
    began_s = time.monotonic()
    result = await thread.submit(work)
    await asyncio.sleep(rest * (time.monotonic() - began_s))
    return result


def take_steps(steps: Iterator[None]) -> bool:
    """Take steps for about `STEP_S`. Returns whether those were all."""
    until_s = time.monotonic() + STEP_S
    return all(time.monotonic() <= until_s for _ in steps)

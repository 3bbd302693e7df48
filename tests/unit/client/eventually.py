"""Waiting for something to become true, without guessing how long it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def eventually(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Return as soon as the condition holds; fail if it does not within a generous time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # whatever it is has no event to wait for
            await asyncio.sleep(0.002)

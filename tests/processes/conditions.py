"""Waiting for a condition of another process, with a bound.

Rule of this file: whoever waits says what for, and a wait that ends in vain fails with that and with the
last thing that was seen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_INTERVAL_S = 0.02


async def eventually(
    what: str,
    look: Callable[[], Awaitable[T]],
    *,
    within_s: float = 15.0,
    until: Callable[[T], object] = bool,
) -> T:
    """Look again and again until what is seen satisfies `until`; return it."""
    give_up_at = time.monotonic() + within_s
    while True:
        seen = await look()
        if until(seen):
            return seen
        assert time.monotonic() < give_up_at, f"not within {within_s:g} s: {what}; last seen: {seen!r}"
        await asyncio.sleep(_INTERVAL_S)

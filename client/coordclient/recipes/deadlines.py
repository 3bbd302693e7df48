"""Deadlines: one for a whole call of a recipe, however many requests it takes.

Rule of this file: a deadline ends waiting, never work; what was begun is undone by whoever began it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from coordclient.errors import LockTimeoutError, RecipeTimeoutError

FOREVER = math.inf


@asynccontextmanager
async def deadline(
    timeout: float | None, path: str, error: type[RecipeTimeoutError] = RecipeTimeoutError
) -> AsyncIterator[None]:
    """Bound the body of `async with`; `error` comes out when `timeout` seconds are over.

    None and infinity mean: as long as it takes. A TimeoutError of the body's own passes unchanged.
    """
    scope = asyncio.timeout(None if timeout == FOREVER else timeout)
    try:
        async with scope:
            yield
    except TimeoutError:
        if not scope.expired():
            raise
        raise error(_message(timeout or 0.0, path, error), path=path) from None


def _message(timeout: float, path: str, error: type[RecipeTimeoutError]) -> str:
    if issubclass(error, LockTimeoutError):
        return f"{path} was not granted within {timeout:g} s"
    return f"{path}: what was waited for did not come within {timeout:g} s"

"""Blocks: which task or thread is in the `with` of a recipe, and with which grant.

Recipes are descriptions that any number may use at once, so what a block holds is noted by who runs it.

Rule of this file: a block ends with what it began with, also when blocks are nested.
"""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Any, Generic, TypeVar

from coordclient.recipes.faces import BlockingGrant
from coordclient.recipes.grants import Grant

G = TypeVar("G", bound=Grant)
B = TypeVar("B", bound=BlockingGrant[Any])  # whatever it holds


class AsyncBlocks(Generic[G]):
    """The blocks of `async with` of one recipe, by task."""

    def __init__(self) -> None:
        self._entered: dict[asyncio.Task[object] | None, list[G]] = {}

    async def enter(self, grant: G) -> G:
        await grant.__aenter__()
        self._entered.setdefault(asyncio.current_task(), []).append(grant)
        return grant

    async def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = asyncio.current_task()
        grants = self._entered[task]
        grant = grants.pop()
        if not grants:
            del self._entered[task]
        await grant.__aexit__(kind, error, trace)


class Blocks(Generic[B]):
    """The blocks of `with` of one recipe, by thread."""

    def __init__(self) -> None:
        self._entered: dict[threading.Thread, list[B]] = {}

    def enter(self, grant: B) -> B:
        self._entered.setdefault(threading.current_thread(), []).append(grant)
        return grant

    def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        thread = threading.current_thread()
        grants = self._entered[thread]
        grant = grants.pop()
        if not grants:
            del self._entered[thread]
        grant.__exit__(kind, error, trace)

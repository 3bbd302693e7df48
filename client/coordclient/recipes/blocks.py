"""Blocks: which task or thread is in the `with` of a recipe, and with which grant.

Recipes are descriptions that any number may use at once, so what a block holds is noted by who runs it.

Rule of this file: a block ends with what it began with, also when blocks are nested. One that ends in
another task or thread than it began in, as the two halves of a test's fixture do, ends with what was left
by one that has ended; what somebody is still working with is never taken from them.
"""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Any, Generic, TypeVar

from coordclient.errors import ClientStateError
from coordclient.recipes.faces import BlockingGrant
from coordclient.recipes.grants import Grant

K = TypeVar("K")
T = TypeVar("T")
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
        if task not in self._entered:
            task = next((other for other in self._entered if other is None or other.done()), None)
        grant = _taken(self._entered, task)
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
        thread: threading.Thread | None = threading.current_thread()
        if thread not in self._entered:
            thread = next((other for other in list(self._entered) if not other.is_alive()), None)
        grant = _taken(self._entered, thread)
        grant.__exit__(kind, error, trace)


def _taken(entered: dict[K, list[T]], owner: K | None) -> T:
    """Take out what an owner entered last."""
    if owner is None or owner not in entered:
        raise ClientStateError(
            "this block was begun by another task or thread, which still runs: leave it where it was entered"
        )
    grants = entered[owner]
    grant = grants.pop()
    if not grants:
        del entered[owner]
    return grant

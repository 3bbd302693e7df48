"""What the cancellation at every await is tried on.

Rule of this file: `free` succeeds at once, for somebody else, if and only if nothing was left behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from coordclient import AsyncClient

PATH = "/cancelled"
AT_ONCE_S = 5.0


async def keep(_: Any, __: AsyncClient) -> None:
    """Nothing is to be undone."""


async def release(grant: Any, _: AsyncClient) -> None:
    await grant.release()


async def nothing_meanwhile() -> None: ...


async def nothing(_: AsyncClient) -> Callable[[], Awaitable[None]]:
    """Nothing is to be done beforehand, and nothing meanwhile."""
    return nothing_meanwhile


@dataclass(frozen=True, slots=True)
class Scenario:
    """A call that is cancelled.

    Attributes:
        attempt: The call.
        undo: Given the result of a call that was not cancelled, and the other client, takes it back.
        free: Called for another client when the call was cancelled; fails or hangs if it left anything.
        beforehand: Called for another client before each call; what it returns is called as soon as the
            call is over or waits for somebody.
    """

    name: str
    attempt: Callable[[AsyncClient], Coroutine[Any, Any, Any]]
    free: Callable[[AsyncClient], Awaitable[None]]
    undo: Callable[[Any, AsyncClient], Awaitable[None]] = release
    beforehand: Callable[[AsyncClient], Awaitable[Callable[[], Awaitable[None]]]] = nothing

    def __str__(self) -> str:
        return self.name


async def ephemeral_nodes(looker: AsyncClient, *, spared: int = 0, path: str = "/") -> list[str]:
    """Return the nodes of all sessions but the spared one."""
    found = []
    for node in await looker.get_children_nodes(path):
        if node.stat.ephemeral_owner not in (0, spared):
            found.append(node.path)
        if node.stat.num_children:
            found += await ephemeral_nodes(looker, spared=spared, path=node.path)
    return found

"""What the cancellation at every await is tried on: one scenario for each call of a recipe that can wait.

Rule of this file: `free` succeeds at once, for somebody else, if and only if nothing was left behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from coordclient import AsyncClient
from coordclient.recipes.election import AsyncElection
from coordclient.recipes.lock import AsyncLock

PATH = "/cancelled"
AT_ONCE_S = 5.0


async def keep(_: Any) -> None:
    """Nothing is to be undone."""


async def release(grant: Any) -> None:
    await grant.release()


async def nothing(_: AsyncClient) -> Callable[[], Awaitable[None]]:
    """Nothing is to be done beforehand, and nothing meanwhile."""

    async def nothing_meanwhile() -> None: ...

    return nothing_meanwhile


@dataclass(frozen=True, slots=True)
class Scenario:
    """A call that is cancelled.

    Attributes:
        attempt: The call.
        undo: Given the result of a call that was not cancelled, takes it back.
        free: Called for another client when the call was cancelled; fails or hangs if it left anything.
        beforehand: Called for another client before each call; what it returns is called as soon as the
            call is over or waits for somebody.
    """

    name: str
    attempt: Callable[[AsyncClient], Coroutine[Any, Any, Any]]
    free: Callable[[AsyncClient], Awaitable[None]]
    undo: Callable[[Any], Awaitable[None]] = release
    beforehand: Callable[[AsyncClient], Awaitable[Callable[[], Awaitable[None]]]] = nothing

    def __str__(self) -> str:
        return self.name


# ---------------------------------------------------------------------------------------------
# Lock and election


async def lock_is_free(other: AsyncClient) -> None:
    handle = await AsyncLock(other, PATH).acquire(timeout=AT_ONCE_S)
    await handle.release()
    assert await AsyncLock(other, PATH).contenders() == []


async def lock_is_held(other: AsyncClient) -> Callable[[], Awaitable[None]]:
    handle = await AsyncLock(other, PATH).acquire(timeout=AT_ONCE_S)

    return handle.release


async def nobody_leads(other: AsyncClient) -> None:
    assert await AsyncElection(other, PATH).leader() is None
    term = await AsyncElection(other, PATH, b"other").campaign(timeout=AT_ONCE_S)
    await term.resign()
    assert await AsyncLock(other, PATH).contenders() == []


async def another_leads(other: AsyncClient) -> Callable[[], Awaitable[None]]:
    term = await AsyncElection(other, PATH, b"other").campaign(timeout=AT_ONCE_S)

    return term.resign


async def held_and_released(client: AsyncClient) -> None:
    handle = await AsyncLock(client, PATH).acquire()
    await handle.release()


async def held_in_a_block(client: AsyncClient) -> None:
    async with AsyncLock(client, PATH):
        await client.sync()


async def led_in_a_block(client: AsyncClient) -> None:
    async with AsyncElection(client, PATH, b"ours").lead():
        await client.sync()


SCENARIOS = [
    Scenario("lock.acquire", lambda client: AsyncLock(client, PATH).acquire(), lock_is_free),
    Scenario("lock.try_acquire", lambda client: AsyncLock(client, PATH).try_acquire(), lock_is_free),
    Scenario(
        "lock.acquire in the queue",
        lambda client: AsyncLock(client, PATH).acquire(),
        lock_is_free,
        beforehand=lock_is_held,
    ),
    Scenario("lock.release", held_and_released, lock_is_free, undo=keep),
    Scenario("async with lock", held_in_a_block, lock_is_free, undo=keep),
    Scenario(
        "election.campaign", lambda client: AsyncElection(client, PATH, b"ours").campaign(), nobody_leads
    ),
    Scenario(
        "election.campaign in the queue",
        lambda client: AsyncElection(client, PATH, b"ours").campaign(),
        nobody_leads,
        beforehand=another_leads,
    ),
    Scenario("async with election.lead()", led_in_a_block, nobody_leads, undo=keep),
]

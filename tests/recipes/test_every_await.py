"""Something happens at every await of every call of the recipes: nothing is left behind, and others go on.

Each call is made again and again against a real server, and struck at its first await, its second, and so on
until it has no more: by a cancellation, by a request or a reply that is lost with its connection, and by the
end of its session. A lost connection comes out of no call; the end of a session may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from coordclient import AsyncClient
from coordclient.errors import ConnectionLostError, LockLostError, OutcomeUnknownError, SessionExpiredError
from coordsvc.testing import AsyncServer, running_server
from tests.recipes.cancellations import SCENARIOS
from tests.recipes.scenario import Scenario, ephemeral_nodes
from tests.recipes.stepping import Moment, Stepped, Strike, cancellation

AWAITS_MAX = 300
HANGS_S = 20.0  # much longer than anything here takes; only a bug gets there
ROUND_TRIPS = 3  # a request of the call is answered within so many of somebody else's
LOSSES = (LockLostError, OutcomeUnknownError, SessionExpiredError)

MakeStrike = Callable[[AsyncServer, AsyncClient, set[asyncio.Task[None]]], Strike]


def lost_request(server: AsyncServer, _: AsyncClient, __: set[asyncio.Task[None]]) -> Strike:
    """The next write never reaches the server."""

    def strike(_: object) -> None:
        server.link.drop_next_request()

    return strike


def lost_reply(server: AsyncServer, _: AsyncClient, __: set[asyncio.Task[None]]) -> Strike:
    """The next write is applied, and its answer never arrives."""

    def strike(_: object) -> None:
        server.link.drop_next_reply()

    return strike


def cut(server: AsyncServer, _: AsyncClient, __: set[asyncio.Task[None]]) -> Strike:
    """Every connection breaks at this moment."""
    return lambda _: server.link.cut()


def expired(server: AsyncServer, client: AsyncClient, tasks: set[asyncio.Task[None]]) -> Strike:
    """The session ends at this moment."""

    def strike(_: object) -> None:
        tasks.add(asyncio.create_task(server.expire_session(client.session_id)))

    return strike


@pytest.mark.parametrize("moment", list(Moment), ids=lambda moment: moment.name.lower())
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
async def test_cancelled_at_every_await(scenario: Scenario, moment: Moment) -> None:
    await strike_at_every_await(scenario, lambda *_: cancellation(moment), ())


@pytest.mark.parametrize("make_strike", [lost_request, lost_reply, cut], ids=lambda make: make.__name__)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
async def test_connection_lost_at_every_await(scenario: Scenario, make_strike: MakeStrike) -> None:
    await strike_at_every_await(scenario, make_strike, ())


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
async def test_session_lost_at_every_await(scenario: Scenario) -> None:
    await strike_at_every_await(scenario, expired, LOSSES)


async def strike_at_every_await(
    scenario: Scenario, make_strike: MakeStrike, losses: tuple[type[Exception], ...]
) -> None:
    async with (
        running_server() as server,
        AsyncClient(server.endpoints, name="struck") as client,
        AsyncClient(server.endpoints, name="other") as other,
    ):
        tasks: set[asyncio.Task[None]] = set()
        for at in range(AWAITS_MAX):
            stepped = Stepped(scenario.attempt(client), at, make_strike(server, client, tasks))
            try:
                async with asyncio.timeout(HANGS_S):
                    await call_once(scenario, stepped, client, other, losses)
            except (TimeoutError, AssertionError, ConnectionLostError, *LOSSES) as error:
                raise AssertionError(f"{scenario}, struck at await {at}: {error!r}") from error
            for task in tasks:
                await task
            tasks.clear()
            if stepped.awaits <= at:
                break
        else:
            pytest.fail(f"{scenario} has more than {AWAITS_MAX} awaits")

        assert at > 0, "a call that never waits cannot be struck"


async def call_once(
    scenario: Scenario,
    stepped: Stepped[Any],
    client: AsyncClient,
    other: AsyncClient,
    losses: tuple[type[Exception], ...],
) -> None:
    """Make the call and take back what it gave; then nothing of it is left."""
    let_go = await scenario.beforehand(other)
    call = asyncio.create_task(stepped.run())
    await until_it_rests(stepped, call, other)
    await let_go()
    try:
        results = (await call).results
    except losses:
        results = []
    for result in results:
        if result is not None:
            await scenario.undo(result, other)
    await until_cleaned_up(client)
    await scenario.free(other)
    left = await ephemeral_nodes(other, spared=other.session_id)
    assert left == [], f"nodes of the session of the call are left: {left}"


async def until_cleaned_up(client: AsyncClient) -> None:
    while client.janitor.task_count:
        await client.sync()


async def until_it_rests(stepped: Stepped[Any], call: asyncio.Task[Any], other: AsyncClient) -> None:
    """Return when the call is over, or waits for something that the service will not give it by itself."""
    awaits = -1
    while not call.done() and awaits < stepped.awaits:
        awaits = stepped.awaits
        for _ in range(ROUND_TRIPS):
            await other.sync()

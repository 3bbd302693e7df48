"""Cancellation at every await of every call of the recipes: nothing is left behind, and others go on at once.

Each call is made again and again against a real server, and cancelled at its first await, its second, and so
on until it has no more; once while it waits, and once when the answer has come in the same instant.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coordclient import AsyncClient
from coordsvc.testing import running_server
from tests.recipes.cancellations import SCENARIOS
from tests.recipes.scenario import AT_ONCE_S, Scenario, own_nodes
from tests.recipes.stepping import Moment, Stepped

AWAITS_MAX = 300
ROUND_TRIPS = 3  # a request of the call is answered within so many of somebody else's


@pytest.mark.parametrize("moment", list(Moment), ids=lambda moment: moment.name.lower())
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
async def test_cancelled_at_every_await(scenario: Scenario, moment: Moment) -> None:
    async with (
        running_server() as server,
        AsyncClient(server.endpoints, name="cancelled") as client,
        AsyncClient(server.endpoints, name="other") as other,
    ):
        for at in range(AWAITS_MAX):
            awaits = await cancel_once(scenario, client, other, at, moment)
            if awaits <= at:
                break
        else:
            pytest.fail(f"{scenario} has more than {AWAITS_MAX} awaits")

        assert at > 0, "a call that never waits cannot be cancelled"


async def cancel_once(
    scenario: Scenario, client: AsyncClient, other: AsyncClient, at: int, moment: Moment
) -> int:
    """Make the call and cancel it at one await; return how many it had."""
    stepped = Stepped(scenario.attempt(client), at, moment)
    let_go = await scenario.beforehand(other)
    call = asyncio.create_task(stepped.run())
    await until_it_rests(stepped, call, other)
    await let_go()
    outcome = await call
    for result in outcome.results:
        if result is not None:
            await scenario.undo(result, other)
    try:
        async with asyncio.timeout(AT_ONCE_S):
            await until_cleaned_up(client)
            await scenario.free(other)
            left = await own_nodes(client, other)
            assert left == [], f"nodes of the session of the cancelled call: {left}"
    except (TimeoutError, AssertionError) as error:
        where = f"{scenario}, cancelled at await {at} {moment.value}"
        raise AssertionError(f"{where}, left something behind: {error}") from error
    return outcome.awaits


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

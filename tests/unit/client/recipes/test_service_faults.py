"""Services against a real server, over a network that loses requests, replies and connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from coordclient import AsyncClient, AsyncRegistration, Status
from coordclient.recipes.service_health import TtlCheck
from coordclient.recipes.service_instances import Instances
from coordsvc.testing import AsyncServer, running_server
from tests.unit.client.eventually import eventually


@pytest.fixture
async def real() -> AsyncIterator[AsyncServer]:
    async with running_server() as server:
        yield server


@pytest.fixture
async def client(real: AsyncServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(real.endpoints, session_timeout=1.0) as client:
        yield client


async def statuses(client: AsyncClient) -> list[tuple[str, Status]]:
    return [(each.id, each.status) for each in await client.services.discover("api")]


@pytest.mark.parametrize("loses", ["reply", "request"])
@pytest.mark.parametrize("kind", ["create", "set", "delete"])
async def test_what_the_network_loses_is_made_good(
    real: AsyncServer, client: AsyncClient, loses: str, kind: str
) -> None:
    link = real.link
    await client.services.register("api", "h", 1, id="other")  # The directory is there from here on.
    lost = link.drop_next_reply(kind) if loses == "reply" else link.drop_next_request(kind)
    registration = await client.services.register("api", "h", 1, id="x")
    assert await statuses(client) == [("other", Status.PASSING), ("x", Status.PASSING)]
    await registration.set_status(Status.WARNING)
    assert await statuses(client) == [("other", Status.PASSING), ("x", Status.WARNING)]
    await registration.close()

    assert await statuses(client) == [("other", Status.PASSING)]
    await lost.wait()


async def test_an_expired_instance_comes_back_with_the_status_it_has_now(
    real: AsyncServer, client: AsyncClient
) -> None:
    async with AsyncClient(real.endpoints) as consumer:
        alive = TtlCheck(60)
        registration = await client.services.register("api", "h", 1, id="x", health=alive)
        async with consumer.services.pool("api") as pool:
            alive.passing()
            await pool.wait_for_instance(30)
            life = pool.pick().token
            former = client.session_id
            alive.warning("slow")
            await real.expire_session(former)
            await eventually(lambda: registration.is_registered and client.session_id != former)
            await eventually(lambda: [each.token > life for each in pool.instances] == [True])
            assert [(each.status, each.note) for each in pool.instances] == [(Status.WARNING, "slow")]


async def test_a_network_that_is_gone_makes_views_stale_and_empties_none(real: AsyncServer) -> None:
    async with AsyncClient(real.endpoints, session_timeout=30.0) as client:
        await client.services.register("api", "h", 1, id="x")
        views: list[Instances] = []

        async def follow() -> None:
            async for view in client.services.watch("api"):
                views.append(view)  # noqa: PERF401  # one by one, as they come

        following = asyncio.create_task(follow())
        await eventually(lambda: views)
        real.link.refuse()
        await eventually(lambda: views[-1].is_stale)
        real.link.accept()
        await eventually(lambda: not views[-1].is_stale)
        following.cancel()
        await asyncio.wait([following])

    assert [(len(view), view.is_stale) for view in views] == [(1, False), (1, True), (1, False)]


async def test_a_restart_of_the_server_changes_nothing(real: AsyncServer, client: AsyncClient) -> None:
    registration = await client.services.register("api", "h", 1, id="x")
    async with client.services.pool("api") as pool:
        await real.restart()
        await registration.set_status(Status.WARNING)
        await eventually(lambda: [each.status for each in pool.instances] == [Status.WARNING])


async def test_registering_can_be_cancelled_at_every_step(client: AsyncClient) -> None:
    """Either it is there and ours to close, or nothing of it is."""
    for steps in range(0, 60, 2):
        task = asyncio.create_task(
            client.services.register("api", "h", 1, id="x", health=TtlCheck(60)), name="registering"
        )
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            registered: AsyncRegistration = task.result()
            await registered.close()
        await eventually(lambda: client.janitor.task_count == 0)
        assert await statuses(client) == []


async def test_closing_can_be_cancelled_at_every_step(client: AsyncClient) -> None:
    for steps in range(30):
        registration = await client.services.register("api", "h", 1, id="x", health=TtlCheck(60))
        task = asyncio.create_task(registration.close())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await registration.close()
        await eventually(lambda: client.janitor.task_count == 0)
        # What was cancelled before its first step was not begun; the second close has then done it.
        assert await statuses(client) == []

"""Barrier: nobody passes while it is up, everybody passes once it is gone, however they come to know."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coordclient import AsyncClient, InvalidPathError, State
from coordclient.errors import (
    ClientClosedError,
    GuardFailedError,
    RecipeTimeoutError,
    SessionExpiredError,
)
from coordclient.recipes.barrier import AsyncBarrier
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import ClientFrame, FakeServer
from tests.unit.client.recipes.session_losses import lose_session

PATH = "/barriers/a"


def holds_delete(frame: ClientFrame) -> bool:
    return any(write.HasField("delete") for write in frame.writes.writes)


async def waiter(barrier: AsyncBarrier, server: FakeServer) -> asyncio.Task[None]:
    """Start to wait; return when the service knows that somebody does."""
    before = server.watch_count()
    task = asyncio.create_task(barrier.wait())
    await eventually(lambda: server.watch_count() > before)
    return task


@pytest.fixture
def barrier(client: AsyncClient) -> AsyncBarrier:
    return AsyncBarrier(client, PATH)


async def test_who_waits_passes_when_it_is_lifted(barrier: AsyncBarrier, server: FakeServer) -> None:
    assert await barrier.create()
    assert await barrier.is_up()
    waiting = [await waiter(barrier, server) for _ in range(3)]
    assert await barrier.lift()
    await asyncio.gather(*waiting)

    assert not await barrier.is_up()
    assert server.watch_count() == 0


async def test_nobody_waits_at_a_barrier_that_is_not_up(barrier: AsyncBarrier, server: FakeServer) -> None:
    await barrier.wait()
    await barrier.wait(timeout=0)

    assert server.watch_count() == 0


async def test_putting_it_up_or_lifting_it_twice_says_so(barrier: AsyncBarrier) -> None:
    assert [await barrier.create(), await barrier.create()] == [True, False]
    assert [await barrier.lift(), await barrier.lift()] == [True, False]


async def test_a_change_of_its_value_neither_opens_it_nor_loses_the_waiter(
    barrier: AsyncBarrier, server: FakeServer
) -> None:
    await barrier.create(value=b"1")
    waiting = await waiter(barrier, server)
    server.set(PATH, b"2")
    await eventually(lambda: server.watch_count() == 1)
    server.set(PATH, b"3")
    await eventually(lambda: server.watch_count() == 1)
    assert not waiting.done()
    server.delete(PATH)

    await waiting


async def test_who_waits_learns_of_a_lift_that_happened_while_it_was_not_connected(
    barrier: AsyncBarrier, client: AsyncClient, server: FakeServer
) -> None:
    await barrier.create()
    waiting = await waiter(barrier, server)
    server.drop_connections()
    server.delete(PATH)

    await waiting


async def test_who_waits_goes_on_in_the_next_session(
    barrier: AsyncBarrier, client: AsyncClient, server: FakeServer
) -> None:
    await barrier.create()
    waiting = await waiter(barrier, server)
    old = client.session_id
    server.expire(old)
    await eventually(lambda: client.state is State.CONNECTED and client.session_id != old)
    await eventually(lambda: server.watch_count() >= 1)
    assert not waiting.done()
    server.delete(PATH)

    await waiting


async def test_an_ephemeral_barrier_is_lifted_by_the_end_of_its_creator(
    connect: Connect, server: FakeServer
) -> None:
    creator, other = await connect(), await connect()
    assert await AsyncBarrier(creator, PATH).create(ephemeral=True)
    waiting = await waiter(AsyncBarrier(other, PATH), server)
    server.expire(creator.session_id)

    await waiting


async def test_a_timeout_says_that_it_is_still_up(barrier: AsyncBarrier, server: FakeServer) -> None:
    await barrier.create()
    with pytest.raises(RecipeTimeoutError, match=PATH):
        await barrier.wait(timeout=0.02)
    with pytest.raises(RecipeTimeoutError, match=PATH):
        await barrier.wait(timeout=0)

    await eventually(lambda: server.watch_count() == 0)


async def test_who_is_cancelled_leaves_no_watch_behind(
    barrier: AsyncBarrier, client: AsyncClient, server: FakeServer
) -> None:
    await barrier.create()
    waiting = await waiter(barrier, server)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await client.sync()

    await eventually(lambda: server.watch_count() == 0)


async def test_who_waits_hears_that_the_client_was_closed(connect: Connect, server: FakeServer) -> None:
    client = await connect()
    barrier = AsyncBarrier(client, PATH)
    await barrier.create()
    waiting = await waiter(barrier, server)
    await client.close()

    with pytest.raises(ClientClosedError):
        await waiting


async def expire_after_apply(client: AsyncClient, server: FakeServer, ghost_remains: bool) -> None:
    """Let the next write be applied, its answer be lost, and the session with it."""
    server.holds_answers = True
    writes = len(server.live_sessions[0].applied)
    await eventually(lambda: len(server.live_sessions[0].applied) > writes)
    server.holds_answers = False
    session = server.sessions[client.session_id]
    if ghost_remains:
        server.sessions.pop(session.session_id)
        assert session.connection is not None
        server.sessions[session.session_id + 1000] = session
        server.drop_connections()
    else:
        server.expire(session.session_id)


@pytest.mark.parametrize("is_ephemeral", [True, False])
async def test_a_barrier_whose_creation_went_unanswered_is_ours(
    barrier: AsyncBarrier, client: AsyncClient, server: FakeServer, is_ephemeral: bool
) -> None:
    old = client.session_id
    creating = asyncio.create_task(barrier.create(ephemeral=is_ephemeral, value=b"mine"))
    await expire_after_apply(client, server, ghost_remains=True)

    assert await creating
    owner = server.tree.nodes[PATH].stat.ephemeral_owner
    assert owner == (client.session_id if is_ephemeral else 0)
    assert client.session_id != old


async def test_a_lift_that_went_unanswered_is_ours(
    barrier: AsyncBarrier, client: AsyncClient, server: FakeServer
) -> None:
    await barrier.create()
    lose_session(server, client, is_applied=True, at=holds_delete)

    assert await barrier.lift()


@pytest.mark.parametrize("path", ["/", "a"])
def test_a_barrier_needs_a_path(path: str) -> None:
    with pytest.raises(InvalidPathError):
        AsyncBarrier(AsyncClient(), path)


async def test_a_lift_that_arrives_late_lifts_nothing_that_was_put_up_since(
    client: AsyncClient, barrier: AsyncBarrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session is given up here before it is given up there."""
    late: list[dict[str, Any]] = []  # the options of the request
    delete = client.delete

    async def be_late(path: str, **options: Any) -> None:  # those of the real one
        if late:
            await delete(path, **options)
            return
        late.append(options)
        error = SessionExpiredError()
        error.may_have_been_applied = True
        raise error

    monkeypatch.setattr(client, "delete", be_late)
    await barrier.create()
    assert await barrier.lift()
    await barrier.create()
    with pytest.raises(GuardFailedError):
        await client.delete(PATH, **late[0])

    assert await barrier.is_up()
    assert await barrier.lift()
    assert not await barrier.lift()

"""Pools: an instance for each call, from the last view, however the connection is."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from coordclient import (
    AsyncClient,
    Client,
    ClientClosedError,
    ClientStateError,
    Instance,
    InvalidArgumentError,
    NoInstanceError,
    RecipeTimeoutError,
    State,
    Status,
)
from coordclient.portal import shared_portal
from coordclient.recipes.service_health import CallableCheck
from coordclient.recipes.service_pool import AsyncServicePool, ServicePool
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import Code, FakeServer


def ids(pool: AsyncServicePool | ServicePool, count: int = 8) -> set[str]:
    return {pool.pick("key").id for _ in range(count)}


async def register_three(client: AsyncClient) -> None:
    for name in "abc":
        await client.services.register("api", "h", 1, id=name)


# ---------------------------------------------------------------------------------------------
# Following the service


@pytest.mark.parametrize("strategy", ["round-robin", "random", "least-pending", "sticky"])
async def test_a_pool_follows_its_service(connect: Connect, strategy: str) -> None:
    consumer, provider = await connect(), await connect()
    registration = await provider.services.register("api", "h", 1, id="a")
    async with consumer.services.pool("api", pick=strategy) as pool:
        assert ids(pool) == {"a"}
        await provider.services.register("api", "h", 1, id="b")
        await eventually(lambda: len(pool.instances) == 2)
        await registration.set_status(Status.DRAINING)
        await eventually(lambda: ids(pool) == {"b"})
        await registration.close()
        await eventually(lambda: len(pool.instances) == 1)
        assert not pool.is_stale
        assert "instances=1" in repr(pool)


async def test_only_instances_with_the_tags_are_in_it(client: AsyncClient) -> None:
    await client.services.register("api", "h", 1, id="a", tags=["blue"])
    await client.services.register("api", "h", 1, id="b")
    async with client.services.pool("api", tags=["blue"]) as pool:
        assert ids(pool) == {"a"}


async def test_a_pool_answers_while_nobody_can_be_reached(connect: Connect, server: FakeServer) -> None:
    client = await connect(session_timeout=30.0)
    await register_three(client)
    async with client.services.pool("api") as pool:
        server.refuse_attaches = [Code.NO_LEADER] * 10_000
        server.drop_connections()
        await eventually(lambda: pool.is_stale)
        assert ids(pool) == {"a", "b", "c"}
        assert "stale" in repr(pool)
        server.refuse_attaches.clear()
        await eventually(lambda: not pool.is_stale)


async def test_a_pool_outlives_its_session(connect: Connect, server: FakeServer) -> None:
    consumer, provider = await connect(), await connect()
    await register_three(provider)
    async with consumer.services.pool("api") as pool:
        former = consumer.session_id
        server.expire(former)
        await eventually(lambda: consumer.session_id not in (0, former) and not pool.is_stale)
        await provider.services.register("api", "h", 1, id="d")
        await eventually(lambda: len(pool.instances) == 4)


async def test_a_pool_that_finds_nobody_to_ask_says_so(connect: Connect, server: FakeServer) -> None:
    client = await connect(session_timeout=30.0)
    server.refuse_attaches = [Code.NO_LEADER] * 10_000
    server.drop_connections()
    await eventually(lambda: client.state is State.SUSPENDED)
    pool = client.services.pool("api")
    with pytest.raises(RecipeTimeoutError, match="could not be read"):
        await pool.start(timeout=0.05)
    await eventually(lambda: client.janitor.task_count == 0)

    with pytest.raises(ClientStateError, match="closed"):
        pool.pick()


# ---------------------------------------------------------------------------------------------
# Calls


async def test_calls_are_counted_while_they_are_under_way(client: AsyncClient) -> None:
    await register_three(client)
    async with client.services.pool("api", pick="least-pending") as pool:
        with pool.use() as first, pool.use() as second:
            async with pool.use() as third:
                assert {first.id, second.id, third.id} == {"a", "b", "c"}
            assert ids(pool) == {third.id}
        assert ids(pool, 100) == {"a", "b", "c"}


async def call(pool: AsyncServicePool, error: BaseException | None = None) -> Instance:
    """Make a call that fails in this way."""
    with pool.use() as instance:
        if error is not None:
            raise error
    return instance


async def test_failing_calls_take_an_instance_out(client: AsyncClient) -> None:
    await client.services.register("api", "h", 1, id="a")
    async with client.services.pool("api", eject_after=2, eject_seconds=1000) as pool:
        for _ in range(2):
            with pytest.raises(ConnectionError, match="refused"):
                await call(pool, ConnectionError("refused"))
        assert [instance.id for instance in pool.ejected] == ["a"]
        assert (await call(pool)).id == "a"  # There is no other.
        assert pool.ejected == ()


async def test_a_cancelled_call_is_no_failure(client: AsyncClient) -> None:
    await client.services.register("api", "h", 1, id="a")
    async with client.services.pool("api", eject_after=1) as pool:
        with pytest.raises(asyncio.CancelledError):
            await call(pool, asyncio.CancelledError())
        assert pool.ejected == ()


async def test_a_call_without_use_is_reported_by_hand(client: AsyncClient) -> None:
    await register_three(client)
    async with client.services.pool("api", eject_after=1, eject_seconds=1000) as pool:
        bad = pool.pick()
        pool.report(bad, TimeoutError("no answer"))
        assert ids(pool) == {"a", "b", "c"} - {bad.id}
        pool.report(bad)
        assert ids(pool) == {"a", "b", "c"}


async def test_if_all_fail_all_are_used(client: AsyncClient) -> None:
    await register_three(client)
    async with client.services.pool("api", eject_after=1, eject_seconds=1000) as pool:
        for instance in pool.instances:
            pool.report(instance, TimeoutError("no answer"))
        assert ids(pool) == {"a", "b", "c"}
        assert pool.is_panicking


async def test_a_use_is_for_one_call(client: AsyncClient) -> None:
    await register_three(client)
    async with client.services.pool("api") as pool:
        use = pool.use()
        with use:
            pass
        with pytest.raises(ClientStateError, match="each call"), use:
            pass


# ---------------------------------------------------------------------------------------------
# Nobody there


async def test_nobody_to_pick_is_an_error_that_says_why(client: AsyncClient) -> None:
    async with client.services.pool("api") as pool:
        with pytest.raises(NoInstanceError, match="'api' can be used: nobody is registered"):
            pool.pick()
        with pytest.raises(NoInstanceError), pool.use():
            pass


async def test_one_can_wait_for_an_instance(client: AsyncClient) -> None:
    async with client.services.pool("api") as pool:
        waiting = [asyncio.create_task(pool.wait_for_instance()) for _ in range(3)]
        registration = await client.services.register("api", "h", 1, id="a", status=Status.CRITICAL)
        await eventually(lambda: len(pool.instances) == 1)
        assert not any(task.done() for task in waiting)
        await registration.set_status(Status.PASSING)
        await asyncio.gather(*waiting)
        await pool.wait_for_instance(timeout=0)
        assert pool.pick().id == "a"


async def test_waiting_for_an_instance_ends(client: AsyncClient) -> None:
    async with client.services.pool("api") as pool:
        await client.services.register("api", "h", 1, status=Status.CRITICAL)
        await eventually(lambda: len(pool.instances) == 1)
        with pytest.raises(RecipeTimeoutError, match=r"within 0.01 s: 1 critical"):
            await pool.wait_for_instance(timeout=0.01)
        waiting = asyncio.create_task(pool.wait_for_instance())
        await asyncio.sleep(0)
        await pool.close()
        with pytest.raises(ClientStateError, match="closed"):
            await waiting


async def test_waiting_ends_with_the_client(connect: Connect) -> None:
    client = await connect()
    pool = await client.services.pool("api").start()
    waiting = asyncio.create_task(pool.wait_for_instance())
    await asyncio.sleep(0)
    await client.close()

    with pytest.raises(ClientClosedError):
        await waiting
    assert pool.is_stale
    with pytest.raises(ClientClosedError):
        await client.services.pool("api").start()


# ---------------------------------------------------------------------------------------------
# The life of a pool


async def test_a_pool_that_is_not_open_says_so(client: AsyncClient, server: FakeServer) -> None:
    await register_three(client)
    pool = client.services.pool("api")
    with pytest.raises(ClientStateError, match="`with` statement"):
        pool.pick()
    with pytest.raises(ClientStateError, match="`with` statement"):
        await pool.wait_for_instance()
    async with pool:
        assert await pool.start() is pool
    await pool.close()
    with pytest.raises(ClientStateError, match="make a new one"), pool.use():
        pass
    with pytest.raises(ClientStateError, match="make a new one"):
        await pool.start()
    await eventually(lambda: server.watch_count() == 3)  # Those of the registrations.


async def test_opening_a_pool_can_be_cancelled_at_every_step(client: AsyncClient, server: FakeServer) -> None:
    driver = client._driver
    assert driver is not None
    listeners = driver.listener_count
    for steps in range(40):
        opening = asyncio.create_task(client.services.pool("api").start())
        for _ in range(steps):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        if not opening.cancelled():
            await opening.result().close()
    await eventually(lambda: client.janitor.task_count == 0 and server.watch_count() == 0)

    assert driver.listener_count == listeners


async def test_settings_that_make_no_sense_are_refused_at_once(client: AsyncClient) -> None:
    for wrong in (
        {"pick": "best"},
        {"eject_after": 0},
        {"eject_seconds": -1.0},
        {"tags": "blue"},
        {"name": "/"},
    ):
        with pytest.raises(InvalidArgumentError):
            client.services.pool(**{"name": "api", **wrong})  # type: ignore[arg-type]  # that is what is tested


# ---------------------------------------------------------------------------------------------
# For threads


@pytest.fixture
def blocking_client() -> Iterator[Client]:
    portal = shared_portal()
    fake = portal.run(_serve())
    with Client(fake.address) as client:
        yield client
    portal.run(fake.stop())


async def _serve() -> FakeServer:
    fake = FakeServer()
    await fake.start()
    return fake


def test_both_faces_have_the_same_methods_with_the_same_arguments() -> None:
    names = [
        name for name in dir(ServicePool) if name[0] != "_" and inspect.isfunction(getattr(ServicePool, name))
    ]
    assert names == ["close", "pick", "report", "start", "use", "wait_for_instance"]
    for name in names:
        mine, theirs = (
            inspect.signature(getattr(kind, name)).parameters for kind in (ServicePool, AsyncServicePool)
        )
        assert [(each.name, each.default) for each in mine.values()] == [
            (each.name, each.default) for each in theirs.values()
        ]


def test_threads_share_a_pool(blocking_client: Client) -> None:
    services = blocking_client.services
    with services.pool("api") as pool:
        with pytest.raises(RecipeTimeoutError):
            pool.wait_for_instance(timeout=0.01)
        for name in "abc":
            services.register("api", "h", 1, id=name)
        pool.wait_for_instance(timeout=30)
        shared_portal().run(eventually(lambda: len(pool.instances) == 3))

        def calls() -> list[str]:
            picked = []
            for _ in range(300):
                with pool.use() as instance:
                    picked.append(instance.id)
            return picked

        usual = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)  # As many interruptions as can be had.
        with ThreadPoolExecutor(4) as threads:
            futures = [threads.submit(calls) for _ in range(4)]
        sys.setswitchinterval(usual)
        counts = [sum(future.result().count(name) for future in futures) for name in "abc"]
        assert counts == [400, 400, 400]
        assert not pool.is_stale
        assert not pool.is_panicking
        bad = pool.pick()
        for _ in range(3):
            pool.report(bad, OSError("refused"))
        assert pool.ejected == (bad,)
    assert "ServicePool api" in repr(pool)
    with pytest.raises(ClientStateError):
        pool.pick()


def test_a_check_of_threads_runs_in_a_thread_and_blocks_nobody(blocking_client: Client) -> None:
    begun, may_return = threading.Event(), threading.Event()
    names: list[str] = []

    def check() -> None:
        names.append(threading.current_thread().name)
        begun.set()
        may_return.wait(30)

    health = CallableCheck(check, timeout=30)
    with blocking_client.services.register("api", "h", 1, id="x", health=health) as registration:
        assert begun.wait(30)
        assert blocking_client.services.discover("api", passing=True) == []
        may_return.set()
        with blocking_client.services.pool("api") as pool:
            pool.wait_for_instance(30)
        assert registration.status is Status.PASSING
        assert blocking_client.services.names() == ["api"]
        registration.set_status(Status.WARNING)
        assert [each.status for each in blocking_client.services.discover("api")] == [Status.WARNING]
        registration.drain(0.01)
    assert blocking_client.services.discover("api") == []
    assert names == ["coordclient check"]


def test_a_check_may_call_its_own_client(blocking_client: Client) -> None:
    """It is in a thread of its own: waiting for the client's loop does not stop that."""

    def check() -> bool:
        return blocking_client.exists("/services") is not None

    with (
        blocking_client.services.register("api", "h", 1, health=check),
        blocking_client.services.pool("api") as pool,
    ):
        pool.wait_for_instance(30)

"""Service registry: registrations that come back by themselves, and views that follow every change."""

from __future__ import annotations

import asyncio
import json

import pytest

from coordclient import AsyncClient, Instance, InstanceTakenError, InvalidArgumentError, State, Status
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import Code, FakeServer

DIRECTORY = "/services/api"


async def test_an_instance_is_registered_found_and_taken_back(
    client: AsyncClient, server: FakeServer
) -> None:
    registration = await client.services.register("api", "10.0.0.7", 8080, payload={"zone": "a"}, id="x")
    (instance,) = await client.services.discover("api")

    assert (instance.name, instance.id, instance.address, instance.port) == ("api", "x", "10.0.0.7", 8080)
    assert (instance.payload, instance.status) == ({"zone": "a"}, Status.PASSING)
    assert instance.token == server.tree.nodes[f"{DIRECTORY}/x"].stat.czxid
    assert server.tree.nodes[f"{DIRECTORY}/x"].stat.ephemeral_owner == client.session_id
    assert registration.is_registered

    await registration.close()
    await registration.close()
    assert await client.services.discover("api") == []


async def test_a_service_that_nobody_offers_has_no_instances(client: AsyncClient) -> None:
    assert await client.services.discover("nothing") == []


async def test_instances_are_sorted_and_strangers_left_out(client: AsyncClient, server: FakeServer) -> None:
    for name in "cab":
        await client.services.register("api", "h", 1, id=name)
    server.set(f"{DIRECTORY}/no-json", b"\xff")
    server.set(f"{DIRECTORY}/no-instance", b"[1]")
    server.set(f"{DIRECTORY}/no-address", json.dumps({"port": 1}).encode())

    assert [instance.id for instance in await client.services.discover("api")] == ["a", "b", "c"]


async def test_registering_ends_with_its_block(client: AsyncClient, server: FakeServer) -> None:
    async with await client.services.register("api", "h", 1):
        assert len(server.names(DIRECTORY)) == 1

    assert server.names(DIRECTORY) == []


async def test_updates_are_published(client: AsyncClient) -> None:
    registration = await client.services.register("api", "h", 1, id="x")
    await registration.update(status=Status.DRAINING, payload={"load": 3})
    (instance,) = await client.services.discover("api")

    assert (instance.status, instance.payload, instance.address) == (Status.DRAINING, {"load": 3}, "h")
    await registration.close()
    with pytest.raises(InvalidArgumentError):
        await registration.update(status=Status.PASSING)


@pytest.mark.parametrize(
    "wrong",
    [{"name": "a/b"}, {"name": ""}, {"id": "a/b"}, {"id": ".."}, {"port": 70000}, {"payload": {"a": {1}}}],
)
async def test_what_makes_no_sense_is_refused(
    client: AsyncClient, server: FakeServer, wrong: dict[str, str]
) -> None:
    arguments = {"name": "api", "address": "h", "port": 1, **wrong}
    with pytest.raises(InvalidArgumentError):
        await client.services.register(**arguments)  # type: ignore[arg-type]  # that is what is tested

    assert server.names("/services/api") == []


async def test_an_id_is_taken_once(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(), await connect()
    await first.services.register("api", "one", 1, id="x")

    with pytest.raises(InstanceTakenError):
        await second.services.register("api", "two", 2, id="x")
    await second.sync()
    assert [instance.address for instance in await first.services.discover("api")] == ["one"]


# ---------------------------------------------------------------------------------------------
# Lost sessions


async def test_a_registration_comes_back_after_a_lost_session(
    client: AsyncClient, server: FakeServer
) -> None:
    registration = await client.services.register("api", "h", 1, id="x")
    former = client.session_id
    server.expire(former)
    await eventually(lambda: server.names(DIRECTORY) == ["x"])

    assert server.tree.nodes[f"{DIRECTORY}/x"].stat.ephemeral_owner == client.session_id != former
    await eventually(lambda: registration.is_registered)


async def test_what_comes_back_is_what_was_announced_last(connect: Connect, server: FakeServer) -> None:
    client = await connect(session_timeout=0.5)
    registration = await client.services.register("api", "h", 1, id="x")
    session_id = client.session_id
    server.is_silent = True
    server.drop_connections()
    await eventually(lambda: client.state is State.LOST)
    await registration.update(status=Status.DRAINING)
    server.expire(session_id)
    server.is_silent = False
    await eventually(lambda: server.names(DIRECTORY) == ["x"])

    assert (await client.services.discover("api"))[0].status == Status.DRAINING


async def test_a_closed_registration_does_not_come_back(client: AsyncClient, server: FakeServer) -> None:
    registration = await client.services.register("api", "h", 1, id="x")
    await registration.close()
    former = client.session_id
    server.expire(former)
    await eventually(lambda: client.session_id not in (0, former))
    await client.sync()

    assert server.names(DIRECTORY) == []


async def test_what_an_earlier_session_left_is_replaced(connect: Connect, server: FakeServer) -> None:
    """The client gave its session up, but the service has not yet."""
    client = await connect(session_timeout=0.5)
    registration = await client.services.register("api", "h", 1, id="x")
    former = server.tree.nodes[f"{DIRECTORY}/x"].stat.czxid
    server.is_silent = True
    server.drop_connections()
    await eventually(lambda: client.state is State.LOST)
    server.is_silent = False
    await eventually(lambda: registration.is_registered)

    assert server.tree.nodes[f"{DIRECTORY}/x"].stat.czxid > former
    assert server.tree.nodes[f"{DIRECTORY}/x"].stat.ephemeral_owner == client.session_id


async def test_a_registration_waits_for_its_id_to_become_free(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(), await connect()
    registration = await first.services.register("api", "one", 1, id="x")
    server.refuse_attaches = [Code.NO_LEADER] * 1000
    server.expire(first.session_id)
    other = await second.services.register("api", "two", 2, id="x")
    server.refuse_attaches.clear()
    await eventually(lambda: server.watch_count() == 1)
    assert not registration.is_registered
    await other.close()
    await eventually(lambda: registration.is_registered)

    assert [instance.address for instance in await second.services.discover("api")] == ["one"]


async def test_a_registration_given_up_while_it_is_made_leaves_nothing(
    client: AsyncClient, server: FakeServer
) -> None:
    server.holds_answers = True
    task = asyncio.create_task(client.services.register("api", "h", 1, id="x"))
    await eventually(lambda: server.frames)
    task.cancel()
    await asyncio.wait([task])
    server.release_answers()
    await eventually(lambda: client.janitor.task_count == 0)
    await client.sync()

    assert server.names(DIRECTORY) == []


async def test_a_session_lost_while_registering_is_not_the_callers_business(
    client: AsyncClient, server: FakeServer
) -> None:
    server.holds_answers = True
    task = asyncio.create_task(client.services.register("api", "h", 1, id="x"))
    await eventually(lambda: server.names(DIRECTORY) == ["x"] or server.frames)
    former = client.session_id
    server.expire(former)
    server.release_answers()
    registration = await task

    assert registration.is_registered
    assert server.tree.nodes[f"{DIRECTORY}/x"].stat.ephemeral_owner == client.session_id != former


async def test_what_a_session_left_that_was_lost_while_registering_is_replaced(
    connect: Connect, server: FakeServer
) -> None:
    """The node was made, the answer never came, and the service has not given the session up yet."""
    client = await connect(session_timeout=0.5)
    await client.create(DIRECTORY, container=True, parents=True)
    server.holds_answers = server.is_silent = True
    task = asyncio.create_task(client.services.register("api", "h", 1, id="x"))
    await eventually(lambda: server.names(DIRECTORY) == ["x"])
    former = server.tree.nodes[f"{DIRECTORY}/x"].stat.ephemeral_owner
    server.drop_connections()
    await eventually(lambda: client.state is State.LOST)
    server.release_answers()
    server.is_silent = False
    registration = await task

    assert registration.is_registered
    assert server.tree.nodes[f"{DIRECTORY}/x"].stat.ephemeral_owner == client.session_id != former


# ---------------------------------------------------------------------------------------------
# Views


class Views:
    """What a consumer has seen."""

    def __init__(self, client: AsyncClient) -> None:
        self.seen: list[tuple[Instance, ...]] = []
        self._task = asyncio.create_task(self._follow(client))

    async def _follow(self, client: AsyncClient) -> None:
        async for instances in client.services.watch("api"):
            assert isinstance(instances, tuple)
            self.seen.append(instances)

    def last(self) -> list[tuple[str, str]]:
        return [(instance.id, instance.status) for instance in self.seen[-1]] if self.seen else [("none", "")]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def test_a_view_begins_with_what_is_there_and_follows(connect: Connect, server: FakeServer) -> None:
    consumer, provider = await connect(), await connect()
    first = await provider.services.register("api", "h", 1, id="a")
    views = Views(consumer)
    await eventually(lambda: views.last() == [("a", Status.PASSING)])
    await provider.services.register("api", "h", 2, id="b")
    await eventually(lambda: views.last() == [("a", Status.PASSING), ("b", Status.PASSING)])
    await first.update(status=Status.DRAINING)
    await eventually(lambda: views.last() == [("a", Status.DRAINING), ("b", Status.PASSING)])
    await first.close()
    await eventually(lambda: views.last() == [("b", Status.PASSING)])
    server.expire(provider.session_id)
    await eventually(lambda: len(views.seen) >= 6 and views.last() == [("b", Status.PASSING)])
    await views.close()


async def test_a_view_is_kept_while_nobody_can_be_reached_and_then_catches_up(
    connect: Connect, server: FakeServer
) -> None:
    consumer = await connect(session_timeout=0.5)
    provider = await connect(session_timeout=3)
    registration = await provider.services.register("api", "h", 1, id="a")
    views = Views(consumer)
    await eventually(lambda: views.last() == [("a", Status.PASSING)])
    server.is_silent = True
    server.drop_connections()
    await eventually(lambda: consumer.state is State.LOST)
    assert views.last() == [("a", Status.PASSING)]
    server.is_silent = False
    await registration.update(status=Status.DRAINING)

    await eventually(lambda: views.last() == [("a", Status.DRAINING)])
    await views.close()


async def test_a_view_is_read_anew_when_history_is_gone(connect: Connect, server: FakeServer) -> None:
    consumer, provider = await connect(), await connect()
    await provider.services.register("api", "h", 1, id="a")
    views = Views(consumer)
    await eventually(lambda: views.last() == [("a", Status.PASSING)])
    server.drop_connections()
    await provider.services.register("api", "h", 1, id="b")
    server.tree.zxid = server.history_begins_after = 100
    server.tree.changes.clear()

    await eventually(lambda: views.last() == [("a", Status.PASSING), ("b", Status.PASSING)])
    await views.close()

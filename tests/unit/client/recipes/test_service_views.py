"""Views of a service: what is selected, when they are stale, and that nobody vanishes without proof."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordclient import AsyncClient, ClientClosedError, Instance, InvalidArgumentError, State, Status
from coordclient.recipes.service_instances import Instances, Record, instance_of
from coordclient.types import Node, Stat
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import Code, FakeServer

STAT = Stat(7, 8, 0, 1000, 0, 0, 0, 0, 1, 0, 0)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
FIELDS = st.dictionaries(
    st.sampled_from(["address", "port", "payload", "tags", "weight", "status", "note", "schema"]), JSON
)


class Views:
    """What a consumer has seen."""

    def __init__(self, client: AsyncClient, *, passing: bool = False, tags: tuple[str, ...] = ()) -> None:
        self.seen: list[Instances] = []
        self.task = asyncio.create_task(self._follow(client, passing, tags))

    async def _follow(self, client: AsyncClient, passing: bool, tags: tuple[str, ...]) -> None:
        async for instances in client.services.watch("api", passing=passing, tags=tags):
            self.seen.append(instances)

    @property
    def history(self) -> list[tuple[list[str], bool]]:
        """Return for each view who was in it, and whether it was stale."""
        return [([instance.id for instance in view], view.is_stale) for view in self.seen]

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


def cut_off(server: FakeServer) -> None:
    """Break the connections, and let nobody attach until `reconnect`."""
    server.refuse_attaches = [Code.NO_LEADER] * 10_000
    server.drop_connections()


def reconnect(server: FakeServer) -> None:
    server.refuse_attaches.clear()


# ---------------------------------------------------------------------------------------------
# What is selected


async def test_only_what_was_asked_for_is_found(client: AsyncClient) -> None:
    services = client.services
    await services.register("api", "h", 1, id="a", tags=["blue", "new"])
    await services.register("api", "h", 1, id="b", tags=["blue"], status=Status.WARNING)
    await services.register("api", "h", 1, id="c", status=Status.DRAINING)

    async def found(*, passing: bool = False, tags: tuple[str, ...] = ()) -> list[str]:
        return [instance.id for instance in await services.discover("api", passing=passing, tags=tags)]

    assert await found() == ["a", "b", "c"]
    assert await found(passing=True) == ["a"]
    assert await found(tags=("blue",)) == ["a", "b"]
    assert await found(tags=("new", "blue")) == ["a"]
    assert await found(passing=True, tags=("red",)) == []
    with pytest.raises(InvalidArgumentError, match="sequence of words"):
        await services.discover("api", tags="blue")


async def test_services_with_an_instance_have_a_name(client: AsyncClient) -> None:
    assert await client.services.names() == []
    await client.services.register("web", "h", 1)
    registration = await client.services.register("api", "h", 1, status=Status.CRITICAL)
    assert await client.services.names() == ["api", "web"]
    await registration.close()

    assert await client.services.names() == ["web"]


async def test_a_view_changes_only_when_what_is_selected_changes(connect: Connect) -> None:
    consumer, provider = await connect(), await connect()
    views = Views(consumer, passing=True, tags=("blue",))
    await eventually(lambda: views.history == [([], False)])
    await provider.services.register("api", "h", 1, id="red", tags=["red"])
    blue = await provider.services.register("api", "h", 1, id="blue", tags=["blue"])
    await eventually(lambda: len(views.seen) == 2)
    await blue.set_status(Status.WARNING)
    await eventually(lambda: len(views.seen) == 3)
    await blue.set_status(Status.CRITICAL)
    await blue.update(payload={"load": 3})
    await blue.set_status(Status.PASSING)
    await eventually(lambda: len(views.seen) == 4)
    await views.close()

    assert views.history == [([], False), (["blue"], False), ([], False), (["blue"], False)]


# ---------------------------------------------------------------------------------------------
# Staleness


async def test_a_view_says_that_it_is_stale_and_then_that_it_is_not(
    connect: Connect, server: FakeServer
) -> None:
    consumer = await connect(session_timeout=30.0)
    await consumer.services.register("api", "h", 1, id="a")
    views = Views(consumer)
    await eventually(lambda: views.history == [(["a"], False)])
    cut_off(server)
    await eventually(lambda: views.history[1:] == [(["a"], True)])
    reconnect(server)
    await eventually(lambda: views.history[2:] == [(["a"], False)])
    await views.close()

    assert "stale" in repr(views.seen[1])
    assert "stale" not in repr(views.seen[2])
    assert views.seen[1] == views.seen[2] == (views.seen[0][0],)


async def test_after_a_suspension_the_view_is_what_is_there_now(connect: Connect, server: FakeServer) -> None:
    consumer = await connect(session_timeout=30.0)
    registration = await consumer.services.register("api", "h", 1, id="a")
    views = Views(consumer)
    await eventually(lambda: views.seen)
    cut_off(server)
    await eventually(lambda: views.seen[-1].is_stale)
    record = Record("elsewhere", 2, status=Status.WARNING)
    server.set("/services/api/b", record.encode())
    reconnect(server)
    await eventually(lambda: not views.seen[-1].is_stale)
    await eventually(lambda: [instance.id for instance in views.seen[-1]] == ["a", "b"])
    await views.close()
    await registration.close()


async def test_a_lost_session_empties_no_view(connect: Connect, server: FakeServer) -> None:
    consumer = await connect(session_timeout=0.5)
    provider = await connect(session_timeout=30.0)
    await provider.services.register("api", "h", 1, id="a")
    views = Views(consumer)
    await eventually(lambda: views.seen)
    server.is_silent = True
    server.drop_connections()
    await eventually(lambda: consumer.state is State.LOST)
    server.is_silent = False
    await eventually(lambda: consumer.state is State.CONNECTED and not views.seen[-1].is_stale)
    await views.close()

    assert all(ids == ["a"] for ids, _ in views.history)
    assert (["a"], True) in views.history


async def test_a_session_that_is_lost_while_the_view_is_read_is_not_the_readers_business(
    client: AsyncClient, server: FakeServer
) -> None:
    await client.services.register("api", "h", 1, id="a")
    former = client.session_id

    def hold(frame: object) -> None:
        server.holds_answers = server.holds_answers or reads_of(server) > 0

    server.frames.clear()
    server.on_frame = hold
    views = Views(client)
    await eventually(lambda: reads_of(server))
    assert views.seen == []
    server.on_frame = None
    server.expire(former)
    server.release_answers()
    await eventually(lambda: views.seen and [each.id for each in views.seen[-1]] == ["a"])
    await views.close()


async def test_that_nobody_is_left_is_asked_again_before_it_is_told(
    connect: Connect, server: FakeServer
) -> None:
    consumer, provider = await connect(), await connect()
    registration = await provider.services.register("api", "h", 1, id="a")
    views = Views(consumer)
    await eventually(lambda: views.seen)
    asked = reads_of(server)
    await registration.close()
    await eventually(lambda: views.history == [(["a"], False), ([], False)])

    assert reads_of(server) > asked
    await views.close()


async def test_an_instance_that_is_back_before_it_was_confirmed_gone_was_never_gone(
    connect: Connect, server: FakeServer
) -> None:
    """Nobody is told of an empty service that is empty no longer."""
    consumer, provider = await connect(), await connect()
    registration = await provider.services.register("api", "h", 1, id="a")
    views = Views(consumer)
    await eventually(lambda: views.seen)
    server.delete("/services/api/a")  # The registration brings it back at once.
    server.set("/services/api/b", Record("h", 2).encode())
    await eventually(lambda: registration.is_registered and len(views.seen[-1]) == 2)
    await views.close()

    assert ([], False) not in views.history


def reads_of(server: FakeServer) -> int:
    """Count the reads of children that have arrived."""
    return sum(read.WhichOneof("op") == "list_children" for frame in server.frames for read in frame.reads)


async def test_a_watch_ends_with_its_client(connect: Connect) -> None:
    client = await connect()
    views = Views(client)
    await eventually(lambda: views.seen)
    await client.close()
    await asyncio.wait([views.task])

    assert isinstance(views.task.exception(), ClientClosedError)


async def test_a_watch_that_is_left_leaves_nothing(client: AsyncClient, server: FakeServer) -> None:
    driver = client._driver
    assert driver is not None
    before = len(asyncio.all_tasks()), driver.listener_count
    for _ in range(20):
        await seen_and_left(client)
    await eventually(lambda: server.watch_count() == 0)

    assert (len(asyncio.all_tasks()), driver.listener_count) == before


async def seen_and_left(client: AsyncClient) -> None:
    views = Views(client)
    await eventually(lambda: views.seen)
    await views.close()


# ---------------------------------------------------------------------------------------------
# Records


def test_what_is_written_is_read_back() -> None:
    record = Record("h", 1, {"zone": "a"}, ("blue",), 5, Status.WARNING, "slow")

    assert instance_of(Node("/services/api/x", record.encode(), STAT)) == Instance(
        "api", "x", "h", 1, {"zone": "a"}, Status.WARNING, 1000, 7, ("blue",), 5, "slow"
    )


def test_instances_can_be_kept_in_sets() -> None:
    one = Instance("api", "x", "h", 1, {"zone": ["a"]})
    same = Instance("api", "x", "h", 1, {"zone": ["a"]})

    other = Instance("api", "x", "h", 1, {"zone": ["b"]})

    assert len({one, same, other}) == 2


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({}, (Status.PASSING, (), 1)),
        ({"status": "starting"}, (Status.CRITICAL, (), 1)),
        ({"status": 3}, (Status.CRITICAL, (), 1)),
        ({"tags": "blue", "weight": True}, (Status.PASSING, (), 1)),
        ({"tags": ["blue", 3], "weight": 0}, (Status.PASSING, ("blue",), 1)),
    ],
)
def test_what_cannot_be_understood_makes_nobody_usable(
    written: dict[str, object], read: tuple[Status, tuple[str, ...], int]
) -> None:
    value = json.dumps({"address": "h", "port": 1, **written}).encode()
    instance = instance_of(Node("/services/api/x", value, STAT))

    assert instance is not None
    assert (instance.status, instance.tags, instance.weight) == read


@settings(deadline=None)
@given(st.binary() | FIELDS.map(lambda content: json.dumps(content).encode()))
def test_whatever_a_node_holds_it_is_an_instance_or_none(value: bytes) -> None:
    instance = instance_of(Node("/services/api/x", value, STAT))

    assert instance is None or (instance.status in Status and instance.weight >= 1)


def test_a_node_nested_too_deep_is_no_instance() -> None:
    assert instance_of(Node("/services/api/x", b"[" * 200_000, STAT)) is None

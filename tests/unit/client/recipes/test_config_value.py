"""ConfigValue: always a good value at hand, and no write that was not taken into account."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import asdict, dataclass
from typing import Any, Self

import pytest

from coordclient import (
    AsyncClient,
    BadVersionError,
    ClientStateError,
    InvalidPathError,
    NotConnectedError,
    State,
)
from coordclient.errors import InvalidValueError, OutcomeUnknownError
from coordclient.recipes.config_value import AsyncConfigValue
from coordproto.v1 import coordination_pb2, data_pb2
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import FakeServer

PATH = "/config/limits"


@dataclass(frozen=True)
class Limits:
    """A value as an application would have it."""

    rate: int = 10

    @classmethod
    def decode(cls, value: bytes) -> Self:
        return cls(**json.loads(value))

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()


@pytest.fixture
def config(client: AsyncClient) -> AsyncConfigValue[Any]:
    return AsyncConfigValue(client, PATH)


def lose_session_at_next_write(server: FakeServer, *, is_applied: bool) -> None:
    """Let the next transaction go unanswered, applied or not, and its session be over."""

    def take(frame: coordination_pb2.ClientFrame) -> None:
        if not frame.writes.writes:
            return
        server.on_frame = None
        if is_applied:
            server.write(frame.writes.writes[0])
        server.drop_before_apply = 1
        server.sessions.clear()

    server.on_frame = take


async def test_a_value_follows_its_node(config: AsyncConfigValue[Any], server: FakeServer) -> None:
    server.set(PATH, b'{"rate": 1}')
    async with config:
        assert config.value == {"rate": 1}
        assert config.version == server.tree.nodes[PATH].stat.mzxid
        assert not config.is_stale
        change = asyncio.create_task(config.changed())
        await asyncio.sleep(0)
        server.set(PATH, b'{"rate": 2}')
        assert await change == {"rate": 2} == config.value
        assert config.version == server.tree.nodes[PATH].stat.mzxid


async def test_a_value_may_be_of_any_type(client: AsyncClient, server: FakeServer) -> None:
    config = AsyncConfigValue(client, PATH, decode=Limits.decode, encode=Limits.encode, default=Limits())
    async with config:
        assert config.value == Limits(10)
        assert await config.update(lambda limits: Limits(limits.rate + 1)) == Limits(11)
        assert config.value == Limits(11)
        assert server.tree.nodes[PATH].value == b'{"rate": 11}'


async def test_without_a_node_it_is_the_default_and_goes_on_following(
    client: AsyncClient, server: FakeServer
) -> None:
    config = AsyncConfigValue(client, PATH, default="nothing")
    async with config:
        values = config.watch()
        assert (await anext(values), config.version) == ("nothing", 0)
        server.set(PATH, b'"first"')
        assert await anext(values) == "first"
        server.delete(PATH)
        assert (await anext(values), config.version) == ("nothing", 0)
        server.set(PATH, b'"second"')
        assert await anext(values) == "second"
        await values.aclose()  # type: ignore[attr-defined]  # a generator


async def test_what_cannot_be_decoded_changes_nothing_but_the_error(
    config: AsyncConfigValue[Any], server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.set(PATH, b"1")
    with caplog.at_level(logging.WARNING, "coordclient.recipes"):
        async with config:
            version = config.version
            server.set(PATH, b"{")
            await eventually(lambda: config.error)
            assert (config.value, config.version) == (1, version)
            assert isinstance(config.error, InvalidValueError)
            assert PATH in str(config.error)
            assert isinstance(config.error.__cause__, ValueError)
            server.set(PATH, b"2")
            await eventually(lambda: config.value == 2 and config.error is None)

    assert "the last good value stays" in caplog.text


async def test_a_first_value_that_cannot_be_decoded_leaves_the_default(
    client: AsyncClient, server: FakeServer
) -> None:
    server.set(PATH, b"{")
    async with AsyncConfigValue(client, PATH, default=5) as config:
        assert config.value == 5
        assert config.error is not None
        with pytest.raises(InvalidValueError):
            await config.update(lambda value: value + 1)
        assert server.tree.nodes[PATH].value == b"{"


async def test_updates_of_many_clients_build_on_each_other(connect: Connect, server: FakeServer) -> None:
    async def count(client: AsyncClient) -> None:
        config = AsyncConfigValue(client, PATH, default=0)
        for _ in range(5):
            await config.update(lambda value: value + 1)

    await asyncio.gather(*[count(await connect()) for _ in range(4)])

    assert server.tree.nodes[PATH].value == b"20"


async def test_an_update_is_seen_when_it_returns(config: AsyncConfigValue[Any], server: FakeServer) -> None:
    async with config:
        for number in range(20):
            await config.update(lambda _, number=number: number)  # type: ignore[misc]  # bound now, on purpose
            assert config.value == number


async def test_setting_takes_the_expected_version_into_account(
    config: AsyncConfigValue[Any], server: FakeServer
) -> None:
    first = await config.set(1, expected_version=0)
    assert first == server.tree.nodes[PATH].stat.mzxid
    second = await config.set(2, expected_version=first)
    with pytest.raises(BadVersionError) as caught:
        await config.set(3, expected_version=first)
    assert (caught.value.expected, caught.value.actual) == (first, second)
    with pytest.raises(BadVersionError):
        await config.set(3, expected_version=0)
    server.delete(PATH)
    server.set(PATH, b"9")
    with pytest.raises(BadVersionError):
        await config.set(3, expected_version=second)

    assert await config.set(4) > second
    assert server.tree.nodes[PATH].value == b"4"


async def test_a_lost_reply_does_not_update_twice(config: AsyncConfigValue[Any], server: FakeServer) -> None:
    await config.set(1)
    server.drop_after_apply = 2
    assert await config.update(lambda value: value + 1) == 2

    assert server.tree.nodes[PATH].value == b"2"


@pytest.mark.parametrize("was_there", [True, False])
async def test_an_update_that_was_not_applied_in_a_lost_session_is_repeated(
    client: AsyncClient, server: FakeServer, was_there: bool
) -> None:
    config = AsyncConfigValue(client, PATH, default=0)
    if was_there:
        await config.set(0)
    lose_session_at_next_write(server, is_applied=False)

    assert await config.update(lambda value: value + 1) == 1
    assert server.tree.nodes[PATH].value == b"1"


@pytest.mark.parametrize("is_applied", [True, False])
async def test_an_update_of_a_lost_session_is_not_guessed_about(
    config: AsyncConfigValue[Any], server: FakeServer, is_applied: bool
) -> None:
    await config.set(1)
    lose_session_at_next_write(server, is_applied=is_applied)
    updating = asyncio.create_task(config.update(lambda value: value + 1))
    await eventually(lambda: not server.sessions)
    server.set(PATH, b"7")

    with pytest.raises(OutcomeUnknownError, match=PATH):
        await updating
    assert server.tree.nodes[PATH].value == b"7"


async def test_while_suspended_the_value_stays_and_is_called_stale(
    config: AsyncConfigValue[Any], client: AsyncClient, server: FakeServer
) -> None:
    server.set(PATH, b"1")
    async with config:
        seen: list[tuple[State, bool, object]] = []
        client.add_internal_listener(lambda state: seen.append((state, config.is_stale, config.value)))
        server.refuse_attaches = [data_pb2.NO_LEADER] * 2
        server.drop_connections()
        await eventually(lambda: client.state is State.SUSPENDED)
        server.set(PATH, b"2")
        await eventually(lambda: not config.is_stale)

        assert seen[0] == (State.SUSPENDED, True, 1)
        assert config.value == 2


@pytest.mark.parametrize("has_history", [True, False])
async def test_a_node_made_anew_while_we_were_away_is_news_although_its_version_is_the_same(
    config: AsyncConfigValue[Any], client: AsyncClient, server: FakeServer, has_history: bool
) -> None:
    server.set(PATH, b"1")
    async with config:
        old = client.session_id
        change = asyncio.create_task(config.changed())
        await asyncio.sleep(0)
        server.expire(old)
        server.delete(PATH)
        server.set(PATH, b"2")
        if not has_history:
            server.history_begins_after = server.tree.zxid
        assert server.tree.nodes[PATH].stat.version == 0
        await change
        await eventually(lambda: config.value == 2 and not config.is_stale)


async def test_watching_ends_with_the_value(config: AsyncConfigValue[Any]) -> None:
    await config.start()
    values = config.watch()
    assert await anext(values) is None

    async def rest() -> list[object]:
        return [value async for value in values]

    following = asyncio.create_task(rest())
    await asyncio.sleep(0)
    await config.close()
    assert await following == []
    with pytest.raises(ClientStateError):
        await config.changed()


async def test_the_end_of_the_client_ends_the_waiting(connect: Connect) -> None:
    client = await connect()
    config: AsyncConfigValue[Any] = await AsyncConfigValue(client, PATH).start()
    change = asyncio.create_task(config.changed())
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(ClientStateError):
        await change

    await config.close()


async def test_what_makes_no_sense_is_refused(config: AsyncConfigValue[Any], client: AsyncClient) -> None:
    with pytest.raises(ClientStateError, match="start"):
        assert config.value
    with pytest.raises(InvalidPathError):
        AsyncConfigValue(client, "/")
    with pytest.raises(NotConnectedError):
        await AsyncConfigValue(AsyncClient(), PATH).set(1)

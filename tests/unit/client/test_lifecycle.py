"""A client's life: connecting, states as the application sees them, closing, misuse."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from coordclient import (
    AsyncClient,
    ClientClosedError,
    ConnectionLostError,
    ForkedClientError,
    InvalidArgumentError,
    NotConnectedError,
    RequestTimeoutError,
    SessionExpiredError,
    State,
    WrongLoopError,
    forks,
)
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import Code, FakeServer


async def test_an_unconnected_client_says_so_at_once() -> None:
    client = AsyncClient("127.0.0.1:1")

    assert client.state is State.SUSPENDED
    with pytest.raises(NotConnectedError):
        await client.get("/a")


async def test_a_closed_client_says_so_at_once(server: FakeServer) -> None:
    client = await AsyncClient(server.address).connect()
    await client.close()
    await client.close()

    assert client.state is State.CLOSED
    with pytest.raises(ClientClosedError):
        await client.get("/a")
    with pytest.raises(ClientClosedError):
        await client.connect()


async def test_a_client_of_another_loop_says_so(client: AsyncClient) -> None:
    def use_elsewhere() -> None:
        asyncio.run(client.sync())

    with pytest.raises(WrongLoopError):
        await asyncio.to_thread(use_elsewhere)


async def test_a_forked_client_says_so(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as child:
        child.setattr(forks._Process, "generation", forks.generation() + 1)
        with pytest.raises(ForkedClientError):
            await client.get("/a")


async def test_connecting_in_vain_says_where_and_why() -> None:
    client = AsyncClient("127.0.0.1:1", connect_timeout=0.3)
    with pytest.raises(ConnectionLostError, match=r"127\.0\.0\.1:1 within 0\.3 s: .*refused"):
        await client.connect()

    assert client.state is State.CLOSED


async def test_connecting_to_a_server_that_never_answers_ends_in_time(server: FakeServer) -> None:
    server.is_silent = True
    with pytest.raises(ConnectionLostError):
        await AsyncClient(server.address, connect_timeout=0.2).connect()


async def test_a_member_that_is_stopped_is_not_waited_for_while_there_are_others(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel of a stopped process goes on taking connections."""
    monkeypatch.setattr("coordclient.endpoints.FIRST_ATTEMPT_SECONDS_MAX", 0.05)
    monkeypatch.setattr("coordclient.endpoints.ATTEMPT_SECONDS_MIN", 3600.0)
    monkeypatch.setattr("coordclient.endpoints.ATTEMPT_SECONDS_MAX", 3600.0)
    monkeypatch.setattr(
        "random.Random.shuffle", lambda _dice, endpoints: endpoints.sort(key=server.address.__eq__)
    )
    with socket.create_server(("127.0.0.1", 0)) as stopped:
        port = stopped.getsockname()[1]
        async with AsyncClient(f"127.0.0.1:{port},{server.address}", connect_timeout=30) as client:
            assert client.member == "fake"


async def test_another_endpoint_is_tried_when_one_is_dead(server: FakeServer) -> None:
    async with AsyncClient(f"127.0.0.1:1,{server.address}") as client:
        assert client.member == "fake"


async def test_another_attempt_is_made_when_a_member_refuses(server: FakeServer) -> None:
    server.refuse_attaches = [Code.NO_LEADER, Code.CATCHING_UP]
    async with AsyncClient(server.address) as client:
        assert client.session_id != 0


@pytest.mark.parametrize("options", [{"session_timeout": 0}, {"namespace": "a"}, {"namespace": "/a/"}])
def test_options_that_make_no_sense_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(InvalidArgumentError):
        AsyncClient("a:1", **options)  # type: ignore[arg-type]  # that is what is tested


async def test_closing_ends_the_session_on_the_service(server: FakeServer) -> None:
    async with AsyncClient(server.address) as client:
        await client.create("/e", ephemeral=True)
        assert server.names("/") == ["e"]

    assert server.live_sessions == []
    assert server.names("/") == []


async def test_closing_waits_for_what_was_submitted(server: FakeServer) -> None:
    client = await AsyncClient(server.address).connect()
    pending = asyncio.create_task(client.create("/a"))
    await asyncio.sleep(0)
    await client.close()

    assert await pending == "/a"


async def test_closing_is_bounded_when_nobody_answers(server: FakeServer) -> None:
    client = await AsyncClient(server.address).connect()
    server.holds_answers = True
    pending = asyncio.create_task(client.create("/a"))
    await eventually(lambda: server.frames)
    await client.close()

    with pytest.raises(ClientClosedError):
        await pending


# ---------------------------------------------------------------------------------------------
# States


async def test_listeners_hear_every_state_in_order(connect: Connect, server: FakeServer) -> None:
    client = AsyncClient(server.address)
    heard: list[State] = []
    client.add_listener(heard.append)
    await client.connect()
    first = client.session_id
    server.drop_connections()
    await eventually(lambda: heard[1:] == [State.SUSPENDED, State.CONNECTED])
    assert client.session_id == first
    server.expire(first)
    await eventually(lambda: heard[3:] == [State.LOST, State.CONNECTED])
    assert client.session_id != first
    await client.close()

    assert heard[5:] == [State.CLOSED]


async def test_a_listener_may_use_and_close_the_client(server: FakeServer) -> None:
    client = AsyncClient(server.address)
    done = asyncio.Event()

    async def use(state: State) -> None:
        if state is State.CONNECTED:
            await client.create("/a")
            await client.close()
            done.set()

    client.add_listener(use)
    await client.connect()
    await done.wait()

    assert server.names("/") == ["a"]


async def test_a_removed_listener_hears_nothing(connect: Connect, server: FakeServer) -> None:
    client = await connect()
    heard: list[State] = []
    kept: list[State] = []
    client.add_listener(heard.append)
    client.add_listener(kept.append)
    client.remove_listener(heard.append)
    server.drop_connections()
    await eventually(lambda: State.CONNECTED in kept)

    assert heard == []


async def test_a_member_that_stops_moves_its_clients_without_a_word(
    connect: Connect, server: FakeServer
) -> None:
    client = await connect()
    heard: list[State] = []
    client.add_listener(heard.append)
    server.move_clients()
    await eventually(lambda: len(server.attaches) == 2)
    await client.create("/a")

    assert heard == []


async def test_a_client_whose_member_is_removed_moves_to_one_that_it_was_told_of(
    connect: Connect, server: FakeServer
) -> None:
    """It was given one endpoint only; the member there tells of another one, and goes."""
    other = FakeServer()
    other.tree, other.sessions = server.tree, server.sessions
    await other.start()
    try:
        server.endpoints = [server.address]
        client = await connect()
        heard: list[State] = []
        client.add_listener(heard.append)
        server.change_members([other.address])
        server.refuse_attaches = [Code.SHUTTING_DOWN] * 100
        server.move_clients()
        await eventually(lambda: other.attaches)
        await client.create("/a")

        assert heard == [], "no failed attempt on the way, so nobody need know"
        assert len(server.attaches) == 1
    finally:
        await client.close()
        await other.stop()


async def test_the_configured_endpoint_is_tried_when_all_others_fail(
    connect: Connect, server: FakeServer
) -> None:
    server.endpoints = [server.address]
    client = await connect()
    server.change_members(["127.0.0.1:1", "127.0.0.1:2"])
    server.drop_connections()
    await eventually(lambda: len(server.attaches) == 2)

    assert await client.create("/a") == "/a"


async def test_the_session_is_kept_by_pings(connect: Connect, server: FakeServer) -> None:
    client = await connect(session_timeout=1)
    first = client.valid_until
    await eventually(lambda: client.valid_until > first + 0.5)

    assert client.state is State.CONNECTED
    assert client.is_session_valid


async def test_the_session_is_lost_locally_when_nobody_renews_it(
    connect: Connect, server: FakeServer
) -> None:
    """Cut off from the leader: the client must not wait for somebody to tell it."""
    client = await connect(session_timeout=0.5)
    heard: list[State] = []
    client.add_listener(heard.append)
    server.holds_answers = True
    pending = asyncio.create_task(client.create("/a"))
    await eventually(lambda: server.frames)
    server.is_silent = True
    server.drop_connections()

    with pytest.raises(SessionExpiredError) as lost:
        await pending
    assert lost.value.may_have_been_applied
    assert client.session_id == 0
    await eventually(lambda: heard == [State.SUSPENDED, State.LOST])


async def test_a_request_after_the_loss_waits_for_the_new_session(
    connect: Connect, server: FakeServer
) -> None:
    client = await connect(session_timeout=0.5)
    server.is_silent = True
    server.drop_connections()
    await eventually(lambda: client.state is State.LOST)
    pending = asyncio.create_task(client.create("/a", timeout=30))
    await asyncio.sleep(0)
    server.is_silent = False

    assert await pending == "/a"


async def test_requests_wait_while_suspended_and_time_out(connect: Connect, server: FakeServer) -> None:
    client = await connect()
    server.is_silent = True
    server.drop_connections()
    await eventually(lambda: client.state is State.SUSPENDED)

    with pytest.raises(RequestTimeoutError) as failed:
        await client.create("/a", timeout=0.05)
    assert not failed.value.may_have_been_applied


async def test_one_warning_for_each_change_of_state(
    connect: Connect, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = await connect()
    caplog.set_level(logging.WARNING, "coordclient")
    server.refuse_attaches = [Code.NO_LEADER] * 3
    server.drop_connections()
    await eventually(lambda: len(server.attaches) == 5 and client.state is State.CONNECTED)

    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1

"""The link in front of a test server: what each fault does to a client, and that nothing else is changed."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest

from coordclient import AsyncClient, Client, EventType, NoNodeError, State
from coordproto.v1 import coordination_pb2, coordination_pb2_grpc, data_pb2
from coordsvc.testing import AsyncServer, Server, running_server


async def state_is(client: AsyncClient, wanted: State) -> None:
    """Wait until the client says so."""
    reached = asyncio.Event()

    def look(state: State) -> None:
        if state is wanted:
            reached.set()

    client.add_internal_listener(look)
    if client.state is not wanted:
        await reached.wait()


async def test_a_lost_reply_leaves_the_write_applied_once() -> None:
    async with running_server() as server, AsyncClient(server.endpoints) as client:
        await client.create("/a", b"0")
        drop = server.link.drop_next_reply()
        stat = await client.set("/a", b"1")
        assert drop.happened
        assert stat.version == 1


async def test_a_lost_request_is_sent_again() -> None:
    async with running_server() as server, AsyncClient(server.endpoints) as client:
        await client.create("/a", b"0")
        before = server.link.requests
        drop = server.link.drop_next_request()
        assert (await client.set("/a", b"1")).version == 1
        assert drop.happened
        assert server.link.requests > before + 1


@pytest.mark.parametrize("kind", ["create", "delete", "transaction", "get", "list_children"])
async def test_a_drop_waits_for_its_kind(kind: str) -> None:
    async with running_server() as server, AsyncClient(server.endpoints) as client:
        await client.create("/a", b"0")
        drop = server.link.drop_next_reply(kind)
        await client.set("/a", b"1")
        await client.exists("/a")
        assert not drop.happened
        if kind == "create":
            await client.create("/b", b"")
        elif kind == "delete":
            await client.delete("/a")
        elif kind == "transaction":
            async with client.transaction() as transaction:
                transaction.set("/a", b"2")
        elif kind == "get":
            await client.get("/a")
        else:
            await client.get_children("/")
        assert drop.happened


async def test_a_kind_that_is_none_is_refused() -> None:
    async with running_server() as server:
        with pytest.raises(ValueError, match="'creat' is no kind of request; choose of create"):
            server.link.drop_next_reply("creat")


async def test_a_cut_loses_nothing_of_a_session() -> None:
    async with running_server() as server, AsyncClient(server.endpoints) as client:
        session = client.session_id
        await client.create("/mine", b"", ephemeral=True)
        async with client.watch("/mine") as events:
            server.link.cut()
            await client.set("/mine", b"1")
            assert (await anext(events)).value == b"1"
        assert client.session_id == session


async def test_while_it_refuses_a_client_is_suspended_and_then_goes_on() -> None:
    async with running_server() as server, AsyncClient(server.endpoints) as client:
        server.link.refuse()
        await state_is(client, State.SUSPENDED)
        assert server.link.connection_count == 0
        server.link.accept()
        assert await client.exists("/") is not None


async def test_a_black_hole_holds_everything_and_gives_it_back() -> None:
    async with running_server() as server, AsyncClient(server.endpoints, session_timeout=2.0) as client:
        server.link.black_hole()
        replies = server.link.replies
        creating = asyncio.ensure_future(client.create("/a", b""))
        await state_is(client, State.SUSPENDED)
        assert server.link.replies == replies
        assert not creating.done()
        server.link.resume()
        assert await creating == "/a"


async def test_a_session_behind_a_black_hole_expires_and_its_client_knows() -> None:
    async with (
        running_server() as server,
        AsyncClient(server.endpoints, session_timeout=0.5) as client,
    ):
        await client.create("/mine", b"", ephemeral=True)
        server.link.black_hole()
        await state_is(client, State.LOST)
        server.link.resume()
        async with client.watch("/mine") as events:
            if await client.exists("/mine") is not None:
                assert (await anext(events)).type is EventType.DELETED


async def test_clients_that_learn_the_members_stay_behind_the_link() -> None:
    async with running_server() as server, AsyncClient(server.endpoints) as client:
        server.link.cut()
        await client.sync()
        assert client._running_driver().endpoints.known() == [server.link.address]


async def test_unary_calls_and_their_errors_pass() -> None:
    async with running_server() as server, grpc.aio.insecure_channel(server.endpoints) as channel:
        stub: coordination_pb2_grpc.CoordinationAsyncStub = coordination_pb2_grpc.CoordinationStub(channel)
        await stub.Create(coordination_pb2.CreateRequest(create=data_pb2.Create(path="/a", value=b"1")))
        read = await stub.Get(coordination_pb2.GetRequest(get=data_pb2.Get(path="/a")))
        assert read.node.value == b"1"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Get(coordination_pb2.GetRequest(get=data_pb2.Get(path="/none")))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert "grpc-status-details-bin" in dict(refused.value.trailing_metadata() or ())
        drop = server.link.drop_next_reply("set")
        with pytest.raises(grpc.aio.AioRpcError, match="the test's link was cut"):
            await stub.Set(coordination_pb2.SetRequest(set=data_pb2.Set(path="/a", value=b"2")))
        assert drop.happened
        read = await stub.Get(coordination_pb2.GetRequest(get=data_pb2.Get(path="/a")))
        assert read.node.value == b"2"


async def test_errors_of_a_session_pass() -> None:
    async with AsyncServer() as server, AsyncClient(server.endpoints) as client:
        with pytest.raises(NoNodeError):
            await client.get("/none")


def test_threads_have_the_same_faults() -> None:
    with Server() as server, Client(server.endpoints) as client:
        client.create("/a", b"0")
        drop = server.link.drop_next_reply("set")
        assert not drop.wait(timeout=0.01)
        assert client.set("/a", b"1").version == 1
        assert drop.happened
        assert drop.wait()
        lost = server.link.drop_next_request()
        assert client.set("/a", b"2").version == 2
        assert lost.happened
        server.link.cut()
        assert client.get("/a").value == b"2"
        server.link.refuse()
        server.link.accept()
        server.link.black_hole()
        server.link.resume()
        assert client.get("/a").value == b"2"
        assert server.link.address == server.endpoints
        assert server.link.requests > 0
        assert server.link.replies > 0
        assert server.link.connection_count == 1

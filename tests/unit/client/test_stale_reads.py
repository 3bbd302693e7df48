"""Stale reads go on while no session can be attached."""

from __future__ import annotations

import pytest

from coordclient import (
    AsyncClient,
    ConnectionLostError,
    Consistency,
    NoNodeError,
    RequestTimeoutError,
    State,
    clock,
)
from coordclient.stale_reads import read_stale
from coordproto.v1 import coordination_pb2, data_pb2
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import FakeServer

STALE = Consistency.STALE


async def test_they_do_without_a_session(client: AsyncClient, server: FakeServer) -> None:
    server.set("/a/b", b"1")
    server.is_silent = True
    server.drop_connections()
    await eventually(lambda: client.state is State.SUSPENDED)

    assert (await client.get("/a/b", consistency=STALE)).value == b"1"
    assert await client.get_children("/a", consistency=STALE) == ["b"]
    assert await client.exists("/nope", consistency=STALE) is None
    with pytest.raises(NoNodeError):
        await client.get("/nope", consistency=STALE)
    with pytest.raises(RequestTimeoutError):
        await client.get("/a/b", timeout=0.05)


async def test_every_endpoint_is_tried(server: FakeServer) -> None:
    server.set("/a", b"1")
    read = coordination_pb2.Read(get=data_pb2.Get(path="/a"))
    result = await read_stale(["127.0.0.1:1", server.address], read, clock.now() + 30)

    assert result.node.value == b"1"


async def test_nobody_who_answers_is_a_lost_connection() -> None:
    read = coordination_pb2.Read(get=data_pb2.Get(path="/a"))

    with pytest.raises(ConnectionLostError):
        await read_stale(["127.0.0.1:1"], read, clock.now() + 30)
    with pytest.raises(RequestTimeoutError):
        await read_stale(["127.0.0.1:1"], read, clock.now() - 1)

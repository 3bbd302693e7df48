"""One stream to one member: bytes there and back, and every end of it an error of ours."""

from __future__ import annotations

import pytest

from coordclient.connection import MESSAGE_BYTES_MAX, Connection
from coordclient.errors import ConnectionLostError
from coordproto.v1 import coordination_pb2, data_pb2
from tests.unit.client.fake_server import Code, FakeServer

ATTACH = coordination_pb2.ClientFrame(attach=coordination_pb2.Attach(timeout_ms=10_000)).SerializeToString()


async def test_frames_go_there_and_back(server: FakeServer) -> None:
    connection = Connection(server.address)
    await connection.send(ATTACH)
    frame = coordination_pb2.ServerFrame.FromString(await connection.receive())
    await connection.close()

    assert frame.items[0].attached.member == "fake"


async def test_the_end_of_the_stream_is_a_lost_connection(server: FakeServer) -> None:
    server.refuse_attaches = [Code.NO_LEADER]
    connection = Connection(server.address)
    await connection.send(ATTACH)
    await connection.receive()

    with pytest.raises(ConnectionLostError, match="ended the connection"):
        await connection.receive()
    with pytest.raises(ConnectionLostError):
        await connection.send(ATTACH)
    await connection.close()


async def test_nobody_there_is_a_lost_connection() -> None:
    connection = Connection("127.0.0.1:1")
    with pytest.raises(ConnectionLostError, match=r"127\.0\.0\.1:1: "):
        await connection.receive()
    await connection.close()


async def test_a_frame_that_the_server_cannot_take_is_told_apart(server: FakeServer) -> None:
    connection = Connection(server.address)
    await connection.send(ATTACH)
    await connection.receive()
    with pytest.raises(ConnectionLostError) as lost:
        await send_and_receive(connection, b"x" * (5 << 20))
    await connection.close()

    assert len(b"x" * (5 << 20)) < MESSAGE_BYTES_MAX
    assert lost.value.code == data_pb2.LIMIT_EXCEEDED


async def send_and_receive(connection: Connection, frame: bytes) -> None:
    await connection.send(frame)
    await connection.receive()

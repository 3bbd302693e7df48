"""The asyncio shell around the session core, over a stream that is no gRPC stream."""

from __future__ import annotations

import asyncio
import random

from coordclient.driver import SessionDriver
from coordclient.session import SessionCore
from coordclient.states import State
from coordproto.v1 import coordination_pb2


class ServedStream:
    """A stream whose other end accepts every session and closes it when asked."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.is_closed = False
        self._answers: asyncio.Queue[coordination_pb2.ServerItem] = asyncio.Queue()

    async def send(self, frame: bytes) -> None:
        message = coordination_pb2.ClientFrame.FromString(frame)
        if message.HasField("attach"):
            attached = coordination_pb2.Attached(session_id=7, timeout_ms=10_000, member="a")
            self._answers.put_nowait(coordination_pb2.ServerItem(attached=attached))
        if message.close:
            self._answers.put_nowait(coordination_pb2.ServerItem(closed=True))

    async def receive(self) -> bytes:
        item = await self._answers.get()
        return coordination_pb2.ServerFrame(items=[item]).SerializeToString()

    async def close(self) -> None:
        self.is_closed = True


async def test_a_driver_uses_the_streams_that_it_is_given() -> None:
    streams: list[ServedStream] = []

    def connect(endpoint: str) -> ServedStream:
        streams.append(ServedStream(endpoint))
        return streams[-1]

    core = SessionCore(timeout_ms=10_000, client_name="test")
    driver = SessionDriver(core, "a:1,b:1,c:1", connect=connect, dice=random.Random(5))
    connected = asyncio.Event()
    driver.add_listener(lambda state: connected.set() if state is State.CONNECTED else None)
    driver.start()
    await connected.wait()
    assert core.session_id == 7
    await driver.close()
    assert core.state is State.CLOSED
    assert [stream.is_closed for stream in streams] == [True]


async def test_the_order_of_endpoints_follows_from_the_dice() -> None:
    def tried_first(seed: int) -> str:
        core = SessionCore(timeout_ms=10_000, client_name="test")
        driver = SessionDriver(core, "a:1,b:1,c:1", connect=ServedStream, dice=random.Random(seed))
        return driver.endpoints.next()[0]

    assert [tried_first(seed) for seed in range(20)] == [tried_first(seed) for seed in range(20)]
    assert len({tried_first(seed) for seed in range(20)}) == 3

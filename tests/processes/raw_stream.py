"""Session.Attach without the SDK: sends whatever bytes a test likes, and shows what comes back.

Rule of this file: nothing is repaired, repeated or hidden.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import grpc
import grpc.aio

from coordproto.v1 import coordination_pb2, data_pb2

ATTACH = "/coordproto.v1.Session/Attach"
ANSWER_WITHIN_S = 10.0

Frame = coordination_pb2.ClientFrame
Item = coordination_pb2.ServerItem


class StreamEndedError(Exception):
    """The server ended the stream; the status says how."""

    def __init__(self, status: grpc.StatusCode) -> None:
        super().__init__(status.name)
        self.status = status


class RawStream:
    """`async with RawStream(endpoint) as stream`: one gRPC channel with one stream on it."""

    def __init__(self, endpoint: str) -> None:
        self._channel = grpc.aio.insecure_channel(endpoint, options=(("grpc.use_local_subchannel_pool", 1),))
        method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(
            ATTACH, request_serializer=None, response_deserializer=None
        )
        self._call: grpc.aio.StreamStreamCall[bytes, bytes] = method()
        self._items: list[Item] = []
        self.attached = coordination_pb2.Attached()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()
        await self._channel.close()

    async def send(self, frame: Frame | bytes) -> None:
        """Send a frame; one that comes too late for the server is no error here."""
        data = frame if isinstance(frame, bytes) else frame.SerializeToString()
        try:
            await self._call.write(data)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            assert self._call.done()

    async def item(self) -> Item:
        """Return the next item.

        Raises:
            StreamEndedError: There is none.
        """
        while not self._items:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                try:
                    data = await self._call.read()
                except grpc.aio.AioRpcError as error:
                    raise StreamEndedError(error.code()) from error
                if not isinstance(data, bytes):
                    raise StreamEndedError(await self._call.code())
            self._items = list(coordination_pb2.ServerFrame.FromString(data).items)
        return self._items.pop(0)

    async def items(self) -> AsyncIterator[Item]:
        """Yield what comes until the stream ends."""
        while True:
            try:
                item = await self.item()
            except StreamEndedError:
                return
            yield item

    async def attach(self, attach: coordination_pb2.Attach | None = None) -> coordination_pb2.Attached:
        """Attach, to a new session by default."""
        await self.send(Frame(attach=attach or coordination_pb2.Attach(timeout_ms=10_000)))
        item = await self.item()
        assert item.WhichOneof("item") == "attached", item
        self.attached = item.attached
        return item.attached

    async def refusal(self) -> data_pb2.Error:
        """Read until the error that ends the stream, and see that the stream does end; return the error."""
        error = data_pb2.Error()
        async for item in self.items():
            if item.WhichOneof("item") == "error":
                error = item.error
        return error

"""One gRPC stream to one member. The only place, with `stale_reads.py`, that speaks gRPC.

Rule of this file: bytes in, bytes out; whatever goes wrong becomes `ConnectionLostError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

import grpc
import grpc.aio

from coordclient import forks
from coordclient.errors import ConnectionLostError
from coordproto.v1 import data_pb2

ATTACH = "/coordproto.v1.Session/Attach"
MESSAGE_BYTES_MAX = 16 << 20

Stream: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"

_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A channel of its own for every attempt: names are resolved anew, and no back-off is inherited.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # without it the line above is not heeded
    ("grpc.http2.max_pings_without_data", 0),
    # Else gRPC sends a ping with every message that it receives, to find out how much may be on its way: a
    # third of the cost of a small one.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 2 << 20),
)


def open_channel(endpoint: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(endpoint, options=_OPTIONS)


class Connection:
    """A stream that carries one session's frames."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._channel = open_channel(endpoint)
        attach: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(
            ATTACH, request_serializer=None, response_deserializer=None
        )
        self._stream: Stream = attach()

    async def send(self, frame: bytes) -> None:
        """Send one frame; returns when the transport has room for another."""
        try:
            await self._stream.write(frame)
        except (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            raise self._lost(error) from error

    async def receive(self) -> bytes:
        """Return the next frame."""
        try:
            frame = await self._stream.read()
        except (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            raise self._lost(error) from error
        if frame is grpc.aio.EOF:
            raise ConnectionLostError(f"{self.endpoint} ended the connection")
        assert isinstance(frame, bytes)
        return frame

    def _lost(self, error: BaseException) -> ConnectionLostError:
        if not isinstance(error, grpc.aio.AioRpcError):
            return ConnectionLostError(f"{self.endpoint}: {error}")
        status = error.code()
        # A frame that is too large for the server ends the stream before the server can say so in a frame.
        code = data_pb2.LIMIT_EXCEEDED if status is grpc.StatusCode.RESOURCE_EXHAUSTED else 0
        return ConnectionLostError(f"{self.endpoint}: {error.details() or status.name}", code=code)

    async def close(self) -> None:
        self._stream.cancel()
        try:
            await self._channel.close()
        finally:
            forks.note_grpc()
            # gRPC lets go of the socket only when nobody refers to the call any more.
            del self._stream, self._channel

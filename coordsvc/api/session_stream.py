"""Session.Attach: one bidirectional stream per session, frames of many operations each way.

Rule of this file: bytes in, bytes out; a frame is decoded once and an answer was encoded by the replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from coordproto.v1 import coordination_pb2
from coordsvc.api.gateway import ClientHandle, Gateway
from coordsvc.codec.results import error_item, join_items
from coordsvc.statemachine.results import ErrorCode, Failure

_ATTACH_WITHIN_S = 10.0
# A client with hundreds of operations under way gets its answers in several frames, and sends the next
# operations while we go on: so that it and the cluster work at the same time, not in turns.
_FRAME_ITEMS_MAX = 128


class StreamRefusedError(Exception):
    """What the client sent cannot be understood, or it is not served here now."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.item = error_item(Failure(code, message))


class SessionService:
    """Serves `coordproto.v1.Session` with raw bytes on both sides."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler to register with a gRPC server."""
        attach: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self.attach)
        return grpc.method_handlers_generic_handler("coordproto.v1.Session", {"Attach": attach})

    async def attach(
        self, _requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> None:
        """Serve one stream until either side ends it."""
        try:
            frame = await self._first_frame(context)
        except StreamRefusedError as refused:
            await context.write(join_items([refused.item]))
            return
        if frame is None:
            return
        gateway = self._gateway
        connection = gateway.feed(gateway.replica.open_connection, frame.attach, gateway.fresh_secret())
        handle = ClientHandle(self._gateway, connection)
        reading = asyncio.create_task(self._read(handle, context), name=f"client-{connection.number}-reader")
        try:
            await self._write(handle, context)
        finally:
            handle.close()
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled() and (failure := reading.exception()) is not None:
                raise failure

    async def _first_frame(
        self, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> coordination_pb2.ClientFrame | None:
        if self._gateway.is_stopping():
            raise StreamRefusedError(ErrorCode.SHUTTING_DOWN, "this member is stopping; use another one")
        try:
            async with asyncio.timeout(_ATTACH_WITHIN_S):
                data = await _read(context)
        except TimeoutError:
            raise StreamRefusedError(ErrorCode.MALFORMED, "no attach frame came within 10 s") from None
        if data is None:
            return None
        frame = self._decode(data)
        if not frame.HasField("attach"):
            raise StreamRefusedError(ErrorCode.MALFORMED, "the first frame must be an attach frame")
        return frame

    def _decode(self, data: bytes) -> coordination_pb2.ClientFrame:
        if len(data) > self._gateway.frame_bytes_max:
            message = f"a frame of {len(data)} bytes; the limit is {self._gateway.frame_bytes_max}"
            raise StreamRefusedError(ErrorCode.LIMIT_EXCEEDED, message)
        try:
            return coordination_pb2.ClientFrame.FromString(data)
        except DecodeError:
            message = "a frame is not a coordproto.v1.ClientFrame"
            raise StreamRefusedError(ErrorCode.MALFORMED, message) from None

    async def _read(self, handle: ClientHandle, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        """Take frames in until the client ends its side; a client that is ahead of us waits."""
        connection = handle.connection
        while not connection.is_closed:
            data = await _read(context)
            if data is None:
                break
            try:
                frame = self._decode(data)
            except StreamRefusedError as refused:
                connection.push(refused.item)
                break
            handle.send(frame)
            while handle.is_paused():
                await handle.wait_unpaused()
        self._gateway.feed(self._gateway.replica.close_connection, connection)
        handle.wake()

    async def _write(self, handle: ClientHandle, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        while items := await handle.receive():
            for begin in range(0, len(items), _FRAME_ITEMS_MAX):
                await context.write(join_items(items[begin : begin + _FRAME_ITEMS_MAX]))


async def _read(context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes | None:
    """Read one message; None at the end of the client's side."""
    data: object = await context.read()
    return data if isinstance(data, bytes) else None

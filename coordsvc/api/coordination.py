"""The unary `Coordination` service, for any gRPC client in any language.

Rule of this file: each method translates one request into one call on the common machinery and back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from coordproto.v1 import coordination_pb2, coordination_pb2_grpc, data_pb2
from coordsvc.api.calls import Call, call_failed
from coordsvc.api.gateway import Gateway
from coordsvc.api.history_page import HistoryPage
from coordsvc.replica.admission import refuse_oversized
from coordsvc.statemachine.results import ErrorCode

Context = grpc.aio.ServicerContext[Any, Any]


class CoordinationService(coordination_pb2_grpc.CoordinationServicer):
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    # -----------------------------------------------------------------------------------------
    # Writes

    async def Create(self, request: coordination_pb2.CreateRequest, context: Context) -> data_pb2.WriteResult:
        write = data_pb2.Write(create=request.create, guards=request.guards)
        return await self._write(write, request.session, context)

    async def Set(self, request: coordination_pb2.SetRequest, context: Context) -> data_pb2.WriteResult:
        write = data_pb2.Write(set=request.set, guards=request.guards)
        return await self._write(write, request.session, context)

    async def Delete(self, request: coordination_pb2.DeleteRequest, context: Context) -> data_pb2.WriteResult:
        write = data_pb2.Write(delete=request.delete, guards=request.guards)
        return await self._write(write, request.session, context)

    async def Txn(self, request: coordination_pb2.TxnRequest, context: Context) -> data_pb2.WriteResult:
        write = data_pb2.Write(transaction=request.transaction, guards=request.guards)
        return await self._write(write, request.session, context)

    async def _write(
        self, write: data_pb2.Write, session: coordination_pb2.SessionHeader, context: Context
    ) -> data_pb2.WriteResult:
        replica = self._gateway.replica
        async with Call(self._gateway, context) as call:
            batch = data_pb2.WriteBatch(writes=[write])
            refuse_oversized(batch, replica.state.settings)
            encoded = batch.SerializeToString()
            if len(encoded) > self._gateway.frame_bytes_max:
                limit = self._gateway.frame_bytes_max
                raise call_failed(
                    ErrorCode.LIMIT_EXCEEDED, f"a request of {len(encoded)} bytes; the limit is {limit}"
                )
            if session.session_id:
                if session.sequence == 0:
                    raise call_failed(ErrorCode.INVALID_ARGUMENT, "a session's writes are numbered from 1")
                await call.check_secret(session.session_id, session.secret)
                call.feed(
                    replica.unary_session_write,
                    call.handle.connection,
                    session.session_id,
                    session.sequence,
                    encoded,
                )
            else:
                call.feed(replica.anonymous_write, call.handle.connection, encoded)
            return await call.write_result()
        raise AssertionError("an aborted call does not come here")

    # -----------------------------------------------------------------------------------------
    # Reads

    async def Get(self, request: coordination_pb2.GetRequest, context: Context) -> data_pb2.ReadResult:
        read = coordination_pb2.Read(
            get=request.get, consistency=request.consistency, min_zxid=request.min_zxid
        )
        return await self._read(read, context)

    async def Exists(self, request: coordination_pb2.ExistsRequest, context: Context) -> data_pb2.ReadResult:
        read = coordination_pb2.Read(
            exists=request.exists, consistency=request.consistency, min_zxid=request.min_zxid
        )
        return await self._read(read, context)

    async def ListChildren(
        self, request: coordination_pb2.ListChildrenRequest, context: Context
    ) -> data_pb2.ReadResult:
        read = coordination_pb2.Read(
            list_children=request.list_children, consistency=request.consistency, min_zxid=request.min_zxid
        )
        return await self._read(read, context)

    async def Sync(self, request: coordination_pb2.SyncRequest, context: Context) -> data_pb2.ReadResult:
        return await self._read(coordination_pb2.Read(sync=data_pb2.Sync()), context)

    async def _read(self, read: coordination_pb2.Read, context: Context) -> data_pb2.ReadResult:
        async with Call(self._gateway, context) as call:
            result = await call.read(read)
            result.id = 0
            return result
        raise AssertionError("an aborted call does not come here")

    # -----------------------------------------------------------------------------------------
    # Streams

    async def Watch(
        self, request: coordination_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[data_pb2.Event]:
        kind = data_pb2.STREAM_RECURSIVE if request.recursive else data_pb2.STREAM
        watch = data_pb2.Watch(path=request.path, kind=kind, with_values=request.with_values)
        if request.HasField("since"):
            watch.since = request.since
        async with Call(self._gateway, context) as call:
            is_told = False  # An event has told it already, and metadata cannot follow one.
            async for item in call.deliveries(watch):
                if item.WhichOneof("item") == "delivery":
                    is_told = True
                    yield item.delivery.event
                elif not is_told:
                    # The watch is set: let the client know, even if no event ever comes.
                    await context.send_initial_metadata((("coordsvc-zxid", str(item.read.zxid)),))

    async def History(
        self, request: coordination_pb2.HistoryRequest, context: Context
    ) -> AsyncIterator[coordination_pb2.HistoryResponse]:
        path = request.path or "/"
        since = request.since if request.HasField("since") else -1
        watch = data_pb2.Watch(path=path, kind=data_pb2.STREAM_RECURSIVE, with_values=True, since=since)
        async with Call(self._gateway, context) as call:
            if since < -1:
                raise call_failed(ErrorCode.INVALID_ARGUMENT, f"since={since} is not a zxid")
            page = HistoryPage(since)
            async for item in call.deliveries(watch):
                if item.WhichOneof("item") == "read":
                    if not page.is_empty:
                        yield page.take(is_whole=True)
                    yield coordination_pb2.HistoryResponse(zxid=item.read.zxid)
                    if not request.follow:
                        return
                    continue
                event = item.delivery.event
                if event.type == data_pb2.RESYNC:
                    raise call_failed(ErrorCode.HISTORY_TRIMMED, _history_trimmed(since, event.zxid))
                page.add(event)
                if page.is_full or not call.has_more:
                    yield page.take(is_whole=not call.has_more)

    # -----------------------------------------------------------------------------------------
    # Sessions

    async def OpenSession(
        self, request: coordination_pb2.OpenSessionRequest, context: Context
    ) -> coordination_pb2.OpenSessionResponse:
        async with Call(self._gateway, context) as call:
            attach = coordination_pb2.Attach(timeout_ms=request.timeout_ms, client_name=request.client_name)
            call.reopen(attach)
            async with asyncio.timeout(call.deadline_s()):
                attached = (await call.next_item()).attached
            return coordination_pb2.OpenSessionResponse(
                session_id=attached.session_id, secret=attached.secret, timeout_ms=attached.timeout_ms
            )
        raise AssertionError("an aborted call does not come here")

    async def KeepAlive(
        self, request: coordination_pb2.KeepAliveRequest, context: Context
    ) -> coordination_pb2.KeepAliveResponse:
        async with Call(self._gateway, context) as call:
            timeout_ms = await call.check_secret(request.session_id, request.secret)
            call.feed(self._gateway.replica.ping_session, call.handle.connection, request.session_id)
            async with asyncio.timeout(call.deadline_s()):
                await call.next_item()
            return coordination_pb2.KeepAliveResponse(timeout_ms=timeout_ms)
        raise AssertionError("an aborted call does not come here")

    async def CloseSession(
        self, request: coordination_pb2.CloseSessionRequest, context: Context
    ) -> coordination_pb2.CloseSessionResponse:
        async with Call(self._gateway, context) as call:
            await call.check_secret(request.session_id, request.secret)
            call.feed(self._gateway.replica.end_session, call.handle.connection, request.session_id)
            async with asyncio.timeout(call.deadline_s()):
                await call.next_item()
            return coordination_pb2.CloseSessionResponse()
        raise AssertionError("an aborted call does not come here")


def _history_trimmed(since: int, oldest: int) -> str:
    return f"changes after zxid {since} are no longer kept; the oldest kept is {oldest + 1}"

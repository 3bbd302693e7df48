"""The change feed: `Coordination.History`, a totally ordered broadcast of everything that changed.

Rule of this file: a stream of its own beside the session; what goes wrong becomes a `CoordError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import grpc.aio
from google.protobuf.message import DecodeError

from coordclient.connection import open_channel
from coordclient.driver import SessionDriver
from coordclient.errors import ConnectionLostError, RequestTimeoutError
from coordclient.statuses import error_from_status
from coordclient.types import Event, event_from_wire
from coordproto.v1 import coordination_pb2, data_pb2

HISTORY = "/coordproto.v1.Coordination/History"


async def history(
    driver: SessionDriver, *, path: str, since: int | None, follow: bool, timeout: float
) -> AsyncIterator[Event]:
    """Yield the changes after `since`, resuming at the member that the session is attached to."""
    position = since
    skip = 0  # changes of the transaction after `position` that have been yielded already
    while True:
        seen = 0
        source = _changes(driver.endpoint, path, position, follow=follow, timeout=timeout)
        try:
            async with aclosing(source):
                async for change in source:
                    if isinstance(change, int):
                        position, seen, skip = max(position or 0, change), 0, 0
                        continue
                    seen += 1
                    if seen <= skip:
                        continue
                    skip = seen
                    yield event_from_wire(change)
            return
        except ConnectionLostError:
            if not follow or position is None:
                raise
            await asyncio.sleep(0.2)


async def _changes(
    endpoint: str, path: str, since: int | None, *, follow: bool, timeout: float
) -> AsyncGenerator[data_pb2.Change | int, None]:
    """Yield changes, and after each message the zxid up to which everything has been sent."""
    channel = open_channel(endpoint)
    request = coordination_pb2.HistoryRequest(since=since, follow=follow, path=path)
    call = channel.unary_stream(
        HISTORY,
        request_serializer=coordination_pb2.HistoryRequest.SerializeToString,
        response_deserializer=coordination_pb2.HistoryResponse.FromString,
    )(request)
    try:
        while (response := await _next(call, endpoint, None if follow else timeout)) is not None:
            for change in response.changes:
                yield change
            yield response.zxid
    except grpc.aio.AioRpcError as error:
        raise error_from_status(error, endpoint) from error
    except DecodeError as error:
        raise ConnectionLostError(f"{endpoint} sent history that makes no sense: {error}") from error
    finally:
        call.cancel()
        await channel.close()


async def _next(
    call: grpc.aio.UnaryStreamCall[coordination_pb2.HistoryRequest, coordination_pb2.HistoryResponse],
    endpoint: str,
    timeout: float | None,
) -> coordination_pb2.HistoryResponse | None:
    """Return the next message, None at the end."""
    try:
        async with asyncio.timeout(timeout):
            response = await call.read()
    except TimeoutError:
        raise RequestTimeoutError(f"{endpoint}: no history within {timeout:g} s") from None
    return response if isinstance(response, coordination_pb2.HistoryResponse) else None

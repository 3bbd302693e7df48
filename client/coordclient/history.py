"""The change feed: `Coordination.History`, a totally ordered broadcast of everything that changed.

Rule of this file: a stream of its own beside the session; what goes wrong becomes a `CoordError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from coordclient.connection import open_channel
from coordclient.driver import SessionDriver
from coordclient.errors import (
    AccessDeniedError,
    ConnectionLostError,
    CoordError,
    HistoryTrimmedError,
    InvalidArgumentError,
    RequestTimeoutError,
    error_from_wire,
)
from coordclient.types import Event, event_from_wire
from coordproto.v1 import coordination_pb2, data_pb2

HISTORY = "/coordproto.v1.Coordination/History"
STATUS_DETAILS = "grpc-status-details-bin"

_CLASSES: dict[grpc.StatusCode, type[CoordError]] = {
    grpc.StatusCode.OUT_OF_RANGE: HistoryTrimmedError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.PERMISSION_DENIED: AccessDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: AccessDeniedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: RequestTimeoutError,
}


async def history(
    driver: SessionDriver, *, path: str, since: int | None, follow: bool, timeout: float
) -> AsyncIterator[Event]:
    """Yield the changes after `since`, resuming at the member that the session is attached to."""
    position = since
    skip = 0  # changes of the transaction after `position` that have been yielded already
    while True:
        seen = 0
        try:
            async for change in _changes(driver.endpoint, path, position, follow=follow, timeout=timeout):
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
) -> AsyncIterator[data_pb2.Change | int]:
    """Yield changes, and after each message the zxid up to which everything has been sent."""
    channel = open_channel(endpoint)
    request = coordination_pb2.HistoryRequest(since=since, follow=follow, path=path)
    call = channel.unary_stream(
        HISTORY,
        request_serializer=coordination_pb2.HistoryRequest.SerializeToString,
        response_deserializer=coordination_pb2.HistoryResponse.FromString,
    )(request, timeout=None if follow else timeout)
    try:
        async for response in call:
            for change in response.changes:
                yield change
            yield response.zxid
    except grpc.aio.AioRpcError as error:
        raise _translate(error, endpoint) from error
    except DecodeError as error:
        raise ConnectionLostError(f"{endpoint} sent history that makes no sense: {error}") from error
    finally:
        call.cancel()
        await channel.close()


def _translate(error: grpc.aio.AioRpcError, endpoint: str) -> CoordError:
    detail = _typed_detail(error)
    if detail is not None:
        return error_from_wire(detail)
    kind = _CLASSES.get(error.code(), ConnectionLostError)
    return kind(f"{endpoint}: {error.details() or error.code().name}")


def _typed_detail(error: grpc.aio.AioRpcError) -> data_pb2.Error | None:
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS and isinstance(value, bytes):
            return _error_in_status(value)
    return None


def _error_in_status(status: bytes) -> data_pb2.Error | None:
    """Find our `Error` among the details (field 3) of a google.rpc.Status, without a further dependency."""
    for field in _length_delimited_fields(status, number=3):
        detail = AnyMessage()
        try:
            detail.ParseFromString(field)
        except DecodeError:
            continue
        found = data_pb2.Error()
        if detail.Unpack(found):
            return found
    return None


def _length_delimited_fields(message: bytes, *, number: int) -> list[bytes]:
    """Return the values of one field of an encoded message that has only varints and bytes."""
    found = []
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        value, place = _varint(message, place)
        if tag & 7 == 2:
            if tag >> 3 == number:
                found.append(message[place : place + value])
            place += value
        elif tag & 7 != 0:
            break
    return found


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message):
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return value, place

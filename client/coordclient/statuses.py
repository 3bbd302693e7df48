"""The statuses that end calls outside the session's stream, as errors of ours.

Rule of this file: the typed detail counts; the bare status is for servers and proxies that give none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from coordclient.errors import (
    AccessDeniedError,
    ConnectionLostError,
    CoordError,
    HistoryTrimmedError,
    InvalidArgumentError,
    NoNodeError,
    RequestTimeoutError,
    error_from_wire,
)
from coordproto.v1 import data_pb2

STATUS_DETAILS = "grpc-status-details-bin"

_CLASSES: dict[grpc.StatusCode, type[CoordError]] = {
    grpc.StatusCode.OUT_OF_RANGE: HistoryTrimmedError,
    grpc.StatusCode.NOT_FOUND: NoNodeError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.PERMISSION_DENIED: AccessDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: AccessDeniedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: RequestTimeoutError,
}


def error_from_status(error: grpc.RpcError, endpoint: str) -> CoordError:
    """Translate the status that ended a call to `endpoint`."""
    detail = typed_detail(error)
    if detail is not None:
        return error_from_wire(detail)
    kind = _CLASSES.get(error.code(), ConnectionLostError)
    return kind(f"{endpoint}: {error.details() or error.code().name}")


def typed_detail(error: grpc.RpcError) -> data_pb2.Error | None:
    """Return the member's own word on what went wrong; None if the status did not come from a member."""
    metadata: Iterable[tuple[str, str | bytes]] = cast("Any", error).trailing_metadata()
    for key, value in metadata or ():
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

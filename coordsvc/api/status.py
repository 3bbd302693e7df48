"""Domain errors as gRPC statuses, with the typed detail: one table.

The detail is a `google.rpc.Status` in the `grpc-status-details-bin` trailer that holds a
`coordproto.v1.Error`. UNAVAILABLE always says why.
"""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from coordproto.v1 import data_pb2
from coordsvc.statemachine.results import ErrorCode

_DETAILS_KEY = "grpc-status-details-bin"

STATUS_BY_CODE: dict[ErrorCode, grpc.StatusCode] = {
    ErrorCode.OK: grpc.StatusCode.OK,
    ErrorCode.NO_NODE: grpc.StatusCode.NOT_FOUND,
    ErrorCode.NODE_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.BAD_VERSION: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.NOT_EMPTY: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.NO_CHILDREN_FOR_EPHEMERALS: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.INVALID_PATH: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.GUARD_FAILED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.TRANSACTION_FAILED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.RUNTIME_INCONSISTENCY: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.LIMIT_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.SESSION_EXPIRED: grpc.StatusCode.UNAUTHENTICATED,
    ErrorCode.SESSION_REQUIRED: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.SEQUENCE_GAP: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.SESSION_MOVED: grpc.StatusCode.ABORTED,
    ErrorCode.NO_LEADER: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.CATCHING_UP: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.SHUTTING_DOWN: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.SLOW_CONSUMER: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.HISTORY_TRIMMED: grpc.StatusCode.OUT_OF_RANGE,
    ErrorCode.UNKNOWN_OUTCOME: grpc.StatusCode.UNKNOWN,
    ErrorCode.ACCESS_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    ErrorCode.TOO_MANY_WATCHES: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.NO_WATCH: grpc.StatusCode.NOT_FOUND,
    ErrorCode.MALFORMED: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.CHECK_FAILED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}


_HEADER_TEXT_BYTES = 800  # statuses travel in headers, of which clients accept 8 KiB in all


def _clip(text: str) -> str:
    encoded = text.encode()
    if len(encoded) <= _HEADER_TEXT_BYTES:
        return text
    return encoded[:_HEADER_TEXT_BYTES].decode(errors="ignore") + "..."


def error_of(failed: grpc.aio.AioRpcError) -> data_pb2.Error | None:
    """The typed detail of a call that another member has refused; None if it gave none."""
    for key, value in failed.trailing_metadata() or ():
        if key != _DETAILS_KEY or not isinstance(value, bytes):
            continue
        error = data_pb2.Error()
        try:
            details = status_pb2.Status.FromString(value).details
            if details and details[0].Unpack(error):
                return error
        except DecodeError:
            return None
    return None


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: data_pb2.Error) -> None:
    """End the call with this error; does not return."""
    code = STATUS_BY_CODE[ErrorCode(int(error.code))]
    error.message = _clip(error.message)
    error.path = _clip(error.path)
    detail = any_pb2.Any()
    detail.Pack(error)
    status = status_pb2.Status(code=code.value[0], message=error.message, details=[detail])
    context.set_trailing_metadata(((_DETAILS_KEY, status.SerializeToString()),))
    await context.abort(code, error.message)

"""The statuses of calls outside the session's stream become errors of ours."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from coordclient import BadVersionError, ConnectionLostError, CoordError, NoNodeError, RequestTimeoutError
from coordclient.statuses import STATUS_DETAILS, error_from_status
from coordproto.v1 import data_pb2


def status(code: grpc.StatusCode, detail: bytes | None = None) -> grpc.aio.AioRpcError:
    trailers = grpc.aio.Metadata() if detail is None else grpc.aio.Metadata((STATUS_DETAILS, detail))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details="what the server said")


def encoded_status(error: data_pb2.Error) -> bytes:
    """google.rpc.Status {code: 9, message: "no", details: [Any {type_url, value}]}, written by hand."""
    url = b"type.googleapis.com/coordproto.v1.Error"
    value = error.SerializeToString()
    detail = b"\x0a" + bytes([len(url)]) + url + b"\x12" + bytes([len(value)]) + value
    return b"\x08\x09" + b"\x12\x02no" + b"\x1a" + bytes([len(detail)]) + detail


def test_the_typed_detail_counts() -> None:
    detail = data_pb2.Error(code=data_pb2.BAD_VERSION, message="m", expected_version=1, actual_version=2)
    error = error_from_status(status(grpc.StatusCode.FAILED_PRECONDITION, encoded_status(detail)), "a:1")

    assert isinstance(error, BadVersionError)
    assert (error.expected, error.actual) == (1, 2)


@pytest.mark.parametrize("detail", [None, b"", b"\x08\x03\x12\x02no", b"\x1a\xff\xff", b"\xff"])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, NoNodeError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, RequestTimeoutError),
        (grpc.StatusCode.UNAVAILABLE, ConnectionLostError),
        (grpc.StatusCode.INTERNAL, ConnectionLostError),
    ],
)
def test_the_bare_status_stands_in(
    code: grpc.StatusCode, kind: type[CoordError], detail: bytes | None
) -> None:
    error = error_from_status(status(code, detail), "a:1")

    assert type(error) is kind
    assert "a:1: what the server said" in str(error)

"""Stale reads while no session is attached: at any member that answers, also without a leader.

Rule of this file: only what asked for STALE comes here, and it may be old.
"""

from __future__ import annotations

import grpc.aio
from google.protobuf.message import Message

from coordclient import clock
from coordclient.connection import open_channel
from coordclient.errors import ConnectionLostError, CoordError, RequestTimeoutError
from coordclient.statuses import error_from_status
from coordproto.v1 import coordination_pb2, data_pb2

ATTEMPT_SECONDS_MAX = 2.0


def request_for(read: coordination_pb2.Read) -> tuple[str, Message] | None:
    """Return the unary method and request for a read; None if there is none."""
    kind = read.WhichOneof("op")
    options = {"consistency": data_pb2.STALE, "min_zxid": read.min_zxid}
    if kind == "get":
        return "Get", coordination_pb2.GetRequest(get=read.get, **options)  # type: ignore[arg-type]  # as named
    if kind == "exists":
        return "Exists", coordination_pb2.ExistsRequest(exists=read.exists, **options)  # type: ignore[arg-type]  # as named
    if kind == "list_children":
        request = coordination_pb2.ListChildrenRequest(list_children=read.list_children, **options)  # type: ignore[arg-type]  # as named
        return "ListChildren", request
    return None


async def read_stale(
    endpoints: list[str], read: coordination_pb2.Read, deadline: float
) -> data_pb2.ReadResult:
    """Return the first answer that a member gives.

    Raises:
        CoordError: What the member refused it with; or ConnectionLostError, if none answered.
    """
    call = request_for(read)
    assert call is not None
    failure: CoordError = ConnectionLostError("no member answered")
    for endpoint in endpoints:
        left_s = deadline - clock.now()
        if left_s <= 0:
            raise RequestTimeoutError(f"the read was not answered in time; {failure}")
        try:
            return await _ask(endpoint, *call, timeout_s=min(left_s, ATTEMPT_SECONDS_MAX))
        except (ConnectionLostError, RequestTimeoutError) as error:
            failure = error
    raise failure


async def _ask(endpoint: str, method: str, request: Message, *, timeout_s: float) -> data_pb2.ReadResult:
    channel = open_channel(endpoint)
    try:
        call: grpc.aio.UnaryUnaryMultiCallable[Message, data_pb2.ReadResult] = channel.unary_unary(
            f"/coordproto.v1.Coordination/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=data_pb2.ReadResult.FromString,
        )
        result = await call(request, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        raise error_from_status(error, endpoint) from error
    finally:
        await channel.close()
    return result

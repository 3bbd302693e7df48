"""The `Cluster` service: what operators ask of a member."""

from __future__ import annotations

from typing import Any

import grpc.aio

from coordproto.v1 import coordination_pb2, coordination_pb2_grpc, data_pb2
from coordsvc.api.calls import Call
from coordsvc.api.gateway import Gateway, TransferRefusedError
from coordsvc.api.status import abort
from coordsvc.codec.results import encode_failure
from coordsvc.statemachine.results import ErrorCode, Failure

Context = grpc.aio.ServicerContext[Any, Any]


class ClusterService(coordination_pb2_grpc.ClusterServicer):
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def Status(
        self, request: coordination_pb2.StatusRequest, context: Context
    ) -> coordination_pb2.StatusResponse:
        return self._gateway.status()

    async def Sessions(
        self, request: coordination_pb2.SessionsRequest, context: Context
    ) -> coordination_pb2.SessionsResponse:
        async with Call(self._gateway, context) as call:
            await call.read(coordination_pb2.Read(sync=data_pb2.Sync()))
        sessions = self._gateway.replica.state.machine.sessions
        return coordination_pb2.SessionsResponse(
            sessions=[
                coordination_pb2.SessionInfo(
                    session_id=session_id,
                    timeout_ms=session.timeout_ms,
                    client_name=session.client_name,
                    member=session.owner[0] if session.owner else "",
                    ephemerals=len(session.ephemerals),
                    opened_ms=session.opened_ms,
                )
                for session_id, session in sorted(sessions.items())
            ]
        )

    async def TransferLeadership(
        self, request: coordination_pb2.TransferLeadershipRequest, context: Context
    ) -> coordination_pb2.TransferLeadershipResponse:
        try:
            leader = await self._gateway.transfer_leadership(request.member)
        except TransferRefusedError as refused:
            hint = self._gateway.replica.state.leader_hint()
            await abort(context, encode_failure(Failure(ErrorCode.INVALID_ARGUMENT, str(refused)), hint))
            raise AssertionError("an aborted call does not come here") from refused
        return coordination_pb2.TransferLeadershipResponse(leader=leader)

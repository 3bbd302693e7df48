"""The `Cluster` service: what operators ask of a member."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from coordproto.v1 import coordination_pb2, coordination_pb2_grpc, data_pb2
from coordsvc.api.calls import Call
from coordsvc.api.gateway import ChangeRefusedError, Gateway, TransferRefusedError
from coordsvc.api.members import decode_change, decode_join, describe_joined, describe_members
from coordsvc.api.status import abort
from coordsvc.codec.results import encode_failure
from coordsvc.replica.changes import Change, ChangeRequest
from coordsvc.statemachine.results import ErrorCode, Failure

_CHANGE_WITHIN_S = 30.0  # if the caller sets no deadline

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

    async def ExpireSession(
        self, request: coordination_pb2.ExpireSessionRequest, context: Context
    ) -> coordination_pb2.ExpireSessionResponse:
        replica = self._gateway.replica
        async with Call(self._gateway, context) as call:
            await call.read(coordination_pb2.Read(sync=data_pb2.Sync()))
            if request.session_id not in replica.state.machine.sessions:
                return coordination_pb2.ExpireSessionResponse(existed=False)
            call.feed(replica.expire_session, call.handle.connection, request.session_id)
            async with asyncio.timeout(call.deadline_s()):
                await call.next_item()
        return coordination_pb2.ExpireSessionResponse(existed=True)

    async def TransferLeadership(
        self, request: coordination_pb2.TransferLeadershipRequest, context: Context
    ) -> coordination_pb2.TransferLeadershipResponse:
        try:
            leader = await self._gateway.transfer_leadership(request.member)
        except TransferRefusedError as refused:
            hint = self._gateway.replica.state.leader_hint()
            await abort(context, encode_failure(refused.failure, hint))
            raise AssertionError("an aborted call does not come here") from refused
        return coordination_pb2.TransferLeadershipResponse(leader=leader)

    async def Members(
        self, request: coordination_pb2.MembersRequest, context: Context
    ) -> coordination_pb2.MembersResponse:
        async with Call(self._gateway, context) as call:
            await call.read(coordination_pb2.Read(sync=data_pb2.Sync()))
        state = self._gateway.replica.state
        if not state.raft.is_leader:
            message = f"{state.name} does not lead, {state.leader or 'nobody'} does; ask the leader"
            await abort(context, encode_failure(Failure(ErrorCode.NO_LEADER, message), state.leader_hint()))
        return describe_members(self._gateway.replica)

    async def ChangeMembers(
        self, request: coordination_pb2.ChangeMembersRequest, context: Context
    ) -> coordination_pb2.MembersResponse:
        change = decode_change(request)
        if change is None:
            message = "a change that this server does not know; is it older than the client?"
            await abort(context, encode_failure(Failure(ErrorCode.INVALID_ARGUMENT, message)))
            raise AssertionError("an aborted call does not come here")
        await self._change(change, context, force=request.force)
        return describe_members(self._gateway.replica)

    async def Join(
        self, request: coordination_pb2.JoinRequest, context: Context
    ) -> coordination_pb2.JoinResponse:
        join = decode_join(request)
        joined = await self._change(join, context, force=False)
        return describe_joined(self._gateway.cluster_id, joined)

    async def _change(self, change: Change, context: Context, *, force: bool) -> ChangeRequest:
        remaining: float | None = context.time_remaining()
        within_s = _CHANGE_WITHIN_S if remaining is None else remaining * 0.95
        try:
            return await self._gateway.change_membership(change, force=force, within_s=within_s)
        except ChangeRefusedError as refused:
            await abort(context, encode_failure(refused.failure, refused.leader_hint))
            raise AssertionError("an aborted call does not come here") from refused

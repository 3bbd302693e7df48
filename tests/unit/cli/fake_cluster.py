"""A cluster for the commands of operators: real gRPC, and a membership that the test writes down.

Rule of this file: it answers as the service does (only the leader changes anything; whoever does not lead
names the leader), and fails only where a test asks it to.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import any_pb2
from google.rpc import status_pb2

from coordproto.v1 import coordination_pb2 as api
from coordproto.v1 import coordination_pb2_grpc, data_pb2

Code = data_pb2.ErrorCode
LAST_INDEX = 5_000


class FakeCluster:
    """Members, each with a port of its own; `leader` is the name of one of them, or empty."""

    def __init__(self, *names: str) -> None:
        self.leader = names[0]
        self.term = 3
        self.infos: dict[str, api.MemberInfo] = {}
        self.requests: list[api.ChangeMembersRequest] = []
        self.asked: list[str] = []  # who was asked for a change
        self.looks = 0
        # Faults and refusals, used up one by one: what the leader does instead of an answer.
        self.failures: list[Callable[[FakeMember, grpc.ServicerContext], None]] = []
        self.on_look: Callable[[], None] | None = None
        self._members: dict[str, FakeMember] = {}
        for name in names:
            self.add(name)

    def add(self, name: str, *, learner: bool = False, match: int = LAST_INDEX) -> api.MemberInfo:
        member = self._members[name] = FakeMember(self, name)
        info = self.infos[name] = api.MemberInfo(
            name=name,
            peer_address=f"10.0.0.1:{7000 + len(self.infos)}",
            client_address=member.address,
            role=api.LEARNER if learner else api.VOTER,
            reachable=True,
            match_index=match,
            started=True,
        )
        return info

    def __getitem__(self, name: str) -> FakeMember:
        return self._members[name]

    def stop(self) -> None:
        for member in self._members.values():
            member.stop()

    def members(self) -> api.MembersResponse:
        for info in self.infos.values():
            info.leader = info.name == self.leader
        ordered = [self.infos[name] for name in sorted(self.infos)]
        return api.MembersResponse(members=ordered, last_index=LAST_INDEX, configuration_index=7)

    def carry_out(self, request: api.ChangeMembersRequest) -> None:
        kind = request.WhichOneof("change")
        if kind == "remove":
            del self.infos[request.remove.name]
        elif kind == "promote":
            self.infos[request.promote.name].role = api.VOTER
        elif kind == "replace":
            del self.infos[request.replace.name]
            self.infos[request.replace.by].role = api.VOTER
        else:
            info = api.MemberInfo(
                name=request.add.name, peer_address=request.add.peer_address, role=api.LEARNER
            )
            self.infos[info.name] = info


class FakeMember(coordination_pb2_grpc.ClusterServicer):
    def __init__(self, cluster: FakeCluster, name: str) -> None:
        self._cluster = cluster
        self.name = name
        self._server = grpc.server(ThreadPoolExecutor(4))
        coordination_pb2_grpc.add_ClusterServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def Status(  # noqa: N802  # the name in the .proto
        self, request: api.StatusRequest, context: grpc.ServicerContext
    ) -> api.StatusResponse:
        cluster = self._cluster
        return api.StatusResponse(
            cluster_id="x",
            member=self.name,
            role="leader" if cluster.leader == self.name else "follower",
            leader=cluster.leader,
            term=cluster.term,
            members=[
                api.MemberStatus(name=info.name, client_address=info.client_address)
                for info in cluster.infos.values()
            ],
        )

    def Members(  # noqa: N802  # the name in the .proto
        self, request: api.MembersRequest, context: grpc.ServicerContext
    ) -> api.MembersResponse:
        self._check_leads(context)
        self._cluster.looks += 1
        if self._cluster.on_look is not None:
            self._cluster.on_look()
        return self._cluster.members()

    def ChangeMembers(  # noqa: N802  # the name in the .proto
        self, request: api.ChangeMembersRequest, context: grpc.ServicerContext
    ) -> api.MembersResponse:
        cluster = self._cluster
        cluster.asked.append(self.name)
        self._check_leads(context)
        cluster.requests.append(request)
        if cluster.failures:
            cluster.failures.pop(0)(self, context)
        cluster.carry_out(request)
        return cluster.members()

    def TransferLeadership(  # noqa: N802  # the name in the .proto
        self, request: api.TransferLeadershipRequest, context: grpc.ServicerContext
    ) -> api.TransferLeadershipResponse:
        cluster = self._cluster
        cluster.asked.append(self.name)
        self._check_leads(context)
        if cluster.failures:
            cluster.failures.pop(0)(self, context)
        others = sorted(name for name in cluster.infos if name != self.name)
        cluster.leader = request.member or others[0]
        cluster.term += 1
        return api.TransferLeadershipResponse(leader=cluster.leader)

    def Sessions(  # noqa: N802  # the name in the .proto
        self, request: api.SessionsRequest, context: grpc.ServicerContext
    ) -> api.SessionsResponse:
        return api.SessionsResponse()

    def ExpireSession(  # noqa: N802  # the name in the .proto
        self, request: api.ExpireSessionRequest, context: grpc.ServicerContext
    ) -> api.ExpireSessionResponse:
        raise NotImplementedError

    def Join(  # noqa: N802  # the name in the .proto
        self, request: api.JoinRequest, context: grpc.ServicerContext
    ) -> api.JoinResponse:
        raise NotImplementedError

    def _check_leads(self, context: grpc.ServicerContext) -> None:
        if self._cluster.leader != self.name:
            refuse(context, Code.NO_LEADER, "this member does not lead", grpc.StatusCode.UNAVAILABLE)


def refuse(
    context: grpc.ServicerContext,
    code: data_pb2.ErrorCode.ValueType,
    message: str,
    status_code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT,
) -> None:
    """End a call as the service does, with the typed detail; does not return."""
    detail = any_pb2.Any()
    detail.Pack(data_pb2.Error(code=code, message=message))
    status = status_pb2.Status(code=status_code.value[0], message=message, details=[detail])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(status_code, message)

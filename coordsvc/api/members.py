"""The membership on the wire: what is asked for, and how it is described."""

from __future__ import annotations

from coordproto.v1 import coordination_pb2
from coordsvc.codec.cluster_configuration import MemberRecord
from coordsvc.raft.types import Configuration, NodeId
from coordsvc.replica.changes import (
    AddMember,
    Change,
    ChangeRequest,
    JoinMember,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
)
from coordsvc.replica.core import Replica


def decode_change(request: coordination_pb2.ChangeMembersRequest) -> Change | None:
    """Return the change that is asked for; None if there is none that this server knows."""
    kind = request.WhichOneof("change")
    if kind == "add":
        return AddMember(request.add.name, request.add.peer_address)
    if kind == "remove":
        return RemoveMember(request.remove.name)
    if kind == "promote":
        return PromoteMember(request.promote.name)
    if kind == "replace":
        return ReplaceMember(request.replace.name, request.replace.by)
    return None


def decode_join(request: coordination_pb2.JoinRequest) -> JoinMember:
    return JoinMember(request.name, request.peer_address, request.client_address, request.member_id)


def describe_joined(cluster_id: str, request: ChangeRequest) -> coordination_pb2.JoinResponse:
    """What a server that has joined has to know; `request` is settled, with an outcome."""
    outcome = request.outcome
    assert outcome is not None, "a failure is answered as one"
    assert outcome.index == request.proposed, "a join takes effect with one entry"
    return coordination_pb2.JoinResponse(
        cluster_id=cluster_id,
        name=request.name,
        members=[
            coordination_pb2.JoinedMember(
                name=record.name, peer_address=record.peer_address, client_address=record.client_address
            )
            for record in outcome.members
        ],
        configuration_index=request.proposed,
        configuration_term=request.proposed_term,
    )


def describe_members(replica: Replica) -> coordination_pb2.MembersResponse:
    """Everybody in the configuration in force, as the leader sees them."""
    in_force = replica.roster.in_force()
    status = replica.state.raft.status()
    return coordination_pb2.MembersResponse(
        members=[_describe(replica, record, in_force.raft) for record in in_force.members],
        last_index=status.last_index,
        configuration_index=replica.roster.applied.index,
    )


def _describe(
    replica: Replica, record: MemberRecord, configuration: Configuration
) -> coordination_pb2.MemberInfo:
    state = replica.state
    status = state.raft.status()
    newest = replica.roster.newest(record)
    follower = status.followers.get(record.name)
    return coordination_pb2.MemberInfo(
        name=record.name,
        peer_address=newest.peer_address,
        client_address=newest.client_address,
        role=_role(record.name, configuration),
        leader=record.name == state.leader,
        reachable=state.hears(record.name),
        match_index=follower.match if follower is not None else status.stable_index,
        started=newest.member_id != 0,
    )


def _role(name: NodeId, configuration: Configuration) -> coordination_pb2.MemberRole.ValueType:
    outgoing = configuration.voters_outgoing
    if name in configuration.voters:
        return coordination_pb2.JOINING_VOTER if outgoing and name not in outgoing else coordination_pb2.VOTER
    return coordination_pb2.LEAVING_VOTER if name in outgoing else coordination_pb2.LEARNER

"""What a member says of itself: `Cluster.Status`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from coordproto.v1 import coordination_pb2
from coordsvc.version import VERSION

if TYPE_CHECKING:
    from coordsvc.server.member import Member


def role_name(member: Member) -> str:
    """Return leader, follower, candidate, pre-candidate or learner."""
    raft = member.replica.state.raft
    configuration = raft.configuration
    if member.name not in configuration.voters and member.name not in configuration.voters_outgoing:
        return "learner"
    return raft.role.name.lower().replace("_", "-")


def is_ready(member: Member) -> bool:
    """Whether this member can serve: it knows a leader and has applied what it knows to be committed."""
    state = member.replica.state
    behind = state.raft.commit_index - state.machine.applied_index
    return not member.is_stopping() and state.leader is not None and behind <= member.config.log_keep_entries


def describe(member: Member) -> coordination_pb2.StatusResponse:
    state = member.replica.state
    machine = state.machine
    store = member.opened.log
    in_force = member.replica.roster.in_force()
    members = [
        coordination_pb2.MemberStatus(
            name=record.name,
            peer_address=record.peer_address,
            client_address=record.client_address or state.client_addresses.get(record.name, ""),
            learner=record.name in in_force.raft.learners,
            reachable=record.name == member.name or member.links.is_up(record.name),
        )
        for record in in_force.members
    ]
    return coordination_pb2.StatusResponse(
        cluster_id=member.cluster_id,
        member=member.name,
        role=role_name(member),
        leader=state.leader or "",
        term=state.raft.term,
        commit_index=state.raft.commit_index,
        applied_index=machine.applied_index,
        zxid=machine.zxid,
        digest=machine.digest,
        sessions=len(machine.sessions),
        connections=len(state.by_session),
        watches=state.registry.count,
        nodes=machine.node_count,
        log_entries=store.last_index() - store.first_index() + 1,
        oldest_history_zxid=machine.oldest_history_zxid,
        version=VERSION,
        uptime_ms=int((time.monotonic() - member.started_s) * 1000),
        members=members,
    )

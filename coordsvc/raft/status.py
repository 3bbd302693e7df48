"""What a node tells operators about itself.

Rule of this file: it copies values out; nobody decides anything by it.
"""

from __future__ import annotations

from dataclasses import dataclass

from coordsvc.raft.progress import ProgressState
from coordsvc.raft.state import NodeState, Role
from coordsvc.raft.types import Configuration, Index, NodeId, Term


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    """The leader's view of one other member."""

    match: Index
    next: Index
    state: ProgressState
    recent_active: bool
    is_learner: bool


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What this node knows, for operators. `followers` is empty unless it leads."""

    node_id: NodeId
    role: Role
    term: Term
    vote: NodeId | None
    leader: NodeId | None
    first_index: Index
    last_index: Index
    stable_index: Index
    commit_index: Index
    applied_index: Index
    transferee: NodeId | None
    uncommitted_bytes: int
    pending_reads: int
    refused_messages: int
    configuration: Configuration
    configuration_index: Index
    is_configuration_committed: bool
    followers: dict[NodeId, FollowerStatus]


def describe(state: NodeState) -> NodeStatus:
    """Describe a node as it is now."""
    log = state.log
    followers = {}
    if state.role is Role.LEADER:
        followers = {
            p.node: FollowerStatus(p.match, p.next, p.state, p.recent_active, p.is_learner)
            for p in state.members.followers
        }
    return NodeStatus(
        node_id=state.node_id,
        role=state.role,
        term=state.term,
        vote=state.vote,
        leader=state.leader,
        first_index=log.first_index(),
        last_index=log.last_index,
        stable_index=log.stable,
        commit_index=log.commit,
        applied_index=log.applied,
        transferee=state.transferee,
        uncommitted_bytes=state.uncommitted_bytes,
        pending_reads=len(state.reads),
        refused_messages=state.refused,
        configuration=state.configurations.newest,
        configuration_index=state.configurations.index,
        is_configuration_committed=state.configurations.is_committed(log.commit),
        followers=followers,
    )

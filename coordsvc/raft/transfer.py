"""Leadership transfer. Thesis §3.10.

Rule of this file: one transfer at a time, for at most one election timeout; no proposals meanwhile.
"""

from __future__ import annotations

from coordsvc.raft import replication
from coordsvc.raft.election import Campaign, campaign
from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.state import NodeState, Role
from coordsvc.raft.types import NodeId


def transfer_leader(state: NodeState, target: NodeId) -> None:
    """Let `target` lead: at once if it has everything, else when it has. A follower tells the leader."""
    if state.role is Role.LEADER:
        _begin(state, target)
    elif state.role is Role.FOLLOWER and state.leader is not None:
        # As in etcd, the source of this message is the member that is to lead.
        state.send(Message(MessageType.TRANSFER_LEADER, target, state.leader))


def handle_transfer_leader(state: NodeState, message: Message) -> None:
    """Leader: somebody asks that `message.source` leads."""
    _begin(state, message.source)


def _begin(state: NodeState, target: NodeId) -> None:
    progress = state.members.progress.get(target)
    if progress is None or not state.members.is_voter(target):
        return
    if target == state.transferee:
        return
    state.transferee = None  # Another target ends the transfer that is under way.
    if target == state.node_id:
        return
    state.transferee = target
    state.election_elapsed = 0
    if progress.match == state.log.last_index:
        replication.send_timeout_now(state, target)
    else:
        progress.append_due = True
        state.append_due = True


def handle_timeout_now(state: NodeState, message: Message) -> None:
    """Follower: the leader wants this node to lead; ask for votes at once, without a pre-vote."""
    if state.leader is not None and state.leader != message.source:
        state.refuse()
        return
    campaign(state, Campaign.TRANSFER)

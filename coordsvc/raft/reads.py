"""Linearizable reads without the log: ReadIndex, on both sides. Thesis §6.4.

Rule of this file: a read is confirmed only by heartbeats that left after it was asked for, and only by a
leader that has committed an entry of its own term.
"""

from __future__ import annotations

from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.read_queue import ReadRequest
from coordsvc.raft.ready import ReadState
from coordsvc.raft.state import NodeState
from coordsvc.raft.types import Index, NodeId

FORWARDS_MAX = 2  # members that disagree about who leads must not pass a request around for ever


def ask(state: NodeState, asker: NodeId, context: int) -> bool:
    """Queue a read on the leader; False if too many wait already."""
    reads = state.reads
    if len(reads) >= state.config.pending_reads_max:
        return False
    log = state.log
    if log.commit < state.term_start:
        # Until an entry of this term is committed, an earlier leader may have acknowledged more than
        # is known here, also to a sole voter that has just restarted.
        reads.waiting.append((asker, context))
        return True
    if state.members.is_sole_voter():
        answer(state, asker, context, log.commit)
        return True
    reads.add(ReadRequest(asker, context, log.commit))
    state.heartbeat_due = True
    return True


def release_waiting(state: NodeState) -> None:
    """Ask again for the reads that waited for the first commit of the term."""
    waiting, state.reads.waiting = state.reads.waiting, []
    for asker, context in waiting:
        ask(state, asker, context)


def handle_acknowledgement(state: NodeState, source: NodeId, number: int) -> None:
    """Count a heartbeat's answer; confirm the reads that a quorum now stands behind."""
    for request in state.reads.confirm(state.members, state.node_id, source, number):
        answer(state, request.asker, request.context, request.index)


def recount(state: NodeState) -> None:
    """Leader: other members count now."""
    for request in state.reads.recount(state.members, state.node_id):
        answer(state, request.asker, request.context, request.index)


def answer(state: NodeState, asker: NodeId, context: int, index: Index) -> None:
    if asker == state.node_id:
        state.read_states.append(ReadState(context, index))
        return
    state.send(
        Message(
            MessageType.READ_INDEX_RESPONSE,
            state.node_id,
            asker,
            term=state.term,
            index=index,
            context=context,
        )
    )


def handle_read_index(state: NodeState, message: Message) -> None:
    """Leader: a follower asks."""
    ask(state, message.source, message.context)


def forward(state: NodeState, asker: NodeId, context: int, *, forwards: int) -> bool:
    """Pass a read on to the leader; False if there is none. The asker owns the timeout and asks again."""
    if state.leader is None or state.leader == asker or forwards > FORWARDS_MAX:
        return False
    state.send(
        # `index` counts how often the request was passed on.
        Message(MessageType.READ_INDEX, asker, state.leader, context=context, index=forwards)
    )
    return True


def handle_misdirected_read_index(state: NodeState, message: Message) -> None:
    """Follower: somebody takes this node for the leader still."""
    forward(state, message.source, message.context, forwards=message.index + 1)


def handle_read_index_response(state: NodeState, message: Message) -> None:
    """Follower: the leader has confirmed a read of ours."""
    state.read_states.append(ReadState(message.context, message.index))

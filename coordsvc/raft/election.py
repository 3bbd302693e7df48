"""Elections: who asks for votes, who gives them, who wins. Raft §5.2, §5.4.1; thesis §4.2.3, §9.6.

Rule of this file: a vote, also the candidate's own, counts only once it is durable at the voter.
"""

from __future__ import annotations

from enum import Enum

from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.quorum import VoteResult
from coordsvc.raft.state import NodeState, Role
from coordsvc.raft.types import NodeId

EVIDENCE_TICKS = 3  # who learns that the leader's process has ended asks at once, and again at so many ticks


class Campaign(Enum):
    PRE_ELECTION = "pre_election"
    ELECTION = "election"
    TRANSFER = "transfer"  # asked for by the leader: needs no pre-vote, and no vote is withheld


def tick_election(state: NodeState) -> None:
    """Any role but leader: one tick of the election timer."""
    state.election_elapsed += 1
    is_due = state.election_elapsed >= state.election_deadline or state.hurried_ticks > 0
    state.hurried_ticks = max(state.hurried_ticks - 1, 0)
    if is_due and state.is_promotable():
        state.restart_election_timer()
        start_election(state)


def tick_leader(state: NodeState) -> None:
    """Leader: one tick; heartbeats, and whether a quorum still listens. Thesis §6.2."""
    state.heartbeat_elapsed += 1
    state.election_elapsed += 1
    if state.election_elapsed >= state.config.election_ticks:
        state.election_elapsed = 0
        if state.config.check_quorum and not state.members.quorum_is_active():
            state.become_follower(state.term, None)
            return
        # A transfer that took this long has failed: take proposals again.
        state.transferee = None
    if state.heartbeat_elapsed >= state.config.heartbeat_ticks:
        state.heartbeat_elapsed = 0
        state.heartbeat_due = True
        for progress in state.members.followers:
            progress.probe_allowed = True


def start_election(state: NodeState) -> None:
    campaign(state, Campaign.PRE_ELECTION if state.config.pre_vote else Campaign.ELECTION)


def campaign(state: NodeState, kind: Campaign) -> None:
    """Ask for votes, unless this node leads already or must not lead."""
    if state.role is Role.LEADER or not state.is_promotable():
        return
    if kind is Campaign.PRE_ELECTION:
        state.become_pre_candidate()
        if _record_vote(state, state.node_id, is_granted=True) is VoteResult.WON:
            _ask_for_votes(state, Campaign.ELECTION)
            return
        _ask_for_pre_votes(state)
        return
    _ask_for_votes(state, kind)


def _ask_for_pre_votes(state: NodeState) -> None:
    for node in state.members.electorate:
        if node != state.node_id:
            _ask_for_pre_vote(state, node)


def _ask_for_pre_vote(state: NodeState, node: NodeId) -> None:
    log = state.log
    state.send(
        Message(
            MessageType.PRE_VOTE,
            state.node_id,
            node,
            term=state.term + 1,
            index=log.last_index,
            log_term=log.last_term,
        )
    )


def _ask_for_votes(state: NodeState, kind: Campaign) -> None:
    state.become_candidate()
    log = state.log
    state.promise(Message(MessageType.VOTE_RESPONSE, state.node_id, state.node_id, term=state.term))
    for node in state.members.electorate:
        if node != state.node_id:
            # A promise too: it says how long this log is and that the own vote is given. If a crash could
            # take that back, votes for the longer log would elect a shorter one.
            state.promise(
                Message(
                    MessageType.VOTE,
                    state.node_id,
                    node,
                    term=state.term,
                    index=log.last_index,
                    log_term=log.last_term,
                    transfer=kind is Campaign.TRANSFER,
                )
            )


def handle_vote_request(state: NodeState, message: Message) -> None:
    """Any role, also a learner: the candidate may know that it is a voter by now (etcd#10998).

    But never for a log that does not reach to where this node was taken in: whoever has such a log may
    count on the vote of another disk that had this name before.
    """
    is_pre_vote = message.type is MessageType.PRE_VOTE
    can_vote = (
        state.vote == message.source
        or (state.vote is None and state.leader is None)
        or (is_pre_vote and message.term > state.term)
    )
    is_granted = (
        can_vote
        and state.log.is_up_to_date(message.index, message.log_term)
        and (message.log_term, message.index) >= state.joined
    )
    if is_granted and is_pre_vote and _asks_at_the_same_moment(state, message):
        is_granted = message.source > state.node_id
        if not is_granted and state.members.is_voter(message.source):
            # It may have heard the leader still when this node asked, and said nothing. Now it would agree.
            _ask_for_pre_vote(state, message.source)
    response = Message(
        MessageType.PRE_VOTE_RESPONSE if is_pre_vote else MessageType.VOTE_RESPONSE,
        state.node_id,
        message.source,
        term=message.term if is_granted else state.term,
        reject=not is_granted,
    )
    if is_granted and not is_pre_vote:
        state.election_elapsed = 0
        state.vote = message.source
    state.promise(response)


def _asks_at_the_same_moment(state: NodeState, message: Message) -> bool:
    """Say whether this node has itself just begun a pre-vote, with a log that is no older.

    Two that both win their pre-vote split the vote, and the cluster waits for another timeout. So one of
    them gives way, by name; only for a tick, since the other may be the only one to reach a majority.
    """
    return (
        state.role is Role.PRE_CANDIDATE
        and state.election_elapsed == 0
        and message.log_term == state.log.last_term
        and message.index == state.log.last_index
    )


def handle_vote_response(state: NodeState, message: Message) -> None:
    """Candidate: a vote, perhaps this node's own."""
    result = _record_vote(state, message.source, is_granted=not message.reject)
    if result is VoteResult.WON:
        state.become_leader()
    elif result is VoteResult.LOST:
        state.become_follower(state.term, None)


def handle_pre_vote_response(state: NodeState, message: Message) -> None:
    """Pre-candidate: would `message.source` vote for this node?"""
    if not message.reject and message.term != state.term + 1:
        return  # The answer to an earlier question.
    result = _record_vote(state, message.source, is_granted=not message.reject)
    if result is VoteResult.WON:
        _ask_for_votes(state, Campaign.ELECTION)
    elif result is VoteResult.LOST:
        # The own term, not the message's: a pre-vote speaks of a term that nobody has entered.
        state.become_follower(state.term, None)


def _record_vote(state: NodeState, node: NodeId, *, is_granted: bool) -> VoteResult:
    if state.members.is_voter(node):
        state.votes.setdefault(node, is_granted)  # The first answer counts; repetitions change nothing.
    return state.members.tally(state.votes)


def report_leader_lost(state: NodeState, node: NodeId) -> None:
    """Follower: the process of `node` has ended. If it led, look for a successor now.

    Only a pre-vote is begun, so the evidence may be wrong: whoever still hears the leader does not answer,
    the term stays as it is, and the next message of the leader is followed again. Others may get the
    evidence a little later, hence the repetitions.
    """
    if state.role is not Role.FOLLOWER or state.leader != node:
        return
    state.leader = None
    if state.config.pre_vote and state.is_promotable():
        state.hurried_ticks = EVIDENCE_TICKS
        start_election(state)

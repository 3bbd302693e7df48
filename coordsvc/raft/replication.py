"""How a leader's entries reach the followers, both sides, and when they are committed. Raft §5.3, §5.4.

Rule of this file: appends and heartbeats are made in `flush`, when a Ready is made, so that whatever
gathered since the last one leaves as one message for each follower.
"""

from __future__ import annotations

from coordsvc.raft import reads, snapshots
from coordsvc.raft.log import Compacted
from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.progress import Progress, ProgressState
from coordsvc.raft.state import NodeState, Role
from coordsvc.raft.types import Entry, Index, NodeId

# --- leader: sending -----------------------------------------------------------------------------


def flush(state: NodeState) -> None:
    """Leader: make the messages that have become due."""
    if state.append_due:
        state.append_due = False
        for progress in state.members.followers:
            _send_appends(state, progress)
    if state.heartbeat_due:
        state.heartbeat_due = False
        _send_heartbeats(state)


def _send_appends(state: NodeState, progress: Progress) -> None:
    """Send what `progress` lacks, as far as its window allows; an empty append only if it tells something."""
    if progress.flow_paused or progress.state is ProgressState.SNAPSHOT:
        return
    log = state.log
    is_asked_for = progress.append_due
    must_send = is_asked_for or (
        progress.state is ProgressState.REPLICATE and progress.can_bump_commit(log.commit)
    )
    progress.append_due = False
    while (must_send or progress.next <= log.last_index) and not progress.flow_paused:
        if not _send_append(state, progress, allow_empty=must_send, is_asked_for=is_asked_for):
            return
        must_send = is_asked_for = False


def _send_append(state: NodeState, progress: Progress, *, allow_empty: bool, is_asked_for: bool) -> bool:
    """Send one append, or begin a snapshot where entries are compacted; False if no append left.

    An empty one to a follower in REPLICATE, that nobody asked for, is a notice of the commit: what it would
    acknowledge is acknowledged already, or will be with the appends before it.
    """
    log = state.log
    previous_index = progress.next - 1
    if previous_index < log.first_index() - 1:
        snapshots.send_snapshot(state, progress)
        return False
    entries: list[Entry] = []
    if progress.next <= log.last_index and not (
        progress.state is ProgressState.REPLICATE and progress.inflights.is_full()
    ):
        try:
            entries = log.slice(progress.next, log.last_index + 1, state.config.append_bytes_max)
        except Compacted:  # A trim is under way beside us, and has not said yet that it is done.
            snapshots.send_snapshot(state, progress)
            return False
    if not entries and not allow_empty:
        return False
    size = 0
    for entry in entries:
        size += len(entry.data)
    state.messages.append(
        Message(
            MessageType.APPEND,
            state.node_id,
            progress.node,
            state.term,
            log.term(previous_index),
            previous_index,
            log.commit,
            entries,
            is_notice=not (entries or is_asked_for or progress.inflights.is_full())
            and progress.state is ProgressState.REPLICATE,
        )
    )
    progress.note_sent(len(entries), size, log.commit)
    return True


def _send_heartbeats(state: NodeState) -> None:
    number = state.reads.newest()
    commit = state.log.commit
    for progress in state.members.followers:
        state.messages.append(
            Message(
                MessageType.HEARTBEAT,
                state.node_id,
                progress.node,
                state.term,
                # Never ask a follower to commit what it may not hold.
                commit=min(progress.match, commit),
                context=number,
            )
        )


# --- leader: hearing -----------------------------------------------------------------------------


def handle_append_response(state: NodeState, message: Message) -> None:
    progress = state.members.progress.get(message.source)
    log = state.log
    if message.index > log.last_index:
        state.refuse()
        return
    if progress is None:
        return  # It may have been removed a moment ago.
    progress.recent_active = True
    if message.reject:
        _handle_rejection(state, progress, message)
        return
    index = message.index
    is_news = progress.acknowledge(index)
    # A follower that is told of nothing new still leaves PROBE, in which report_unreachable put it.
    if not is_news and not (progress.state is ProgressState.PROBE and progress.match == index):
        return
    if progress.state is ProgressState.REPLICATE:
        progress.inflights.free_to(index)
    elif progress.state is ProgressState.PROBE:
        progress.become_replicate()
    elif progress.match + 1 >= log.first_index():
        # Whichever snapshot it installed: it can go on from the log.
        progress.become_replicate()
    advance_commit(state)
    if state.role is not Role.LEADER:
        return  # That was what this leader had to do before it could go.
    if progress.next <= log.last_index or progress.can_bump_commit(log.commit):
        state.append_due = True
    if state.transferee == progress.node and progress.match == log.last_index:
        send_timeout_now(state, progress.node)


def _handle_rejection(state: NodeState, progress: Progress, message: Message) -> None:
    hint = message.reject_hint
    if message.log_term > 0:
        # Skip whole terms of a divergent tail, not single indexes. Raft §5.3, last paragraphs.
        hint, _ = state.log.find_by_term(hint, message.log_term)
    if not progress.retreat(message.index, hint):
        return
    if progress.state is ProgressState.REPLICATE:
        progress.become_probe()
    progress.append_due = True
    state.append_due = True


def handle_heartbeat_response(state: NodeState, message: Message) -> None:
    progress = state.members.progress.get(message.source)
    if progress is None:
        return  # See above.
    progress.recent_active = True
    if progress.probe_allowed:
        progress.probe_allowed = False
        progress.flow_paused = False
        # If all that was sent got lost, only this tells: an append goes even when the window is full
        # (then empty), and also to a follower that is up to date but in PROBE.
        if progress.match < state.log.last_index or progress.state is ProgressState.PROBE:
            progress.append_due = True
            state.append_due = True
    if message.context:
        reads.handle_acknowledgement(state, message.source, message.context)


def report_unreachable(state: NodeState, node: NodeId) -> None:
    """Leader: messages to `node` get lost; do not run ahead of its answers."""
    progress = state.members.progress.get(node)
    if state.role is not Role.LEADER or progress is None or progress is state.members.own:
        return
    if progress.state is ProgressState.REPLICATE:
        progress.become_probe()


def send_timeout_now(state: NodeState, target: NodeId) -> None:
    state.send(Message(MessageType.TIMEOUT_NOW, state.node_id, target, term=state.term))


# --- leader: committing --------------------------------------------------------------------------


def note_own_durable(state: NodeState) -> None:
    """Leader: count this node up to what its own disk has."""
    own = state.members.own
    if own is not None and own.acknowledge(state.log.stable):
        advance_commit(state)


def advance_commit(state: NodeState) -> None:
    """Commit what a quorum has, if it is of this term; earlier entries follow. Raft §5.4.2."""
    index = state.members.agreed_index()
    log = state.log
    if index < state.term_start or not log.commit_to(index):
        return
    state.append_due = True
    if state.reads.waiting:
        reads.release_waiting(state)
    if not state.members.own_counts and state.configurations.is_committed(index):
        _go(state)


def _go(state: NodeState) -> None:
    """Leader: the configuration that leaves this node out is committed. Raft §6, thesis §4.2.2.

    The others learn that, and one that has everything takes over at once.
    """
    flush(state)
    last = state.log.last_index
    for progress in state.members.followers:
        if progress.match == last and not progress.is_learner:
            send_timeout_now(state, progress.node)
            break
    state.become_follower(state.term, None)


def switch_members(state: NodeState, next_index: Index) -> None:
    """Leader: the newest configuration is in force; other quorums may stand behind what waits."""
    state.switch_members(next_index)
    state.append_due = True
    reads.recount(state)
    advance_commit(state)


# --- follower ------------------------------------------------------------------------------------


def handle_append(state: NodeState, message: Message) -> None:
    state.election_elapsed = 0
    state.leader = message.source
    log = state.log
    if message.index < log.commit:
        # Everything up to the commit index agrees with any leader.
        if message.is_notice and not message.entries:
            return
        state.promise_append(message.source, log.commit)
        return
    if not log.matches(message.index, message.log_term):
        _reject_append(state, message)
        return
    new = log.reconcile(message.entries)
    if new:
        configurations = state.configurations
        was_truncated = configurations.note_truncated(new[0].index)
        if configurations.note_appended(new) or was_truncated:
            state.switch_members(log.last_index + 1)
    matched = message.index + len(message.entries)
    # Only up to `matched`: entries beyond it may be a dead leader's. Raft Figure 2, rule 5.
    log.commit_to(min(message.commit, matched))
    if message.is_notice and not message.entries:
        return
    state.promise_append(message.source, matched)


def _reject_append(state: NodeState, message: Message) -> None:
    log = state.log
    hint, hint_term = log.find_by_term(min(message.index, log.last_index), message.log_term)
    state.promise(
        Message(
            MessageType.APPEND_RESPONSE,
            state.node_id,
            message.source,
            term=state.term,
            index=message.index,
            log_term=hint_term,
            reject=True,
            reject_hint=hint,
        )
    )


def handle_heartbeat(state: NodeState, message: Message) -> None:
    state.election_elapsed = 0
    state.leader = message.source
    if message.commit > state.log.last_index:
        state.refuse()  # The leader has seen more here than there is now: do not guess.
        state.lost_index = message.commit
    else:
        state.log.commit_to(message.commit)
    # Promises nothing about the disk: it says that this node has heard this leader in this term.
    state.messages.append(
        Message(
            MessageType.HEARTBEAT_RESPONSE,
            state.node_id,
            message.source,
            state.term,
            context=message.context,
        )
    )

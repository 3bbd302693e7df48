"""Snapshots in place of entries that are compacted away. Raft §7.

Rule of this file: it deals in names of snapshots only; the data travels and is stored outside consensus.
"""

from __future__ import annotations

from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.progress import Progress, ProgressState
from coordsvc.raft.state import NodeState, Role
from coordsvc.raft.types import NodeId, SnapshotMetadata


def send_snapshot(state: NodeState, progress: Progress) -> bool:
    """Leader: begin a snapshot for a follower that needs compacted entries; False if it is not heard from."""
    if not progress.recent_active:
        return False  # A dead follower would cost a stream again and again.
    index = state.log.applied
    configuration = state.configurations.applied()
    if not configuration.voters:
        return False  # This node joined, and has not applied yet who its members were.
    metadata = SnapshotMetadata(index, state.log.term(index), configuration)
    progress.become_snapshot(index)
    state.send(
        Message(
            MessageType.SNAPSHOT,
            state.node_id,
            progress.node,
            term=state.term,
            index=index,
            log_term=metadata.term,
            snapshot=metadata,
        )
    )
    return True


def report_snapshot(state: NodeState, node: NodeId, *, is_installed: bool) -> None:
    """Leader: the stream of a snapshot has ended, well or not."""
    progress = state.members.progress.get(node)
    if state.role is not Role.LEADER or progress is None or progress.state is not ProgressState.SNAPSHOT:
        return
    if not is_installed:
        progress.pending_snapshot = 0
    progress.become_probe()
    # Wait for the follower to speak, by its acknowledgement or by a heartbeat, before the next try.
    progress.flow_paused = True


def handle_snapshot(state: NodeState, message: Message) -> None:
    """Follower: all the data of a snapshot is here; take it over unless it is of no use."""
    metadata = message.snapshot
    assert metadata is not None, "admission lets no snapshot message without a snapshot in"
    state.election_elapsed = 0
    state.leader = message.source
    if _accept(state, metadata):
        state.promise_append(message.source, state.log.last_index)
    else:
        state.promise_append(message.source, state.log.commit)


def _accept(state: NodeState, metadata: SnapshotMetadata) -> bool:
    log = state.log
    if metadata.index <= log.commit:
        return False
    # It need not name this node: the entry that added this node may be a later one.
    if log.matches(metadata.index, metadata.term):
        # All of it is in the log already: committed is what it tells us.
        log.commit_to(metadata.index)
        return False
    log.restore(metadata)
    state.configurations.replace_all(metadata.index, metadata.configuration)
    state.switch_members(metadata.index + 1)
    return True

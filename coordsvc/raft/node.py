"""One Raft node as a function of its inputs. The contract of what comes out is in `ready.py`.

Rule of this file: it is the public face only. It routes inputs by role and kind, and hands out what
became due; every decision is made in the module of its concern.
"""

from __future__ import annotations

from collections.abc import Callable

from coordsvc.raft import admission, election, proposals, reads, replication, snapshots, transfer
from coordsvc.raft.config import RaftConfig, RaftConfigError
from coordsvc.raft.configurations import Configurations, Decode
from coordsvc.raft.log import Compacted, Log, LogStateError, LogStorage, Unavailable
from coordsvc.raft.membership import ConfigurationError
from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.proposals import ProposalDropped
from coordsvc.raft.ready import Persist, Ready
from coordsvc.raft.state import NodeState, Role
from coordsvc.raft.status import FollowerStatus, NodeStatus, describe
from coordsvc.raft.types import Configuration, HardState, Index, NodeId, SnapshotMetadata, Term

__all__ = [
    "RaftNode",
    "RaftConfig",
    "Role",
    "NodeStatus",
    "FollowerStatus",
    "ProposalDropped",
    "LogStorage",
    "Compacted",
    "Unavailable",
    "RaftConfigError",
    "ConfigurationError",
    "LogStateError",
]

Handler = Callable[[NodeState, Message], None]


def _from_a_leader(handler: Handler) -> Handler:
    """Give up the candidacy first: somebody leads this term. Raft §5.2."""

    def concede(state: NodeState, message: Message) -> None:
        state.become_follower(state.term, message.source)
        handler(state, message)

    return concede


_ANY_ROLE: dict[MessageType, Handler] = {
    MessageType.VOTE: election.handle_vote_request,
    MessageType.PRE_VOTE: election.handle_vote_request,
}
_FOLLOWER: dict[MessageType, Handler] = {
    **_ANY_ROLE,
    MessageType.APPEND: replication.handle_append,
    MessageType.HEARTBEAT: replication.handle_heartbeat,
    MessageType.SNAPSHOT: snapshots.handle_snapshot,
    MessageType.TIMEOUT_NOW: transfer.handle_timeout_now,
    MessageType.READ_INDEX: reads.handle_misdirected_read_index,
    MessageType.READ_INDEX_RESPONSE: reads.handle_read_index_response,
}
_ANY_CANDIDATE: dict[MessageType, Handler] = {
    **_ANY_ROLE,
    MessageType.APPEND: _from_a_leader(replication.handle_append),
    MessageType.HEARTBEAT: _from_a_leader(replication.handle_heartbeat),
    MessageType.SNAPSHOT: _from_a_leader(snapshots.handle_snapshot),
}
# What is not in the table of the role is late or not for it, and is dropped.
_HANDLERS: dict[Role, dict[MessageType, Handler]] = {
    Role.FOLLOWER: _FOLLOWER,
    Role.PRE_CANDIDATE: {
        **_ANY_CANDIDATE,
        MessageType.PRE_VOTE_RESPONSE: election.handle_pre_vote_response,
    },
    Role.CANDIDATE: {**_ANY_CANDIDATE, MessageType.VOTE_RESPONSE: election.handle_vote_response},
    Role.LEADER: {
        **_ANY_ROLE,
        MessageType.APPEND_RESPONSE: replication.handle_append_response,
        MessageType.HEARTBEAT_RESPONSE: replication.handle_heartbeat_response,
        MessageType.READ_INDEX: reads.handle_read_index,
        MessageType.TRANSFER_LEADER: transfer.handle_transfer_leader,
    },
}


class RaftNode:
    """Drive it: feed `tick`, `step`, `propose`, `read_index`; carry out what `ready` hands out."""

    __slots__ = (
        "_commit_write_due",
        "_handed_commit",
        "_handed_term",
        "_handed_vote",
        "_outstanding",
        "_told",
        "state",
    )

    def __init__(
        self,
        config: RaftConfig,
        storage: LogStorage,
        hard_state: HardState,
        configuration: Configuration,
        applied: Index,
        draw: Callable[[int], int],
        decode: Decode | None = None,
        joined: tuple[Term, Index] = (0, 0),
    ) -> None:
        """Begin as a follower from what is durable.

        Args:
            configuration: As of `applied`; `Configuration(())` if this node is not a member yet.
            applied: The index up to which the state machine has durably applied the log.
            draw: Return a number in [0, n), differently on each node.
            decode: Return the configuration that the data of a CONFIGURATION entry puts in force, or
                raise ValueError. Without it such entries are refused.
            joined: Term and index of the committed entry that took this node in; see `NodeState`.

        Raises:
            LogStateError: The log, the hard state and `applied` do not fit together.
            ConfigurationError: No cluster can have that configuration.
        """
        log = Log(
            storage,
            commit=hard_state.commit,
            applied=applied,
            committed_bytes_max=config.committed_bytes_max,
            cached_bytes_max=config.cached_bytes_max,
        )
        if log.last_term > hard_state.term:
            raise LogStateError(f"the log ends in term {log.last_term}, after the stored {hard_state.term}")
        configurations = Configurations(configuration, decode)
        configurations.recover(log, config.committed_bytes_max)
        # In terms before it was taken in, another disk of its name may have voted and acknowledged.
        self.state = NodeState(config, log, configurations, max(hard_state.term, joined[0]), draw, joined)
        if self.state.term == hard_state.term:
            self.state.vote = hard_state.vote
        self._handed_term = hard_state.term
        self._handed_vote = hard_state.vote
        self._handed_commit = hard_state.commit
        self._commit_write_due = False
        self._outstanding: Persist | None = None
        self._told: tuple[Term, NodeId | None, Role] = (self.state.term, None, Role.FOLLOWER)

    def __repr__(self) -> str:
        state, log = self.state, self.state.log
        return (
            f"<{state.node_id} {state.role.name} term={state.term} vote={state.vote} leader={state.leader}"
            f" applied={log.applied} commit={log.commit} stable={log.stable} last={log.last_index}>"
        )

    # --- inputs ----------------------------------------------------------------------------------

    def tick(self) -> None:
        """Let one unit of time pass."""
        state = self.state
        if state.role is Role.LEADER:
            election.tick_leader(state)
        else:
            election.tick_election(state)
        # The commit index alone is written once a tick at most; nothing rests on it.
        self._commit_write_due = state.log.commit != self._handed_commit

    def step(self, message: Message) -> None:
        """Handle a message from another member. Raises nothing: nonsense is refused and counted."""
        state = self.state
        if not admission.is_sound(state, message):
            state.refuse()
            return
        self._handle(message)

    def propose(self, data: list[bytes]) -> Index:
        """Append one entry for each item, in order, on the leader; return the index of the last.

        Raises:
            ProposalDropped: Nothing was appended. Consensus does not forward: the layer above does.
        """
        return proposals.propose(self.state, data)

    def propose_configuration(self, data: bytes) -> Index:
        """Append a configuration, on the leader; return its index. It is in force at once. Raft §6.

        Raises:
            ProposalDropped: Nothing was appended; it may work later, or elsewhere.
            ConfigurationError: It must not follow the one in force.
        """
        return proposals.propose_configuration(self.state, data)

    def read_index(self, context: int) -> bool:
        """Ask for the index that a read must wait for; it comes through `Ready.reads`.

        Returns:
            False if no leader is known, or too many reads wait: nothing will come. True promises
            nothing either, since messages get lost: the caller owns the timeout.
        """
        state = self.state
        if state.role is Role.LEADER:
            return reads.ask(state, state.node_id, context)
        return reads.forward(state, state.node_id, context, forwards=0)

    def transfer_leader(self, target: NodeId) -> None:
        """Hand leadership to `target`; without effect if that is not possible."""
        transfer.transfer_leader(self.state, target)

    def campaign(self) -> None:
        """Ask for votes now instead of at the next timeout."""
        election.start_election(self.state)

    def report_unreachable(self, node: NodeId) -> None:
        """Say that messages to `node` get lost."""
        replication.report_unreachable(self.state, node)

    def report_snapshot(self, node: NodeId, ok: bool) -> None:
        """Say how the stream of a snapshot to `node` has ended."""
        snapshots.report_snapshot(self.state, node, is_installed=ok)

    def report_leader_lost(self, node: NodeId) -> None:
        """Say that the process of `node` seems to have ended, so that it does not lead any more.

        May be wrong, and may be said as often as one likes: a leader that a majority hears stays in office.
        """
        election.report_leader_lost(self.state, node)

    def log_trimmed(self) -> None:
        """Say that the log now starts later. The storage is asked each time, so there is nothing to note."""

    def applied(self, index: Index) -> None:
        """Say that the state machine has applied everything up to `index`."""
        state = self.state
        freed = state.log.note_applied(index)
        state.configurations.note_applied(index)
        state.uncommitted_bytes = max(state.uncommitted_bytes - freed, 0)

    def persisted(self, persist: Persist) -> None:
        """Say that `persist` is durable and that the storage shows it; what waited for it is released."""
        assert persist is self._outstanding, "R9: one batch is outstanding, and it is this one"
        self._outstanding = None
        state = self.state
        state.log.note_persisted(persist)
        self._release(persist.released)
        if state.role is Role.LEADER:
            replication.note_own_durable(state)

    # --- output ----------------------------------------------------------------------------------

    def has_ready(self) -> bool:
        """Say whether `ready` has something to hand out."""
        state = self.state
        return bool(
            state.messages
            or state.append_due
            or state.heartbeat_due
            or state.read_states
            or state.log.has_committed()
            or (
                self._outstanding is None
                and (state.promises or self._must_persist() or self._commit_write_due)
            )
            or self._told != (state.term, state.leader, state.role)
        )

    def ready(self) -> Ready:
        """Hand out everything that has become due since the last call."""
        state = self.state
        if state.role is Role.LEADER:
            replication.flush(state)
        persist = None
        if self._outstanding is None:
            persist = self._make_persist()
            if state.promises:
                promises, state.promises = state.promises, []
                if persist is not None and persist.must_sync:
                    persist.released = promises
                else:
                    self._release(promises)
            self._outstanding = persist
        ready = Ready(
            messages=state.messages,
            persist=persist,
            committed=state.log.take_committed(),
            reads=state.read_states,
            leader=state.leader,
            term=state.term,
        )
        state.messages = []
        state.read_states = []
        self._told = (state.term, state.leader, state.role)
        return ready

    # --- properties ------------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        return self.state.role

    @property
    def is_leader(self) -> bool:
        return self.state.role is Role.LEADER

    @property
    def term(self) -> Term:
        return self.state.term

    @property
    def vote(self) -> NodeId | None:
        return self.state.vote

    @property
    def leader(self) -> NodeId | None:
        return self.state.leader

    @property
    def lost_index(self) -> Index:
        """The newest entry that a leader knows this node to hold and that it does not; 0: none is missing."""
        return self.state.lost_index

    @property
    def transferee(self) -> NodeId | None:
        return self.state.transferee

    @property
    def configuration(self) -> Configuration:
        """The configuration in force: the newest in the log."""
        return self.state.configurations.newest

    @property
    def configuration_index(self) -> Index:
        """The index of its entry; 0, or that of a snapshot, if it came with the state machine."""
        return self.state.configurations.index

    @property
    def is_configuration_committed(self) -> bool:
        return self.state.configurations.is_committed(self.state.log.commit)

    @property
    def pending_snapshot(self) -> SnapshotMetadata | None:
        """The snapshot that was accepted and is not durable yet."""
        return self.state.log.snapshot

    @property
    def commit_index(self) -> Index:
        return self.state.log.commit

    @property
    def applied_index(self) -> Index:
        return self.state.log.applied

    @property
    def last_index(self) -> Index:
        return self.state.log.last_index

    def status(self) -> NodeStatus:
        """Describe this node for operators."""
        return describe(self.state)

    # --- inside ----------------------------------------------------------------------------------

    def _handle(self, message: Message) -> None:
        state = self.state
        if admission.admit(state, message):
            handler = _HANDLERS[state.role].get(message.type)
            if handler is not None:
                handler(state, message)

    def _release(self, promises: list[Message]) -> None:
        """Send what waited for the disk; what this node promised itself (its own vote) it hears now."""
        state = self.state
        for message in promises:
            if message.target == state.node_id:
                self._handle(message)
            else:
                state.messages.append(message)

    def _must_persist(self) -> bool:
        state = self.state
        return state.log.has_unhanded() or state.term != self._handed_term or state.vote != self._handed_vote

    def _make_persist(self) -> Persist | None:
        must_sync = self._must_persist()
        if not must_sync and not self._commit_write_due:
            return None
        self._commit_write_due = False
        state, log = self.state, self.state.log
        hard_state = None
        if (
            state.term != self._handed_term
            or state.vote != self._handed_vote
            or log.commit != self._handed_commit
        ):
            hard_state = HardState(state.term, state.vote, log.commit)
            self._handed_term, self._handed_vote, self._handed_commit = state.term, state.vote, log.commit
        elif not must_sync:
            return None
        return Persist(
            hard_state=hard_state,
            snapshot=log.hand_out_snapshot(),
            entries=log.hand_out_entries(),
            must_sync=must_sync,
            term=state.term,
        )

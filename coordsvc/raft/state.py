"""What one node knows, and how its role changes. Raft Figure 2 and Figure 4.

Rule of this file: state and transitions only. A transition sends nothing by itself; what it makes due
is said by whoever caused it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from coordsvc.raft.config import RaftConfig
from coordsvc.raft.configurations import Configurations
from coordsvc.raft.log import Log
from coordsvc.raft.membership import Membership
from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.read_queue import ReadQueue
from coordsvc.raft.ready import ReadState
from coordsvc.raft.types import Entry, Index, NodeId, Term


class Role(Enum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre_candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class NodeState:
    """The record that all concerns of one node work on.

    Attributes:
        messages: May leave at once: they promise nothing that is not durable.
        promises: May leave once everything that is pending now is durable (R9).
        append_due: A leader's appends are made when the next Ready is; until then they gather.
        heartbeat_due: The same for heartbeats, so that one round confirms all reads that wait.
        hurried_ticks: At so many more ticks this node asks for pre-votes: it has evidence that the leader's
            process has ended, and the others may learn so a little later.
        refused: How many messages from outside were refused as nonsense.
        joined: Term and index of the committed entry that took this node in; (0, 0): it was there from the
            start. Another disk may have voted under its name before that, so until its own log is as new
            it does not lead, and it never votes for a log that is older: such a log may name the other.
        lost_index: A leader knew this node to hold the entry at this index, and it does not: its disk has
            lost what was acknowledged. 0 while there is no such thing.
    """

    __slots__ = (
        "append_due",
        "config",
        "configurations",
        "draw",
        "election_deadline",
        "election_elapsed",
        "heartbeat_due",
        "heartbeat_elapsed",
        "hurried_ticks",
        "joined",
        "leader",
        "log",
        "lost_index",
        "members",
        "messages",
        "node_id",
        "promises",
        "read_states",
        "reads",
        "refused",
        "role",
        "term",
        "term_start",
        "transferee",
        "uncommitted_bytes",
        "vote",
        "votes",
    )

    def __init__(
        self,
        config: RaftConfig,
        log: Log,
        configurations: Configurations,
        term: Term,
        draw: Callable[[int], int],
        joined: tuple[Term, Index] = (0, 0),
    ) -> None:
        self.config = config
        self.node_id = config.node_id
        self.log = log
        self.configurations = configurations
        self.members = Membership(config, configurations.newest)
        self.draw = draw
        self.joined = joined
        self.role = Role.FOLLOWER
        self.term = term
        self.vote: NodeId | None = None
        self.leader: NodeId | None = None
        self.transferee: NodeId | None = None
        self.votes: dict[NodeId, bool] = {}
        self.term_start: Index = 0  # leader: the first index of its term
        self.messages: list[Message] = []
        self.promises: list[Message] = []
        self.read_states: list[ReadState] = []
        self.refused = 0
        self.lost_index: Index = 0
        self._reset(term)

    # --- speaking --------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Let `message` leave with the next Ready."""
        self.messages.append(message)

    def promise(self, message: Message) -> None:
        """Let `message` leave once everything that is pending now is durable."""
        self.promises.append(message)

    def promise_append(self, target: NodeId, index: Index) -> None:
        """Acknowledge to `target` that the log holds everything up to `index`.

        Acknowledgements that wait for the same disk write become one: the highest says it all.
        """
        promises = self.promises
        if promises:
            last = promises[-1]
            if last.type is MessageType.APPEND_RESPONSE and not last.reject and last.target == target:
                last.index = max(last.index, index)
                return
        promises.append(
            Message(MessageType.APPEND_RESPONSE, self.node_id, target, term=self.term, index=index)
        )

    def refuse(self) -> None:
        """Count a message that no correct member can have sent."""
        self.refused += 1

    # --- members ---------------------------------------------------------------------------------

    def switch_members(self, next_index: Index) -> None:
        """Let the newest configuration in the log be in force; new members are sent to from `next_index`."""
        self.members.switch(self.configurations.newest, next_index)

    # --- roles -----------------------------------------------------------------------------------

    def is_promotable(self) -> bool:
        """Say whether this node may ask for votes: a voter whose log is not being replaced, nor too old.

        One that its newest configuration leaves out goes on until that is committed, since its vote may
        be needed to get there: only it may have the entry. It does not count itself. Thesis §4.2.2.
        """
        log = self.log
        if log.snapshot is not None or (log.last_term, log.last_index) < self.joined:
            return False
        if self.members.own_counts:
            return True
        commit = log.commit
        if self.configurations.is_committed(commit):
            return False
        committed = self.configurations.as_of(commit)
        return self.node_id in committed.voters or self.node_id in committed.voters_outgoing

    def hears_leader(self) -> bool:
        """Say whether a leader was heard from within the shortest election timeout. Raft §6."""
        return self.leader is not None and self.election_elapsed < self.config.election_ticks

    def become_follower(self, term: Term, leader: NodeId | None) -> None:
        self._reset(term)
        self.role = Role.FOLLOWER
        self.leader = leader

    def become_pre_candidate(self) -> None:
        """Ask first whether an election could be won. Changes neither term nor vote. Thesis §9.6."""
        assert self.role is not Role.LEADER, "a leader does not campaign"
        self.role = Role.PRE_CANDIDATE
        self.votes = {}
        # Two nodes in pre-vote that still believe in a leader would refuse each other for ever (etcd#8334).
        self.leader = None
        self.restart_election_timer()

    def become_candidate(self) -> None:
        assert self.role is not Role.LEADER, "a leader does not campaign"
        self._reset(self.term + 1)
        self.role = Role.CANDIDATE
        self.vote = self.node_id

    def become_leader(self) -> None:
        """Lead the current term, beginning with an empty entry of it. Raft §5.4.2, thesis §6.4."""
        assert self.role is Role.CANDIDATE, "only a candidate becomes leader"
        self._reset(self.term)
        self.role = Role.LEADER
        self.leader = self.node_id
        own = self.members.own
        if own is not None:
            own.acknowledge(self.log.stable)
            own.become_replicate()
        self.term_start = self.log.last_index + 1
        self.log.extend([Entry(self.term_start, self.term)])
        self.append_due = True

    def restart_election_timer(self) -> None:
        """Wait anew: longer than the shortest timeout, shorter than twice that. Raft §5.2.

        Never exactly the shortest: a peer whose tick comes a little later would still hear the leader
        and withhold its vote (etcd#10483).
        """
        self.election_elapsed = 0
        ticks = self.config.election_ticks
        self.election_deadline = ticks + 1 + self.draw(ticks - 1)

    def _reset(self, term: Term) -> None:
        assert term >= self.term, "R1: the term never decreases"
        if term != self.term:
            self.term = term
            self.vote = None
            # What waits here spoke for the old term, and may rest on entries that are replaced before they
            # are ever written. Like any message it may get lost.
            self.promises.clear()
        self.leader = None
        self.transferee = None
        self.votes = {}
        self.restart_election_timer()
        self.hurried_ticks = 0
        self.heartbeat_elapsed = 0
        self.append_due = False
        self.heartbeat_due = False
        self.uncommitted_bytes = 0
        self.term_start = 0
        self.reads = ReadQueue()
        self.members.reset(self.log.last_index + 1)

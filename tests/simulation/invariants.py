"""What must hold at every step of every member: R of one node, G of the cluster, and what a disk must hold.

Rule of this file: it only looks. What it names (R1, G5, ...) is what `docs/guarantees.md` names.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coordproto.v1 import peer_pb2
from coordsvc.codec.entries import split_entry
from coordsvc.raft.invariants import ClusterChecker, Observation, check_node, check_step, observe
from coordsvc.raft.messages import MessageType
from coordsvc.raft.state import Role
from coordsvc.raft.types import Configuration, Entry, EntryKind, Index, NodeId, Term
from coordsvc.replica.connections import ConnectionState
from tests.simulation.disk import LogImage
from tests.simulation.ledger import Ledger
from tests.simulation.members import SimulatedMember
from tests.simulation.probes import Probes
from tests.simulation.read_watch import watch_reads

# What a node says of a term before its disk knows it, without harm: nobody counts on it after a crash.
_PROMISE_NOTHING = (
    MessageType.PRE_VOTE,
    MessageType.PRE_VOTE_RESPONSE,
    MessageType.HEARTBEAT_RESPONSE,
    MessageType.READ_INDEX,
    MessageType.READ_INDEX_RESPONSE,
)
_VERIFY_EVERY = 64  # entries applied by one member, between two looks at its whole tree


@dataclass(slots=True)
class _Seen:
    observation: Observation | None = None
    applied: int = 0
    leader: NodeId | None = None
    configuration: Configuration | None = None
    configuration_index: Index = -1


@dataclass(slots=True)
class Violation(Exception):  # noqa: N818 - the word that the reports use
    """An invariant does not hold."""

    invariant: str
    text: str
    details: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


class Invariants:
    """Implements `members.Watcher`, and looks at what members say to each other."""

    def __init__(self, probes: Probes) -> None:
        self.probes = probes
        self.ledger = Ledger(probes)
        self.cluster = ClusterChecker()
        self.images: dict[NodeId, LogImage] = {}  # the synced logs, of running and of stopped members
        self.commit: Index = 0
        self.elected_ns = 0  # when the newest leader came into office
        self._terms_led = 0
        self._seen: dict[NodeId, _Seen] = {}
        self._votes: dict[tuple[str, Term], NodeId] = {}
        self._reads_before = 0

    # -- steps of members --------------------------------------------------------------------------

    def started(self, member: SimulatedMember) -> None:
        self.cluster.forget(member.name)
        self.ledger.recovered(member.machine)
        raft = member.replica.state.raft
        if not member.is_impostor:  # What it held is gone; what its disk had promised still counts.
            self.images[member.name] = member.disk.log
            voted = self._votes.get((_owner_of_votes(member), raft.term))
            assert voted is None or raft.vote == voted, f"R2: {member.name} forgot its vote for {voted}"
        watch_reads(member.replica, lambda: self.commit)
        self._seen[member.name] = _Seen()
        self.stepped(member)

    def stepped(self, member: SimulatedMember) -> None:
        """The member has handled one input: R and G on the node that moved."""
        node = member.replica.state.raft
        seen = self._seen[member.name]
        before, after = seen.observation, observe(node)
        if before == after:
            return
        seen.observation = after
        if before is not None:
            check_step(before, after, node)
            self._note(before, after)
        if node.configuration_index != seen.configuration_index:
            self._note_configuration(member, seen)
        self._note_leader(member, seen)
        check_node(node)
        if not member.is_impostor:
            self.images[member.name] = member.disk.log
        self.cluster.check((node,), self.images)
        if len(self.cluster.leaders) != self._terms_led:
            self._terms_led = len(self.cluster.leaders)
            self.elected_ns = member.world.now_ns
        self.commit = max(self.commit, after.commit)

    def _note(self, before: Observation, after: Observation) -> None:
        if before.role is Role.CANDIDATE and after.role is Role.FOLLOWER:
            self.probes.hit("a candidate lost an election")
        if before.role is Role.LEADER and after.role is not Role.LEADER:
            self.probes.hit("a leader stepped down")

    def _note_configuration(self, member: SimulatedMember, seen: _Seen) -> None:
        """Look at what came into force, and what it changes."""
        node = member.replica.state.raft
        index, after = node.configuration_index, node.configuration
        before = seen.configuration
        went_back = index < seen.configuration_index
        seen.configuration, seen.configuration_index = after, index
        if before is None or before == after:
            return
        if went_back:
            self.probes.hit("a configuration was rolled back")
            return
        hit = self.probes.hit
        state = node.state
        if node.is_leader and state.log.term(index) == state.term:
            assert state.log.commit >= state.term_start, (
                f"R12: {member.name} changes the membership before it has committed anything in its term"
            )
        if after.voters_outgoing:
            hit("a configuration was joint")
        earlier = {*before.voters, *before.learners, *before.voters_outgoing}
        later = {*after.voters, *after.learners, *after.voters_outgoing}
        if set(before.learners) & set(after.voters):
            hit("a learner was promoted")
        if later - earlier:
            hit("a member was added")
        if earlier - later:
            hit("a member was removed")
        if node.is_leader and member.name not in after.voters:
            hit("a leader was not in its configuration")

    def _note_leader(self, member: SimulatedMember, seen: _Seen) -> None:
        state = member.replica.state
        if state.leader != seen.leader:
            seen.leader = state.leader
            if any(connection.reads for connection in state.connections.values()):
                self.probes.hit("the leader changed while reads waited for its word")

    def ended(self, member: SimulatedMember) -> None:
        """The process is about to end, as the members' last word: what does a crash catch here?"""
        node = member.replica.state.raft
        if node.is_leader and node.last_index > node.commit_index:
            self.probes.hit("a leader crashed between append and commit")
        if node.is_leader and node.configuration.voters_outgoing:
            self.probes.hit("a leader crashed while the configuration was joint")
        if member.disk.has_unsynced:
            self.probes.hit("a member crashed with unsynced writes")
        if node.vote is not None and node.vote != member.name and node.leader is None:
            self.probes.hit("a member crashed after it had voted")

    def applying(self, member: SimulatedMember, entry: Entry) -> None:
        """The member is about to apply this entry; the ledger must know why its sessions end."""
        if entry.index <= self.ledger.index or entry.kind is not EntryKind.NORMAL or not entry.data:
            return
        self.cluster_commits(entry)
        expiring = member.machine.expiring = {}
        for command in split_entry(entry.data).commands:
            if command.WhichOneof("command") == "end_session":
                expiring.setdefault(command.end_session.session_id, command.end_session.expired)

    def cluster_commits(self, entry: Entry) -> None:
        known = self.cluster.committed.get(entry.index)
        assert known is not None, f"G4: entry {entry.index} is applied and not known to be committed"
        assert known[0] == entry.term, (
            f"G4: entry {entry.index} of term {entry.term} is not the committed one"
        )

    def received(self, member: SimulatedMember) -> None:
        self.ledger.received(member.machine)
        self.probes.hit("a snapshot was installed")
        if member.replica.state.by_session:
            self.probes.hit("a snapshot was installed on a member with clients")
        member.machine.verify()

    def applied(self, member: SimulatedMember) -> None:
        self._check_attachments(member)
        seen = self._seen[member.name]
        seen.applied += 1
        if seen.applied % _VERIFY_EVERY == 0:
            member.machine.verify()

    def _check_attachments(self, member: SimulatedMember) -> None:
        """S5: only the connection that the log attached last speaks for a session."""
        sessions = member.machine.sessions
        for number, connection in member.replica.state.connections.items():
            if connection.state is not ConnectionState.LIVE or not connection.session_id:
                continue
            session = sessions.get(connection.session_id)
            assert session is None or session.owner == (member.name, number), (
                f"S5: session {connection.session_id} belongs to {session.owner}, and connection {number}"
                f" of {member.name} goes on"
            )

    def stopped_itself(self, member: SimulatedMember, reason: str) -> None:
        if member.is_impostor and "lost its disk" in reason:
            self.probes.hit("a member with an empty disk and an old name was turned away")
            return
        raise Violation("G9", f"{member.name} stopped itself: {reason}")

    # -- messages ----------------------------------------------------------------------------------

    def said(self, member: SimulatedMember, message: peer_pb2.RaftMessage) -> None:
        """A message leaves: what it asserts is on the disk (R9), and no vote is given twice (R2)."""
        if message.type == MessageType.TIMEOUT_NOW:
            self.probes.hit("leadership was handed over")
        if message.type in _PROMISE_NOTHING or not message.term or message.reject:
            return
        durable = member.disk.log.hard_state
        name = member.name
        kind = MessageType(message.type).name
        assert durable.term >= message.term, f"R9: {name} says {kind} in term {message.term} before its disk"
        if message.type == MessageType.VOTE_RESPONSE:
            voted = self._votes.setdefault((_owner_of_votes(member), message.term), message.to)
            assert voted == message.to, f"R2: {name} voted for {voted} and {message.to} in {message.term}"
            if durable.term == message.term:
                assert durable.vote == message.to, f"R9: {name} votes for {message.to} before its disk has it"
        elif message.type == MessageType.VOTE and durable.term == message.term:
            assert durable.vote == name, f"R9: {name} asks for votes before its own is on disk"
        elif message.type == MessageType.APPEND_RESPONSE and durable.term == message.term:
            last = member.disk.log.last_index()
            assert last >= message.index, f"R9: {name} acknowledges {message.index}, its disk ends at {last}"

    # -- at the end, and after crashes -----------------------------------------------------------------

    def committed_groups(self) -> list[tuple[NodeId, ...]]:
        """The voters of the newest committed configuration, both halves of it. None: it never changed."""
        configuration = self.cluster.configuration
        if configuration is None:
            return []
        return [group for group in (configuration.voters, configuration.voters_outgoing) if group]

    def check_committed_is_somewhere(
        self, members: dict[str, SimulatedMember], voters: tuple[NodeId, ...]
    ) -> None:
        """G6: no quorum of these voters, of those whose disks are left, lacks what is committed."""
        last = max(self.cluster.committed, default=0)
        if not last:
            return
        term = self.cluster.committed[last][0]
        without = 0
        for name in voters:
            image = members[name].disk.log
            has_it = image.start_index > last or (
                image.start_index <= last <= image.last_index() and image.term(last) == term
            )
            without += not has_it and not members[name].is_retired
        assert without < len(voters) // 2 + 1, f"G6: {without} of {len(voters)} disks lack entry {last}"


def _owner_of_votes(member: SimulatedMember) -> str:
    """Whose votes these are: a server that joins is not bound by those of whoever had its name before."""
    disk = member.disk
    return f"{member.name}/{disk.member_id}" if disk.joined_index else member.name

"""One member as a function: inputs in, effects out. Nothing here waits, sleeps, or touches the world.

The shell feeds inputs (ticks, peer frames, client frames, finished disk writes), then calls `take_ready` and
`take_effects` and carries out what they say. Committed entries are applied one at a time by `apply_next`, so
that the shell decides how long it stays away from its other work.

Rule of this file: it wires the parts together and routes; decisions live in the parts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from hmac import compare_digest

from coordproto.v1 import coordination_pb2, peer_pb2
from coordsvc.codec import entries
from coordsvc.codec.cluster_configuration import MemberRecord, decode_cluster_configuration, named_by
from coordsvc.codec.peer_messages import decode_raft_message, raft_frame
from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.node import RaftNode
from coordsvc.raft.ready import Persist
from coordsvc.raft.types import Entry, EntryKind, Index, NodeId
from coordsvc.replica.applying import Applier
from coordsvc.replica.changes import Change, ChangeRequest
from coordsvc.replica.clients import Clients
from coordsvc.replica.connections import Connection, PendingRead
from coordsvc.replica.delivery import Delivery
from coordsvc.replica.digests import DigestBoard
from coordsvc.replica.effects import Effects
from coordsvc.replica.membership import MembershipChanges
from coordsvc.replica.proposals import Proposals
from coordsvc.replica.reads import Reads
from coordsvc.replica.roster import RefusedGreeting, Roster
from coordsvc.replica.sessions import Sessions
from coordsvc.replica.settings import ReplicaSettings
from coordsvc.replica.state import ReplicaState
from coordsvc.statemachine.machine import StateMachine

_COUNTED = frozenset(  # towards a majority, so only from the disk whose turn it is
    {
        MessageType.VOTE_RESPONSE,
        MessageType.PRE_VOTE_RESPONSE,
        MessageType.APPEND_RESPONSE,
        MessageType.HEARTBEAT_RESPONSE,
    }
)


@dataclass(slots=True)
class _Leadership:
    leader: NodeId | None = None
    term: int = 0


class Replica:
    """The pure core of one member.

    `first_number` must differ between runs of the same member (drawn at random by the shell): it numbers
    connections, and entries of an earlier run still name the numbers of that run.

    The rest is about the membership, and may be left out where it does not change: `member_id` and
    `peer_address` are what this member says of itself in greetings; `joined_index` is the index of the
    configuration that named it when it joined (0 for a founder); `contacts` are whom a joiner may talk to
    before it knows any configuration. `machine.configuration` must hold the founding configuration of a
    new cluster (`codec.cluster_configuration`), or nothing in a joiner.
    """

    def __init__(
        self,
        name: NodeId,
        raft: RaftNode,
        machine: StateMachine,
        settings: ReplicaSettings,
        *,
        client_address: str,
        first_number: int,
        member_id: int = 0,
        peer_address: str = "",
        joined_index: Index = 0,
        contacts: tuple[MemberRecord, ...] = (),
    ) -> None:
        self.state = ReplicaState(name, settings, raft, machine, first_number)
        self.state.client_addresses[name] = client_address
        self._proposals = Proposals(self.state)
        self._delivery = Delivery(self.state, self._caught_up)
        self._sessions = Sessions(self.state, self._delivery, self._proposals)
        self._reads = Reads(self.state, self._set_watch)
        self.state.on_drop = self._reads.forget
        self._clients = Clients(self.state, self._delivery, self._reads, self._proposals, self._sessions)
        self._applier = Applier(self.state, self._delivery, self._reads, self._proposals, self._sessions)
        own = MemberRecord(name, peer_address, client_address, member_id)
        self.roster = Roster(self.state, own, joined_index, contacts)
        self._changes = MembershipChanges(self.state, self.roster)
        self._committed: deque[Entry] = deque()
        self._known = _Leadership()
        self._digests = DigestBoard(name)
        self._persisting = False
        self._persisting_since_ms = 0
        self._reaped_ms = 0
        self._ticked_ms = 0  # not `state.now_ms`: whatever arrives between two ticks moves that

    def _caught_up(self, connection: Connection) -> None:
        self._clients.caught_up(connection)

    def _set_watch(self, read: PendingRead) -> None:
        self._clients.set_watch(read)

    # -----------------------------------------------------------------------------------------
    # Time

    def tick(self, now_ms: int, wall_ms: int) -> None:
        """A tick has passed. `now_ms` is monotonic, `wall_ms` since the epoch."""
        state = self.state
        asleep_ms = now_ms - self._ticked_ms if self._ticked_ms else 0
        self._ticked_ms = now_ms
        state.now_ms = now_ms
        state.wall_ms = wall_ms
        state.raft.tick()
        if state.raft.lost_index:
            state.effects.stop = self._entries_lost()
        self._notice_leadership()
        if state.raft.is_leader:
            self._lead(asleep_ms)
        self._changes.tick()
        self._reads.tick()
        self._proposals.tick()

    def _entries_lost(self) -> str:
        raft = self.state.raft
        return (
            f"this member has acknowledged entry {raft.lost_index}, and its log has lost it: was an older "
            "copy of the data directory put in its place? Do not start it again; replace this member"
        )

    def set_time(self, now_ms: int, wall_ms: int) -> None:
        """Update the clocks between ticks, before other inputs."""
        self.state.now_ms = now_ms
        self.state.wall_ms = wall_ms

    def _lead(self, asleep_ms: int) -> None:
        state = self.state
        if asleep_ms > state.settings.election_timeout_ms:
            state.clock.extend_all(asleep_ms)
            state.effects.note("leader_was_asleep", for_ms=asleep_ms)
        if self._persisting and state.now_ms - self._persisting_since_ms >= state.settings.disk_stall_ms:
            self._hand_over_because_of_the_disk()
        self._sessions.expire_due()
        if state.now_ms - self._reaped_ms >= state.settings.reap_interval_ms:
            self._reaped_ms = state.now_ms
            due = state.machine.reap_candidates(state.wall_ms, state.settings.reap_batch)
            if due:
                self._proposals.submit_unanswered(entries.reap(due))

    def _hand_over_because_of_the_disk(self) -> None:
        """A leader whose disk hangs would stop all writes while its heartbeats keep it in office."""
        state = self.state
        raft = state.raft
        target = self.best_successor()
        if raft.transferee is not None or target is None:
            return
        waited_ms = state.now_ms - self._persisting_since_ms
        state.effects.note("disk_stalled", for_ms=waited_ms, leadership_to=target)
        raft.transfer_leader(target)

    def best_successor(self) -> NodeId | None:
        """Whom leadership would best be handed to: a voter, heard from lately, with most of the log."""
        return self._changes.best_successor(set(self.state.raft.configuration.voters))

    # -----------------------------------------------------------------------------------------
    # Members

    def check_greeting(
        self, peer: NodeId, member_id: int, configuration_index: Index
    ) -> RefusedGreeting | None:
        """Say whether a peer that greets so may be linked to us, whichever side has dialled."""
        return self.roster.check(peer, member_id, configuration_index)

    def peer_greeted(
        self,
        peer: NodeId,
        member_id: int,
        peer_address: str,
        client_address: str,
        configuration_index: Index,
    ) -> None:
        """A greeting that `check_greeting` let pass; it may bring `effects.members`."""
        self.roster.greeted(peer, member_id, peer_address, client_address, configuration_index)

    def peer_refused(self, cause: int, configuration_index: Index) -> None:
        """A peer refused our greeting. It may bring `effects.removed` or `effects.stop`."""
        self.roster.refused(cause, configuration_index)

    def change_membership(self, change: Change, *, force: bool = False) -> ChangeRequest:
        """Begin a change, on the leader. It is settled now, or comes back in `effects.settled`."""
        return self._changes.begin(change, force=force)

    def forget_change(self, request: ChangeRequest) -> None:
        """Nobody waits for this change any more; what is in the log already goes on."""
        self._changes.forget(request)

    # -----------------------------------------------------------------------------------------
    # Peers

    def peer_up(self, peer: NodeId, client_address: str) -> None:
        """A link to this peer stands: whatever was lost with the old one is sent again."""
        self.state.client_addresses[peer] = client_address
        self.roster.refresh()
        if peer == self.state.leader:
            self._reads.leader_changed()
            self._proposals.leader_changed()

    def peer_down(self, peer: NodeId) -> None:
        """The link to this peer is down: what was sent lately may be lost."""
        state = self.state
        state.heard_ms.pop(peer, None)  # whoever asks for a change right after a crash must not count on it
        state.raft.report_unreachable(peer)

    def peer_gone(self, peer: NodeId) -> None:
        """The process of this peer seems to have ended. If it led, a successor is looked for at once."""
        self.state.raft.report_leader_lost(peer)

    def receive(self, peer: NodeId, frames: list[peer_pb2.PeerFrame]) -> None:
        """Take in what a peer sent, in order. Snapshot chunks go to the shell instead.

        Raises:
            MalformedFrame: A frame that no member sends; what stood before it has been taken in.
        """
        self.state.heard_ms[peer] = self.state.now_ms
        is_doubted = peer in self.roster.doubted
        for frame in frames:
            kind = frame.WhichOneof("body")
            if kind == "raft":
                message = decode_raft_message(frame.raft)
                if message.source != peer or message.type is MessageType.SNAPSHOT:
                    continue
                if not (is_doubted and message.type in _COUNTED):
                    self.state.raft.step(message)
            elif kind == "forward":
                for command in frame.forward.commands:
                    entries.check_command(command)
                    self._proposals.take_in(command)
            elif kind == "confirm_request":
                request = frame.confirm_request
                self._reads.confirm_for(peer, request.round, list(request.touched_sessions))
            elif kind == "confirm_response":
                response = frame.confirm_response
                self._reads.confirmed(response.round, response.index, response.ending_sessions)
            elif kind == "digest":
                self._compare_digest(peer, frame.digest.index, frame.digest.digest)

    # -----------------------------------------------------------------------------------------
    # Clients

    def open_connection(self, attach: coordination_pb2.Attach, fresh_secret: bytes) -> Connection:
        return self._clients.open(attach, fresh_secret)

    def open_call(self) -> Connection:
        """Begin a call without a session: the same machinery serves unary calls."""
        return self._clients.open_without_session()

    def client_frame(self, connection: Connection, frame: coordination_pb2.ClientFrame) -> None:
        self._clients.frame(connection, frame)

    def close_connection(self, connection: Connection) -> None:
        self._clients.close(connection)

    def anonymous_write(self, connection: Connection, writes: bytes) -> None:
        """Write without a session; `connection` gets the result. The outcome may stay unknown."""
        command = entries.anonymous_writes(self.state.name, connection.number, writes)
        self._proposals.submit(connection.number, command, repeatable=False)

    def unary_session_write(
        self, connection: Connection, session_id: int, sequence: int, writes: bytes
    ) -> None:
        """Write in a session, exactly once; the caller has checked the session's secret."""
        self._reads.touch(session_id)
        acknowledged = max(0, sequence - self.state.settings.inflight_per_session_max // 2)
        command = entries.session_writes(
            self.state.name, connection.number, session_id, sequence, acknowledged, writes
        )
        self._proposals.submit(connection.number, command, repeatable=True)

    def end_session(self, connection: Connection, session_id: int) -> None:
        self._sessions.end(connection.number, session_id)

    def expire_session(self, connection: Connection, session_id: int) -> None:
        """End somebody's session as if it had expired: an operator wants it so."""
        self._sessions.end(connection.number, session_id, expired=True)

    def ping_session(self, connection: Connection, session_id: int) -> None:
        """Have the leader renew a session; `connection` gets a pong."""
        self._reads.ping(connection, 1, session_id)

    def was_sent(self, connection: Connection) -> bool:
        """Whether the call's command may already be on its way into the log."""
        return self._proposals.was_sent(connection.number)

    def session_timeout_ms(self, session_id: int, secret: bytes) -> int | None:
        """Return a session's timeout; None if it has ended as far as we know, or the secret is wrong."""
        session = self.state.machine.sessions.get(session_id)
        if session is None or not compare_digest(session.secret, secret):
            return None
        return session.timeout_ms

    def taken(self, connection: Connection) -> None:
        """The shell has sent what was queued for this connection."""
        self._delivery.taken(connection)
        self._reads.taken(connection)

    def ask_to_move(self, reason: str) -> None:
        """Tell every attached client to go elsewhere."""
        self.state.ask_to_move(reason)

    # -----------------------------------------------------------------------------------------
    # Disk

    def persisted(self, persist: Persist) -> None:
        """This write is durable, and the log reader shows it."""
        self._persisting = False
        self.state.raft.persisted(persist)

    def step_snapshot(self, message: Message) -> None:
        """All the data of a snapshot is here, checked and on disk: offer it to consensus."""
        self.state.raft.step(message)

    def replace_machine(self, machine: StateMachine) -> None:
        """A snapshot took the place of the tree; events in between come from the history in it."""
        state = self.state
        before = state.machine.zxid
        state.machine = machine
        while self._committed and self._committed[0].index <= machine.applied_index:
            self._committed.popleft()
        self.roster.tree_replaced()
        self._changes.tree_replaced()
        self._sessions.snapshot_installed()
        self._delivery.replay_all(before)
        for connection in state.connections.values():
            connection.send_again = True
        self._reads.serve_all_ready()

    # -----------------------------------------------------------------------------------------
    # Out

    def take_ready(self) -> Persist | None:
        """Let consensus speak: queue its messages, its confirmations and its committed entries.

        Returns what must be written to disk now, if anything; `persisted` answers it.
        """
        state = self.state
        self._notice_leadership()
        self.roster.notice()
        self._reads.start_round(with_touches_alone=False)
        if not self._persisting:
            self._proposals.pack()
        raft = state.raft
        persist: Persist | None = None
        while raft.has_ready():
            ready = raft.ready()
            for message in ready.messages:
                self._send_raft(message)
            self._committed += ready.committed
            if ready.persist is not None:
                assert persist is None, "one write is outstanding at a time"
                persist = ready.persist
                self._persisting = True
                self._persisting_since_ms = state.now_ms
            self._notice_leadership()
            self.roster.notice()
            for read in ready.reads:
                self._reads.confirmed_by_raft(read.context, read.index)
        return persist

    def _send_raft(self, message: Message) -> None:
        if message.type is MessageType.SNAPSHOT:
            self.state.effects.snapshots.append(message.target)
            return
        self.state.effects.send(message.target, raft_frame(message))

    @property
    def has_work(self) -> bool:
        """Whether `apply_next` has something to do."""
        return bool(self._committed or self.state.catching_up)

    def apply_next(self) -> None:
        """Do one piece of work: apply one committed entry, and replay a slice for those catching up."""
        if self._committed:
            entry = self._committed.popleft()
            self._applier.apply(entry)
            self.state.raft.applied(entry.index)
            if entry.kind is EntryKind.CONFIGURATION:
                configuration = decode_cluster_configuration(self.state.machine.configuration)
                self.roster.configuration_applied(configuration)
                self._changes.entry_applied(entry, configuration)
            self._reads.serve_all_ready()
            if entry.index % self.state.settings.digest_interval == 0:
                self._publish_digest(entry.index)
        for connection in list(self.state.catching_up.values()):
            self._delivery.step(connection)

    def take_effects(self) -> Effects:
        self._proposals.forward()
        effects = self.state.effects
        self.state.effects = Effects()
        return effects

    # -----------------------------------------------------------------------------------------
    # Leadership and digests

    def _notice_leadership(self) -> None:
        raft = self.state.raft
        known = self._known
        if raft.leader == known.leader and raft.term == known.term:
            return
        state = self.state
        was_leading = known.leader == state.name
        changed = raft.leader != known.leader or raft.leader is not None
        known.leader, known.term = raft.leader, raft.term
        state.leader = raft.leader
        if raft.is_leader:
            self._sessions.started_leading()
        elif was_leading:
            state.clock.stop()
        if changed:
            state.effects.note("leader_changed", leader=raft.leader or "none", term=raft.term)
            self._reads.leader_changed()
            self._proposals.leader_changed()
            self._changes.leader_changed()

    def _publish_digest(self, index: int) -> None:
        state = self.state
        digest = state.machine.digest
        frame = peer_pb2.PeerFrame(
            digest=peer_pb2.DigestReport(index=index, digest=digest)
        ).SerializeToString()
        for peer in named_by(state.raft.configuration):
            if peer != state.name:
                state.effects.send(peer, frame)
        self._compare_digest(state.name, index, digest)

    def _compare_digest(self, member: NodeId, index: int, digest: int) -> None:
        self._digests.report(member, index, digest)
        why = self._digests.verdict(index, self.state.raft.configuration.voters)
        if why:
            self.state.effects.stop = why

"""Reads: in their session's order, and at a state that their consistency allows. Promises G2, G4.

Owns the confirmation rounds and every connection's queue of reads.

A linearizable read waits for a round. One exception is both faster and right: before a write of the same
session is applied, the reads sent ahead of it are answered. Session order demands it, and it needs no
round: whatever was acknowledged before such a read was sent stands before that write in the log, so it has
been applied here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coordproto.v1 import peer_pb2
from coordsvc.codec import results
from coordsvc.replica.connections import (
    LINEARIZABLE,
    NOT_CONFIRMED,
    STALE,
    Connection,
    PendingRead,
    SyncRead,
    WatchRead,
)
from coordsvc.replica.rounds import Ping, Rounds
from coordsvc.replica.state import ReplicaState
from coordsvc.statemachine.commands import Exists, Get
from coordsvc.statemachine.results import ErrorCode, Failure, ReadResult

# A session that lasts so many waits for its pong until the next tick. A client gives a connection up when a
# pong takes a quarter of its timeout, and an election timeout is at least three ticks.
_PATIENT_ELECTION_TIMEOUTS = 2


class Reads:
    def __init__(self, state: ReplicaState, set_watch: Callable[[PendingRead], None]) -> None:
        self._state = state
        self._set_watch = set_watch  # the watch a read leaves, or sets; called at the state that was read
        self.rounds = Rounds(state.next_request)
        # As the leader, by context: the asker, its round, and which of its sessions could not be renewed.
        self._asked: dict[int, tuple[str | None, int, list[int]]] = {}
        self._pinging: dict[Connection, Ping] = {}  # confirmed, and not applied that far
        self._reading: dict[Connection, None] = {}
        self._parking: dict[Connection, None] = {}

    # -----------------------------------------------------------------------------------------
    # In

    def submit(self, read: PendingRead) -> None:
        """Take a read in. A stale one is answered on the spot."""
        if read.consistency == STALE and read.min_zxid <= self._state.machine.zxid:
            self._serve(read)
            return
        if read.consistency == LINEARIZABLE:
            self.rounds.gathering.reads[read] = None
        else:
            read.index = 0
        read.connection.reads.append(read)
        self._reading[read.connection] = None
        if read.consistency != LINEARIZABLE:
            self.serve_ready(read.connection)

    def ping(self, connection: Connection, ping: int, session_id: int) -> None:
        """Answer with a pong once the leader has renewed the session.

        Pings share the round of the next reads, or the tick's: a thousand idle sessions cost ten rounds a
        second, and nobody waits for a pong who has a session timeout of seconds. Others get a round at once.
        """
        gathering = self.rounds.gathering
        gathering.pings[connection] = Ping(ping, session_id)
        gathering.touched[session_id] = None
        session = self._state.machine.sessions.get(session_id)
        patient_ms = _PATIENT_ELECTION_TIMEOUTS * self._state.settings.election_timeout_ms
        if session is None or session.timeout_ms < patient_ms:
            gathering.is_urgent = True

    def touch(self, session_id: int) -> None:
        """The session was heard from: the next round says so to the leader."""
        self.rounds.gathering.touched[session_id] = None

    # -----------------------------------------------------------------------------------------
    # Rounds

    def start_round(self, *, with_touches_alone: bool) -> None:
        """Ask the leader for a confirmation, if one is wanted and none is under way."""
        state = self._state
        if state.leader is None or not (with_touches_alone or self.rounds.wants_start()):
            return
        started = self.rounds.start(state.now_ms)
        if started is None:
            return
        if state.leader == state.name:
            self.confirm_for(None, self.rounds.number, list(started.touched))
            return
        request = peer_pb2.ConfirmRequest(round=self.rounds.number, touched_sessions=started.touched)
        state.effects.send(state.leader, peer_pb2.PeerFrame(confirm_request=request).SerializeToString())

    def confirm_for(self, member: str | None, number: int, touched: list[int]) -> None:
        """As the leader: renew the sessions, then have our leadership confirmed. `member` None: ourselves."""
        state = self._state
        if not state.raft.is_leader:
            return  # The asker asks again when it knows a leader.
        now_ms = state.now_ms
        ending = [session_id for session_id in touched if not state.clock.touch(session_id, now_ms)]
        context = state.take_number()
        self._asked[context] = (member, number, ending)
        if not state.raft.read_index(context):
            del self._asked[context]

    def confirmed_by_raft(self, context: int, index: int) -> None:
        """Our leadership was confirmed after the request of this context came in."""
        asked = self._asked.pop(context, None)
        if asked is None:
            return
        member, number, ending = asked
        if member is None:
            self.confirmed(number, index, ending)
            return
        response = peer_pb2.ConfirmResponse(round=number, index=index, ending_sessions=ending)
        self._state.effects.send(member, peer_pb2.PeerFrame(confirm_response=response).SerializeToString())

    def confirmed(self, number: int, index: int, ending: Sequence[int]) -> None:
        """The round is answered: its reads may be served once `index` is applied.

        The sessions that are `ending` came too late to be renewed: they get no pong.
        """
        answered = self.rounds.confirm(number)
        if answered is None:
            return
        for connection, ping in answered.pings.items():
            if ping.session_id not in ending:
                ping.index = index
                self._pinging[connection] = ping
        self._answer_pings()
        connections: dict[Connection, None] = {}
        for read in answered.reads:
            read.index = index
            connections[read.connection] = None
        for connection in connections:
            self.serve_ready(connection)

    def _answer_pings(self) -> None:
        """Send the pongs that are due: the end of the session would have been applied by now."""
        machine = self._state.machine
        applied = machine.applied_index
        due = [(connection, ping) for connection, ping in self._pinging.items() if ping.index <= applied]
        for connection, ping in due:
            del self._pinging[connection]
            if ping.session_id in machine.sessions:
                connection.reply(results.pong_item(ping.number))
                self._state.mark(connection)

    def forget(self, connection: Connection) -> None:
        """The connection is over. Called before its own queues are emptied."""
        self.rounds.forget(connection)
        self._pinging.pop(connection, None)
        self._reading.pop(connection, None)
        self._parking.pop(connection, None)

    def leader_changed(self) -> None:
        """Whatever was asked of the old leader is asked of the new one."""
        self._asked.clear()
        self.rounds.abandon()

    def tick(self) -> None:
        state = self._state
        if self.rounds.in_flight and state.now_ms - self.rounds.started_ms >= state.settings.confirm_retry_ms:
            self.rounds.abandon()
        self.start_round(with_touches_alone=True)
        for connection in list(self._parking):
            self._expire_parked(connection)

    # -----------------------------------------------------------------------------------------
    # Out

    def serve_all_ready(self) -> None:
        """More was applied: serve whatever waited for it."""
        if self._pinging:
            self._answer_pings()
        for connection in list(self._reading):
            self.serve_ready(connection)
        for connection in list(self._parking):
            self._serve_parked(connection)

    def serve_ready(self, connection: Connection) -> None:
        """Answer the reads at the head of the queue that may be answered."""
        machine = self._state.machine
        reads = connection.reads
        applied = machine.applied_index
        session = machine.sessions.get(connection.session_id) if connection.session_id else None
        last_sequence = session.last_sequence if session is not None else 0
        while reads:
            read = reads[0]
            if read.index == NOT_CONFIRMED or read.index > applied or read.after_sequence > last_sequence:
                return
            if connection.outgoing_bytes > self._state.settings.pause_outgoing_bytes:
                return  # The client is slower than we are: `taken` goes on when it has read.
            reads.popleft()
            self._serve_or_park(read)
        self._reading.pop(connection, None)

    def taken(self, connection: Connection) -> None:
        """The client has read what was queued for it: answer more."""
        if connection.reads:
            self.serve_ready(connection)

    def serve_before(self, connection: Connection, sequence: int) -> None:
        """The session's write of this sequence is about to be applied: answer what was sent before it.

        A write whose turn has not come will be refused, and the one that a read waits for may be missing.
        """
        reads = connection.reads
        session = self._state.machine.sessions.get(connection.session_id)
        if session is None or sequence > session.last_sequence + 1:
            return
        while reads and reads[0].after_sequence < sequence:
            read = reads.popleft()
            if read.index == NOT_CONFIRMED:
                read.index = 0  # A round may still name it; it is answered already.
            self._serve_or_park(read)

    def _serve_or_park(self, read: PendingRead) -> None:
        state = self._state
        if read.min_zxid > state.machine.zxid:
            # It must not hold up the reads behind it: they did not ask to wait.
            read.parked_until_ms = state.now_ms + state.settings.parked_read_ms
            read.connection.parked.append(read)
            self._parking[read.connection] = None
            return
        self._serve(read)

    def _serve_parked(self, connection: Connection) -> None:
        zxid = self._state.machine.zxid
        due = [read for read in connection.parked if read.min_zxid <= zxid]
        if due:
            connection.parked = [read for read in connection.parked if read.min_zxid > zxid]
            for read in due:
                self._serve(read)
        if not connection.parked:
            self._parking.pop(connection, None)

    def _expire_parked(self, connection: Connection) -> None:
        now_ms = self._state.now_ms
        zxid = self._state.machine.zxid
        late = [read for read in connection.parked if read.parked_until_ms <= now_ms]
        if not late:
            return
        connection.parked = [read for read in connection.parked if read.parked_until_ms > now_ms]
        for read in late:
            message = f"waited for zxid {read.min_zxid}, which this cluster has not reached (it is at {zxid})"
            self.answer(read, Failure(ErrorCode.REQUEST_TIMEOUT, message))

    def _serve(self, read: PendingRead) -> None:
        operation = read.operation
        machine = self._state.machine
        if isinstance(operation, WatchRead):
            self._set_watch(read)
            return
        if isinstance(operation, SyncRead):
            read.connection.reply(results.synced_item(read.read_id, machine.zxid))
            self._state.mark(read.connection)
            return
        result: ReadResult
        if isinstance(operation, Get):
            result = machine.get(operation.path)
        elif isinstance(operation, Exists):
            result = machine.exists(operation.path)
        else:
            result = machine.list_children(operation)
        if read.watch is not None and (not isinstance(result, Failure)):
            self._set_watch(read)
        self.answer(read, result)

    def answer(self, read: PendingRead, result: ReadResult) -> None:
        """Answer a read, now."""
        read.connection.reply(results.read_item(read.read_id, self._state.machine.zxid, result))
        self._state.mark(read.connection)
        self._state.check_slow(read.connection)

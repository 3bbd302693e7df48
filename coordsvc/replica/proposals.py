"""Commands on their way into the log: gathered, forwarded to the leader, packed, and sent again if lost.

Owns what waits for a place in the log. Sending again is harmless for everything a session does (promise G5:
the state machine answers a repeat with the first answer) and for opening, attaching and ending sessions; an
anonymous write is sent exactly once, and its outcome stays unknown if the leader is lost meanwhile.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from coordproto.v1 import peer_pb2
from coordsvc.codec.entries import join_commands, session_writes
from coordsvc.raft.node import ProposalDropped
from coordsvc.replica.connections import Connection, OutstandingFrame
from coordsvc.replica.state import ReplicaState


@dataclass(slots=True)
class WaitingCommand:
    """A command that is not part of a session's stream of writes."""

    command: bytes
    repeatable: bool
    sent: bool
    sent_ms: int


class Proposals:
    def __init__(self, state: ReplicaState) -> None:
        self._state = state
        self._queue: deque[bytes] = deque()  # as the leader: waits for a place in the log
        self._queued_bytes = 0
        self._waiting: dict[int, WaitingCommand] = {}
        self._forwarded: list[bytes] = []  # since the effects were taken last, to `_forwarded_to`
        self._forwarded_bytes = 0
        self._forwarded_to = ""

    # -----------------------------------------------------------------------------------------
    # From our own clients

    def submit_frame(self, connection: Connection, frame: OutstandingFrame) -> None:
        """Send a session's writes to the leader, and remember them until they are answered."""
        if not connection.outstanding:
            connection.progress_ms = self._state.now_ms
        connection.outstanding.append(frame)
        connection.outstanding_operations += frame.operations
        connection.outstanding_bytes += len(frame.command)
        self._send(frame.command)

    def submit(self, request: int, command: bytes, *, repeatable: bool) -> None:
        """Send a command to the leader, now or as soon as there is one; `done` ends it."""
        sent = self._send(command)
        self._waiting[request] = WaitingCommand(command, repeatable, sent, self._state.now_ms)

    def submit_unanswered(self, command: bytes) -> None:
        """Send a command that nobody waits for; it is lost if there is no leader."""
        self._send(command)

    def done(self, request: int) -> None:
        """The outcome is known, or nobody wants it any more."""
        self._waiting.pop(request, None)

    def was_sent(self, request: int) -> bool:
        """Whether a command that still waits may already be in the log."""
        waiting = self._waiting.get(request)
        return waiting is not None and waiting.sent

    def _send(self, command: bytes) -> bool:
        state = self._state
        if state.leader is None:
            return False
        if state.leader == state.name:
            return self.take_in(command)
        is_full = self._forwarded_bytes + len(command) > state.settings.entry_bytes_max
        if self._forwarded and (is_full or self._forwarded_to != state.leader):
            self.forward()
        self._forwarded_to = state.leader
        self._forwarded.append(command)
        self._forwarded_bytes += len(command)
        return True

    def forward(self) -> None:
        """Send what has gathered for the leader, in one frame: to the one that it was gathered for."""
        if not self._forwarded:
            return
        frame = peer_pb2.PeerFrame(forward=peer_pb2.Forward(commands=self._forwarded))
        self._state.effects.send(self._forwarded_to, frame.SerializeToString())
        self._forwarded = []
        self._forwarded_bytes = 0

    # -----------------------------------------------------------------------------------------
    # As the leader

    def take_in(self, command: bytes) -> bool:
        """Queue a command for the log. Refused when we do not lead or hold too much already."""
        state = self._state
        if not state.raft.is_leader or self._queued_bytes > state.settings.proposal_bytes_max:
            return False
        self._queue.append(command)
        self._queued_bytes += len(command)
        return True

    def pack(self) -> None:
        """Propose everything that has gathered, in as few entries as the size limit allows."""
        if not self._queue:
            return
        state = self._state
        limit = state.settings.entry_bytes_max
        while self._queue:
            commands: list[bytes] = []
            size = 0
            for command in self._queue:
                if commands and size + len(command) > limit:
                    break
                commands.append(command)
                size += len(command)
            try:
                state.raft.propose([join_commands(state.wall_ms, commands)])
            except ProposalDropped:
                return  # Too much is uncommitted, or leadership is being handed over: it stays queued.
            for _ in commands:
                self._queue.popleft()
            self._queued_bytes -= size

    # -----------------------------------------------------------------------------------------
    # When the answer does not come

    def leader_changed(self) -> None:
        """Nothing that was sent to the old leader can be relied on: send it to the new one."""
        self._queue.clear()  # Whoever sent us these sends them to the new leader too.
        self._queued_bytes = 0
        if self._state.leader is not None:
            self._send_everything_again()

    def _send_everything_again(self) -> None:
        for connection in self._state.connections.values():
            self._send_frames_again(connection)
        for waiting in self._waiting.values():
            if waiting.repeatable or not waiting.sent:
                waiting.sent = self._send(waiting.command) or waiting.sent
                waiting.sent_ms = self._state.now_ms

    def acknowledge(self, connection: Connection) -> None:
        """Tell the log which results have arrived: what waits may have no room before they are forgotten."""
        self._send(
            session_writes(
                self._state.name, 0, connection.session_id, 0, connection.acknowledged_sequence, b""
            )
        )

    def _send_frames_again(self, connection: Connection) -> None:
        connection.send_again = False
        connection.progress_ms = self._state.now_ms
        if connection.outstanding:
            self.acknowledge(connection)  # The frames themselves carry what was acknowledged when they came.
        for frame in connection.outstanding:
            self._send(frame.command)

    def tick(self) -> None:
        """Send again what was lost between here and the leader."""
        state = self._state
        if state.leader is None:
            return
        late_ms = state.now_ms - state.settings.resend_after_ms
        for connection in state.connections.values():
            if connection.outstanding and (connection.send_again or connection.progress_ms <= late_ms):
                self._send_frames_again(connection)
        for waiting in self._waiting.values():
            if (waiting.repeatable or not waiting.sent) and waiting.sent_ms <= late_ms:
                waiting.sent = self._send(waiting.command) or waiting.sent
                waiting.sent_ms = state.now_ms

"""Committed entries take effect: each command, in log order, on every member alike. Promises G1, G4, G5, G7.

Owns the passage from an entry to the state machine. What differs between members is only who tells a
client about it: the member that the client is attached to.
"""

from __future__ import annotations

from coordproto.v1 import log_pb2
from coordsvc.codec import results
from coordsvc.codec.cluster_configuration import (
    at_index,
    decode_cluster_configuration,
    encode_cluster_configuration,
)
from coordsvc.codec.entries import split_entry
from coordsvc.codec.operations import decode_writes
from coordsvc.raft.types import Entry, EntryKind
from coordsvc.replica.connections import Connection
from coordsvc.replica.delivery import Delivery
from coordsvc.replica.proposals import Proposals
from coordsvc.replica.reads import Reads
from coordsvc.replica.sessions import Sessions
from coordsvc.replica.state import ReplicaState
from coordsvc.statemachine.machine import WriteOutcome, WriteStatus
from coordsvc.statemachine.results import ErrorCode, Failure


class Applier:
    def __init__(
        self, state: ReplicaState, delivery: Delivery, reads: Reads, proposals: Proposals, sessions: Sessions
    ) -> None:
        self._state = state
        self._delivery = delivery
        self._reads = reads
        self._proposals = proposals
        self._sessions = sessions

    def apply(self, entry: Entry) -> None:
        """Apply one entry and commit it to the store in one batch."""
        machine = self._state.machine
        assert entry.index == machine.applied_index + 1, "R10: entries are applied once, in order"
        if entry.kind is EntryKind.CONFIGURATION:
            configuration = at_index(decode_cluster_configuration(entry.data), entry.index)
            machine.begin(entry.index, entry.term, machine.time_ms)
            machine.set_configuration(encode_cluster_configuration(configuration))
        elif entry.data:
            batch = split_entry(entry.data)
            machine.begin(entry.index, entry.term, batch.time_ms)
            for command in batch.commands:
                self._apply_command(command)
        else:
            machine.begin(entry.index, entry.term, machine.time_ms)
        machine.commit()

    def _apply_command(self, command: log_pb2.Command) -> None:
        kind = command.WhichOneof("command")
        if kind == "session_writes":
            self._apply_session_writes(command)
        elif kind == "anonymous_writes":
            self._apply_anonymous_writes(command)
        elif kind == "open_session":
            self._sessions.apply_open(command)
        elif kind == "attach_session":
            self._sessions.apply_attach(command)
        elif kind == "end_session":
            self._delivery.fire(self._sessions.apply_end(command))
        elif kind == "reap":
            _, changes = self._state.machine.reap(list(command.reap.paths))
            self._delivery.fire(changes)

    def _apply_session_writes(self, command: log_pb2.Command) -> None:
        state = self._state
        machine = state.machine
        message = command.session_writes
        session_id = message.session_id
        connection = state.by_session.get(session_id)
        machine.acknowledge(session_id, message.acknowledged_sequence)
        sequence = message.first_sequence
        outcome: WriteOutcome | None = None
        for write in decode_writes(message.writes):
            if connection is not None and connection.reads:
                self._reads.serve_before(connection, sequence)
            outcome = machine.write(session_id, sequence, write)
            if outcome.changes:
                self._delivery.fire(outcome.changes)
            if connection is not None:
                self._answer(connection, sequence, outcome)
            sequence += 1
        if outcome is not None and command.origin == state.name:
            self._answer_unary(command.request_id, sequence - 1, outcome)

    def _answer(self, connection: Connection, sequence: int, outcome: WriteOutcome) -> None:
        """Answer a write to the client that is attached here, each once and in order."""
        status = outcome.status
        if status is WriteStatus.UNKNOWN_SESSION:
            self._sessions.expire_connection(connection)
            return
        if status is WriteStatus.GAP:
            assert isinstance(outcome.result, Failure), "a gap is a failure"
            if outcome.result.code is ErrorCode.LIMIT_EXCEEDED:
                connection.waits_for_room = True  # Only the client can make some, by acknowledging results.
            elif not connection.waits_for_room:
                connection.send_again = True  # A frame was lost on its way: the next tick sends all again.
            return
        if connection.is_closed:
            return
        if sequence != connection.answered_sequence + 1:
            connection.settle(connection.answered_sequence, self._state.now_ms)
            return
        connection.answered_sequence = sequence
        connection.waits_for_room = False
        connection.reply(results.write_item(sequence, outcome.zxid, outcome.result))
        connection.settle(sequence, self._state.now_ms)
        if connection.is_ending and not connection.outstanding:
            self._sessions.end(connection.number, connection.session_id)
        self._state.mark(connection)
        self._state.check_slow(connection)

    def _answer_unary(self, request: int, sequence: int, outcome: WriteOutcome) -> None:
        """Answer a unary write that carried its session and sequence in the request."""
        connection = self._state.connections.get(request)
        if connection is None or connection.session_id:
            return
        self._proposals.done(request)
        connection.push(results.write_item(sequence, outcome.zxid, outcome.result))
        self._state.mark(connection)

    def _apply_anonymous_writes(self, command: log_pb2.Command) -> None:
        state = self._state
        connection = state.connections.get(command.request_id) if command.origin == state.name else None
        if connection is not None:
            self._proposals.done(command.request_id)
        for write in decode_writes(command.anonymous_writes.writes):
            outcome = state.machine.write(0, 0, write)
            if outcome.changes:
                self._delivery.fire(outcome.changes)
            if connection is not None:
                connection.push(results.write_item(0, outcome.zxid, outcome.result))
                state.mark(connection)

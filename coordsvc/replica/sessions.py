"""Sessions of this member's clients: opened, attached, ended, all through the log.

Owns `by_session` and the leader's session clock. Attaching is a command like any other: the log decides
which of two attachments of one session is the later one, and a member never refuses a session because its
own state lags behind (design, section 4).
"""

from __future__ import annotations

from coordproto.v1 import coordination_pb2, log_pb2
from coordsvc.codec import entries, results
from coordsvc.replica.connections import Connection, ConnectionState
from coordsvc.replica.delivery import Delivery
from coordsvc.replica.proposals import Proposals
from coordsvc.replica.state import ReplicaState
from coordsvc.statemachine.changes import Change
from coordsvc.statemachine.records import Session
from coordsvc.statemachine.results import ErrorCode, Failure
from coordsvc.watch.registry import Watch


class Sessions:
    def __init__(self, state: ReplicaState, delivery: Delivery, proposals: Proposals) -> None:
        self._state = state
        self._delivery = delivery
        self._proposals = proposals
        self._number_before_this_run = state.next_request

    # -----------------------------------------------------------------------------------------
    # Asked for by clients

    def open(
        self, connection: Connection, secret: bytes, attach: coordination_pb2.Attach, watches: list[Watch]
    ) -> None:
        """Open a session with this secret; `attach` says the rest, checked and clamped by the caller."""
        connection.resumed_watches = watches
        command = entries.open_session(
            self._state.name, connection.number, secret, attach.timeout_ms, attach.client_name
        )
        self._proposals.submit(connection.number, command, repeatable=True)

    def attach(self, connection: Connection, session_id: int, secret: bytes, watches: list[Watch]) -> None:
        connection.resumed_watches = watches
        command = entries.attach_session(self._state.name, connection.number, session_id, secret)
        self._proposals.submit(connection.number, command, repeatable=True)

    def end_after_writes(self, connection: Connection) -> None:
        """End a connection's session once its writes are answered: the end must not overtake them (G4)."""
        connection.is_ending = True
        if not connection.outstanding:
            self.end(connection.number, connection.session_id)

    def end(self, request: int, session_id: int, *, expired: bool = False) -> None:
        """End a session; with `expired` as if its client had fallen silent, so what lingers leaves graves."""
        command = entries.end_session(self._state.name, request, session_id, expired=expired)
        self._proposals.submit(request, command, repeatable=True)

    def forget_attaching(self, connection: Connection) -> None:
        """The client went away before its attach came through."""
        self._proposals.done(connection.number)

    # -----------------------------------------------------------------------------------------
    # Applied

    def apply_open(self, command: log_pb2.Command) -> None:
        state = self._state
        message = command.open_session
        opened = state.machine.open_session(
            message.secret, message.timeout_ms, message.client_name, command.origin, command.request_id
        )
        if not isinstance(opened, Failure):
            state.clock.start_session(opened.session_id, opened.timeout_ms, state.now_ms)
        if command.origin != state.name:
            return
        connection = state.connections.get(command.request_id)
        if connection is not None and connection.state is ConnectionState.ATTACHING:
            self._attached(connection, opened)
        elif self._is_of_this_run(command.request_id) and not isinstance(opened, Failure):
            # The command came twice, or its client has gone: nobody knows this session's secret.
            self._proposals.submit_unanswered(
                entries.end_session(state.name, 0, opened.session_id, expired=False)
            )

    def _is_of_this_run(self, request: int) -> bool:
        """Whether we made this request since we started, and not in an earlier run whose log we replay.

        An earlier run may have answered it: that session is somebody's.
        """
        return self._number_before_this_run < request <= self._state.next_request

    def apply_attach(self, command: log_pb2.Command) -> None:
        state = self._state
        message = command.attach_session
        attached = state.machine.attach_session(
            message.session_id, message.secret, command.origin, command.request_id
        )
        if not isinstance(attached, Failure):
            state.clock.touch(attached.session_id, state.now_ms)
            self._move_away(attached, command.request_id)
        if command.origin != state.name:
            return
        connection = state.connections.get(command.request_id)
        if connection is not None and connection.state is ConnectionState.ATTACHING:
            self._attached(connection, attached)

    def _move_away(self, session: Session, request: int) -> None:
        """The session was attached somewhere: a connection that it had here before is over."""
        older = self._state.by_session.get(session.session_id)
        if older is not None and older.number != request:
            self._state.fail_connection(
                older,
                ErrorCode.SESSION_MOVED,
                f"session {session.session_id:#x} was attached by another connection; this one is over",
            )

    def _attached(self, connection: Connection, session: Session | Failure) -> None:
        state = self._state
        self._proposals.done(connection.number)
        watches, connection.resumed_watches = connection.resumed_watches, []
        if isinstance(session, Failure):
            state.fail_connection(connection, session.code, session.message)
            return
        connection.session_id = session.session_id
        connection.next_sequence = 0
        state.by_session[session.session_id] = connection
        connection.push(results.attached_item(session, state.machine.zxid, state.name, state.endpoints))
        connection.state = ConnectionState.LIVE
        state.mark(connection)
        # Even without watches one step runs: it ends by taking in the frames that came meanwhile.
        self._delivery.replay(connection, watches)

    def apply_end(self, command: log_pb2.Command) -> list[Change]:
        """End a session and return what became of its ephemerals."""
        state = self._state
        session_id = command.end_session.session_id
        _, _, changes = state.machine.end_session(session_id, expired=command.end_session.expired)
        state.clock.end_session(session_id)
        if command.origin == state.name:
            self._answer_end(command.request_id)
        connection = state.by_session.get(session_id)
        if connection is None:
            return changes
        if command.end_session.expired or command.request_id != connection.number:
            self.expire_connection(connection)
        return changes

    def _answer_end(self, request: int) -> None:
        state = self._state
        self._proposals.done(request)
        connection = state.connections.get(request)
        if connection is not None:
            connection.release_held_unless_replaying()
            connection.push(results.closed_item())
            state.drop_connection(connection)

    def expire_connection(self, connection: Connection) -> None:
        self._state.fail_connection(
            connection,
            ErrorCode.SESSION_EXPIRED,
            f"session {connection.session_id:#x} has ended; its ephemeral nodes are gone; open a new one",
        )

    def snapshot_installed(self) -> None:
        """The tree was replaced: end the connections whose sessions ended or moved meanwhile."""
        state = self._state
        for session_id, connection in list(state.by_session.items()):
            session = state.machine.sessions.get(session_id)
            if session is None:
                self.expire_connection(connection)
            elif session.owner != (state.name, connection.number):
                self._move_away(session, 0)

    # -----------------------------------------------------------------------------------------
    # As the leader

    def started_leading(self) -> None:
        state = self._state
        timeouts = {session_id: session.timeout_ms for session_id, session in state.machine.sessions.items()}
        state.clock.restart(timeouts, state.now_ms)

    def expire_due(self) -> None:
        """Propose the end of every session that was silent for its timeout."""
        state = self._state
        for session_id in state.clock.expired(state.now_ms):
            state.effects.note("session_expired", session=f"{session_id:#x}")
            self._proposals.submit_unanswered(entries.end_session("", 0, session_id, expired=True))

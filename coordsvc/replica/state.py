"""What the parts of a replica share.

Rule of this file: data only. Each part (`clients`, `reads`, `proposals`, `applying`, `delivery`) takes the
state and changes what its own docstring says it owns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from coordsvc.codec.results import error_item, move_item
from coordsvc.raft.node import RaftNode
from coordsvc.raft.types import NodeId
from coordsvc.replica.connections import Connection, ConnectionState
from coordsvc.replica.effects import Effects
from coordsvc.replica.session_clock import SessionClock
from coordsvc.replica.settings import ReplicaSettings
from coordsvc.statemachine.machine import StateMachine
from coordsvc.statemachine.results import ErrorCode, Failure
from coordsvc.watch.registry import WatchRegistry


def _nobody_else(_connection: Connection) -> None:
    """What `on_drop` is until somebody else holds on to connections."""


@dataclass(slots=True)
class ReplicaState:
    name: NodeId
    settings: ReplicaSettings
    raft: RaftNode
    machine: StateMachine
    next_request: int  # numbers connections and requests; starts where no earlier run of this member was
    effects: Effects = field(default_factory=Effects)
    now_ms: int = 0  # monotonic
    wall_ms: int = 0  # since the epoch
    leader: NodeId | None = None
    connections: dict[int, Connection] = field(default_factory=dict)
    by_session: dict[int, Connection] = field(default_factory=dict)
    catching_up: dict[int, Connection] = field(default_factory=dict)  # and their clients keep pace
    on_drop: Callable[[Connection], None] = _nobody_else
    registry: WatchRegistry = field(default_factory=WatchRegistry)
    clock: SessionClock = field(default_factory=SessionClock)
    client_addresses: dict[NodeId, str] = field(default_factory=dict)  # of the members, where known
    endpoints: list[str] = field(default_factory=list)  # where clients may go: of the applied configuration
    heard_ms: dict[NodeId, int] = field(default_factory=dict)  # when each member last sent anything

    def take_number(self) -> int:
        self.next_request += 1
        return self.next_request

    def mark(self, connection: Connection) -> None:
        """The connection has something for its client."""
        self.effects.connections[connection.number] = None

    def hears(self, member: NodeId) -> bool:
        """Whether this member is ours, or was heard from within an election timeout."""
        if member == self.name:
            return True
        heard_ms = self.heard_ms.get(member)
        return heard_ms is not None and self.now_ms - heard_ms <= self.settings.election_timeout_ms

    def ask_to_move(self, reason: str) -> None:
        """Tell every attached client to go elsewhere."""
        for connection in self.by_session.values():
            connection.push(move_item(reason))
            self.mark(connection)

    def leader_hint(self) -> str:
        return self.client_addresses.get(self.leader, "") if self.leader else ""

    def fail_connection(self, connection: Connection, code: ErrorCode, message: str) -> None:
        """End a connection with a last word to its client."""
        if connection.is_closed:
            return
        if code is not ErrorCode.SLOW_CONSUMER:
            connection.release_held_unless_replaying()
        else:
            connection.outgoing.clear()  # It did not read them; it will get them again after re-attaching.
            connection.outgoing_bytes = connection.held_bytes
        connection.push(error_item(Failure(code, message), self.leader_hint()))
        self.drop_connection(connection)

    def check_slow(self, connection: Connection) -> None:
        """End the connection of a client that leaves too much unread; it resumes by attaching again."""
        limit = self.settings.outgoing_bytes_max
        if connection.outgoing_bytes > limit:
            self.fail_connection(
                connection,
                ErrorCode.SLOW_CONSUMER,
                f"the client left more than {limit} bytes of answers and events unread; "
                "attach again, nothing is lost",
            )

    def drop_connection(self, connection: Connection) -> None:
        """Forget a connection: its watches and waiting reads go. The session lives on."""
        if connection.is_closed:
            return
        self.on_drop(connection)
        connection.state = ConnectionState.CLOSED
        for watch in connection.watches.values():
            self.registry.remove(watch)
        connection.watches.clear()
        connection.resumed_watches.clear()
        connection.catch_up = None
        connection.reads.clear()
        connection.parked.clear()
        connection.watching_replies.clear()
        connection.outstanding.clear()
        connection.backlog.clear()
        connection.held.clear()
        self.catching_up.pop(connection.number, None)
        self.connections.pop(connection.number, None)
        if self.by_session.get(connection.session_id) is connection:
            del self.by_session[connection.session_id]
        self.mark(connection)

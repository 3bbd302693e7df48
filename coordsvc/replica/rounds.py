"""Confirmation rounds: one ReadIndex for everything that waits for one on this member. Thesis §6.4.

A round also carries the sessions heard from, so its confirmation means two things: linearizable reads may
be served from the index it names, and the leader, still leading, has renewed those sessions (a pong).

Rule of this file: one round is in flight; what arrives meanwhile shares the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coordsvc.replica.connections import Connection, PendingRead


@dataclass(slots=True)
class Ping:
    """One connection's newest ping: the pong to it answers the earlier ones too."""

    number: int
    session_id: int
    index: int = 0  # once confirmed: the pong waits until this is applied here


@dataclass(slots=True)
class Round:
    """What one confirmation answers."""

    reads: dict[PendingRead, None] = field(default_factory=dict)
    pings: dict[Connection, Ping] = field(default_factory=dict)
    touched: dict[int, None] = field(default_factory=dict)
    is_urgent: bool = False  # some ping cannot wait for the next tick

    def is_empty(self) -> bool:
        return not (self.reads or self.pings or self.touched)

    def absorb(self, older: Round) -> None:
        """Take over what an unanswered round was for, in front."""
        self.reads = older.reads | self.reads
        self.pings = older.pings | self.pings
        self.touched.update(older.touched)
        self.is_urgent |= older.is_urgent

    def forget(self, connection: Connection) -> None:
        """The connection is over: nobody waits for its answers."""
        self.pings.pop(connection, None)
        for read in connection.reads:
            self.reads.pop(read, None)


class Rounds:
    """`first_number` differs between runs of a member: no answer to an earlier run is taken for ours."""

    def __init__(self, first_number: int) -> None:
        self.number = first_number
        self.gathering = Round()
        self.in_flight: Round | None = None
        self.started_ms = 0

    def start(self, now_ms: int) -> Round | None:
        """Begin the next round, unless one is in flight or nothing waits. Its number is `number`."""
        if self.in_flight is not None or self.gathering.is_empty():
            return None
        self.number += 1
        self.started_ms = now_ms
        self.in_flight = self.gathering
        self.gathering = Round()
        return self.in_flight

    def wants_start(self) -> bool:
        """Tell whether somebody waits for an answer; touches, and pings with patience, wait for the tick."""
        return self.in_flight is None and (bool(self.gathering.reads) or self.gathering.is_urgent)

    def confirm(self, number: int) -> Round | None:
        """Return the round that this answers; None for an answer that comes too late."""
        if self.in_flight is None or number != self.number:
            return None
        answered = self.in_flight
        self.in_flight = None
        return answered

    def forget(self, connection: Connection) -> None:
        self.gathering.forget(connection)
        if self.in_flight is not None:
            self.in_flight.forget(connection)

    def abandon(self) -> None:
        """The answer will not come: everything goes into the next round."""
        if self.in_flight is not None:
            self.gathering.absorb(self.in_flight)
            self.in_flight = None

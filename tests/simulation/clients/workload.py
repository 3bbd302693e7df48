"""What the clients of one run do, as data: drawn from the seed, kept in the corpus.

Each seed leaves some kinds of operations out altogether (swarm testing): leaving features out finds more
than mixing everything into every run.

Rule of this file: values only, all of them numbers or booleans, so that TOML can hold them and shrinking can
make them smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation.world import MILLISECOND, SECOND, World


@dataclass(slots=True)
class Workload:
    """Weights are relative, percents are of 100.

    Attributes:
        operations: How many each client submits, over all its lives.
        burst_max: How many leave at once, at most.
        roots: How many top-level subtrees there are; few make conflicts.
        across_roots: Whether a transaction may touch more than one of them.
        deadline_ms: How long an operation may wait; 0: for ever.
        reset_percent: How many bursts the network answers with a reset of the connection.
        leave_percent: How many bursts end with the end of their session, and a new one.
        pauses, kills: How often each client stands still, or dies and comes back with nothing.
        lock_clients: How many applications of the real asynchronous client contend for locks.
        cancel_percent: How many of their attempts are cancelled at some moment.
    """

    clients: int = 3
    operations: int = 40
    burst_max: int = 4
    think_ns: int = 20 * MILLISECOND
    roots: int = 2
    across_roots: bool = False
    session_timeout_ms: int = 2_000
    deadline_ms: int = 0
    creates: int = 4
    sets: int = 4
    deletes: int = 2
    transactions: int = 2
    gets: int = 4
    exists: int = 2
    lists: int = 2
    syncs: int = 1
    ephemeral_percent: int = 20
    sequential_percent: int = 20
    expiring_percent: int = 5
    guard_percent: int = 10
    version_percent: int = 40
    weak_read_percent: int = 30
    streams: int = 2
    once_percent: int = 20
    anonymous_percent: int = 10
    close_percent: int = 20
    reset_percent: int = 0
    pauses: int = 0
    kills: int = 0
    leave_percent: int = 0
    lock_clients: int = 0
    lock_rounds: int = 3
    cancel_percent: int = 30


def draw_workload(world: World) -> Workload:
    """Draw what the clients of this seed do."""

    def number(low: int, high: int, name: str) -> int:
        return low + world.draw_below(high - low + 1, "workload", name)

    def swarm(percent: int, value: int, name: str) -> int:
        return value if world.draw_below(100, "workload has", name) < percent else 0

    return Workload(
        clients=number(1, 4, "clients"),
        operations=world.draw_log(10, 120, "workload", "operations"),
        burst_max=world.draw_log(1, 40, "workload", "burst"),
        think_ns=world.draw_log(5 * MILLISECOND, SECOND, "workload", "think"),
        roots=number(1, 3, "roots"),
        across_roots=swarm(30, 1, "across roots") == 1,
        session_timeout_ms=world.draw_log(1_000, 20_000, "workload", "timeout"),
        deadline_ms=swarm(60, world.draw_log(200, 20_000, "workload", "deadline"), "deadline"),
        creates=swarm(90, number(1, 6, "creates"), "creates"),
        sets=swarm(90, number(1, 6, "sets"), "sets"),
        deletes=swarm(80, number(1, 4, "deletes"), "deletes"),
        transactions=swarm(60, number(1, 4, "transactions"), "transactions"),
        gets=swarm(80, number(1, 6, "gets"), "gets"),
        exists=swarm(60, number(1, 4, "exists"), "exists"),
        lists=swarm(60, number(1, 4, "lists"), "lists"),
        syncs=1,
        ephemeral_percent=swarm(70, number(5, 60, "ephemeral"), "ephemeral"),
        sequential_percent=swarm(60, number(5, 60, "sequential"), "sequential"),
        expiring_percent=swarm(25, number(5, 30, "expiring"), "expiring"),
        guard_percent=swarm(40, number(5, 40, "guard"), "guard"),
        version_percent=swarm(70, number(10, 80, "version"), "version"),
        weak_read_percent=swarm(60, number(10, 90, "weak"), "weak"),
        streams=swarm(65, number(1, 4, "streams"), "streams"),
        once_percent=swarm(50, number(10, 70, "once"), "once"),
        anonymous_percent=swarm(40, number(5, 50, "anonymous"), "anonymous"),
        close_percent=swarm(40, number(20, 100, "close"), "close"),
        reset_percent=swarm(35, number(3, 40, "reset"), "reset"),
        pauses=swarm(30, number(1, 3, "pauses"), "pauses"),
        kills=swarm(30, number(1, 2, "kills"), "kills"),
        leave_percent=swarm(40, number(3, 30, "leave"), "leave"),
        lock_clients=swarm(30, number(2, 5, "lock clients"), "lock clients"),
        lock_rounds=number(1, 5, "lock rounds"),
        cancel_percent=swarm(50, number(10, 80, "cancel"), "cancel"),
    )

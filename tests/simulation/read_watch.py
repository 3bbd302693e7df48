"""G11: a linearizable read is answered at a state that has everything committed when the member took it in.

Reads that a write of their own session pushes ahead need no word of the leader (`coordsvc.replica.reads` says
why); those are judged by the checkers of histories alone.

Rule of this file: it stands between a replica and its reads, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from coordsvc.raft.types import Index
from coordsvc.replica.connections import LINEARIZABLE, Connection, PendingRead
from coordsvc.replica.core import Replica


def watch_reads(replica: Replica, committed: Callable[[], Index]) -> None:
    """Check every read of this replica. `committed`: the highest index committed anywhere by now."""
    reads = replica._reads
    taken_in: dict[PendingRead, Index] = {}
    submit, serve, serve_before, forget = reads.submit, reads._serve, reads.serve_before, reads.forget
    is_pushed = False

    def watched_submit(read: PendingRead) -> None:
        if read.consistency == LINEARIZABLE:
            taken_in[read] = committed()
        submit(read)

    def watched_serve(read: PendingRead) -> None:
        needed = taken_in.pop(read, 0)
        applied = replica.state.machine.applied_index
        assert applied >= needed or is_pushed, (
            f"G11: {replica.state.name} answers a read at entry {applied}, and {needed} was committed before"
        )
        serve(read)

    def watched_serve_before(connection: Connection, sequence: int) -> None:
        nonlocal is_pushed
        is_pushed = True
        serve_before(connection, sequence)
        is_pushed = False

    def watched_forget(connection: Connection) -> None:
        for read in (*connection.reads, *connection.parked):
            taken_in.pop(read, None)
        forget(connection)

    for name, method in (
        ("submit", watched_submit),
        ("_serve", watched_serve),
        ("serve_before", watched_serve_before),
        ("forget", watched_forget),
    ):
        setattr(reads, name, method)
    replica.state.on_drop = watched_forget

"""Every bound and interval of a replica. Promise G10.

Rule of this file: numbers only. They may differ between members: what must not is in
`coordsvc.statemachine.types.Limits`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """Attributes end in their unit; a tick is what the shell calls a tick."""

    election_timeout_ms: int = 1000
    entry_bytes_max: int = 512 << 10  # commands packed into one entry (one larger command stands alone)
    value_bytes_max: int = 1 << 20
    path_bytes_max: int = 4096
    session_timeout_ms_min: int = 1_000
    session_timeout_ms_max: int = 600_000
    inflight_per_session_max: int = 1024  # operations: writes and reads each
    watches_per_session_max: int = 10_000
    pause_outgoing_bytes: int = 1 << 20  # more than this unread: we stop reading from the client
    pause_outstanding_bytes: int = 8 << 20  # more than this not yet applied: the same
    outgoing_bytes_max: int = 16 << 20  # more than this unread: the stream is closed, SLOW_CONSUMER
    proposal_bytes_max: int = 64 << 20  # commands waiting on the leader for a place in the log
    parked_read_ms: int = 60_000  # a read that waits for a zxid which does not come
    resend_after_ms: int = 3_000  # a command without an answer is sent to the leader again
    confirm_retry_ms: int = 1_000
    catch_up_changes: int = 1_000  # history replayed per step
    reap_interval_ms: int = 1_000
    reap_batch: int = 100
    digest_interval: int = 256  # entries
    disk_stall_ms: int = 3_000  # a leader whose disk takes longer for one write hands leadership over

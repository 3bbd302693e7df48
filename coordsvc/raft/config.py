"""The settings of one consensus node.

Rule of this file: checked once, when made; never changed after.
"""

from __future__ import annotations

from dataclasses import dataclass

from coordsvc.raft.types import NodeId


class RaftConfigError(ValueError):
    """A setting, or a relation between settings, that the core cannot work with."""


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """How one node behaves.

    Attributes:
        election_ticks: A follower that hears no leader for this long (and up to twice that) asks for votes.
        heartbeat_ticks: How often a leader says that it lives.
        append_bytes_max: Payload of one append message; one larger entry still goes alone.
        inflight_messages_max: Unanswered appends for each follower.
        inflight_bytes_max: Their payload; soft, the message that crosses it still goes.
        uncommitted_bytes_max: Payload that a leader accepts before it is applied.
        committed_bytes_max: Payload handed out for apply and not yet reported as applied.
        cached_bytes_max: Payload of durable entries kept in memory for followers and apply.
        pending_reads_max: Reads that wait for a leader's confirmation.
    """

    node_id: NodeId
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    append_bytes_max: int = 1 << 20
    inflight_messages_max: int = 256
    inflight_bytes_max: int = 4 << 20
    uncommitted_bytes_max: int = 64 << 20
    committed_bytes_max: int = 4 << 20
    pre_vote: bool = True
    check_quorum: bool = True
    cached_bytes_max: int = 8 << 20
    pending_reads_max: int = 65_536

    def __post_init__(self) -> None:
        if not self.node_id:
            raise RaftConfigError("node_id must not be empty")
        if self.heartbeat_ticks < 1:
            raise RaftConfigError("heartbeat_ticks must be at least 1")
        if self.election_ticks <= self.heartbeat_ticks:
            raise RaftConfigError("election_ticks must be greater than heartbeat_ticks")
        for name in (
            "append_bytes_max",
            "inflight_messages_max",
            "uncommitted_bytes_max",
            "committed_bytes_max",
            "cached_bytes_max",
            "pending_reads_max",
        ):
            if getattr(self, name) < 1:
                raise RaftConfigError(f"{name} must be at least 1")
        if self.inflight_bytes_max < self.append_bytes_max:
            raise RaftConfigError("inflight_bytes_max must be at least append_bytes_max")

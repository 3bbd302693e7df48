"""What one Raft node says to another. Raft Figure 2, thesis §3.10, §4.2.1, §6.4, §9.6.

Rule of this file: one flat record, after etcd's; which fields count depends on `type`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from coordsvc.raft.types import Entry, Index, NodeId, SnapshotMetadata, Term


class MessageType(IntEnum):
    """Stable numbers: they are on the wire."""

    APPEND = 1
    APPEND_RESPONSE = 2
    VOTE = 3
    VOTE_RESPONSE = 4
    PRE_VOTE = 5
    PRE_VOTE_RESPONSE = 6
    HEARTBEAT = 7
    HEARTBEAT_RESPONSE = 8
    SNAPSHOT = 9  # metadata only: the shell streams the data, then the receiver steps this message
    TIMEOUT_NOW = 10
    TRANSFER_LEADER = 11  # forwarded by a follower; as in etcd, `source` is the member that is to lead
    READ_INDEX = 12  # forwarded by a follower; `source` and `context` are the asker's, `index` counts hops
    READ_INDEX_RESPONSE = 13


@dataclass(slots=True)
class Message:
    """One message. `term` 0 means "not bound to a term" (READ_INDEX, TRANSFER_LEADER)."""

    type: MessageType
    source: NodeId
    target: NodeId
    term: Term = 0
    log_term: Term = 0
    index: Index = 0
    commit: Index = 0
    entries: list[Entry] = field(default_factory=list)
    reject: bool = False
    reject_hint: Index = 0
    context: int = 0
    transfer: bool = False  # VOTE: this election was asked for by the leader
    snapshot: SnapshotMetadata | None = None
    is_notice: bool = False  # APPEND: it only tells of a commit, and needs no acknowledgement

"""The words of consensus: who, when, what. Raft §5.1, §5.3, §6.

Rule of this file: values without behaviour. Nothing in `coordsvc.raft` imports anything of ours, and
nothing here knows a wire format.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

NodeId = str  # the member's name; sorted wherever order matters
Term = int
Index = int


class EntryKind(IntEnum):
    NORMAL = 0
    CONFIGURATION = 1


@dataclass(slots=True)
class Entry:
    """One place in the log. `data` is opaque to consensus; empty for a new leader's first entry."""

    index: Index
    term: Term
    data: bytes = b""
    kind: EntryKind = EntryKind.NORMAL


@dataclass(frozen=True, slots=True)
class HardState:
    """What must be on disk before a promise that rests on it leaves. `commit` needs no sync of its own."""

    term: Term = 0
    vote: NodeId | None = None
    commit: Index = 0


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who counts. All tuples are sorted. While `voters_outgoing` is not empty the configuration is joint."""

    voters: tuple[NodeId, ...]
    voters_outgoing: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()
    learners_next: tuple[NodeId, ...] = ()
    auto_leave: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotMetadata:
    """Names a snapshot; the data itself travels outside consensus."""

    index: Index
    term: Term
    configuration: Configuration

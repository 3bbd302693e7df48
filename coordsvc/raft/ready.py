"""The contract between the consensus core and whoever drives it.

`RaftNode.ready()` may be called at any time and hands out what has gathered since the last call:

1. Send `messages` at once. They promise nothing that is not already durable here (a leader's appends
   leave in parallel with its own disk write: thesis §10.2.1).
2. If `persist` is there, write it in one atomic synced batch: first the snapshot reset if any, then
   the hard state and the entries; writing entry i discards every stored entry >= i. When it is durable,
   call `persisted(persist)`; the promises that waited for it (votes, append acknowledgements, the
   leader's own) are released into the next Ready. At most one Persist is outstanding: while one is,
   `ready()` hands out none, and entries gather for the next (group commit).
3. Apply `committed` in order, at your own pace, then call `applied(index)`. Only entries that are
   durable on this node are handed out, each once.
4. `reads`: the read of this context may be served once the state machine has applied `index`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coordsvc.raft.messages import Message
from coordsvc.raft.types import Entry, HardState, Index, NodeId, SnapshotMetadata, Term


@dataclass(slots=True)
class Persist:
    """One batch for the disk.

    `must_sync` is False only for a batch that merely moves the commit index. Such a batch is handed out
    once a tick at most, since nothing rests on it.
    """

    hard_state: HardState | None
    entries: list[Entry]
    snapshot: SnapshotMetadata | None  # reset the log: it starts after this snapshot
    must_sync: bool
    term: Term  # of the node when this was handed out
    released: list[Message] = field(default_factory=list)  # private to the core: may leave once durable


@dataclass(slots=True)
class ReadState:
    """The read that was asked for with `context` is confirmed at `index`."""

    context: int
    index: Index


@dataclass(slots=True)
class Ready:
    messages: list[Message]
    persist: Persist | None
    committed: list[Entry]
    reads: list[ReadState]
    leader: NodeId | None  # as known now
    term: Term

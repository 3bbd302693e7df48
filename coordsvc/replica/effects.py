"""What a replica wants done. The shell takes it all out after feeding inputs, and carries it out in order.

Rule of this file: values only. Disk work is in `Ready.persist` of the consensus core, which is handed on
unchanged; nothing here needs the disk first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coordsvc.codec.cluster_configuration import MemberRecord
from coordsvc.raft.types import NodeId
from coordsvc.replica.changes import ChangeRequest


@dataclass(slots=True)
class Effects:
    """Gathered since the last take."""

    frames: dict[NodeId, list[bytes]] = field(default_factory=dict)  # encoded PeerFrames, in order
    connections: dict[int, None] = field(default_factory=dict)  # have something to send, or were closed
    snapshots: list[NodeId] = field(default_factory=list)  # start streaming the tree to these
    notes: list[tuple[str, dict[str, object]]] = field(default_factory=list)  # for the log of the member
    members: dict[NodeId, MemberRecord] | None = None  # whom to be linked to from now on; None: as before
    settled: list[ChangeRequest] = field(default_factory=list)  # changes of the membership, done or refused
    removed: str = ""  # the member must stop in good order (an exit code of 0), and why
    stop: str = ""  # the member must stop, and why

    def send(self, peer: NodeId, frame: bytes) -> None:
        self.frames.setdefault(peer, []).append(frame)

    def note(self, event: str, **fields: object) -> None:
        self.notes.append((event, fields))

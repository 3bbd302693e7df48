"""The reads that wait for a quorum to confirm the leader. Thesis §6.4; etcd-io/raft PR 397 for the counters.

Rule of this file: a heartbeat confirms only reads that were asked for before it left.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from coordsvc.raft.membership import Membership
from coordsvc.raft.types import Index, NodeId


@dataclass(slots=True)
class ReadRequest:
    asker: NodeId
    context: int
    index: Index  # the leader's commit index when it was asked


class ReadQueue:
    """The reads of one leader's term, numbered from 1 in order of arrival.

    A heartbeat carries the number of the newest read, and its answer acknowledges that one and all
    before it. So a request that is repeated is a new read, never confirmed by old answers.
    """

    __slots__ = ("_acknowledged", "_confirmed_count", "_unconfirmed", "waiting")

    def __init__(self) -> None:
        self.waiting: list[tuple[NodeId, int]] = []  # until the first commit of the term
        self._unconfirmed: deque[ReadRequest] = deque()
        self._confirmed_count = 0
        self._acknowledged: dict[NodeId, int] = {}

    def __len__(self) -> int:
        return len(self.waiting) + len(self._unconfirmed)

    def add(self, request: ReadRequest) -> None:
        self._unconfirmed.append(request)

    def newest(self) -> int:
        """Return the number of the newest read: what heartbeats carry."""
        return self._confirmed_count + len(self._unconfirmed)

    def confirm(self, members: Membership, leader: NodeId, source: NodeId, number: int) -> list[ReadRequest]:
        """Note that `source` answered a heartbeat with `number`; return the reads that this confirms."""
        if not self._confirmed_count < number <= self.newest():
            return []
        acknowledged = self._acknowledged
        if number <= acknowledged.get(source, 0):
            return []
        acknowledged[source] = number
        return self.recount(members, leader)

    def recount(self, members: Membership, leader: NodeId) -> list[ReadRequest]:
        """Return the reads that a quorum of `members` confirms by what it has answered so far."""
        # The leader knows itself to lead in this term as of now.
        self._acknowledged[leader] = self.newest()
        agreed = members.agreed_count(self._acknowledged)
        confirmed: list[ReadRequest] = []
        while self._confirmed_count < agreed:
            confirmed.append(self._unconfirmed.popleft())
            self._confirmed_count += 1
        return confirmed

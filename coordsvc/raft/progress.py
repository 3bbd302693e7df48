"""The leader's view of one follower: what it has, what is on its way, and how to find out. Thesis §10.2.

Rule of this file: bookkeeping only. It says whether more may be sent; it never sends.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from coordsvc.raft.types import Index, NodeId


class ProgressState(Enum):
    PROBE = "probe"  # `match` is a guess: one append at a time
    REPLICATE = "replicate"  # appends are pipelined, `next` runs ahead of the answers
    SNAPSHOT = "snapshot"  # no appends until a snapshot has arrived


class Inflights:
    """The appends that were sent and not yet answered: a window bounded by count and by bytes.

    The bound on bytes is soft: the message that crosses it still goes.
    """

    __slots__ = ("_sent", "bytes_max", "bytes_total", "messages_max")

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self.messages_max = messages_max
        self.bytes_max = bytes_max
        self.bytes_total = 0
        self._sent: deque[tuple[Index, int]] = deque()

    def __len__(self) -> int:
        return len(self._sent)

    def is_full(self) -> bool:
        return len(self._sent) >= self.messages_max or self.bytes_total >= self.bytes_max

    def add(self, last_index: Index, size_bytes: int) -> None:
        assert not self.is_full(), "R13: the inflight window is full"
        self._sent.append((last_index, size_bytes))
        self.bytes_total += size_bytes

    def free_to(self, index: Index) -> None:
        """Forget every message whose last entry is at or below `index`."""
        sent = self._sent
        while sent and sent[0][0] <= index:
            self.bytes_total -= sent.popleft()[1]

    def clear(self) -> None:
        self._sent.clear()
        self.bytes_total = 0


class Progress:
    """Invariant: 0 <= match < next. `match` is known, everything from `next` on is still to be sent."""

    __slots__ = (
        "append_due",
        "flow_paused",
        "inflights",
        "is_learner",
        "match",
        "next",
        "node",
        "pending_snapshot",
        "probe_allowed",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(self, node: NodeId, inflights: Inflights, *, is_learner: bool) -> None:
        self.node = node
        self.inflights = inflights
        self.is_learner = is_learner
        self.recent_active = False
        self.reset(next_index=1)

    def reset(self, next_index: Index) -> None:
        """Forget everything about the follower: a new term begins."""
        self.match: Index = 0
        self.next: Index = next_index
        self.sent_commit: Index = 0
        self.append_due = False  # an append must leave even if it is empty
        self.probe_allowed = (
            True  # one repeated probe for each heartbeat interval, however many reads there are
        )
        self._enter(ProgressState.PROBE)

    def __repr__(self) -> str:
        paused = " paused" if self.is_paused() else ""
        learner = " learner" if self.is_learner else ""
        pending = f" pending_snapshot={self.pending_snapshot}" if self.pending_snapshot else ""
        inflight = f" inflight={len(self.inflights)}" if len(self.inflights) else ""
        active = "" if self.recent_active else " inactive"
        return (
            f"{self.node}: {self.state.name} match={self.match} next={self.next}"
            f"{learner}{paused}{pending}{inflight}{active}"
        )

    def is_paused(self) -> bool:
        return self.flow_paused or self.state is ProgressState.SNAPSHOT

    def become_probe(self) -> None:
        if self.state is ProgressState.SNAPSHOT:
            # The snapshot may have arrived: start behind it. If not, a rejection leads back.
            self.next = max(self.match, self.pending_snapshot) + 1
        else:
            self.next = self.match + 1
        self.sent_commit = min(self.sent_commit, self.next - 1)
        self._enter(ProgressState.PROBE)

    def become_replicate(self) -> None:
        self.next = self.match + 1
        self._enter(ProgressState.REPLICATE)

    def become_snapshot(self, index: Index) -> None:
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def note_sent(self, entry_count: int, size_bytes: int, commit: Index) -> None:
        """Account for one append that leaves now."""
        self.sent_commit = commit
        if self.state is ProgressState.REPLICATE:
            if entry_count:
                self.next += entry_count
                self.inflights.add(self.next - 1, size_bytes)
            # Full, or full before: this message doubles as a probe.
            self.flow_paused = self.inflights.is_full()
        else:
            assert self.state is ProgressState.PROBE, "no append may leave while a snapshot is on its way"
            self.flow_paused = True

    def acknowledge(self, index: Index) -> bool:
        """Record that the follower has everything up to `index`; False if that is no news."""
        if index <= self.match:
            return False
        self.match = index
        if index >= self.next:
            self.next = index + 1
        self.flow_paused = False
        return True

    def retreat(self, rejected: Index, hint: Index) -> bool:
        """Step back after a rejection of the append behind `rejected`; False if the rejection is stale."""
        if self.state is ProgressState.REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
            return True
        if self.state is ProgressState.SNAPSHOT or rejected != self.next - 1:
            return False
        # Never to `match` or below: what is known stays known (raft#149).
        retreated = max(min(rejected, hint + 1), self.match + 1)
        if retreated == self.next and self.match:
            return False  # It has lost what it acknowledged; to ask again at once would never end.
        self.next = retreated
        self.sent_commit = min(self.sent_commit, self.next - 1)
        self.flow_paused = False
        return True

    def can_bump_commit(self, commit: Index) -> bool:
        """Say whether an append could tell of a commit index that is useful and was not sent yet."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.flow_paused = False
        self.pending_snapshot = 0
        self.inflights.clear()

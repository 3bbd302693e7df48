"""Prometheus metrics of one member, read from its state when they are asked for.

Rule of this file: counting on the hot path is one integer addition; everything else happens at the scrape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from coordsvc.codec.cluster_configuration import named_by
from coordsvc.raft.ready import Persist

if TYPE_CHECKING:
    from coordsvc.server.member import Member

_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class MemberMetrics:
    def __init__(self, member: Member) -> None:
        self._member = member
        self.registry = CollectorRegistry()
        self._entries = Counter(
            "coordsvc_log_entries_written", "Log entries made durable", registry=self.registry
        )
        self._writes = Counter(
            "coordsvc_log_writes", "Writes to the log, by whether synced", ["synced"], registry=self.registry
        )
        self._batch = Histogram(
            "coordsvc_log_write_entries",
            "Entries in one write",
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self._synced = self._writes.labels("yes")
        self._not_synced = self._writes.labels("no")
        for name, (text, read) in self._gauges().items():
            Gauge(f"coordsvc_{name}", text, registry=self.registry).set_function(read)

    def _gauges(self) -> dict[str, tuple[str, Callable[[], float]]]:
        member = self._member
        state = member.replica.state

        return {
            "is_leader": ("1 on the leader", lambda: float(state.raft.is_leader)),
            "has_leader": ("1 if a leader is known", lambda: float(state.leader is not None)),
            "term": ("Consensus term", lambda: state.raft.term),
            "commit_index": ("Newest committed log index", lambda: state.raft.commit_index),
            "applied_index": ("Newest applied log index", lambda: state.machine.applied_index),
            "zxid": ("Newest transaction", lambda: state.machine.zxid),
            "znodes": ("Znodes in the tree", lambda: state.machine.node_count),
            "sessions": ("Sessions in the cluster", lambda: len(state.machine.sessions)),
            "connections": ("Sessions attached to this member", lambda: len(state.by_session)),
            "watches": ("Live watches on this member", lambda: state.registry.count),
            "log_length": (
                "Entries in the log",
                lambda: member.opened.log.last_index() - member.opened.log.first_index() + 1,
            ),
            "peers_connected": (
                "Members that this one has a link to",
                lambda: sum(member.links.is_up(name) for name in named_by(state.raft.configuration)),
            ),
        }

    def count_persist(self, persist: Persist) -> None:
        count = len(persist.entries)
        if count:
            self._entries.inc(count)
            self._batch.observe(count)
        (self._synced if persist.must_sync else self._not_synced).inc()

    def render(self) -> bytes:
        return generate_latest(self.registry)

"""The settings and their relations."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordsvc.raft.config import RaftConfig, RaftConfigError


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: RaftConfig(""), "node_id"),
        (lambda: RaftConfig("a", heartbeat_ticks=0), "heartbeat_ticks"),
        (lambda: RaftConfig("a", election_ticks=1), "election_ticks"),
        (lambda: RaftConfig("a", append_bytes_max=0), "append_bytes_max"),
        (lambda: RaftConfig("a", inflight_messages_max=0), "inflight_messages_max"),
        (lambda: RaftConfig("a", inflight_bytes_max=100), "inflight_bytes_max"),
        (lambda: RaftConfig("a", uncommitted_bytes_max=0), "uncommitted_bytes_max"),
        (lambda: RaftConfig("a", committed_bytes_max=0), "committed_bytes_max"),
        (lambda: RaftConfig("a", pending_reads_max=0), "pending_reads_max"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(make: Callable[[], RaftConfig], reason: str) -> None:
    with pytest.raises(RaftConfigError, match=reason):
        make()

"""What coordsvc must reach, as ratios to the peers in the same run.

Rule of this file: a goal is never lowered because it was missed; the table then says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PEERS: Final = ("etcd", "zookeeper")


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal: our median of `figure` in `scenario`, against the best of the named systems' medians.

    With `against`, coordsvc must be at least `factor` times better: as many times more if more is better, as
    small a part of the time if less is. Without, its own figure must be at most `factor`.
    """

    text: str
    scenario: str
    figure: str
    factor: float
    smaller_is_better: bool = False
    against: tuple[str, ...] = PEERS


GOALS: Final = (
    Goal("durable writes, 256 in flight, one client", "write-256", "per_second", 4.0),
    Goal("linearizable reads, 256 in flight, one client", "read-256", "per_second", 5.0, against=("etcd",)),
    Goal("durable writes, one at a time, p50", "write-1", "p50_ms", 1.25, smaller_is_better=True),
    Goal("64 connections, one in flight each, writes", "write-64-connections", "per_second", 1.0),
    Goal("fail-over, SIGKILL of the leader's process", "fail-over-kill", "p50_ms", 1.0, True),
    Goal("fail-over, leader stopped (SIGSTOP)", "fail-over-stop", "p50_ms", 2.0, True, ("etcd",)),
    Goal("lock hand-over", "hand-over", "p50_ms", 2.0, True, ("zookeeper",)),
    Goal("change to 1,000 watchers, last one told", "watch-1000", "p50_ms", 1.0, True, ("zookeeper",)),
    Goal(
        "memory of a member, a million znodes of 100 B",
        "bulk-memory",
        "memory_mib",
        4.0,
        True,
        ("zookeeper",),
    ),
    Goal("restart to serving with a million znodes", "bulk-restart", "restart_s", 1.0, True, ("zookeeper",)),
    Goal(
        "write p99 while a snapshot streams, to the quiet p99",
        "bulk-write-catch-up",
        "catch_up_write_ratio",
        3.0,
        against=(),
    ),
    Goal(
        "write p99 while the log is trimmed, to the quiet p99",
        "bulk-write-trim",
        "trim_write_ratio",
        3.0,
        against=(),
    ),
)

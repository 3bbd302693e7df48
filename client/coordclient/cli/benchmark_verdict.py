"""What `coordctl bench` makes of what it measured: pass, or fail with reasons.

Rule of this file: figures in, a verdict out; nothing is asked, timed or printed here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

_STANDS_OUT_FACTOR: Final = 3.0  # a member this much slower than the median of the others is named
_STANDS_OUT_MS: Final = 10.0  # and what is faster than this is nobody's concern
_LATE_MS: Final = 10.0  # a load that left later than this says more about this machine than about the cluster


@dataclass(frozen=True, slots=True)
class Limits:
    """What a cluster must keep to pass. Times in milliseconds, as the program measures them.

    Attributes:
        p99_ms: Of the writes, and of the reads.
        slowest_ms: The slowest single operation.
        throughput_percent: How much of what was offered was done.
        errors: Operations that failed, or were not even sent because too many were on their way already.
        leader_changes: While the load ran.
    """

    p99_ms: float = 100.0
    slowest_ms: float = 500.0
    throughput_percent: float = 90.0
    errors: int = 0
    leader_changes: int = 0


@dataclass(frozen=True, slots=True)
class Latencies:
    """Times of some operations in milliseconds; all zero if there was none."""

    count: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latencies:
        ordered = sorted(seconds)
        if not ordered:
            return cls()
        return cls(len(ordered), _at(ordered, 0.50) * 1000, _at(ordered, 0.99) * 1000, ordered[-1] * 1000)


def _at(ordered: Sequence[float], fraction: float) -> float:
    """The smallest time that so many are not above."""
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class KindFigures:
    """All writes, or all reads, of a run."""

    offered: int
    latencies: Latencies
    seconds: float  # until the last one was answered
    errors: int = 0

    @property
    def per_second(self) -> float:
        return self.latencies.count / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class MemberFigures:
    """What clients that are attached to one member saw. `problem`: why it does not answer, if it does not."""

    member: str
    role: str
    writes: Latencies = Latencies()
    reads: Latencies = Latencies()
    problem: str = ""

    @property
    def p99_ms(self) -> float:
        return max(self.writes.p99_ms, self.reads.p99_ms)


@dataclass(frozen=True, slots=True)
class Figures:
    """One run.

    Attributes:
        leaders: Each leadership that was seen, as term and member, in order.
        failures: How often operations ended with which error.
        late_p99_ms: How late the load left this machine.
        asked_seconds: How long the load was to last.
    """

    asked_seconds: float
    kinds: Mapping[str, KindFigures]
    members: Sequence[MemberFigures]
    leaders: Sequence[tuple[int, str]]
    failures: Mapping[str, int] = field(default_factory=dict)
    late_p99_ms: float = 0.0

    @property
    def leader_changes(self) -> int:
        return max(0, len(self.leaders) - 1)

    @property
    def slowest_member(self) -> MemberFigures | None:
        """Return the member whose clients waited longest, by their p99; None if nothing was measured."""
        measured = [member for member in self.members if member.p99_ms]
        return max(measured, key=lambda member: member.p99_ms, default=None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reasons`: why it failed; none: it passed. `notes`: what is worth a look all the same."""

    reasons: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def has_passed(self) -> bool:
        return not self.reasons


def judge(figures: Figures, limits: Limits) -> Verdict:
    """Compare what was measured with what a cluster must keep."""
    reasons = [
        *_silent_members(figures),
        *_leader_changes(figures, limits),
        *_errors(figures, limits),
    ]
    for kind, found in figures.kinds.items():
        reasons += _throughput(kind, found, figures, limits)
        reasons += _latency(kind, found, figures, limits)
    return Verdict(tuple(reasons), tuple(_notes(figures)))


def _silent_members(figures: Figures) -> list[str]:
    return [
        f"member {member.member} does not answer: {member.problem}"
        for member in figures.members
        if member.problem
    ]


def _leader_changes(figures: Figures, limits: Limits) -> list[str]:
    if figures.leader_changes <= limits.leader_changes:
        return []
    course = ", then ".join(f"{leader} in term {term}" for term, leader in figures.leaders)
    times = "once" if figures.leader_changes == 1 else f"{figures.leader_changes} times"
    return [f"the leader changed {times} (at most {limits.leader_changes}): {course}"]


def _errors(figures: Figures, limits: Limits) -> list[str]:
    errors = sum(found.errors for found in figures.kinds.values())
    if errors <= limits.errors:
        return []
    most_first = sorted(figures.failures.items(), key=lambda item: (-item[1], item[0]))
    which = ", ".join(f"{count} x {what}" for what, count in most_first)
    return [f"{_operations(errors)} failed (at most {limits.errors}): {which}"]


def _throughput(kind: str, found: KindFigures, figures: Figures, limits: Limits) -> list[str]:
    offered_per_second = found.offered / figures.asked_seconds
    percent = 100 * found.per_second / offered_per_second if offered_per_second else 100.0
    if percent >= limits.throughput_percent:
        return []
    done = f"{found.per_second:,.0f} {kind}/s of the {offered_per_second:,.0f}/s that were offered"
    return [f"{done} ({percent:.0f} %, at least {limits.throughput_percent:g} %)"]


def _latency(kind: str, found: KindFigures, figures: Figures, limits: Limits) -> list[str]:
    reasons = []
    if found.latencies.p99_ms > limits.p99_ms:
        slowest = figures.slowest_member
        where = f"; slowest member: {slowest.member}" if slowest and len(figures.members) > 1 else ""
        reasons.append(
            f"the p99 of {kind} is {milliseconds(found.latencies.p99_ms)}"
            f" (at most {milliseconds(limits.p99_ms)}){where}"
        )
    if found.latencies.max_ms > limits.slowest_ms:
        reasons.append(
            f"the slowest of the {kind} took {milliseconds(found.latencies.max_ms)}"
            f" (at most {milliseconds(limits.slowest_ms)})"
        )
    return reasons


def _notes(figures: Figures) -> list[str]:
    notes = []
    slowest = figures.slowest_member
    others = sorted(member.p99_ms for member in figures.members if member.p99_ms and member is not slowest)
    if slowest is not None and others:
        median_ms = others[len(others) // 2]
        if slowest.p99_ms > _STANDS_OUT_MS and slowest.p99_ms > _STANDS_OUT_FACTOR * median_ms:
            notes.append(
                f"member {slowest.member} is {slowest.p99_ms / median_ms:.1f} times as slow as the others:"
                " look at its disk, its processor and its network"
            )
    if figures.late_p99_ms > _LATE_MS:
        notes.append(
            f"this machine sent the load up to {milliseconds(figures.late_p99_ms)} late (p99), so part of the"
            " times above is its own: run this where less is going on, or with a smaller --load"
        )
    return notes


def _operations(count: int) -> str:
    return "one operation" if count == 1 else f"{count:,} operations"


def milliseconds(value: float) -> str:
    """Return a time for people: `0.84 ms`, `12.3 ms`, `210 ms`."""
    if value >= 100:
        return f"{value:,.0f} ms"
    return f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"

"""What a person reads: the report of a failure, and the sums of a campaign.

Rule of this file: text only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation.plan import Plan
from tests.simulation.probes import Probes
from tests.simulation.run import Result, plan_of
from tests.simulation.world import SECOND, TraceEvent

_TIMELINE_EVENTS = 120


@dataclass(slots=True)
class Campaign:
    """The sums of many runs."""

    seeds: int = 0
    operations: int = 0
    steps: int = 0
    simulated_ns: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    probes: Probes = field(default_factory=Probes)

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.operations += result.operations
        self.steps += result.steps
        self.simulated_ns += result.simulated_ns
        for kind, count in result.faults.items():
            self.faults[kind] = self.faults.get(kind, 0) + count
        self.probes.add(result.probes)

    def text(self) -> str:
        hours = f"{self.simulated_ns / SECOND / 3600:.1f}"
        lines = [
            f"{self.seeds} seeds, {self.operations} operations, {self.steps} steps, {hours} simulated hours",
            f"{sum(self.faults.values())} faults: "
            + ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items())),
            "probes hit: "
            + ", ".join(f"{name} ({count})" for name, count in self.probes.counts.items() if count),
        ]
        missing = self.probes.never_hit()
        lines.append("probes never hit: " + (", ".join(missing) if missing else "none"))
        return "\n".join(lines)


def failure_line(result: Result) -> str:
    """One line that scripts can find."""
    assert result.violation is not None, "only a failure has this line"
    found = result.violation
    first_line = found.text.partition("\n")[0]
    return f"FAILED seed={result.plan.seed} invariant={found.invariant} {first_line[:300]}"


def failure_report(result: Result, plan_file: Path | None = None) -> str:
    """All that is needed to understand and to replay a failure. `plan_file`: where its plan was read from."""
    assert result.violation is not None, "only a failure is reported"
    found = result.violation
    lines = [
        f"{found.invariant}: {found.text}",
        _replay(result.plan, plan_file),
        *describe_plan(result.plan),
        *(f"  {line}" for line in found.details[-40:]),
        f"the last events of everybody, at most {_TIMELINE_EVENTS}:",
        *timeline(result.timeline),
    ]
    return "\n".join(lines)


def _replay(plan: Plan, plan_file: Path | None) -> str:
    """Say how to run this plan again; the seed alone gives the whole plan only if it was drawn from it."""
    if plan_file is not None:
        return f"replay: make sim ARGS='--plan {plan_file}'"
    if plan == plan_of(plan.seed):
        return f"replay: make sim SEED={plan.seed}"
    return f"replay: run the test again; seed {plan.seed} alone does not give this plan"


def describe_plan(plan: Plan) -> list[str]:
    cluster = plan.cluster
    kinds: dict[str, int] = {}
    for fault in plan.faults:
        kinds[fault.kind] = kinds.get(fault.kind, 0) + 1
    raw = ", frames lost, repeated or reordered" if plan.network.is_raw else ""
    return [
        f"{cluster.voters} voters, {cluster.learners} learners, {plan.safety_ms} ms of faults{raw}",
        "faults: " + (", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())) or "none"),
    ]


def timeline(events: Iterable[TraceEvent]) -> list[str]:
    """One column of time, one of who, one of what."""
    kept = list(events)[-_TIMELINE_EVENTS:]
    return [
        f"{time_ns / SECOND:12.6f}  {who:<12} {what:<20} {' '.join(map(str, details))}"
        for time_ns, who, what, details in kept
    ]

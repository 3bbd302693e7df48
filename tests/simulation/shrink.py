"""Making a failing plan smaller, so that a person can read what happens: delta debugging on data.

Each step leaves something out (a class of faults, half of the faults, a member, clients, operations, odd
settings, time) and keeps the smaller plan if it still breaks the same invariant.

Rule of this file: plans in, plans out; the code under test is the judge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.simulation.plan import ClusterPlan, DiskPlan, Fault, NetworkPlan, Plan, copy_of, to_toml
from tests.simulation.run import Result, run

CORPUS = Path(__file__).parent / "corpus"
_RUNS_MAX = 300


def shrink(result: Result, say: Callable[[str], None]) -> Result:
    """Return the smallest failing run that was found, with the same invariant."""
    assert result.violation is not None, "only a failure can be made smaller"
    invariant = result.violation.invariant
    runs = 0
    best = result
    improved = True
    while improved and runs < _RUNS_MAX:
        improved = False
        for smaller in _smaller(best.plan):
            runs += 1
            tried = run(smaller)
            if tried.violation is not None and tried.violation.invariant == invariant:
                best, improved = tried, True
                say(f"{runs} runs: {len(smaller.faults)} faults, {smaller.safety_ms} ms, {tried.steps} steps")
                break
            if runs >= _RUNS_MAX:
                break
    return best


def save(result: Result) -> Path:
    """Put a failing plan into the corpus, which every run of the tests replays."""
    assert result.violation is not None, "only a failure goes into the corpus"
    CORPUS.mkdir(exist_ok=True)
    path = CORPUS / f"{result.violation.invariant.lower()}-{result.plan.seed}.toml"
    path.write_text(to_toml(result.plan, str(result.violation)[:500]), encoding="utf-8")
    return path


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Yield plans with something left out, the largest cuts first."""
    for kind in dict.fromkeys(fault.kind for fault in plan.faults):
        yield _with_faults(plan, [fault for fault in plan.faults if fault.kind != kind])
    size = len(plan.faults) // 2
    while size:
        for start in range(0, len(plan.faults), size):
            yield _with_faults(plan, plan.faults[:start] + plan.faults[start + size :])
        size //= 2
    yield from _calmer(plan)
    yield from _less_work(plan)
    if plan.safety_ms > 200:
        for safety_ms in (plan.safety_ms // 2, plan.safety_ms * 3 // 4):
            shorter = copy_of(plan)
            shorter.safety_ms = safety_ms
            shorter.faults = [fault for fault in shorter.faults if fault.at_ms < safety_ms]
            yield shorter


def _with_faults(plan: Plan, faults: list[Fault]) -> Plan:
    copy = copy_of(plan)
    copy.faults = [dataclasses.replace(fault) for fault in faults]
    return copy


def _calmer(plan: Plan) -> Iterator[Plan]:
    """Put odd settings back to what they usually are, and take members away."""
    if plan.cluster.learners:
        copy = copy_of(plan)
        copy.cluster.learners -= 1
        yield copy
    if plan.cluster.voters > 1:
        copy = copy_of(plan)
        copy.cluster.voters -= 1
        yield copy
    for section, defaults in (
        ("cluster", ClusterPlan()),
        ("network", NetworkPlan()),
        ("disk", DiskPlan()),
    ):
        values = getattr(plan, section)
        for attribute in dataclasses.fields(values):
            default = getattr(defaults, attribute.name)
            if attribute.name not in ("voters", "learners") and getattr(values, attribute.name) != default:
                copy = copy_of(plan)
                setattr(getattr(copy, section), attribute.name, default)
                yield copy
    if plan.clock.drift_ppm:
        copy = copy_of(plan)
        copy.clock.drift_ppm = 0
        yield copy


def _less_work(plan: Plan) -> Iterator[Plan]:
    """Fewer clients, fewer operations, fewer kinds of them."""
    for name, value in plan.workload.items():
        least = 1 if name in ("clients", "operations", "burst_max") else 0
        if isinstance(value, bool) or name in ("think_ns", "session_timeout_ms", "deadline_ms"):
            continue
        for smaller in dict.fromkeys((least, value // 2, value - 1)):
            if least <= smaller < value:
                copy = copy_of(plan)
                copy.workload[name] = smaller
                yield copy

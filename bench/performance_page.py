"""Copies what was measured into the documentation: `python -m bench.performance_page`, or `make performance`.

A page holds the figures between two marks, `<!-- figures: NAME -->` and `<!-- figures: end -->`; what stands
there is made from the files in `bench/results`, and a test holds that it still is what they say.

Rule of this file: figures come from the files alone. What limits a scenario is known by profiling, so that
stands here, one sentence each, and is to be looked at again when the figures change much.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench import breakdown, curves
from bench.comparing import Outcome, judge
from bench.goals import GOALS, Goal
from bench.reporting import TIMES, Results, load, table
from bench.scenarios import all_scenarios
from bench.systems import SYSTEMS

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "bench/results"
PAGES: Final = (ROOT / "docs/performance.md", ROOT / "README.md")
NOT_MEASURED: Final = "Not measured yet."
_UNITS: Final = {"per_second": "/s", "_ms": " ms", "_mib": " MiB", "_s": " s"}
_BLOCK = re.compile(r"(<!-- figures: (?!end)(\S+) -->\n).*?(<!-- figures: end -->)", re.DOTALL)

# What bounds each goal's figure, as profiles and the breakdown show it.
LIMITS: Final[Mapping[str, str]] = {
    "write-256": "processor time: client and three members share two cores; an operation costs all of them "
    "together about 0.13 ms, half of it the interpreter's",
    "read-256": "the SDK: building, sending and waking one call costs the client more than the member",
    "write-1": "nothing is shared with other writes: two gRPC messages of 0.14 ms each, two links, a sync, "
    "and a dozen wake-ups on two cores; see the breakdown",
    "write-64-connections": "a gRPC message each way for each operation, in the kernel and the "
    "interpreter by equal parts, where one client's 64 share theirs",
    "fail-over-kill": "one election and its disk writes: the closed link tells the followers at once",
    "fail-over-stop": "the election timeout of 400 ms, and for the stopped member's own clients its silence",
    "hand-over": "one durable write, the release, and its event, through five processes that have to be "
    "woken; the waiter then need not look again",
    "watch-1000": "the callbacks of the watchers in the client; the members encode the event once",
    "bulk-memory": "the interpreter and LevelDB's buffers: the tree is on disk, and read through a cache",
    "bulk-restart": "verifying the log; the tree is checked in the background, while the member serves",
    "bulk-write-catch-up": "reading and sending the tree takes processor time and the disk from the writes",
    "bulk-write-trim": "the deletions, in batches beside the writes, and LevelDB's compaction of them",
}


def figures(results_directory: Path = RESULTS) -> dict[str, str]:
    """Return what stands between the marks, by name, in Markdown."""
    results = _results(results_directory / "results.json")
    traced_file = results_directory / breakdown.FILE
    traced = json.loads(traced_file.read_text("utf-8")) if traced_file.exists() else None
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    outcomes = results.in_order(all_scenarios())
    when = "\n".join(f"- {found.scenario}: {results.measured[found.scenario]}" for found in outcomes)
    found = {
        "machine": f"{results.machine}; {versions}." if outcomes else NOT_MEASURED,
        "goals": goals_table(results, with_limits=False),
        "goals-with-limits": goals_table(results, with_limits=True),
        "comparison": table(outcomes) if outcomes else NOT_MEASURED,
        "when": when or NOT_MEASURED,
        "breakdown": f"{breakdown.table(traced)}\n\nMeasured: {breakdown.remark(traced)}" if traced else "",
        "curves": curves.page(curves.load(results_directory / curves.FILE)),
    }
    return {name: text or NOT_MEASURED for name, text in found.items()}


def _results(file: Path) -> Results:
    """Read the results of whatever machine they were measured on."""
    machine = json.loads(file.read_text("utf-8"))["machine"] if file.exists() else ""
    return load(file, machine)


def goals_table(results: Results, *, with_limits: bool) -> str:
    """Return a row for every goal, also for those that were not measured."""
    heading = ["goal", *SYSTEMS, "at least", "measured", "reached"]
    heading += ["what it is limited by"] if with_limits else []
    rows = [heading, ["---"] * len(heading)]
    for goal in GOALS:
        limits = [LIMITS[goal.scenario]] if with_limits else []
        asked = f"{goal.factor:g} {TIMES}" if goal.against else f"at most {goal.factor:g}"
        rows.append([goal.text, *_values(goal, results), asked, *_verdict(goal, results), *limits])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _values(goal: Goal, results: Results) -> list[str]:
    """Return each system's figure, by the best of its clients, or why there is none; empty if it has none."""
    if goal.scenario not in results.outcomes:
        return [""] * len(SYSTEMS)
    outcome = results.outcomes[goal.scenario]
    able = all_scenarios()[goal.scenario].clients
    return [_value(goal, outcome, system) if system in able else "" for system in SYSTEMS]


def _value(goal: Goal, outcome: Outcome, system: str) -> str:
    value, _, _ = outcome.best((system,), goal.figure, goal.smaller_is_better)
    if not math.isnan(value):
        return _with_unit(value, goal.figure)
    has_failed = any(driver.partition(" ")[0] == system for driver in outcome.failures)
    return "failed" if has_failed else "not measured"


def _with_unit(value: float, figure: str) -> str:
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    for ending, unit in _UNITS.items():
        if figure.endswith(ending):
            return f"{number}{unit}"
    return number


def _verdict(goal: Goal, results: Results) -> tuple[str, str]:
    if goal.scenario not in results.outcomes:
        return "not measured", "?"
    verdict = judge(goal, results.outcomes[goal.scenario])
    if math.isnan(verdict.ratio):
        return "not measured", "?"
    peer = f" ({verdict.peer})" if verdict.peer else ""
    times = f" {TIMES}" if goal.against else ""
    return f"{verdict.ratio:.2f}{times}{peer}", "yes" if verdict.is_reached else "**no**"


def filled(page: str, found: Mapping[str, str]) -> str:
    """Return the page with the figures between its marks.

    Raises:
        KeyError: A mark names figures that there are not.
    """
    return _BLOCK.sub(lambda match: f"{match[1]}{found[match[2]]}\n{match[3]}", page)


def update() -> None:
    """Bring all pages up to date with `bench/results`."""
    found = figures()
    for page in PAGES:
        page.write_text(filled(page.read_text("utf-8"), found), encoding="utf-8")


def update_from(directory: Path) -> None:
    """Do the same if that is where something has just been measured into."""
    if directory.resolve() == RESULTS.resolve():
        update()


if __name__ == "__main__":
    update()

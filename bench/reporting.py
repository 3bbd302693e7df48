"""The results as a file of figures, a table, and a plot.

Rule of this file: `results.json` is what was measured; table and plot are made from it alone. Scenarios
that were measured anew replace those of the same name; the others stay, each with its date.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.comparing import Outcome, advantage, judge
from bench.goals import GOALS, PEERS
from bench.measuring import NOT_MEASURED, BenchError, Measurement
from bench.systems import OURS

FORMAT = 1
TIMES = "\N{MULTIPLICATION SIGN}"
_COLUMNS = (
    "scenario",
    "system",
    "client",
    "operations/s",
    "p50 ms",
    "p99 ms",
    "CPU s per 1,000",
    "peak MiB",
    "to the best peer",
)


@dataclass(slots=True)
class Results:
    """Everything that has been measured on one machine."""

    machine: str
    versions: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    measured: dict[str, str] = field(default_factory=dict)  # when and how, by scenario

    def put(self, outcome: Outcome, measured: str) -> None:
        """Take over a scenario; one that was measured before is replaced."""
        self.outcomes[outcome.scenario] = outcome
        self.measured[outcome.scenario] = measured

    def in_order(self, names: Iterable[str]) -> list[Outcome]:
        """Return the outcomes in the order of these names; what they do not name comes last."""
        known = [name for name in names if name in self.outcomes]
        others = [name for name in self.outcomes if name not in known]
        return [self.outcomes[name] for name in known + others]


def save(results: Results, file: Path) -> None:
    """Write the results; a reader sees the old file or the new one, never a half."""
    content = {
        "format": FORMAT,
        "machine": results.machine,
        "versions": results.versions,
        "scenarios": {
            name: {"measured": results.measured[name], **_without_nan(asdict(outcome))}
            for name, outcome in results.outcomes.items()
        },
    }
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    unfinished.replace(file)


def load(file: Path, machine: str) -> Results:
    """Read what was measured on this machine before; nothing, if there is none, or it was another machine.

    Raises:
        BenchError: The file is not one of ours.
    """
    if not file.exists():
        return Results(machine)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise BenchError(f"{file} has format {content['format']}, not {FORMAT}: move it away")
        if content["machine"] != machine:
            return Results(machine)
        results = Results(machine, content["versions"])
        for scenario in content["scenarios"].values():
            measured = scenario.pop("measured")
            measurements = [_measurement(found) for found in scenario.pop("measurements")]
            results.put(Outcome(measurements=measurements, **scenario), measured)
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{file} is not a file of results ({error!r}): move it away") from error
    return results


def _measurement(content: dict[str, Any]) -> Measurement:
    known: dict[str, Any] = {
        name: NOT_MEASURED if value is None else value for name, value in content.items()
    }
    return Measurement(**known)


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN; what was not measured is null."""
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    if isinstance(value, Mapping):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return value


def table(outcomes: Iterable[Outcome]) -> str:
    """Return one table in Markdown: a row for every scenario, system and client; medians over the rounds.

    Our row holds how many times better we are than the best peer, by the figure that is compared.
    """
    lines = [_row(_COLUMNS), _row("---" for _ in _COLUMNS)]
    for outcome in outcomes:
        title = f"**{outcome.scenario}**: {outcome.title}"
        for system, client in outcome.drivers():
            lines.append(_row(_cells(outcome, system, client, title)))
            title = ""
        for driver, reason in outcome.failures.items():
            system, _, client = driver.partition(" ")
            lines.append(_row((title, system, client, f"failed in {_one_line(reason)}", "", "", "", "", "")))
            title = ""
    return "\n".join(lines)


def _cells(outcome: Outcome, system: str, client: str, title: str) -> list[str]:
    def value(figure: str, digits: int) -> str:
        found = outcome.median(system, client, figure)
        return "" if math.isnan(found) else f"{found:,.{digits}f}"

    cells = [title, system, client, value("per_second", 0), value("p50_ms", 2), value("p99_ms", 2)]
    cells += [value("cpu_s_per_thousand", 3), value("peak_memory_mib", 0)]
    own_figure = outcome.figure not in ("per_second", "p50_ms", "p99_ms")
    shown = f"{outcome.figure} {value(outcome.figure, 2)}" if own_figure else ""
    if system == OURS:
        theirs, peer, _ = outcome.best(PEERS, outcome.figure, outcome.smaller_is_better)
        ours = outcome.median(system, client, outcome.figure)
        times = advantage(ours, theirs, outcome.smaller_is_better)
        if not math.isnan(times):
            shown = f"{shown} **{times:.2f} {TIMES}** ({peer})".strip()
    return [*cells, shown]


def goals_table(outcomes: Mapping[str, Outcome]) -> str:
    """Return the goals that were measured: what is asked for, what came out, and whether that is enough."""
    lines = [_row(("goal", "at least", "measured", "reached")), _row("---" for _ in range(4))]
    for goal in GOALS:
        if goal.scenario not in outcomes:
            continue
        verdict = judge(goal, outcomes[goal.scenario])
        asked = f"{goal.factor:g} {TIMES}" if goal.against else f"at most {goal.factor:g}"
        against = f" ({verdict.peer})" if verdict.peer else ""
        times = f" {TIMES}" if goal.against else ""
        measured = "not measured" if math.isnan(verdict.ratio) else f"{verdict.ratio:.2f}{times}{against}"
        reached = {None: "?", True: "yes", False: "**no**"}[verdict.is_reached]
        lines.append(_row((goal.text, asked, measured, reached)))
    return "\n".join(lines)


def page(results: Results, order: Iterable[str]) -> str:
    """Return the whole page: the machine, the goals, the table, when what was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    outcomes = results.in_order(order)
    when = "\n".join(f"- {found.scenario}: {results.measured[found.scenario]}" for found in outcomes)
    return f"""# Measured beside etcd and ZooKeeper

Three members of each system on one machine, durable writes on, all data on one disk; medians over rounds in
which the systems took turns. `N {TIMES}` is how many times better coordsvc is than the best figure of any
peer and client: as many times more, or as small a part of the time. CPU is that of the three servers
together, without the client's; memory is the largest member's peak while it was measured. Made by
`make bench-peers`.

{results.machine}; {versions}

{goals_table(results.outcomes)}

![how many times better](comparison.png)

{table(outcomes)}

Measured:

{when}
"""


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:160]

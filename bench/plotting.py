"""The plot of the comparison.

Rule of this file: matplotlib is imported here and nowhere else, and only when a plot is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.comparing import Outcome, advantage
from bench.goals import PEERS
from bench.measuring import BenchError
from bench.systems import SYSTEMS

_COLOURS = {"coordsvc": "#1f77b4", "etcd": "#2ca02c", "zookeeper": "#d62728"}
_BAR_HEIGHT = 0.26
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10)
_INCHES_A_SCENARIO = 0.55


def plot(outcomes: Sequence[Outcome], file: Path, heading: str) -> None:
    """Draw, for each scenario that has a peer's figure, how good each system is; the best peer is 1.

    Raises:
        BenchError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise BenchError("matplotlib is not installed; `make bench-peers` installs it") from error
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    pyplot: Any = plt  # its own types are of no use in strict checking
    rows = [row for outcome in outcomes if (row := relative_figures(outcome))]
    if not rows:
        return
    figure, axes = pyplot.subplots(figsize=(9, 1.6 + _INCHES_A_SCENARIO * len(rows)))
    for number, system in enumerate(SYSTEMS):
        places = [row + (number - 1) * _BAR_HEIGHT for row in range(len(rows))]
        lengths = [figures.get(system, math.nan) for _, figures in rows]
        bars = axes.barh(places, lengths, _BAR_HEIGHT, label=system, color=_COLOURS[system])
        labels = ["" if math.isnan(length) else f"{length:.2g}" for length in lengths]
        axes.bar_label(bars, labels, padding=2, fontsize=7)
    known = [value for _, figures in rows for value in figures.values() if not math.isnan(value)]
    axes.set_xscale("log")
    axes.set_xlim(min(0.1, min(known) / 1.5), max(10.0, max(known) * 1.5))
    axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    axes.minorticks_off()
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [title for title, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("times as good as the best peer (throughput, or inverse of the time)")
    axes.set_title(heading, fontsize=8)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=130)
    pyplot.close(figure)


def relative_figures(outcome: Outcome) -> tuple[str, dict[str, float]] | None:
    """Return the scenario's name and each system's best figure, relative to the best peer's."""
    reference, _, _ = outcome.best(PEERS, outcome.figure, outcome.smaller_is_better)
    if math.isnan(reference):
        return None
    figures = {}
    for system in SYSTEMS:
        own, _, _ = outcome.best((system,), outcome.figure, outcome.smaller_is_better)
        figures[system] = advantage(own, reference, outcome.smaller_is_better)
    return outcome.scenario, figures

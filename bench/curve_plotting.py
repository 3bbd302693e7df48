"""The plot of the curves: throughput, p50 and CPU over whatever is varied.

Rule of this file: matplotlib is imported when a plot is made, and not before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.curves import CURVES, Curve
from bench.measuring import BenchError

_FIGURES: Final = (
    ("per_second", "operations/s"),
    ("p50_ms", "p50, ms"),
    ("cpu_ms", "CPU of the servers, s per 1,000"),
)
_COLOURS: Final = {"write": "#1f77b4", "read": "#2ca02c", "write, one at a time": "#ff7f0e"}
_INCHES = (3.6, 2.7)


def plot(results: Mapping[str, Any], file: Path, heading: str) -> None:
    """Draw a row of three plots for each curve that has been measured.

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
    curves = [curve for curve in CURVES if curve.name in results]
    if not curves:
        return
    width, height = _INCHES
    figure, axes = pyplot.subplots(
        len(curves), len(_FIGURES), figsize=(width * len(_FIGURES), height * len(curves)), squeeze=False
    )
    for row, curve in enumerate(curves):
        for column, (name, label) in enumerate(_FIGURES):
            _draw(axes[row][column], curve, results[curve.name]["points"], name, label)
    figure.suptitle(heading, fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _draw(axes: Any, curve: Curve, points: Sequence[Mapping[str, Any]], name: str, label: str) -> None:
    """Draw one figure of one curve: a line for each operation."""
    from matplotlib import ticker as locator

    if name == "per_second" and not curve.has_throughput:
        axes.set_axis_off()
        return
    for operation in dict.fromkeys(point["operation"] for point in points):
        own = sorted(
            (point for point in points if point["operation"] == operation), key=lambda p: int(p["x"])
        )
        places = [point["x"] for point in own]
        values = [point[name] for point in own]
        axes.plot(places, values, marker="o", label=operation, color=_COLOURS.get(operation))
    if curve.name != "members":
        axes.set_xscale("log")
    axes.set_yscale("log")  # what grows by the same factor everywhere is a straight line
    known = [point[name] for point in points if point[name]]
    axes.set_ylim(10 ** math.floor(math.log10(min(known))), 10 ** math.ceil(math.log10(max(known))))
    places = sorted({point["x"] for point in points})
    axes.xaxis.set_minor_locator(locator.NullLocator())
    axes.set_xticks(places, [f"{place:,}" for place in places], fontsize=7)
    axes.set_xlabel(curve.axis, fontsize=8)
    axes.set_title(label, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=7)

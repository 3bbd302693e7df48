"""What is measured of coordsvc alone: the breakdown of one write, and the curves. Kept beside the comparison.

Rule of this file: `breakdown.json` and `curves.json` are what was measured; a curve that is measured anew
replaces the one of its name.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from bench import breakdown, curve_plotting, curves
from bench.measuring import BenchError

Say = Callable[[str], None]


def run(options: argparse.Namespace, machine: str, say: Say) -> int:
    """Measure what the options ask for, keep it in their directory, and print it; returns the exit code.

    Raises:
        BenchError: It could not be measured; what was complete before is kept.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    if options.breakdown:
        found = breakdown.measure(say) | {"machine": machine}
        (options.out / breakdown.FILE).write_text(f"{json.dumps(found, indent=1)}\n", encoding="utf-8")
        print(f"{breakdown.table(found)}\n\n{breakdown.remark(found)}")
    if not options.curves:
        return 0
    file = options.out / curves.FILE
    results = curves.load(file)
    for curve in curves.chosen(options.curves):
        results[curve.name] = curves.measure(curve, options.rounds, options.seconds, say)
        curves.save(results, file)
        print(f"by {curve.title}\n\n{curves.table(curve, results[curve.name])}\n")
    page = f"# How cost grows\n\n{machine}\n\n![the same as plots](curves.png)\n\n{curves.page(results)}\n"
    (options.out / "curves.md").write_text(page, encoding="utf-8")
    try:
        curve_plotting.plot(results, options.out / "curves.png", machine)
    except BenchError as error:
        say(f"there is no plot: {error}")
    return 0

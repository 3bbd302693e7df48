"""A part of the crash sweep: a crash at every so-manieth point of the scripted scenario.

The whole of it is `python -m tests.simulation.crash_sweep`.
"""

from __future__ import annotations

import pytest

from tests.simulation.crash_sweep import all_crashes, count_points, run_with
from tests.simulation.report import failure_report

EVERY = 37


def test_whatever_a_crash_catches_is_survived() -> None:
    points = count_points()
    crashes = list(all_crashes(len(points), every=EVERY))

    for crash in crashes:
        result = run_with(crash)
        if result.violation is not None:
            pytest.fail(f"{crash} ({points[crash.point - 1]})\n{failure_report(result)}", pytrace=False)

    kinds = {points[crash.point - 1].partition(": ")[2] for crash in crashes}
    assert kinds == {"before write", "after write", "after sync", "before message"}

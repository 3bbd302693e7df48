"""The curves: which there are, their figures, table and file."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.curves import CURVES, chosen, load, page, save, table
from bench.measuring import BenchError

POINTS = [
    {"operation": "write", "x": 5, "per_second": 900.0, "p50_ms": 2.0, "cpu_ms": 0.3},
    {"operation": "write", "x": 1, "per_second": 1500.0, "p50_ms": 1.0, "cpu_ms": 0.1},
]


def test_a_point_is_a_row_and_rows_are_in_order() -> None:
    rows = table(chosen("members")[0], {"points": POINTS}).splitlines()

    assert rows[0].startswith("| members | operation |")
    assert rows[2:] == ["| 1 | write | 1,500 | 1.00 | 0.100 |", "| 5 | write | 900 | 2.00 | 0.300 |"]


def test_the_page_has_what_was_measured_in_the_order_of_the_curves() -> None:
    results = {name: {"measured": f"{name} on a day", "points": POINTS} for name in ("tree", "members")}

    text = page(results)

    assert text.index("members on a day") < text.index("tree on a day")
    assert "watchers on a day" not in text


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    results = {"tree": {"measured": "on a day", "points": POINTS}}

    save(results, tmp_path / "curves.json")

    assert load(tmp_path / "curves.json") == results
    assert load(tmp_path / "nothing.json") == {}


def test_curves_are_chosen_by_name() -> None:
    assert [curve.name for curve in chosen("tree,members")] == ["tree", "members"]
    assert chosen("all") == list(CURVES)
    with pytest.raises(BenchError, match="there is no curve 'disks'; there are: all, members"):
        chosen("disks")


def test_each_point_of_a_curve_is_measured_once_a_round() -> None:
    for curve in CURVES:
        places = [(point.operation, point.x) for point in curve.points]

        assert len(set(places)) == len(places)

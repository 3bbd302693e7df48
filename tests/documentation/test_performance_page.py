"""The figures in the documentation are those that were measured, and every goal has its row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import breakdown
from bench.comparing import Outcome
from bench.goals import GOALS
from bench.measuring import Measurement
from bench.performance_page import LIMITS, NOT_MEASURED, PAGES, figures, filled, goals_table
from bench.reporting import TIMES, Results, save


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_says_what_was_measured(page: Path) -> None:
    text = page.read_text("utf-8")

    assert "<!-- figures: " in text
    assert text == filled(text, figures()), "the page is older than bench/results: run `make performance`"


def test_every_goal_has_a_row_and_says_what_limits_it() -> None:
    rows = goals_table(Results("a machine"), with_limits=True).splitlines()

    assert len(rows) == len(GOALS) + 2
    assert set(LIMITS) == {goal.scenario for goal in GOALS}
    assert all(row.split(" | ")[5:7] == ["not measured", "?"] for row in rows[2:])


def test_a_goal_that_was_missed_says_so() -> None:
    outcome = Outcome("write-256", "writes", "per_second", False)
    outcome.measurements = [
        Measurement(system, "native", "write-256", operations=count, seconds=1.0)
        for system, count in (("coordsvc", 300), ("etcd", 100))
    ]
    results = Results("a machine", outcomes={"write-256": outcome})

    row = next(row for row in goals_table(results, with_limits=False).splitlines() if "256" in row)

    assert row.endswith(
        f"| 300/s | 100/s | not measured | 4 {TIMES} | 3.00 {TIMES} (etcd, native) | **no** |"
    )


def test_a_peer_that_failed_is_not_taken_for_one_that_was_not_asked() -> None:
    outcome = Outcome("write-256", "writes", "per_second", False)
    outcome.measurements = [Measurement("coordsvc", "sdk", "write-256", operations=300, seconds=1.0)]
    outcome.failures["zookeeper native"] = "round 1: it crashed"
    results = Results("a machine", outcomes={"write-256": outcome})

    row = next(row for row in goals_table(results, with_limits=False).splitlines() if "256" in row)

    assert "| 300/s | not measured | failed |" in row


def test_a_system_that_cannot_do_it_has_an_empty_cell() -> None:
    outcome = Outcome("bulk-write-trim", "trim", "trim_write_ratio", True)
    outcome.measurements = [
        Measurement("coordsvc", "sdk", "bulk-write-trim", extra={"trim_write_ratio": 2.0})
    ]
    results = Results("a machine", outcomes={"bulk-write-trim": outcome})

    row = next(row for row in goals_table(results, with_limits=False).splitlines() if "trimmed" in row)

    assert "| 2 |  |  | at most 3 | 2.00 | yes |" in row


def test_marks_are_filled_and_the_rest_stays(tmp_path: Path) -> None:
    page = "before\n<!-- figures: when -->\nold\n<!-- figures: end -->\nafter\n"
    results = Results("a machine")
    results.put(Outcome("write-1", "writes", "p50_ms", True), "on a day")
    save(results, tmp_path / "results.json")

    text = filled(page, figures(tmp_path))

    assert text == "before\n<!-- figures: when -->\n- write-1: on a day\n<!-- figures: end -->\nafter\n"


def test_the_breakdown_is_told_if_there_is_one(tmp_path: Path) -> None:
    side = {"stages": {}, "total": 1.0, "own_disk": 1.0, "writes": 3, "own_disk_last": 0, "incomplete": 0}
    traced = {"leader": side, "follower": side, "measured": "on a day", "others_share": 0.0}
    (tmp_path / breakdown.FILE).write_text(json.dumps(traced))

    assert "on a day; 3 writes of a client of the leader" in figures(tmp_path)["breakdown"]
    assert figures(tmp_path / "nothing")["breakdown"] == NOT_MEASURED

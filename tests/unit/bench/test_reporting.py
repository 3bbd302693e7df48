"""The file of results, the table and the goals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bench.comparing import Outcome
from bench.measuring import BenchError, Measurement
from bench.plotting import relative_figures
from bench.reporting import Results, goals_table, load, page, save, table


def outcome_of(scenario: str, **per_second: float) -> Outcome:
    outcome = Outcome(scenario, f"the title of {scenario}", "per_second", False)
    outcome.measurements = [
        Measurement(system, "native", scenario, round=1, operations=int(value), seconds=1.0, p50_ms=1.5)
        for system, value in per_second.items()
    ]
    return outcome


def results_of(*outcomes: Outcome) -> Results:
    results = Results("a machine", {"etcd": "3.4"})
    for outcome in outcomes:
        results.put(outcome, "on a day")
    return results


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    results = results_of(outcome_of("write-256", coordsvc=4000, etcd=1000))
    results.outcomes["write-256"].failures["zookeeper native"] = "it crashed"

    save(results, tmp_path / "results.json")
    loaded = load(tmp_path / "results.json", "a machine")

    assert page(loaded, ["write-256"]) == page(results, ["write-256"])
    assert loaded.outcomes["write-256"].failures == {"zookeeper native": "it crashed"}
    assert math.isnan(loaded.outcomes["write-256"].measurements[0].p99_ms)


def test_what_was_not_measured_is_null_in_the_file(tmp_path: Path) -> None:
    save(results_of(outcome_of("write-256", etcd=1000)), tmp_path / "results.json")

    content = json.loads((tmp_path / "results.json").read_text())

    assert content["scenarios"]["write-256"]["measurements"][0]["p99_ms"] is None


def test_a_scenario_measured_anew_replaces_its_old_figures_only() -> None:
    results = results_of(outcome_of("write-1", etcd=1), outcome_of("write-256", etcd=2))

    results.put(outcome_of("write-1", etcd=3), "on the next day")

    assert results.outcomes["write-1"].median("etcd", "native", "per_second") == 3
    assert results.outcomes["write-256"].median("etcd", "native", "per_second") == 2
    assert results.measured == {"write-1": "on the next day", "write-256": "on a day"}


def test_results_of_another_machine_are_not_mixed_in(tmp_path: Path) -> None:
    save(results_of(outcome_of("write-1", etcd=1)), tmp_path / "results.json")

    assert load(tmp_path / "results.json", "another machine").outcomes == {}


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"format": 99, "machine": "a machine"}'])
def test_a_file_that_is_not_ours_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)

    with pytest.raises(BenchError, match="move it away"):
        load(tmp_path / "results.json", "a machine")


def test_the_table_has_a_row_a_driver_and_the_ratio_in_ours() -> None:
    lines = table([outcome_of("write-256", coordsvc=4000, etcd=1000, zookeeper=800)]).splitlines()

    assert [line.split(" | ")[1:4:2] for line in lines[2:]] == [
        ["coordsvc", "4,000"],
        ["etcd", "1,000"],
        ["zookeeper", "800"],
    ]
    assert "**4.00 ×** (etcd)" in lines[2]  # noqa: RUF001
    assert "×" not in lines[3] + lines[4]  # noqa: RUF001


def test_a_failure_stands_in_the_table_in_one_line() -> None:
    outcome = outcome_of("write-256", coordsvc=4000)
    outcome.failures["zookeeper kazoo"] = "round 2: it crashed\n  with | a bar"

    row = table([outcome]).splitlines()[-1]

    assert "| zookeeper | kazoo | failed in round 2: it crashed with / a bar |" in row


@pytest.mark.parametrize(("ours", "said"), [(4000, "| yes |"), (3999, "| **no** |")])
def test_the_goals_say_whether_they_are_reached(ours: int, said: str) -> None:
    lines = goals_table({"write-256": outcome_of("write-256", coordsvc=ours, etcd=1000)}).splitlines()

    assert len(lines) == 3
    assert lines[2].endswith(said)


def test_the_plot_is_relative_to_the_best_peer() -> None:
    row = relative_figures(outcome_of("write-256", coordsvc=4000, etcd=1000, zookeeper=500))

    assert row == ("write-256", {"coordsvc": 4.0, "etcd": 1.0, "zookeeper": 0.5})


def test_a_scenario_of_ours_alone_is_not_in_the_plot() -> None:
    assert relative_figures(outcome_of("write-256", coordsvc=4000)) is None

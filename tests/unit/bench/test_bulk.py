"""What the probe of the bulk scenario has seen, and which part of it belongs to what."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.measuring import BenchError, Measurement
from bench.scenarios import bulk
from bench.scenarios.bulk import Campaign, Probe, note_latencies, note_ratio
from bench.systems import SYSTEMS

WRITES = """
import sys
sys.stdin.read()
for sent_s, took_ms in ((10.0, 3.0), (11.0, 1.0), (12.0, 2.0), (20.0, 900.0)):
    print(f"{sent_s:.6f} {took_ms:.3f}")
sys.exit(int(sys.argv[1]))
"""


def probe_that_ends_with(exit_code: int) -> Probe:
    command = [sys.executable, "-c", WRITES, str(exit_code)]
    return Probe(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))


def test_a_window_holds_the_writes_that_were_sent_in_it() -> None:
    probe = probe_that_ends_with(0)
    probe.end()

    assert probe.between(10.0, 20.0) == [1.0, 2.0, 3.0]
    assert probe.between(20.0, 30.0) == [900.0]


def test_a_probe_whose_writes_failed_is_told() -> None:
    with pytest.raises(BenchError, match="writes failed"):
        probe_that_ends_with(1).end()


def test_latencies_are_noted_by_name_and_nothing_is_made_of_no_writes() -> None:
    campaign = Campaign(Measurement("coordsvc", "sdk", "bulk-create"))

    note_latencies(campaign, "quiet", [1.0, 2.0, 4.0])
    note_latencies(campaign, "restart", [])

    assert campaign.figures == {
        "quiet_write_p50_ms": 2.0,
        "quiet_write_p99_ms": 4.0,
        "quiet_write_max_ms": 4.0,
    }


def test_a_ratio_needs_both_of_its_figures() -> None:
    figures = {"trim_write_p99_ms": 6.0, "quiet_write_p99_ms": 2.0}

    note_ratio(figures, "trim", "quiet")
    note_ratio(figures, "restart", "quiet")

    assert figures["trim_write_ratio"] == 3.0
    assert "restart_write_ratio" not in figures


def test_each_figure_of_a_campaign_is_a_scenario_for_the_systems_that_have_it() -> None:
    for scenario in bulk.SCENARIOS:
        assert scenario.fresh
        assert set(scenario.clients) <= set(SYSTEMS)
    assert list({scenario.name: scenario for scenario in bulk.SCENARIOS}["bulk-write-trim"].clients) == [
        "coordsvc"
    ]

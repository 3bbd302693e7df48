"""What the probe of the bulk scenario has seen, and which part of it belongs to what."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench.measuring import BenchError, FinalError, Measurement
from bench.scenarios import bulk
from bench.scenarios.bulk import Campaign, Probe, figure_of, note_latencies, note_ratio, probing, run_create
from bench.systems import SYSTEMS, System
from bench.systems.zookeeper import Zookeeper

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
    campaign = Campaign()

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


class Campaigns:
    """Stands in for the campaigns: each breaks off after so many figures."""

    FIGURES = ("memory_mib", "restart_s", "catch_up_s")

    def __init__(self, *break_off_after: int) -> None:
        self.left = list(break_off_after)

    def run(self, system: System, client: str, campaign: Campaign) -> None:
        count = self.left.pop(0)
        campaign.fill = Measurement(system.name, client, "bulk-create", operations=1)
        campaign.figures |= {name: float(count) for name in self.FIGURES[:count]}
        if count < len(self.FIGURES):
            raise BenchError(f"broken off after {count}")


@pytest.fixture(autouse=True)
def forget_campaigns() -> Iterator[None]:
    bulk._campaigns.clear()
    yield
    bulk._campaigns.clear()


def value_of(figure: str) -> float:
    return figure_of("a-scenario", figure)(Zookeeper(), "c", 1.0).extra[figure]


def test_a_campaign_is_carried_out_once_for_all_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "run_campaign", Campaigns(3).run)

    assert run_create(Zookeeper(), "c", 1.0).extra["catch_up_s"] == 3.0
    assert [value_of(figure) for figure in Campaigns.FIGURES] == [3.0, 3.0, 3.0]


def test_a_campaign_that_breaks_off_keeps_its_figures_and_one_more_gets_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "run_campaign", Campaigns(1, 3).run)

    assert run_create(Zookeeper(), "c", 1.0).operations == 1
    assert value_of("memory_mib") == 1.0
    assert value_of("restart_s") == 3.0  # of the second, since the first has none


def test_a_campaign_that_always_breaks_off_is_told_with_its_reason_and_not_repeated_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "run_campaign", Campaigns(1, 2).run)

    assert value_of("memory_mib") == 1.0
    with pytest.raises(BenchError, match="broken off after 2"):
        value_of("catch_up_s")
    with pytest.raises(FinalError, match="broken off after 2"):
        value_of("catch_up_s")


def test_ctrl_c_beside_a_probe_is_not_taken_for_a_failed_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "driver", lambda *_: [sys.executable, "-c", WRITES, "0"])
    system = Zookeeper()
    monkeypatch.setattr(system, "leader", lambda: 0)

    with pytest.raises(KeyboardInterrupt), probing(system) as probe:
        raise KeyboardInterrupt

    assert probe.process.returncode != 0  # killed, and waited for

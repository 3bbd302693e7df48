"""Rounds in which the systems take turns; medians; ratios to the best peer; goals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import comparing
from bench.comparing import ATTEMPTS_FAILED_MAX, Outcome, advantage, compare, judge, noise_of, repeats_of
from bench.goals import Goal
from bench.measuring import NOT_MEASURED, OTHERS_SHARE, BenchError, FinalError, Measurement
from bench.scenarios import Scenario
from bench.systems import System
from bench.systems.zookeeper import Zookeeper

CLIENTS = {"coordsvc": ("sdk",), "etcd": ("native", "python"), "zookeeper": ("native",)}
ALL = ("coordsvc", "etcd", "zookeeper")


def outcome_of(*figures: tuple[str, str, float], smaller_is_better: bool = True) -> Outcome:
    """An outcome in which each (system, client) has these values of p50."""
    outcome = Outcome("write-1", "a title", "p50_ms", smaller_is_better)
    outcome.measurements = [
        Measurement(system, client, "write-1", p50_ms=value) for system, client, value in figures
    ]
    return outcome


class Bench:
    """Stands in for the systems: notes what is started and what is measured."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.broken: set[str] = set()
        self.fail_next: dict[str, list[BenchError]] = {}

    @contextmanager
    def running(self, name: str) -> Iterator[System]:
        if f"{name} start" in self.broken:
            raise BenchError(f"{name} does not start")
        self.events.append(f"+{name}")
        system = Zookeeper()  # never started; which one it is does not matter
        system.__dict__["kind"] = name
        yield system
        self.events.append(f"-{name}")

    def run(self, system: System, client: str, seconds: float) -> Measurement:
        name = system.__dict__["kind"]
        if f"{name} {client}" in self.broken:
            raise BenchError("it crashed")
        if errors := self.fail_next.get(f"{name} {client}"):
            raise errors.pop(0)
        self.events.append(f"{name} {client}")
        return Measurement(name, client, "write-1", p50_ms=seconds)

    def scenario(self, fresh: bool = False, rounds_max: int = 9) -> Scenario:
        return Scenario("write-1", "a title", self.run, CLIENTS, "p50_ms", True, fresh, rounds_max)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    stand_in = Bench()
    monkeypatch.setattr(comparing, "running", stand_in.running)
    return stand_in


def ignore(line: str) -> None:
    pass


def test_every_round_takes_each_system_and_begins_with_another(bench: Bench) -> None:
    outcome = compare(bench.scenario(), ALL, 3, 2.0, ignore)

    ours, etcd, zookeeper = ["coordsvc sdk"], ["etcd native", "etcd python"], ["zookeeper native"]
    first, second, third = ours + etcd + zookeeper, etcd + zookeeper + ours, zookeeper + ours + etcd
    started, ended = [f"+{name}" for name in ALL], [f"-{name}" for name in reversed(ALL)]
    assert bench.events == [*started, *first, *second, *third, *ended]
    assert [found.round for found in outcome.measurements] == [1] * 4 + [2] * 4 + [3] * 4


def test_a_fresh_scenario_has_one_system_running_at_a_time(bench: Bench) -> None:
    compare(bench.scenario(fresh=True), ("coordsvc", "zookeeper"), 1, 2.0, ignore)

    assert bench.events == [
        "+coordsvc",
        "coordsvc sdk",
        "-coordsvc",
        "+zookeeper",
        "zookeeper native",
        "-zookeeper",
    ]


def test_a_scenario_limits_its_rounds(bench: Bench) -> None:
    outcome = compare(bench.scenario(rounds_max=1), ("coordsvc",), 3, 2.0, ignore)

    assert len(outcome.measurements) == 1


def test_a_client_that_fails_again_and_again_is_told_and_left_out_and_the_others_go_on(bench: Bench) -> None:
    bench.broken.add("etcd python")
    told: list[str] = []

    outcome = compare(bench.scenario(), ALL, 4, 2.0, told.append)

    assert outcome.failures == {"etcd python": "round 1: it crashed"}
    assert outcome.tried_again == {}
    assert len([line for line in told if "it crashed" in line]) == ATTEMPTS_FAILED_MAX  # then no more
    assert outcome.drivers() == [("coordsvc", "sdk"), ("etcd", "native"), ("zookeeper", "native")]


def test_what_failed_once_is_tried_again_at_once_and_said_and_is_no_failure(bench: Bench) -> None:
    bench.fail_next["zookeeper native"] = [BenchError("Socket\n timed out")]

    outcome = compare(bench.scenario(), ALL, 1, 2.0, ignore)

    assert outcome.failures == {}
    assert outcome.drivers()[-1] == ("zookeeper", "native")
    assert len(outcome.measurements) == 4
    assert repeats_of(outcome) == (
        "; zookeeper native was tried again after 1 failed, last in round 1: Socket timed out"
    )
    assert repeats_of(outcome_of(("coordsvc", "sdk", 2.0))) == ""


def test_a_warm_up_that_failed_is_made_again_so_that_nobody_is_measured_cold(bench: Bench) -> None:
    bench.fail_next["etcd native"] = [BenchError("it crashed")]
    scenario = Scenario("write-1", "a title", bench.run, {"etcd": ("native",)}, "p50_ms", True, warm_up_s=4.0)

    outcome = compare(scenario, ("etcd",), 1, 2.0, ignore)

    assert bench.events == ["+etcd", "etcd native", "etcd native", "-etcd"]  # warm, then measured
    assert outcome.tried_again == {"etcd native": "the warm-up: it crashed"}
    assert outcome.failures == {}


def test_attempts_are_bounded_in_a_scenario_and_not_in_each_round(bench: Bench) -> None:
    bench.fail_next["etcd native"] = [BenchError("it crashed")] * (ATTEMPTS_FAILED_MAX - 1)
    scenario = Scenario("write-1", "a title", bench.run, {"etcd": ("native",)}, "p50_ms", True)
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if line.startswith("write-1, round 1: etcd (native) p50_ms"):
            bench.broken.add("etcd native")

    outcome = compare(scenario, ("etcd",), 3, 2.0, tell)

    assert [found.round for found in outcome.measurements] == [1]
    assert outcome.failures == {"etcd native": "round 2: it crashed"}
    assert len([line for line in told if "it crashed" in line]) == ATTEMPTS_FAILED_MAX


def test_what_is_not_installed_is_not_tried_again(bench: Bench) -> None:
    bench.fail_next["etcd native"] = [FinalError("go was not found")]
    told: list[str] = []

    outcome = compare(bench.scenario(), ("etcd",), 2, 2.0, told.append)

    assert outcome.failures == {"etcd native": "round 1: go was not found"}
    assert len([line for line in told if "go was not found" in line]) == 1


def test_what_a_scenario_did_not_expect_does_not_end_the_others(bench: Bench) -> None:
    def run(system: System, client: str, seconds: float) -> Measurement:
        raise ConnectionRefusedError("nobody listens")

    scenario = Scenario("write-1", "a title", run, CLIENTS)

    assert compare(scenario, ("coordsvc",), 1, 2.0, ignore).failures == {
        "coordsvc sdk": "round 1: ConnectionRefusedError('nobody listens')"
    }


def test_a_system_that_does_not_start_is_left_out_with_all_its_clients(bench: Bench) -> None:
    bench.broken.add("etcd start")

    outcome = compare(bench.scenario(), ALL, 1, 2.0, ignore)

    assert set(outcome.failures) == {"etcd native", "etcd python"}
    assert outcome.drivers() == [("coordsvc", "sdk"), ("zookeeper", "native")]


def test_each_system_is_warmed_up_before_the_first_round_and_that_does_not_count(bench: Bench) -> None:
    scenario = Scenario("write-1", "a title", bench.run, CLIENTS, "p50_ms", True, warm_up_s=4.0)

    outcome = compare(scenario, ("coordsvc", "etcd"), 1, 2.0, ignore)

    assert bench.events[2:4] == ["coordsvc sdk", "etcd native"]
    assert [found.p50_ms for found in outcome.measurements] == [2.0, 2.0, 2.0]


def test_a_machine_that_was_used_by_others_too_is_said() -> None:
    outcome = outcome_of(("coordsvc", "sdk", 2.0), ("etcd", "native", 1.0))
    for found, share in zip(outcome.measurements, (0.02, 0.31), strict=True):
        found.extra[OTHERS_SHARE] = share

    assert noise_of(outcome) == "; other programs used 2% to 31% of the machine"
    assert noise_of(outcome_of(("coordsvc", "sdk", 2.0))) == ""


def test_a_scenario_is_not_run_on_a_system_that_cannot_do_it(bench: Bench) -> None:
    scenario = Scenario("write-1", "a title", bench.run, {"coordsvc": ("sdk",)})

    assert compare(scenario, ALL, 1, 2.0, ignore).drivers() == [("coordsvc", "sdk")]


def test_the_figure_of_a_client_is_the_median_of_its_rounds() -> None:
    outcome = outcome_of(("etcd", "native", 9.0), ("etcd", "native", 2.0), ("etcd", "native", 3.0))

    assert outcome.median("etcd", "native", "p50_ms") == 3.0


def test_a_round_without_the_figure_does_not_spoil_the_median() -> None:
    outcome = outcome_of(("etcd", "native", NOT_MEASURED), ("etcd", "native", 2.0))

    assert outcome.median("etcd", "native", "p50_ms") == 2.0
    assert math.isnan(outcome.median("etcd", "python", "p50_ms"))


def test_the_best_peer_is_the_best_of_all_its_clients() -> None:
    outcome = outcome_of(("etcd", "native", 2.0), ("etcd", "python", 5.0), ("zookeeper", "native", 3.0))

    assert outcome.best(("etcd", "zookeeper"), "p50_ms", True) == (2.0, "etcd", "native")
    assert outcome.best(("etcd", "zookeeper"), "p50_ms", False) == (5.0, "etcd", "python")


@pytest.mark.parametrize(
    ("ours", "theirs", "smaller_is_better", "times"),
    [(4000.0, 1000.0, False, 4.0), (1.0, 4.0, True, 4.0), (4.0, 1.0, True, 0.25)],
)
def test_an_advantage_says_how_many_times_better_ours_is(
    ours: float, theirs: float, smaller_is_better: bool, times: float
) -> None:
    assert advantage(ours, theirs, smaller_is_better) == times


def test_without_a_peers_figure_there_is_no_advantage() -> None:
    assert math.isnan(advantage(1.0, NOT_MEASURED, True))
    assert math.isnan(advantage(1.0, 0.0, False))


@pytest.mark.parametrize(("ours", "reached"), [(0.8, True), (0.81, False), (NOT_MEASURED, None)])
def test_a_goal_against_peers_is_reached_at_its_factor(ours: float, reached: bool | None) -> None:
    goal = Goal("writes", "write-1", "p50_ms", 1.25, smaller_is_better=True)

    verdict = judge(goal, outcome_of(("coordsvc", "sdk", ours), ("etcd", "native", 1.0)))

    assert verdict.is_reached is reached
    assert verdict.peer == "etcd, native"


def test_a_goal_looks_only_at_the_peers_that_it_names() -> None:
    goal = Goal("writes", "write-1", "p50_ms", 1.0, smaller_is_better=True, against=("zookeeper",))

    verdict = judge(
        goal, outcome_of(("coordsvc", "sdk", 2.0), ("etcd", "native", 1.0), ("zookeeper", "native", 4.0))
    )

    assert (verdict.ratio, verdict.is_reached) == (2.0, True)


@pytest.mark.parametrize(("ours", "reached"), [(3.0, True), (3.1, False)])
def test_a_goal_without_peers_is_a_limit_for_our_own_figure(ours: float, reached: bool) -> None:
    goal = Goal("p99 while trimming", "write-1", "p50_ms", 3.0, against=())

    assert judge(goal, outcome_of(("coordsvc", "sdk", ours))).is_reached is reached

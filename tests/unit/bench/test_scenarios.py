"""The scenarios by name: which there are, and how they are chosen."""

from __future__ import annotations

import pytest

from bench.drivers.running import COMMANDS
from bench.goals import GOALS
from bench.measuring import BenchError
from bench.scenarios import all_scenarios, chosen
from bench.scenarios.throughput import SCENARIOS


def test_scenarios_are_chosen_by_name_in_the_order_asked_for() -> None:
    assert [scenario.name for scenario in chosen("write-256,read-1")] == ["write-256", "read-1"]


def test_all_is_every_scenario_and_none_twice() -> None:
    assert [scenario.name for scenario in chosen("read-1,all")].count("read-1") == 1
    assert {scenario.name for scenario in chosen("all")} == set(all_scenarios())


def test_a_module_stands_for_its_scenarios() -> None:
    assert chosen("throughput") == list(SCENARIOS)


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(BenchError, match=r"no scenario 'write-2'; there are: all, .*write-256"):
        chosen("write-2")


def test_every_client_of_a_throughput_scenario_has_a_driver() -> None:
    named = {
        (system, client)
        for scenario in SCENARIOS
        for system, clients in scenario.clients.items()
        for client in clients
    }

    assert named == set(COMMANDS)


def test_every_scenario_says_how_it_is_compared() -> None:
    for scenario in all_scenarios().values():
        assert "coordsvc" in scenario.clients, scenario.name
        assert scenario.title, scenario.name


def test_every_goal_has_a_scenario_that_its_peers_can_do() -> None:
    known = all_scenarios()

    for goal in GOALS:
        assert goal.scenario in known, goal.text
        assert set(goal.against) <= set(known[goal.scenario].clients), goal.text


def test_nobody_is_measured_cold_whose_members_stay_up() -> None:
    """ZooKeeper's first watch-1000 took 28 ms and its second 11: its JVMs had compiled it meanwhile."""
    for scenario in all_scenarios().values():
        assert scenario.fresh or scenario.warm_up_s > 0, scenario.name

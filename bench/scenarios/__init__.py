"""The scenarios, by name, in the order of the table.

Each module of this package has a tuple `SCENARIOS`. A module is named here once, and nowhere else.
"""

from __future__ import annotations

import importlib
from typing import Final

from bench.measuring import BenchError
from bench.scenarios.scenario import Scenario

__all__ = ["Scenario", "all_scenarios", "chosen"]

MODULES: Final = ("throughput", "watches", "hand_over", "idle_sessions", "fail_over", "bulk")


def all_scenarios() -> dict[str, Scenario]:
    """Return every scenario by its name."""
    found: dict[str, Scenario] = {}
    for module in MODULES:
        for scenario in importlib.import_module(f"bench.scenarios.{module}").SCENARIOS:
            assert scenario.name not in found, f"two scenarios are named {scenario.name}"
            found[scenario.name] = scenario
    return found


def chosen(names: str) -> list[Scenario]:
    """Return the scenarios of a comma-separated list of names, or of modules; `all` is every one.

    Raises:
        BenchError: There is none of that name.
    """
    known = all_scenarios()
    picked: dict[str, Scenario] = {}
    for name in filter(None, names.split(",")):
        if name == "all":
            picked |= known
        elif name in MODULES:
            module = importlib.import_module(f"bench.scenarios.{name}")
            picked |= {scenario.name: scenario for scenario in module.SCENARIOS}
        elif name in known:
            picked[name] = known[name]
        else:
            raise BenchError(
                f"there is no scenario {name!r}; there are: all, {', '.join([*MODULES, *known])}"
            )
    return list(picked.values())

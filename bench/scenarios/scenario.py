"""What a scenario is.

Rule of this file: a scenario is data and one function; who runs it, how often, and beside whom is decided in
`bench.comparing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.measuring import Measurement
from bench.systems import System

Run = Callable[[System, str, float], Measurement]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing that is measured on every system.

    `run(system, client, seconds)` measures once, on members that serve, for about `seconds` if the
    scenario has no length of its own; it raises BenchError if it cannot, or if an operation failed. `clients`
    names, by system, the clients that can drive it; a system that is not named cannot do it.

    With `fresh` every run gets members of its own, which are started before and ended after it, while no
    other system runs; without, the members of all systems stay up for all rounds of the scenario; the six
    idle ones use 1 to 2 % of a machine of two cores. Before the first round, each is then run once for
    `warm_up_s` seconds, unmeasured: a JVM is three times as fast once it has compiled what it does.

    `rounds_max` limits how often a scenario is repeated that takes long and varies little. `figure` names
    what is compared: a field or property of the measurement, or a name in `extra`; `smaller_is_better` says
    which way.
    """

    name: str
    title: str
    run: Run
    clients: Mapping[str, tuple[str, ...]]
    figure: str = "per_second"
    smaller_is_better: bool = False
    fresh: bool = False
    rounds_max: int = 99
    warm_up_s: float = 0.0

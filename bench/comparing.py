"""Runs scenarios on all systems in turn, and compares: medians over the rounds, ratios to the best peer.

What fails is tried again at once, a few times in a scenario: ZooKeeper 3.8.0 now and then leaves a client
without an answer (see `bench.systems.zookeeper`), and a failed warm-up would leave its JVMs cold.

Rule of this file: a round takes every system once, and each round begins with another one, so a machine that
is noisy for a while is noisy for all. What fails for good is told and left out; it never ends the others.
What was tried again stands beside the figures, whoever it was.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

import grpc

from bench.goals import Goal
from bench.measuring import NOT_MEASURED, OTHERS_SHARE, BenchError, FinalError, Measurement
from bench.scenarios import Scenario
from bench.systems import OURS, System, running
from coordclient import CoordError

Say = Callable[[str], None]
# Whatever a scenario meets on its way is told and left out: the others go on.
FAILURES = (
    BenchError,
    OSError,
    subprocess.SubprocessError,
    ValueError,
    LookupError,
    CoordError,
    grpc.RpcError,
)
ATTEMPTS_FAILED_MAX = 3  # in one scenario, all rounds and the warm-up together; then a client is left out
NOISE_SHARE = 0.1  # more than this, of all cores, is worth a word
REASON_LETTERS = 80


@dataclass(slots=True)
class Outcome:
    """What came of one scenario: measurements of all rounds, and by `system client` what failed.

    `failures` holds those that were left out from then on, `tried_again` those that were not.
    """

    scenario: str
    title: str
    figure: str
    smaller_is_better: bool
    measurements: list[Measurement] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    attempts_failed: dict[str, int] = field(default_factory=dict)
    tried_again: dict[str, str] = field(default_factory=dict)

    def fail(self, system: str, client: str, when: str, error: Exception) -> None:
        """Note that a client could not measure; too often, and it is left out."""
        driver = f"{system} {client}"
        self.attempts_failed[driver] = self.attempts_failed.get(driver, 0) + 1
        if isinstance(error, FinalError) or self.attempts_failed[driver] == ATTEMPTS_FAILED_MAX:
            self.tried_again.pop(driver, None)
            self.failures[driver] = f"{when}: {_reason(error)}"
        else:
            self.tried_again[driver] = f"{when}: {_reason(error)}"

    def may_try(self, system: str, client: str) -> bool:
        """Tell whether the client has not been left out."""
        return f"{system} {client}" not in self.failures

    def drivers(self) -> list[tuple[str, str]]:
        """Return each system and client that has a measurement, in the order of the first round."""
        return list(dict.fromkeys((found.system, found.client) for found in self.measurements))

    def median(self, system: str, client: str, figure: str) -> float:
        """Return the median over the rounds; NaN if the figure was not measured."""
        values = [
            value_of(found, figure)
            for found in self.measurements
            if (found.system, found.client) == (system, client)
        ]
        known = [value for value in values if not math.isnan(value)]
        return median(known) if known else NOT_MEASURED

    def best(self, systems: Sequence[str], figure: str, smaller_is_better: bool) -> tuple[float, str, str]:
        """Return the best median of these systems over all their clients, with system and client.

        NaN and empty strings, if none of them has measured the figure.
        """
        medians = [
            (self.median(system, client, figure), system, client)
            for system, client in self.drivers()
            if system in systems
        ]
        known = [found for found in medians if not math.isnan(found[0])]
        if not known:
            return NOT_MEASURED, "", ""
        return min(known) if smaller_is_better else max(known)


def noise_of(outcome: Outcome) -> str:
    """Return a remark on what other programs used of the machine meanwhile; nothing if that is not known."""
    shares = [found.extra[OTHERS_SHARE] for found in outcome.measurements if OTHERS_SHARE in found.extra]
    return f"; other programs used {min(shares):.0%} to {max(shares):.0%} of the machine" if shares else ""


def repeats_of(outcome: Outcome) -> str:
    """Return a remark on what failed and was tried again; nothing if nothing was."""
    return "".join(
        f"; {driver} was tried again after {outcome.attempts_failed[driver]} failed, last in"
        f" {' '.join(reason.split())[:REASON_LETTERS]}"
        for driver, reason in outcome.tried_again.items()
    )


def value_of(measurement: Measurement, figure: str) -> float:
    """Return a figure of a measurement by its name: a field, a property, or a name in `extra`."""
    if figure in measurement.extra:
        return measurement.extra[figure]
    return float(getattr(measurement, figure, NOT_MEASURED))


def advantage(ours: float, theirs: float, smaller_is_better: bool) -> float:
    """Return how many times better ours is: 2 is twice as much, or half the time; NaN if one is not known."""
    better, worse = (theirs, ours) if smaller_is_better else (ours, theirs)
    if math.isnan(better) or math.isnan(worse) or worse <= 0:
        return NOT_MEASURED
    return better / worse


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far a goal was reached. `ratio` is the advantage, or our own figure if the goal is a limit."""

    goal: Goal
    ratio: float
    peer: str  # whom the ratio is to

    @property
    def is_reached(self) -> bool | None:
        """None if it was not measured."""
        if math.isnan(self.ratio):
            return None
        return self.ratio >= self.goal.factor if self.goal.against else self.ratio <= self.goal.factor


def judge(goal: Goal, outcome: Outcome) -> Verdict:
    """Say how far a goal was reached in this outcome."""
    ours, _, _ = outcome.best((OURS,), goal.figure, goal.smaller_is_better)
    if not goal.against:
        return Verdict(goal, ours, "")
    theirs, system, client = outcome.best(goal.against, goal.figure, goal.smaller_is_better)
    return Verdict(
        goal, advantage(ours, theirs, goal.smaller_is_better), f"{system}, {client}" if system else ""
    )


def compare(scenario: Scenario, systems: Sequence[str], rounds: int, seconds: float, say: Say) -> Outcome:
    """Measure a scenario on these systems, in so many rounds."""
    outcome = Outcome(scenario.name, scenario.title, scenario.figure, scenario.smaller_is_better)
    able = [name for name in systems if name in scenario.clients]
    rounds = min(rounds, scenario.rounds_max)
    with ExitStack() as stack:
        started: dict[str, System] = {}
        for name in [] if scenario.fresh else able:
            try:
                started[name] = stack.enter_context(running(name))
            except FAILURES as error:
                outcome.failures |= {f"{name} {client}": _reason(error) for client in scenario.clients[name]}
                say(f"{scenario.name}: {error}")
        for name, system in started.items() if scenario.warm_up_s else ():
            _warm_up(scenario, system, name, outcome, say)
        for number in range(1, rounds + 1):
            first = (number - 1) % max(1, len(able))
            for name in able[first:] + able[:first]:
                if name not in started and not scenario.fresh:
                    continue
                for client in scenario.clients[name]:
                    _measure(scenario, name, client, started.get(name), number, seconds, outcome, say)
    return outcome


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, BenchError) else repr(error)


def _warm_up(scenario: Scenario, system: System, name: str, outcome: Outcome, say: Say) -> None:
    """Run the first client of a system once, for its servers' sake."""
    client = scenario.clients[name][0]
    while outcome.may_try(name, client):
        try:
            scenario.run(system, client, scenario.warm_up_s)
        except FAILURES as error:
            outcome.fail(name, client, "the warm-up", error)
            say(f"{scenario.name}, warm-up: {name} ({client}) failed: {error}")
        else:
            return


def _measure(
    scenario: Scenario,
    name: str,
    client: str,
    system: System | None,
    number: int,
    seconds: float,
    outcome: Outcome,
    say: Say,
) -> None:
    """Measure one system with one client once; with no system given, on members of its own."""
    measured = None
    while measured is None and outcome.may_try(name, client):
        try:
            with ExitStack() as stack:
                measured = scenario.run(system or stack.enter_context(running(name)), client, seconds)
        except FAILURES as error:
            outcome.fail(name, client, f"round {number}", error)
            say(f"{scenario.name}, round {number}: {name} ({client}) failed: {error}")
    if measured is None:
        return
    measured.round = number
    outcome.measurements.append(measured)
    figure = value_of(measured, scenario.figure)
    others = measured.extra.get(OTHERS_SHARE, 0.0)
    noise = f"; NOISE: other programs used {others:.0%} of the machine" if others > NOISE_SHARE else ""
    say(f"{scenario.name}, round {number}: {name} ({client}) {scenario.figure} {figure:,.5g}{noise}")

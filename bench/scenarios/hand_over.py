"""Lock hand-over: how long a lock takes from its release in one process to a holder in another.

Two processes share one lock. Each holds it for a moment, while the other waits in the queue; measured is
from just before the release is called to just after the acquisition has returned, on the clock that all
processes of the machine share.

The moment is 120 ms: etcd tells a new watcher of what it may have missed up to 100 ms later, and until then
it has not come to rest in the queue. Nothing else goes on, and on machines that slow down or forget what they
do not use, all systems pay for that: `hand-over-brief` is the same with 20 ms, for those that can.

Rule of this file: two processes on every system, each with its system's own lock, attached where the client
chooses to.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Final

from bench.measuring import OTHERS_SHARE, BenchError, Measurement, latency_measurement
from bench.processes import CpuSamples, OtherPrograms, forget_peaks, peak_memory_mib
from bench.scenarios.programs import output_of, program
from bench.scenarios.scenario import Scenario
from bench.systems import System

TURNS = 60  # of each process
WARM_UP = 10  # hand-overs
WARM_UP_S = 4.0  # any: it is as long as a measurement
HOLD_MS, BRIEF_HOLD_MS = 120, 20

Turn = tuple[float, float, int]  # granted and released, in seconds since the epoch, by which process


def in_order(outputs: list[str]) -> list[Turn]:
    """Return the turns of both processes in the order in which they were granted.

    Raises:
        BenchError: Two held the lock at the same time.
    """
    turns = sorted(
        (granted_s, released_s, process)
        for process, output in enumerate(outputs)
        for granted_s, released_s in json.loads(output)
    )
    for earlier, later in pairwise(turns):
        if later[0] < earlier[1]:
            raise BenchError("two processes held the lock at the same time")
    return turns


def hand_overs_s(turns: list[Turn]) -> list[float]:
    """Return how long each hand-over from one process to the other took."""
    return [later[0] - earlier[1] for earlier, later in pairwise(turns) if earlier[2] != later[2]]


def run(system: System, client: str, _seconds: float) -> Measurement:
    """Let two processes hand a lock to and fro."""
    return measure("hand-over", system, client, HOLD_MS)


def run_brief(system: System, client: str, _seconds: float) -> Measurement:
    """The same, with less time between hand-overs."""
    return measure("hand-over-brief", system, client, BRIEF_HOLD_MS)


def measure(scenario: str, system: System, client: str, hold_ms: int) -> Measurement:
    """Let two processes hold the lock in turn, each for so long."""
    command = [*program(system, client, "hand_over"), f"--turns={TURNS}"]
    if hold_ms != HOLD_MS:
        command.append(f"--hold-ms={hold_ms}")
    os.sync()
    forget_peaks(system.pids)
    others = OtherPrograms(system.pids)
    with CpuSamples(system.pids) as samples, ThreadPoolExecutor(2) as both:
        turns = in_order(list(both.map(output_of, [command, command])))[WARM_UP:]
        time.sleep(0.1)
    others_share = others.share()
    from_s, to_s = turns[0][0], turns[-1][1]
    measurement = latency_measurement(system.name, client, scenario, hand_overs_s(turns), to_s - from_s)
    cpu_s = samples.between(from_s, to_s)
    measurement.cpu_s_per_thousand = cpu_s / measurement.operations * 1000
    measurement.peak_memory_mib = peak_memory_mib(system.pids)
    measurement.extra[OTHERS_SHARE] = others_share
    return measurement


SCENARIOS: Final = (
    Scenario(
        "hand-over",
        "a lock from one process to another, while the other waits in its queue",
        run,
        {"coordsvc": ("sdk",), "zookeeper": ("kazoo",), "etcd": ("native",)},
        figure="p50_ms",
        smaller_is_better=True,
        warm_up_s=WARM_UP_S,
    ),
    Scenario(
        "hand-over-brief",
        "the same, with 20 ms instead of 120 ms between two of them",
        run_brief,
        {"coordsvc": ("sdk",), "zookeeper": ("kazoo",)},
        figure="p50_ms",
        smaller_is_better=True,
        warm_up_s=WARM_UP_S,
    ),
)

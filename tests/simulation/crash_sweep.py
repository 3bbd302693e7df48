"""The crash sweep: one scripted scenario, run again for every point at which a disk can be caught.

Three members, two clients that write, watch and end their sessions, a follower that is cut off until it needs
a snapshot, logs that are trimmed. The scenario is run once to number the points (before a write, after it,
after its sync, before the messages that follow), then once for each of them with a crash there: with all,
half or none of what was not synced left, and also with a second crash while the member recovers.

A batch of writes is atomic in the model: a crash in the middle of one leaves none of it, as
`tests/storage/test_truncation.py` proves on real files. So half of a single batch is none of it; of several
that wait for their sync it is half of them, rounded up.

Rule of this file: nothing is random here; a run is named by its point, what is kept, and the second point.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.simulation.clients.workload import Workload
from tests.simulation.disk import PowerCutError
from tests.simulation.members import SimulatedMember
from tests.simulation.plan import Fault, Plan
from tests.simulation.report import failure_report
from tests.simulation.run import Result, Simulation, run
from tests.simulation.world import MILLISECOND

_RESTART_NS = 150 * MILLISECOND
_SECOND_CRASH_POINTS = (1, 2, 3, 5, 8)


@dataclass(frozen=True, slots=True)
class Crash:
    """Where the members are caught. `again`: at this point of its next process the member dies once more."""

    point: int
    keeps: float = 0.0
    again: int = 0

    def __str__(self) -> str:
        return f"point {self.point}, {self.keeps:.0%} kept" + (
            f", again at {self.again}" if self.again else ""
        )


def scenario() -> Plan:
    """What happens in every run of the sweep."""
    plan = Plan(seed=4, safety_ms=4_500)
    plan.cluster.tick_ms = 50
    plan.cluster.log_trim_entries = 4
    plan.cluster.log_keep_entries = 1
    plan.cluster.chunk_bytes = 2_000
    plan.cluster.session_timeout_ms_min = 300
    plan.network.stall_timeout_ms = 500
    workload = Workload(
        clients=2,
        operations=30,
        burst_max=2,
        think_ns=120 * MILLISECOND,
        session_timeout_ms=4_000,
        ephemeral_percent=40,
        close_percent=100,
        pauses=0,
        kills=0,
    )
    plan.workload = {name: getattr(workload, name) for name in Workload.__slots__}
    away = " ".join(f"c>{name} {name}>c" for name in ("a", "b"))
    plan.faults = [Fault(at_ms=900, kind="cut", duration_ms=2_000, pairs=away)]
    return plan


class _Catcher:
    """Counts the points of all members, and ends the one that comes to the chosen point."""

    def __init__(self, simulation: Simulation, crash: Crash | None) -> None:
        self.names: list[str] = []
        self._world = simulation.world
        self._crash = crash
        self._victim: SimulatedMember | None = None
        self._victims_points = 0
        for member in simulation.members.values():
            member.on_point = self._reached

    def _reached(self, member: SimulatedMember, what: str) -> None:
        self.names.append(f"{member.name}: {what}")
        crash = self._crash
        if crash is None:
            return
        if len(self.names) == crash.point:
            self._end(member, crash)
        elif member is self._victim and crash.again:
            self._victims_points += 1
            if self._victims_points == crash.again:
                self._end(member, crash)

    def _end(self, member: SimulatedMember, crash: Crash) -> None:
        self._victim = member
        member.disk.keeps = crash.keeps
        self._world.at(_RESTART_NS, lambda: _start(member))
        raise PowerCutError


def _start(member: SimulatedMember) -> None:
    if not member.is_up and not member.is_retired:
        member.start()


def count_points() -> list[str]:
    """Run the scenario without a crash; return the name of every point."""
    catchers: list[_Catcher] = []
    result = run(scenario(), prepare=lambda simulation: catchers.append(_Catcher(simulation, None)))
    assert result.violation is None, f"the scenario itself fails: {failure_report(result)}"
    assert result.probes["a snapshot was installed"], "the scenario has a snapshot"
    assert result.probes["the log was trimmed"], "the scenario trims logs"
    assert result.probes["a session was closed"], "the scenario ends sessions"
    return catchers[0].names


def run_with(crash: Crash) -> Result:
    """Run the scenario with one crash, or two."""
    return run(scenario(), prepare=lambda simulation: _arm(simulation, crash))


def _arm(simulation: Simulation, crash: Crash) -> None:
    _Catcher(simulation, crash)


def all_crashes(points: int, *, every: int = 1) -> Iterator[Crash]:
    """Yield every run of the sweep, or one point in `every`."""
    for point in range(1, points + 1, every):
        for keeps in (0.0, 0.5, 1.0):
            yield Crash(point, keeps)
        again = _SECOND_CRASH_POINTS[point // every % len(_SECOND_CRASH_POINTS)]
        yield Crash(point, (0.0, 1.0)[point // every % 2], again)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.crash_sweep", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="only one point in so many")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    points = count_points()
    crashes = list(all_crashes(len(points), every=options.every))
    print(f"{len(points)} points, {len(crashes)} runs", flush=True)
    failures = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for crash, result in zip(crashes, pool.map(run_with, crashes, chunksize=8), strict=True):
            if result.violation is not None:
                failures += 1
                print(f"FAILED {crash} ({points[crash.point - 1]}): {result.violation}", flush=True)
    print("all green" if not failures else f"{failures} runs failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

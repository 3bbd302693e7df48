"""2,000 idle sessions: the CPU that all members together need to keep them alive.

Four processes hold 500 sessions each, with a connection and a session timeout of 10 s each; every client
renews its sessions as it does by default, which is every third of the timeout for all three systems. etcd's
sessions are leases, each of a client of its own. Nothing else happens for 20 seconds. `empty_cpu_share` is
what the members need without any session: timers, heartbeats.

Rule of this file: a session that is lost ends the measurement.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.measuring import BenchError, Measurement
from bench.processes import cpu_seconds, end, forget_peaks, peak_memory_mib
from bench.scenarios.programs import program
from bench.scenarios.scenario import Scenario
from bench.systems import System

SESSIONS = 2_000
PROCESSES = 4
TIMEOUT_S = 10.0
EMPTY_S = 5.0
SETTLE_S = 10.0  # more than a round of renewals
MEASURE_S = 20.0


def cpu_share(system: System, seconds: float) -> float:
    """Return how many CPU seconds a second the members use, while nothing is asked of them."""
    pids = system.pids
    began_s, before_s = time.monotonic(), cpu_seconds(pids)
    time.sleep(seconds)
    return (cpu_seconds(pids) - before_s) / (time.monotonic() - began_s)


@contextmanager
def open_sessions(system: System, client: str) -> Iterator[None]:
    """Hold the sessions for as long as the body lasts.

    Raises:
        BenchError: They could not be opened, or one was lost meanwhile.
    """
    command = [*program(system, client, "idle_sessions")]
    command += [f"--sessions={SESSIONS // PROCESSES}", f"--timeout={TIMEOUT_S:g}"]
    holders = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(PROCESSES)
    ]
    try:
        for holder in holders:
            assert holder.stdout is not None
            if (line := holder.stdout.readline().decode().strip()) != "open":
                raise BenchError(f"sessions of {system.name} could not be opened: {line or 'see above'}")
        yield
        lost = [
            line for holder in holders for line in holder.communicate(timeout=60)[0].decode().splitlines()
        ]
        if lost:
            raise BenchError(f"{len(lost)} idle sessions of {system.name} were in trouble: {lost[0]}")
    finally:
        for holder in holders:
            end(holder)


def run(system: System, client: str, _seconds: float) -> Measurement:
    """Measure the members with no session and with all."""
    empty = cpu_share(system, EMPTY_S)
    forget_peaks(system.pids)
    began_s = time.monotonic()
    with open_sessions(system, client):
        opened_s = time.monotonic() - began_s
        time.sleep(SETTLE_S)
        share = cpu_share(system, MEASURE_S)
    return Measurement(
        system.name,
        client,
        "idle-sessions",
        seconds=MEASURE_S,
        peak_memory_mib=peak_memory_mib(system.pids),
        extra={"cpu_share": share, "empty_cpu_share": empty, "opened_s": opened_s},
    )


SCENARIOS: Final = (
    Scenario(
        "idle-sessions",
        "2,000 idle sessions: CPU seconds a second of all members together",
        run,
        {"coordsvc": ("sdk",), "zookeeper": ("protocol",), "etcd": ("native",)},
        figure="cpu_share",
        smaller_is_better=True,
        rounds_max=2,
        warm_up_s=MEASURE_S,
    ),
)

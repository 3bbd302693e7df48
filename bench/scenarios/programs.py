"""The programs of the scenarios that drive a system in their own way: which one, built, run, its line read.

Rule of this file: a program is named after what it does; which language it is in depends on the client alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bench.drivers.build import etcd_program, zookeeper_program
from bench.measuring import OTHERS_SHARE, BenchError, Measurement
from bench.processes import CpuSamples, OtherPrograms, dies_with_us, forget_peaks, peak_memory_mib
from bench.systems import System

_LIMIT_S = 300.0
_COMMON: Final = ("operations", "seconds", "p50_ms", "p99_ms", "errors", "measured_from", "measured_to")


def _python(module: str) -> Callable[[str], list[str]]:
    return lambda work: [sys.executable, "-m", f"bench.drivers.{module}_{work}"]


# How a client's program for some work is had; `work` is watchers, hand_over or idle_sessions.
_PROGRAMS: Final[Mapping[tuple[str, str], Callable[[str], list[str]]]] = {
    ("coordsvc", "sdk"): _python("coordsvc"),
    ("zookeeper", "native"): lambda work: [str(zookeeper_program(f"zookeeper_{work}.c"))],
    ("zookeeper", "kazoo"): _python("kazoo"),
    ("zookeeper", "protocol"): _python("zookeeper"),
    ("etcd", "native"): lambda work: [str(etcd_program(f"etcd_{work}.go"))],
}


def program(system: System, client: str, work: str) -> list[str]:
    """Return the command that does `work` with this client, built if need be."""
    return [
        *dies_with_us(),
        *_PROGRAMS[system.name, client](work),
        "--endpoints",
        system.endpoints_leader_first,
    ]


def output_of(command: Sequence[str]) -> str:
    """Run a program and return what it printed.

    Raises:
        BenchError: It failed, or took too long.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{' '.join(command)} did not end within {_LIMIT_S:g} s") from None
    if done.returncode:
        raise BenchError(f"{' '.join(command)} failed ({done.returncode}):\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def measured(system: System, client: str, scenario: str, work: str, arguments: Sequence[str]) -> Measurement:
    """Run a program that prints one line of JSON, and make a measurement of it; what else it says is `extra`.

    Raises:
        BenchError: It failed, or an operation did.
    """
    command = [*program(system, client, work), *arguments]
    os.sync()  # what another system has left to write must not be written on this one's time
    forget_peaks(system.pids)
    others = OtherPrograms(system.pids)
    with CpuSamples(system.pids) as samples:
        line = output_of(command)
    others_share = others.share()
    system.check()
    found = json.loads(line)
    if found["errors"]:
        raise BenchError(f"{found['errors']} operations of {' '.join(command)} failed")
    cpu_s = samples.between(found["measured_from"], found["measured_to"])
    return Measurement(
        system.name,
        client,
        scenario,
        operations=found["operations"],
        seconds=found["seconds"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        cpu_s_per_thousand=cpu_s / found["operations"] * 1000,
        peak_memory_mib=peak_memory_mib(system.pids),
        extra={name: float(value) for name, value in found.items() if name not in _COMMON}
        | {OTHERS_SHARE: others_share},
    )

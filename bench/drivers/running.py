"""Runs a driver against a system, and makes a measurement of what it says.

Rule of this file: here stands which program drives which system under which client's name. A driver whose
operations failed has measured nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

from bench.drivers import build
from bench.measuring import OTHERS_SHARE, BenchError, Measurement
from bench.processes import CpuSamples, OtherPrograms, dies_with_us, forget_peaks, peak_memory_mib
from bench.systems import System

# Beyond the measured time: connecting, writing the keys, the warm-up, the last answers.
_SLACK_S = 90.0


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", f"bench.drivers.{module}"]


COMMANDS: Final[dict[tuple[str, str], Callable[[], list[str]]]] = {
    ("coordsvc", "sdk"): lambda: _python("coordsvc_driver"),
    ("etcd", "native"): lambda: [str(build.etcd_program())],
    ("etcd", "python"): lambda: _python("etcd_python_driver"),
    ("zookeeper", "native"): lambda: [str(build.zookeeper_program())],
    ("zookeeper", "kazoo"): lambda: _python("kazoo_driver"),
}


def run_driver(system: System, client: str, scenario: str, seconds: float, *arguments: str) -> Measurement:
    """Drive the system for so many seconds, with the leader as the first endpoint.

    Raises:
        BenchError: The driver cannot be built or run, or an operation failed, or a member ended.
    """
    command = [*COMMANDS[system.name, client](), "--endpoints", system.endpoints_leader_first]
    command += ["--seconds", f"{seconds:g}", *arguments]
    os.sync()  # what another system has left to write must not be written on this one's time
    pids = system.pids
    forget_peaks(pids)
    others = OtherPrograms(pids)
    with CpuSamples(pids) as samples:
        found = _output(command, seconds + _SLACK_S)
    system.check()
    cpu_s = samples.between(found["measured_from"], found["measured_to"])
    return Measurement(
        system.name,
        client,
        scenario,
        operations=found["operations"],
        seconds=found["seconds"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        cpu_s_per_thousand=1000 * cpu_s / found["operations"],
        peak_memory_mib=peak_memory_mib(pids),
        extra={"max_ms": found["max_ms"], OTHERS_SHARE: others.share()},
    )


def _output(command: list[str], within_s: float) -> dict[str, Any]:
    """Run a driver, and return the line of JSON that it printed."""
    environment = dict(os.environ)
    if "bench.drivers.etcd_python_driver" in command:
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, (str(build.etcd_messages()), environment.get("PYTHONPATH", "")))
        )
    try:
        done = subprocess.run(
            [*dies_with_us(), *command],
            capture_output=True,
            text=True,
            timeout=within_s,
            env=environment,
            process_group=0,  # Ctrl-C is for the benchmark alone, which then kills the driver
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{_name(command)} was not done after {within_s:g} s") from error
    if done.returncode:
        raise BenchError(f"{_name(command)} ended with exit code {done.returncode}: {_end_of(done.stderr)}")
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise BenchError(
            f"{_name(command)} printed {done.stdout[:200]!r}, which is no measurement"
        ) from error
    if found["errors"]:
        raise BenchError(f"{_name(command)}: {found['errors']} operations failed: {_end_of(done.stderr)}")
    return found


def _name(command: list[str]) -> str:
    return command[2] if command[1] == "-m" else os.path.basename(command[0])


def _end_of(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-4:]) or "it says nothing"

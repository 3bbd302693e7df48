"""CPU time and memory of processes, and what a server leaves to read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.measuring import BenchError
from bench.processes import (
    CpuSamples,
    OtherPrograms,
    cpu_seconds,
    end,
    forget_peaks,
    last_lines,
    memory_mib,
    peak_memory_mib,
    spawn,
    wait_until,
)

NEVER_A_PID = 2**30


def burn(cpu_s: float) -> None:
    until_s = time.process_time() + cpu_s
    while time.process_time() < until_s:
        pass


def test_cpu_time_of_a_process_grows_with_its_work() -> None:
    before_s = cpu_seconds([os.getpid()])
    burn(0.1)

    assert cpu_seconds([os.getpid()]) - before_s >= 0.08


def test_a_process_that_is_gone_counts_nothing() -> None:
    assert cpu_seconds([NEVER_A_PID]) == 0
    assert peak_memory_mib([NEVER_A_PID]) == 0


def test_memory_is_that_of_the_largest_and_its_peak_can_be_forgotten() -> None:
    pids = [NEVER_A_PID, os.getpid()]
    block = bytearray(64 << 20)
    grown_mib = peak_memory_mib(pids)
    del block
    forget_peaks(pids)

    assert grown_mib >= 64
    assert peak_memory_mib(pids) <= grown_mib - 32
    assert memory_mib(pids) <= peak_memory_mib(pids)


def test_samples_tell_the_cpu_time_between_two_moments() -> None:
    with CpuSamples([os.getpid()]) as samples:
        from_s = time.time()
        burn(0.2)
        to_s = time.time()

    assert samples.between(from_s, to_s) >= 0.1
    assert samples.between(from_s - 10, from_s - 5) == 0


def test_a_server_writes_into_its_log_and_ends_when_told(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    program = "print('ready', flush=True)\nimport time\ntime.sleep(60)"
    server = spawn([sys.executable, "-c", program], log, tmp_path)
    wait_until(lambda: "ready" in last_lines(log), 20, lambda: "it does not start")

    end(server)

    assert server.returncode == -9
    assert last_lines(log) == "    ready"


def test_a_server_does_not_outlive_whoever_started_it(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    program = (
        "import os, sys, time\nfrom pathlib import Path\nfrom bench.processes import spawn\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        f"server = spawn(command, Path({str(log)!r}), Path('.'))\n"
        "print(server.pid, flush=True)\ntime.sleep(60)"
    )
    starter = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    server_pid = int(starter.stdout.readline())

    starter.kill()
    starter.wait()
    starter.stdout.close()

    def is_gone() -> bool:
        try:
            return "State:\tZ" in Path(f"/proc/{server_pid}/status").read_text()
        except FileNotFoundError:
            return True

    wait_until(is_gone, 20, lambda: "the server lives on")


def test_a_server_that_finds_its_starter_gone_does_not_begin(tmp_path: Path) -> None:
    ask = "import json; from bench.processes import dies_with_us; print(json.dumps(dies_with_us()))"
    answer = subprocess.run([sys.executable, "-c", ask], stdout=subprocess.PIPE, check=True)
    of_an_ended_process = json.loads(answer.stdout)

    server = subprocess.run([*of_an_ended_process, "touch", str(tmp_path / "began")], check=False)

    assert server.returncode == 1
    assert not (tmp_path / "began").exists()


def test_a_condition_that_never_holds_is_told() -> None:
    with pytest.raises(BenchError, match="it never came"):
        wait_until(lambda: False, 0, lambda: "it never came")


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("cpu  100 0 50 900000 800000 0 0 0 0 0", 0.0),  # idle, and waiting for the disk
        ("cpu  900000100 0 50 10 10 0 0 0 0 0", 1.0),
        ("cpu  100 0 50 10 10 0 0 900000000 0 0", 1.0),  # taken by the hypervisor
    ],
)
def test_what_others_used_of_the_machine_is_what_was_neither_idle_nor_ours(
    tmp_path: Path, line: str, share: float
) -> None:
    statistics = tmp_path / "stat"
    statistics.write_text("cpu  100 0 50 10 10 0 0 0 0 0\n")
    others = OtherPrograms([os.getpid()], statistics)

    statistics.write_text(line + "\n")

    assert others.share() == share

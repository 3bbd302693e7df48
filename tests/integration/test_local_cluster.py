"""`coordsvc dev` with real processes: who leads, a member that dies, and that nothing is left behind."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.cluster import free_ports

pytestmark = pytest.mark.processes

WITHIN_S = 40.0


class DevCluster:
    """A running `coordsvc dev`, and the lines that it prints."""

    def __init__(self, directory: Path, base_port: int) -> None:
        command = [sys.executable, "-m", "coordsvc", "dev", "--data-dir", str(directory)]
        command += ["--base-port", str(base_port), "--nodes", "3"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.said: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line.rstrip())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Take lines until one matches."""
        while True:
            try:
                self.said.append(self._lines.get(timeout=WITHIN_S))
            except queue.Empty:
                raise AssertionError(f"no line like {pattern!r} in: {self.said}") from None
            if found := re.search(pattern, self.said[-1]):
                return found

    def pids(self) -> dict[str, int]:
        """Wait for the lines that list the members."""
        found = {}
        for _ in range(3):
            match = self.wait_for(r"(member-\d) +clients \S+ +pid (\d+)")
            found[match[1]] = int(match[2])
        return found

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DevCluster]:
    cluster = DevCluster(tmp_path / "dev", free_ports(1)[0])
    try:
        yield cluster
    finally:
        cluster.end()


def is_running(pid: int) -> bool:
    """A process that has ended but was not waited for yet counts as ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until_gone(pids: dict[str, int]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while any(is_running(pid) for pid in pids.values()):
        assert time.monotonic() < deadline_s, f"still running: {pids}"
        time.sleep(0.05)


def test_a_member_that_dies_is_reported_and_the_rest_goes_on(cluster: DevCluster) -> None:
    pids = cluster.pids()
    leader = cluster.wait_for(r"(member-\d) leads \(term \d+\)")[1]

    os.kill(pids[leader], signal.SIGKILL)

    cluster.wait_for(rf"{leader} was killed by SIGKILL; its last lines")
    cluster.wait_for(r"leader_changed")  # one of them
    cluster.wait_for(rf"to start it again: coordsvc serve --config \S+{leader}.toml")
    successor = cluster.wait_for(r"(member-\d) leads \(term \d+\)")[1]
    assert successor != leader
    cluster.process.send_signal(signal.SIGTERM)
    assert cluster.process.wait(timeout=WITHIN_S) == 0
    wait_until_gone(pids)


def test_nothing_is_left_behind_when_it_is_killed_itself(cluster: DevCluster) -> None:
    pids = cluster.pids()
    cluster.wait_for(r"leads")

    cluster.process.kill()

    wait_until_gone(pids)

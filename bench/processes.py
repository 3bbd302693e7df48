"""Server and driver processes: started so that none outlives the benchmark; their CPU time and memory.

Rule of this file: Linux's /proc is read here and nowhere else. A process is signalled by its own pid only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.measuring import BenchError

SAMPLE_INTERVAL_S = 0.05
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_UNLESS_ORPHANED = '[ "$PPID" = "$0" ] || exit 1; exec "$@"'
_CLEAR_PEAK = "5"  # proc(5), /proc/pid/clear_refs: the peak starts anew from the present size


def spawn(
    command: Sequence[str], log_file: Path, directory: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a server whose output is appended to `log_file`.

    It is in a process group of its own, so that Ctrl-C reaches the benchmark alone, which then stops it; if
    the benchmark is killed, the kernel kills the server.
    """
    with log_file.open("ab") as log:
        return subprocess.Popen(
            [*dies_with_us(), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment,
            process_group=0,
        )


def dies_with_us() -> list[str]:
    """Return what stands before a command so that the kernel kills it when the benchmark ends in any way.

    The kernel tells of no death that came before it was asked to: the shell in between looks whether its
    parent is still this process, and becomes the command only then.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "sh", "-c", _UNLESS_ORPHANED, str(os.getpid())] if setpriv else []


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process if it runs, also if it was stopped, and wait until it is gone."""
    if process.poll() is None:
        process.kill()
    process.wait()


def last_lines(log_file: Path, count: int = 12) -> str:
    """Return the end of a server's output, indented; for error messages."""
    if not log_file.exists():
        return "    (no output)"
    lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    return "\n".join(f"    {line[:300]}" for line in lines) or "    (no output)"


def wait_until(condition: Callable[[], bool], within_s: float, otherwise: Callable[[], str]) -> None:
    """Ask ten times a second whether the condition holds.

    Raises:
        BenchError: It did not, for `within_s`; `otherwise` says what that means.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(otherwise())
        time.sleep(0.1)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time, in user mode and in the kernel, that these processes have used."""
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # The name in parentheses may hold spaces; utime and stime are fields 14 and 15 of the line.
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS_PER_S


class OtherPrograms:
    """Tells what part of the machine was used by programs that have nothing to do with the measurement.

    Its own are the servers, and children that have ended since: the driver. The kernel's threads are others.
    """

    def __init__(self, server_pids: Sequence[int], statistics: Path = Path("/proc/stat")) -> None:
        self._pids = list(server_pids)
        self._statistics = statistics
        self._began_s = time.monotonic()
        self._others_s = self._used_by_others_s()

    def share(self) -> float:
        """Return the part of all cores that others have used since this was made: 0 to 1."""
        elapsed_s = (time.monotonic() - self._began_s) * (os.cpu_count() or 1)
        return min(1.0, max(0.0, (self._used_by_others_s() - self._others_s) / elapsed_s))

    def _used_by_others_s(self) -> float:
        user, nice, system, _, _, *interrupts = (
            int(field) for field in self._statistics.read_text().splitlines()[0].split()[1:9]
        )
        busy_s = (user + nice + system + sum(interrupts)) / _TICKS_PER_S  # what a hypervisor took is in it
        times = os.times()
        ours_s = times.user + times.system + times.children_user + times.children_system
        return busy_s - ours_s - cpu_seconds(self._pids)


def peak_memory_mib(pids: Iterable[int]) -> float:
    """Return the largest resident size that any one of these processes has had since `forget_peaks`."""
    return max((_status_mib(pid, b"VmHWM:") for pid in pids), default=0.0)


def memory_mib(pids: Iterable[int]) -> float:
    """Return the present resident size of the largest of these processes."""
    return max((_status_mib(pid, b"VmRSS:") for pid in pids), default=0.0)


def forget_peaks(pids: Iterable[int]) -> None:
    """Let the peaks of these processes start anew from their present size."""
    for pid in pids:
        with contextlib.suppress(OSError):  # a kernel without it: the peak since the start is told instead
            Path(f"/proc/{pid}/clear_refs").write_text(_CLEAR_PEAK, encoding="ascii")


def _status_mib(pid: int, name: bytes) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_bytes().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    for line in lines:
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0  # a zombie has no memory


class CpuSamples:
    """`with CpuSamples(pids) as samples`: notes the CPU time of the processes twenty times a second.

    So a driver can say afterwards from when to when it has measured, and nobody has to signal anybody.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = list(pids)
        self._moments: list[float] = []
        self._cpu_s: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cpu-samples", daemon=True)

    def __enter__(self) -> Self:
        self._take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._take()

    def between(self, from_s: float, to_s: float) -> float:
        """Return the CPU seconds used between two moments of `time.time()`."""
        return self._at(to_s) - self._at(from_s)

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_INTERVAL_S):
            self._take()

    def _take(self) -> None:
        self._moments.append(time.time())
        self._cpu_s.append(cpu_seconds(self._pids))

    def _at(self, moment_s: float) -> float:
        after = min(max(1, bisect_left(self._moments, moment_s)), len(self._moments) - 1)
        earlier, later = self._moments[after - 1], self._moments[after]
        share = (moment_s - earlier) / (later - earlier) if later > earlier else 1.0
        share = min(1.0, max(0.0, share))
        return self._cpu_s[after - 1] + share * (self._cpu_s[after] - self._cpu_s[after - 1])

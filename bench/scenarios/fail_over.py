"""Fail-over: from the death of the leader to the next acknowledged write.

Four writers write all the time: three that have one member each, so that whatever member serves first
is found at once, and one that knows all members, as an ordinary program does. The leader is killed (SIGKILL),
or stopped (SIGSTOP) and resumed, again and again; the next turn begins when all members serve again. The time
is until the first acknowledgement of a write that was begun after that, of any writer (`p50_ms`, `max_ms`),
and of the one that is an ordinary program (`client_p50_ms`, `client_max_ms`).

Rule of this file: the same writers for every system; an interruption of more than a minute is an error.
"""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from bench.measuring import BenchError, Measurement
from bench.processes import wait_until
from bench.scenarios.programs import program
from bench.scenarios.scenario import Scenario
from bench.systems import System
from bench.systems.system import MEMBERS

KILLS: Final = 20
STOPS: Final = 10
ORDINARY: Final = MEMBERS  # the number of the writer that knows all members
_REST_S = 1.0
_SERVES_WITHIN_S = 60.0


class Writers:
    """The process of the four writers, in a `with`, and what has been acknowledged to them."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._read, name="acknowledgements", daemon=True)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._thread.join()

    def _read(self) -> None:
        assert self._process is not None, "started"
        assert self._process.stdout is not None, "piped"
        with self._process.stdout as output:
            for line in output:
                self._lines.append(line)

    def since(self, from_ns: int) -> dict[int, int]:
        """Return, by writer, when its first write begun after `from_ns` was acknowledged."""
        return first_by_writer(self._lines, from_ns)

    def wait_for(self, from_ns: int, is_enough: Callable[[dict[int, int]], bool]) -> dict[int, int]:
        """Wait until enough writers had a write acknowledged that was begun after `from_ns`.

        Raises:
            BenchError: That took too long, or the writers have ended.
        """

        def complaint() -> str:
            seen = sorted(self.since(from_ns))
            return f"{' '.join(self._command)}: only writers {seen} got on within {_SERVES_WITHIN_S:g} s"

        def look() -> bool:
            if self._process is None or self._process.poll() is not None:
                raise BenchError(f"{' '.join(self._command)} has ended")
            return is_enough(self.since(from_ns))

        wait_until(look, _SERVES_WITHIN_S, complaint)
        return self.since(from_ns)


def first_by_writer(lines: Sequence[str], from_ns: int) -> dict[int, int]:
    """Return, by writer, when its first write begun after `from_ns` was acknowledged.

    `lines` are what the drivers print, in the order of the acknowledgements.
    """
    found: dict[int, int] = {}
    for line in reversed(lines):
        fields = line.split()
        if len(fields) != 3:
            continue  # The last line, half written.
        writer, begun_ns, acknowledged_ns = (int(field) for field in fields)
        if acknowledged_ns < from_ns:
            break
        if begun_ns > from_ns:
            found[writer] = min(acknowledged_ns, found.get(writer, acknowledged_ns))
    return found


@dataclass(frozen=True, slots=True)
class Interruption:
    """Milliseconds until somebody, and until the ordinary program, had a write acknowledged."""

    anybody_ms: float
    ordinary_ms: float


def _interrupt(writers: Writers, disturb: Callable[[], None]) -> Interruption:
    from_ns = time.time_ns()
    disturb()
    first = writers.wait_for(from_ns, lambda found: ORDINARY in found)
    return Interruption((min(first.values()) - from_ns) / 1e6, (first[ORDINARY] - from_ns) / 1e6)


def _recover(system: System, writers: Writers) -> None:
    """Wait until every member serves and every writer gets on, and a little longer."""
    system.wait_until_serving()
    writers.wait_for(time.time_ns(), lambda found: len(found) == MEMBERS + 1)
    time.sleep(_REST_S)


def kill_the_leader(system: System, writers: Writers) -> Interruption:
    """Kill the process of the leader, and start it again when a write has been acknowledged."""
    leader = system.leader()
    interruption = _interrupt(writers, lambda: system.kill(leader))
    system.restart(leader)
    return interruption


def stop_the_leader(system: System, writers: Writers) -> Interruption:
    """Stop the process of the leader, and let it go on when a write has been acknowledged."""
    leader = system.leader()
    try:
        return _interrupt(writers, lambda: system.stop(leader))
    finally:
        system.resume(leader)


def measurement_of(
    system: str, client: str, scenario: str, interruptions: Sequence[Interruption]
) -> Measurement:
    """Make a measurement of what was seen; the times are in its percentiles and in `extra`."""
    anybody = sorted(each.anybody_ms for each in interruptions)
    ordinary = sorted(each.ordinary_ms for each in interruptions)
    return Measurement(
        system,
        client,
        scenario,
        operations=len(interruptions),
        p50_ms=statistics.median(anybody),
        p99_ms=anybody[-1],
        extra={
            "max_ms": anybody[-1],
            "client_p50_ms": statistics.median(ordinary),
            "client_max_ms": ordinary[-1],
        },
    )


def _scenario(
    name: str, title: str, times: int, interrupt: Callable[[System, Writers], Interruption]
) -> Scenario:
    def run(system: System, client: str, seconds: float) -> Measurement:
        interruptions = []
        with Writers(program(system, client, "fail_over")) as writers:
            _recover(system, writers)
            for _ in range(
                max(1, min(times, round(times * seconds)))
            ):  # fewer for a look of less than a second
                interruptions.append(interrupt(system, writers))
                _recover(system, writers)
        return measurement_of(system.name, client, name, interruptions)

    return Scenario(
        name,
        title,
        run,
        clients={"coordsvc": ("sdk",), "etcd": ("native",), "zookeeper": ("native",)},
        figure="p50_ms",
        smaller_is_better=True,
        fresh=True,
        rounds_max=1,
    )


SCENARIOS = (
    _scenario("fail-over-kill", "fail-over, the leader's process is killed", KILLS, kill_the_leader),
    _scenario("fail-over-stop", "fail-over, the leader's process is stopped", STOPS, stop_the_leader),
)

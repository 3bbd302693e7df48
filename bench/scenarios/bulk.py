"""A million znodes of 100 bytes: making them, memory, restart, catch-up, listing, and writes meanwhile.

One campaign per system makes 900,000 nodes in directories of 1,000 and 100,000 in one, on its three members,
through one connection to the leader with 256 in flight. Then come, in this order: ten seconds of rest and the
memory of the members; listing the node with 100,000 children; ten quiet seconds; the same listing again, for
the sake of what writes notice of it; a follower killed and started again, until it serves in step with the
leader; the same follower wiped and started empty, until it has caught up. While the 100,000 are made, and
from the quiet seconds to the end, a probe writes to the leader at a moderate pace. Each scenario of the table
takes one figure of that campaign.

A campaign that breaks off keeps what it has measured until then; for the rest there is one more.

Rule of this file: what is timed is the same for all systems; whether a member is in step, each is asked in
its own way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final

from bench.drivers import build
from bench.measuring import BenchError, FinalError, Measurement, percentile
from bench.processes import dies_with_us, memory_mib, peak_memory_mib
from bench.scenarios.scenario import Scenario
from bench.systems import HOST, MEMBERS, System
from bench.systems.coordsvc import Coordsvc
from bench.systems.etcd import Etcd

NODES: Final = int(os.environ.get("BENCH_BULK_NODES", "1000000"))
WIDE_NODES: Final = NODES // 10
PER_DIRECTORY: Final = 1000
VALUE_BYTES: Final = 100
IN_FLIGHT: Final = 256
REST_S: Final = 10.0
QUIET_S: Final = 10.0
LISTINGS: Final = 5
LISTINGS_BESIDE_WRITES: Final = 20
PROBES: Final = 4
PROBE_PAUSE_MS: Final = 10
BUSY_PROBES: Final = 4  # without a pause: so many entries that a log is trimmed
TRIM_WITHIN_S: Final = 180.0
IN_STEP_WITHIN_S: Final = 300.0
CAMPAIGNS_MAX: Final = 2  # of a system in one invocation: each takes minutes
_CLIENTS: Final = {"coordsvc": ("sdk",), "etcd": ("go",), "zookeeper": ("c",)}


@dataclass(slots=True)
class Campaign:
    """The figures of one system, by name with the unit last; `trouble` says why it broke off, if it did."""

    fill: Measurement | None = None
    figures: dict[str, float] = field(default_factory=dict)
    trouble: str = ""


def driver(system: System, *arguments: object) -> list[str]:
    """Return the command that runs the bulk driver of the system."""
    programs: dict[str, Callable[[], list[str]]] = {
        "coordsvc": lambda: [sys.executable, "-m", "bench.drivers.coordsvc_bulk"],
        "etcd": lambda: [str(build.etcd_program("etcd_bulk.go"))],
        "zookeeper": lambda: [str(build.zookeeper_program("zookeeper_bulk.c"))],
    }
    return [*dies_with_us(), *programs[system.name](), *map(str, arguments)]


def drive(system: System, *arguments: object) -> dict[str, float]:
    """Run the bulk driver to its end.

    Raises:
        BenchError: An operation failed.
    """
    done = subprocess.run(driver(system, *arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{system.name}: {' '.join(map(str, arguments))} failed: {done.stderr.strip()}")
    result = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(result, dict)
    return result


class Probe:
    """What a writer has seen, as (when it was sent, ms that it took), for as long as it writes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.writes: list[tuple[float, float]] = []
        self.process = process
        self._reader = threading.Thread(target=self._read, name="probe")
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None, "it was started with a pipe"
        with self.process.stdout as lines:
            for line in lines:
                sent_s, took_ms = line.split()
                self.writes.append((float(sent_s), float(took_ms)))

    def end(self) -> None:
        """Let it stop.

        Raises:
            BenchError: A write failed.
        """
        assert self.process.stdin is not None, "it was started with a pipe"
        self.process.stdin.close()
        self._reader.join()
        if self.process.wait():
            raise BenchError("the probe's writes failed")

    def between(self, from_s: float, to_s: float) -> list[float]:
        """Return how long the writes took that were sent between two moments of `time.time()`, sorted."""
        return sorted(took_ms for sent_s, took_ms in self.writes if from_s <= sent_s < to_s)


@contextmanager
def probing(system: System, probes: int = PROBES, pause_ms: int = PROBE_PAUSE_MS) -> Iterator[Probe]:
    """Write to the leader meanwhile. What was seen is whole when it has ended."""
    leader = system.endpoint_list[system.leader()]
    process = subprocess.Popen(
        driver(system, "probe", leader, probes, pause_ms),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,  # Ctrl-C is for the benchmark alone, which then kills the probe
    )
    probe = Probe(process)
    try:
        yield probe
    except BaseException:
        process.kill()
        with suppress(BenchError):  # what ended the body is the reason, and it may be Ctrl-C
            probe.end()
        raise
    probe.end()


def is_in_step(system: System, index: int) -> bool:
    """Tell whether the member serves, and has all that the leader has at this moment."""
    if not system.is_serving(index):
        return False
    leader = system.leader()
    if isinstance(system, Coordsvc):
        ours, theirs = system.status(index), system.status(leader)
        return ours is not None and theirs is not None and ours.applied_index >= theirs.applied_index - 100
    if isinstance(system, Etcd):
        behind = etcd_index(system, leader) - etcd_index(system, index)
        return behind <= 100
    return True  # ZooKeeper's follower serves when it is in step, and not before


def etcd_index(system: Etcd, index: int) -> int:
    status = system._status(index)  # noqa: SLF001 - asked of the systems' own file
    return int(status["raftAppliedIndex"]) if status is not None else 0


def wait_in_step(system: System, index: int) -> float:
    """Return after how many seconds the member is in step.

    Raises:
        BenchError: It is not, for five minutes.
    """
    began_s = time.monotonic()
    while not is_in_step(system, index):
        if time.monotonic() - began_s > IN_STEP_WITHIN_S:
            raise BenchError(f"member {index} of {system.name} is not in step after {IN_STEP_WITHIN_S:g} s")
        system.check()
        time.sleep(0.02)
    return time.monotonic() - began_s


def note_latencies(campaign: Campaign, name: str, writes_ms: list[float]) -> None:
    if writes_ms:
        campaign.figures[f"{name}_write_p50_ms"] = percentile(writes_ms, 0.50)
        campaign.figures[f"{name}_write_p99_ms"] = percentile(writes_ms, 0.99)
        campaign.figures[f"{name}_write_max_ms"] = writes_ms[-1]


def fill(system: System, client: str, campaign: Campaign) -> None:
    """Make the million, and note what it costs."""
    leader = system.endpoint_list[system.leader()]
    narrow = drive(system, "fill", leader, "/bulk", NODES - WIDE_NODES, PER_DIRECTORY, VALUE_BYTES, IN_FLIGHT)
    with probing(system) as probe:
        began_s = time.time()
        wide = drive(system, "fill", leader, "/wide", WIDE_NODES, 0, VALUE_BYTES, IN_FLIGHT)
        ended_s = time.time()
    campaign.fill = Measurement(
        system.name,
        client,
        "bulk-create",
        operations=int(narrow["operations"] + wide["operations"]),
        seconds=narrow["seconds"] + wide["seconds"],
        p50_ms=narrow["p50_ms"],
        p99_ms=narrow["p99_ms"],
        peak_memory_mib=peak_memory_mib(system.pids),
        extra={"create_max_ms": max(narrow["max_ms"], wide["max_ms"])},
    )
    note_latencies(campaign, "create", probe.between(began_s, ended_s))


def list_wide(system: System, times: int) -> dict[str, float]:
    """List the node with the many children.

    Raises:
        BenchError: It did not list them all.
    """
    listing = drive(system, "ls", system.endpoint_list[system.leader()], "/wide", times)
    if listing["items"] != WIDE_NODES:
        raise BenchError(f"{system.name} lists {listing['items']:g} children of {WIDE_NODES}")
    return listing


def rest_and_list(system: System, windows: dict[str, tuple[float, float]]) -> None:
    """Do nothing, and then list. Notes when which went on."""
    began_s = time.time()
    time.sleep(QUIET_S)
    windows["quiet"] = (began_s, time.time())
    began_s = time.time()
    list_wide(system, LISTINGS_BESIDE_WRITES)
    windows["ls"] = (began_s, time.time())


def restart_and_wipe(system: System, campaign: Campaign, windows: dict[str, tuple[float, float]]) -> None:
    """Kill a follower and start it; kill it again, and start it empty. Notes when which went on."""
    figures = campaign.figures
    follower = (system.leader() + 1) % MEMBERS
    system.kill(follower)
    began_s = time.time()
    system.restart(follower)
    figures["restart_s"] = wait_in_step(system, follower)
    windows["restart"] = (began_s, time.time())
    time.sleep(1.0)
    figures["memory_after_restart_mib"] = memory_mib([system.pid(follower)])
    system.kill(follower)
    system.wipe(follower)
    began_s = time.time()
    system.restart(follower)
    figures["catch_up_s"] = wait_in_step(system, follower)
    windows["catch_up"] = (began_s, time.time())
    system.settle(follower)


def log_length(system: Coordsvc, index: int) -> float:
    with urllib.request.urlopen(f"http://{HOST}:{system.port(index, 2)}/metrics", timeout=5.0) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("coordsvc_log_length "):
                return float(line.split()[1])
    raise BenchError("the metrics do not tell the length of the log")


def trim(system: System, campaign: Campaign) -> None:
    """Write so much that the leader's log is trimmed, and compare the writes of that second with others."""
    if not isinstance(system, Coordsvc):
        return  # The others trim theirs by replacing whole files.
    leader = system.leader()
    window = (0.0, 0.0)
    with probing(system, BUSY_PROBES, 0) as probe:
        until_s = time.time() + TRIM_WITHIN_S
        began_s = time.time()
        length = log_length(system, leader)
        while time.time() < until_s:
            time.sleep(0.05)
            length, before = log_length(system, leader), length
            if length < before and time.time() - began_s > 3.0:
                window = (time.time() - 1.0, time.time())
                break
        time.sleep(0.2)
    if not window[0]:
        raise BenchError(f"the log was not trimmed within {TRIM_WITHIN_S:g} s")
    note_latencies(campaign, "trim", probe.between(*window))
    note_latencies(campaign, "before_trim", probe.between(began_s + 0.5, window[0]))


def run_campaign(system: System, client: str, campaign: Campaign) -> None:
    """Carry the campaign out; each figure is in it as soon as it is known."""
    fill(system, client, campaign)
    figures = campaign.figures
    time.sleep(REST_S)
    figures["memory_mib"] = memory_mib(system.pids)
    figures["ls_p50_ms"] = list_wide(system, LISTINGS)["p50_ms"]
    windows: dict[str, tuple[float, float]] = {}
    with probing(system) as probe:
        rest_and_list(system, windows)
        restart_and_wipe(system, campaign, windows)
    for name, window in windows.items():
        note_latencies(campaign, name, probe.between(*window))
    for name in ("create", "ls", "restart", "catch_up"):
        note_ratio(figures, name, "quiet")
    trim(system, campaign)
    note_ratio(figures, "trim", "before_trim")


def note_ratio(figures: dict[str, float], busy: str, quiet: str) -> None:
    """Note how many times the quiet p99 the p99 is, if both were measured."""
    names = (f"{busy}_write_p99_ms", f"{quiet}_write_p99_ms")
    if all(name in figures for name in names):
        figures[f"{busy}_write_ratio"] = figures[names[0]] / figures[names[1]]


_campaigns: dict[tuple[str, str], list[Campaign]] = {}  # of this invocation, the latest last


def campaign_with(system: System, client: str, is_measured: Callable[[Campaign], bool]) -> Campaign:
    """Return the latest campaign of this system that has measured what is asked for; carries one out for it.

    Raises:
        FinalError: There is none, and no more is tried.
        BenchError: The campaign broke off before; another may be tried.
    """
    campaigns = _campaigns.setdefault((system.name, client), [])
    if found := [campaign for campaign in campaigns if is_measured(campaign)]:
        return found[-1]
    if len(campaigns) == CAMPAIGNS_MAX:
        raise FinalError(campaigns[-1].trouble)
    campaign = Campaign(trouble="the campaign did not come to it")
    try:
        run_campaign(system, client, campaign)
    except (BenchError, OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
        campaign.trouble = str(error) if isinstance(error, BenchError) else repr(error)
        print(f"{system.name}: the campaign broke off: {campaign.trouble}", file=sys.stderr, flush=True)
    campaigns.append(campaign)
    if not is_measured(campaign):
        raise BenchError(campaign.trouble)
    return campaign


def run_create(system: System, client: str, _seconds: float) -> Measurement:
    campaign = campaign_with(system, client, lambda campaign: campaign.fill is not None)
    assert campaign.fill is not None, "it was asked for"
    return replace(campaign.fill, extra=campaign.fill.extra | campaign.figures)


def figure_of(name: str, figure: str) -> Callable[[System, str, float], Measurement]:
    """Return a scenario's function that takes one figure of the campaign."""

    def run(system: System, client: str, _seconds: float) -> Measurement:
        campaign = campaign_with(system, client, lambda campaign: figure in campaign.figures)
        return Measurement(system.name, client, name, extra={figure: campaign.figures[figure]})

    return run


def _scenario(name: str, title: str, figure: str, systems: tuple[str, ...] = tuple(_CLIENTS)) -> Scenario:
    return Scenario(
        name,
        title,
        figure_of(name, figure),
        {system: _CLIENTS[system] for system in systems},
        figure=figure,
        smaller_is_better=True,
        fresh=True,
        rounds_max=1,
    )


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "bulk-create", f"{NODES:,} znodes of 100 B made", run_create, _CLIENTS, fresh=True, rounds_max=1
    ),
    _scenario("bulk-memory", f"memory of a member with {NODES:,} znodes", "memory_mib"),
    _scenario("bulk-restart", "a follower killed and restarted, until it is in step", "restart_s"),
    _scenario("bulk-catch-up", "a wiped follower, until it has caught up", "catch_up_s"),
    _scenario("bulk-ls", f"ls of a node with {WIDE_NODES:,} children", "ls_p50_ms"),
    _scenario(
        "bulk-write-create",
        f"write p99 while {WIDE_NODES:,} are made, times the quiet p99",
        "create_write_ratio",
    ),
    _scenario(
        "bulk-write-ls", f"write p99 while {WIDE_NODES:,} are listed, times the quiet p99", "ls_write_ratio"
    ),
    _scenario(
        "bulk-write-restart",
        "write p99 while a follower restarts, times the quiet p99",
        "restart_write_ratio",
    ),
    _scenario(
        "bulk-write-catch-up", "write p99 during catch-up, times the quiet p99", "catch_up_write_ratio"
    ),
    _scenario(
        "bulk-write-trim", "write p99 during a trim, times the p99 before", "trim_write_ratio", ("coordsvc",)
    ),
)

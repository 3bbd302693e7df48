"""`coordctl bench`, on a real server in this process: its verdict, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from coordclient import AsyncClient, Client
from coordclient.cli import benchmark_load, main
from coordclient.cli.benchmark_load import Caller, Load, Offering, callers
from coordclient.errors import ConnectionLostError
from coordclient.types import EventType
from coordsvc.testing import Server, running_server
from tests.unit.client.eventually import eventually

GENEROUS = ("--p99-at-most", "1h", "--slowest-at-most", "1h", "--throughput-at-least", "1")
SMALL = Load(sessions=3, writes_per_second=100, reads_per_second=100)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_load, "WARM_UP_S", 0.05)
    monkeypatch.setitem(benchmark_load.LOADS, "s", SMALL)


def bench(server: Server, *options: str, typed: str | None = None, duration: str = "300ms") -> Result:
    arguments = ["--endpoints", server.endpoints, "bench", "--duration", duration, *options]
    return CliRunner().invoke(main, arguments, input=typed)


def remains(server: Server) -> tuple[list[str], list[int]]:
    """What is in the tree, and whose sessions there are, besides the one that looks."""
    with Client(server.endpoints) as client:
        sessions = [found for found in server.session_ids() if found != client.session_id]
        return client.get_children("/"), sessions


def test_a_cluster_within_generous_limits_passes(server: Server) -> None:
    result = bench(server, *GENEROUS)

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "load s: 3 sessions, values of 256 bytes, 0.3 s"
    assert [line.split()[0] for line in lines[1:5]] == ["DONE", "writes", "reads", "MEMBER"]
    assert "leader changes: 0" in lines
    assert lines[-1] == "PASS"


def test_a_cluster_that_cannot_keep_impossible_limits_fails_with_reasons(server: Server) -> None:
    result = bench(server, *GENEROUS, "--p99-at-most", "0.0001ms")

    assert result.exit_code == 1
    verdict = result.stdout.partition("FAIL\n")[2].splitlines()
    assert len(verdict) == 2
    assert verdict[0].startswith("  the p99 of writes is ")
    assert verdict[1].startswith("  the p99 of reads is ")


def test_scripts_read_the_figures_and_the_verdict(server: Server) -> None:
    data: dict[str, Any] = json.loads(bench(server, *GENEROUS, "-o", "json", "--value-bytes", "10").stdout)

    assert data["passed"] is True
    assert data["reasons"] == []
    assert data["load"]["value_bytes"] == 10
    assert data["limits"]["throughput_percent"] == 1.0
    assert data["writes"]["offered"] == data["writes"]["done"] == data["reads"]["done"] == 30
    assert data["slowest_member"] == data["members"][0]["member"] == data["leaders"][0]["member"]


def test_nothing_is_left_behind_of_a_run_that_ends(server: Server) -> None:
    bench(server, *GENEROUS, "--prefix", "/ops/check/latency")

    assert remains(server) == ([], [])


def test_what_was_there_before_stays(server: Server) -> None:
    with Client(server.endpoints) as client:
        client.create("/ours", b"precious")
    try:
        assert bench(server, *GENEROUS, "--prefix", "/ours").exit_code == 0
        with Client(server.endpoints) as client:
            assert (client.get("/ours").value, client.get_children("/ours")) == (b"precious", [])
    finally:
        with Client(server.endpoints) as client:
            client.delete("/ours")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_behind_of_a_run_that_is_interrupted(server: Server, number: signal.Signals) -> None:
    writes = threading.Event()
    with Client(server.endpoints) as watcher, watcher.watch("/coordctl-bench", recursive=True) as events:

        def interrupt() -> None:
            for event in events:
                if event.type is EventType.CHANGED:
                    writes.set()
                    os.kill(os.getpid(), number)
                    return

        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        result = bench(server, *GENEROUS, "--yes", duration="10m")
        interrupter.join()

    assert writes.is_set()
    assert result.exit_code == 130
    assert remains(server) == ([], [])


async def test_what_a_killed_run_leaves_is_cleared_away_by_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(benchmark_load, "_LEFTOVER_TTL_S", 0.2)
    async with running_server() as server, AsyncClient(server.endpoints) as witness:
        events = await witness.watch("/bench").__aenter__()
        async with callers(AsyncClient, [server.endpoints], "/bench", SMALL) as opened:
            for caller in opened:  # as if nobody renewed them any more
                await server.expire_session(caller.client.session_id)
            async for event in events:
                if event.type is EventType.DELETED:
                    break
            assert await witness.get_children("/") == []


def test_a_script_must_say_that_others_may_be_disturbed(server: Server) -> None:
    with Client(server.endpoints, name="payroll"):
        refused = bench(server, *GENEROUS)
        allowed = bench(server, *GENEROUS, "--yes")

    assert refused.exit_code == 1
    assert "1 client has a session (payroll) on this cluster, and will feel the load; --yes" in refused.stderr
    assert refused.stdout == ""
    assert allowed.exit_code == 0


def test_without_a_leader_there_is_nothing_to_measure() -> None:
    result = CliRunner().invoke(main, ["--endpoints", "127.0.0.1:1", "bench", "--timeout", "1s", "--yes"])

    assert result.exit_code == 3
    assert "there is no leader, so there is nothing to measure" in result.stderr


def test_it_is_a_check_and_no_permanent_load(server: Server) -> None:
    result = bench(server, duration="2h")

    assert result.exit_code == 2
    assert "--duration is at most 1h" in result.stderr


# ---------------------------------------------------------------------------------------------
# The load itself


class DeafClient(AsyncClient):
    """A client of a cluster that does not answer until it is told to, or fails."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1:1")
        self.answers = asyncio.Event()
        self.sets = 0

    async def set(self, *_: Any, **__: Any) -> Any:
        self.sets += 1
        await self.answers.wait()

    async def get(self, *_: Any, **__: Any) -> Any:
        raise ConnectionLostError("nobody there")


async def test_what_does_not_fit_is_not_sent_and_counts_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Load, "in_flight_max", 5)
    client = DeafClient()
    load = Load(sessions=1, writes_per_second=1000, reads_per_second=0)
    offering = Offering(load, [Caller(client, "/n")], value_bytes=1, seconds=0.1)

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(offering.run())
        await eventually(lambda: offering.samples.offered["writes"] == 100)
        client.answers.set()
    samples = running.result()

    assert client.sets == load.in_flight_max
    assert samples.failures == {"not sent, too many on their way": 100}


async def test_large_values_do_not_fill_the_memory() -> None:
    client = DeafClient()
    load = Load(sessions=1, writes_per_second=1000, reads_per_second=0)
    offering = Offering(load, [Caller(client, "/n")], value_bytes=1 << 20, seconds=0.1)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(offering.run())
        await eventually(lambda: offering.samples.offered["writes"] == 100)
        client.answers.set()

    assert client.sets == 32


async def test_failed_operations_are_counted_by_what_went_wrong() -> None:
    client = DeafClient()
    load = Load(sessions=1, writes_per_second=0, reads_per_second=1000)

    samples = await Offering(load, [Caller(client, "/n")], value_bytes=1, seconds=0.1).run()

    found = samples.figures("reads", 0.1)
    assert (found.offered, found.errors, found.latencies.count) == (100, 100, 0)
    assert samples.failures == {"ConnectionLostError": 100}

"""Locks, elections and registrations of programs that die, sleep or are cut off. Issue 2, line 6; promise G8.

Two programs share a lock or an election. Harm comes to the one that has it: the other gets it, the first
one learns that it has lost it, and not one write of a former holder is accepted after a write of its
successor.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from coordclient import AsyncClient
from tests.processes.cluster import ClusterProcesses
from tests.processes.ports import free_ports
from tests.processes.programs import Program
from tests.processes.proxy import Proxy

pytestmark = pytest.mark.processes

EXAMPLES = Path(__file__).parents[2] / "examples"
LOCK_HOLDER = Path(__file__).parent / "applications" / "lock_holder.py"
TIMEOUT_S = "2.0"
HARMS = ("killed", "paused", "cut off")


class Place:
    """A cluster with two ways to it: directly, and through proxies that can be cut."""

    def __init__(self, cluster: ClusterProcesses, proxies: list[Proxy]) -> None:
        self.cluster = cluster
        self.proxies = proxies
        self.direct = cluster.endpoints
        self.behind = ",".join(proxy.address for proxy in proxies)

    async def harm(self, program: Program, harm: str) -> None:
        """Do it to a program that goes through the proxies."""
        if harm == "killed":
            await program.kill()
        elif harm == "paused":
            program.pause()
        else:
            for proxy in self.proxies:
                proxy.black_hole()

    async def heal(self, program: Program, harm: str) -> None:
        assert harm != "killed"
        if harm == "paused":
            program.resume()
        for proxy in self.proxies:
            await proxy.resume()


@asynccontextmanager
async def place(directory: Path) -> AsyncIterator[Place]:
    """Start a cluster whose members tell clients the addresses of their proxies."""
    async with AsyncExitStack() as stack:
        cluster = ClusterProcesses(directory)
        proxies = []
        for member, port in zip(cluster, free_ports(3), strict=True):
            proxies.append(await stack.enter_async_context(Proxy(member.endpoint, port)))
            member.options += ("--advertise-client", proxies[-1].address)
        await stack.enter_async_context(cluster)
        yield Place(cluster, proxies)


def number(name: str, line: str) -> float:
    found = re.search(rf"{name}=(\S+)", line)
    assert found, line
    return float(found[1])


async def check_work(endpoints: str, path: str) -> None:
    """The tokens under which the work was done only grow, and each belongs to one program."""
    async with AsyncClient(endpoints) as client:
        values = [event.value.decode().split() async for event in client.history(path) if event.value]
    tokens = [int(value[1]) for value in values]
    owners = {(value[0], value[1]) for value in values}
    assert tokens == sorted(tokens), "a former holder was let in after its successor"
    assert len(owners) == len(set(tokens)) >= 2, "two programs worked, each under tokens of its own"


async def see_it_pass_on(here: Place, harm: str, first: Program, second: Program, loss: str) -> None:
    """Harm the first, which has it: the second gets it. Healed, the first knows, and gets it back in turn."""
    async with first:
        had = await first.line("working")
        async with second:
            await second.line("waiting")
            await here.harm(first, harm)
            taken_over = await second.line("working")
            assert token_of(taken_over) > token_of(had)
            if harm == "killed":
                return
            if harm == "cut off":
                await first.line(loss, within_s=5.0)  # by its own clock: it can reach nobody
            await here.heal(first, harm)
            await first.line(loss)
            known = len(first.lines)
            await second.kill()
            had_again = await first.line("working", after=known)
            assert token_of(had_again) > token_of(taken_over)


def token_of(line: str) -> int:
    return int(number("token", line))


@pytest.mark.parametrize("harm", HARMS)
async def test_a_lock_passes_on_when_its_holder_is(tmp_path: Path, harm: str) -> None:
    async with place(tmp_path) as here:
        first = Program(LOCK_HOLDER, "first", here.behind, TIMEOUT_S)
        second = Program(LOCK_HOLDER, "second", here.direct, TIMEOUT_S)
        await see_it_pass_on(here, harm, first, second, loss="lost")

        if harm == "cut off":
            believed_until = number("until", await first.line("lost"))
            held = number("at", await second.line("held"))
            assert 0 < believed_until < held, "nobody believes in a lock that somebody else has"
        await check_work(here.direct, "/guarded")


@pytest.mark.parametrize("harm", HARMS)
async def test_leadership_passes_on_when_the_leader_is(tmp_path: Path, harm: str) -> None:
    async with place(tmp_path) as here:
        script = EXAMPLES / "leader_candidate.py"
        first = Program(script, "first", here.behind)
        second = Program(script, "second", here.direct)
        await see_it_pass_on(here, harm, first, second, loss="deposed")

        await check_work(here.direct, "/demo/work")


@pytest.mark.parametrize("harm", HARMS)
async def test_discovery_is_right_when_an_instance_is(tmp_path: Path, harm: str) -> None:
    async with (
        place(tmp_path) as here,
        Program(EXAMPLES / "service_watcher.py", here.direct) as watcher,
        Program(EXAMPLES / "service_instance.py", "8001", here.behind) as instance,
        Program(EXAMPLES / "service_instance.py", "8002", here.direct),
    ):
        await watcher.line("instances 8001,8002")
        known = len(watcher.lines)
        await here.harm(instance, harm)
        await watcher.line("instances 8002", after=known)
        if harm == "killed":
            return
        known = len(watcher.lines)
        await here.heal(instance, harm)

        await watcher.line("instances 8001,8002", after=known)


async def test_a_file_that_writers_share_under_a_lock_survives_the_death_of_writers(tmp_path: Path) -> None:
    """Writers are killed in the middle of what they do: no line is lost, repeated or torn."""
    ledger = tmp_path / "ledger"
    async with ClusterProcesses(tmp_path) as cluster:
        for _ in range(2):
            async with (
                writer("short-lived", ledger, cluster) as doomed,
                writer("steady", ledger, cluster) as steady,
            ):
                await doomed.line("wrote")
                await steady.line("wrote")
                await doomed.kill()
                known = len(steady.lines)
                await steady.line("wrote", after=known + 5)
        async with AsyncClient(cluster.endpoints) as client:
            counted = int((await client.get("/demo/ledger/head")).value)

    entries = re.findall(rb"begin (\d+) token (\d+) by \S+\n  what happened\nend \1\n", ledger.read_bytes())
    numbers = [int(entry[0]) for entry in entries]
    tokens = [int(entry[1]) for entry in entries]
    assert numbers == list(range(1, len(numbers) + 1))
    assert tokens == sorted(tokens)
    assert len(numbers) >= counted >= 10


def writer(name: str, ledger: Path, cluster: ClusterProcesses) -> Program:
    return Program(EXAMPLES / "ledger_writer.py", name, str(ledger), cluster.endpoints)

"""Members are cut off from one another, or fall asleep. Promises G1 and G2."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from coordclient import AsyncClient, Consistency
from coordproto.v1 import coordination_pb2, data_pb2
from tests.processes.cluster import ClusterProcesses, MemberProcess
from tests.processes.conditions import eventually
from tests.processes.ports import free_ports
from tests.processes.proxy import Proxy
from tests.processes.workload import CountingClients

pytestmark = pytest.mark.processes

LONG_S = 20.0
NOTICED_SOON_S = 10.0  # clients leave a member that is silent for a good part of their session timeout


@asynccontextmanager
async def linked_through_proxies(directory: Path) -> AsyncIterator[tuple[ClusterProcesses, dict[str, Proxy]]]:
    """A cluster whose members reach each other through one proxy in front of each."""
    async with AsyncExitStack() as stack:
        ports = free_ports(3)
        cluster = ClusterProcesses(directory, peer_addresses=[f"127.0.0.1:{port}" for port in ports])
        proxies = {}
        for member, port in zip(cluster, ports, strict=True):
            proxies[member.name] = await stack.enter_async_context(Proxy(member.peer_address, port))
        await stack.enter_async_context(cluster)
        yield cluster, proxies


def counting_clients(cluster: ClusterProcesses) -> CountingClients:
    return CountingClients(cluster.endpoints, request_timeout=LONG_S, session_timeout=NOTICED_SOON_S)


async def leader_known_to(cluster: ClusterProcesses, member: MemberProcess) -> str:
    status = await cluster.status(member)
    assert status is not None
    return status.leader


async def test_a_leader_that_hears_nobody_makes_room_for_one_that_does(tmp_path: Path) -> None:
    """One way only: its heartbeats still reach the others, but none of their answers reach it."""
    async with linked_through_proxies(tmp_path) as (cluster, proxies):
        deaf = await cluster.wait_until_leader()
        async with counting_clients(cluster) as clients:
            await clients.wait_for_progress()
            proxies[deaf.name].black_hole()
            others = [member for member in cluster if member is not deaf]

            async def leaders() -> set[str]:
                return {await leader_known_to(cluster, member) for member in others}

            def is_another(names: set[str]) -> bool:
                return len(names) == 1 and not names & {"", deaf.name}

            await eventually("the others have a leader", leaders, until=is_another)
            await clients.wait_for_progress()
            await proxies[deaf.name].resume()
            await clients.wait_for_progress()
        await cluster.wait_until_equal()


async def test_a_follower_that_hears_nobody_does_not_disturb_the_others(tmp_path: Path) -> None:
    async with linked_through_proxies(tmp_path) as (cluster, proxies):
        leader = await cluster.wait_until_leader()
        deaf = (await cluster.followers())[0]
        before = await cluster.status(leader)
        async with counting_clients(cluster) as clients:
            proxies[deaf.name].black_hole()

            async def known() -> str:
                return await leader_known_to(cluster, deaf)

            await eventually("it knows no leader", known, until=lambda name: name == "")
            await clients.wait_for_progress(100)
            await proxies[deaf.name].resume()
            await eventually("it follows again", known, until=lambda name: name == leader.name)
        after = await cluster.status(leader)

        assert before is not None
        assert after is not None
        assert (after.role, after.term) == ("leader", before.term)
        await cluster.wait_until_equal()


async def test_without_links_writes_wait_and_stale_reads_do_not(tmp_path: Path) -> None:
    async with linked_through_proxies(tmp_path) as (cluster, proxies):
        async with AsyncClient(cluster.endpoints, session_timeout=30.0, request_timeout=LONG_S) as client:
            await client.create("/a", b"1")
            await cluster.wait_until_equal()
            for proxy in proxies.values():
                proxy.black_hole()
            for member in cluster:

                async def known(member: MemberProcess = member) -> str:
                    return await leader_known_to(cluster, member)

                await eventually(f"{member.name} knows no leader", known, until=lambda name: name == "")
            waiting = asyncio.create_task(client.set("/a", b"2"))
            stale = await client.get("/a", consistency=Consistency.STALE)
            assert stale.value == b"1"
            assert not waiting.done()
            for proxy in proxies.values():
                await proxy.resume()

            assert (await waiting).version == 1
            assert (await client.get("/a")).value == b"2"
        await cluster.wait_until_equal()


async def test_links_that_break_and_come_back_go_unnoticed(tmp_path: Path) -> None:
    async with linked_through_proxies(tmp_path) as (cluster, proxies):
        async with CountingClients(cluster.endpoints, request_timeout=3.0) as clients:
            for _ in range(5):
                for proxy in proxies.values():
                    proxy.reset()
                await clients.wait_for_progress()
        await cluster.wait_until_equal()


async def test_a_leader_that_wakes_up_serves_nothing_stale(tmp_path: Path) -> None:
    """It slept through an election. The first things it is asked come right behind its waking."""
    async with ClusterProcesses(tmp_path) as cluster:
        sleeper = await cluster.wait_until_leader()
        others = ",".join(member.endpoint for member in cluster if member is not sleeper)
        async with (
            counting_clients(cluster) as clients,
            AsyncClient(others, request_timeout=LONG_S) as writer,
        ):
            await writer.create("/newest", b"before")
            await clients.wait_for_progress()
            sleeper.pause()
            await writer.set("/newest", b"while it slept")
            coordination = cluster.coordination(sleeper)
            request = coordination_pb2.GetRequest(get=data_pb2.Get(path="/newest"))
            asked = [coordination.Get(request, timeout=LONG_S) for _ in range(20)]
            sleeper.resume()
            values = {await value_of(call) for call in asked}
            await clients.wait_for_progress()

        assert values <= {b"while it slept", None}
        assert await value_of(coordination.Get(request)) == b"while it slept"
        await cluster.wait_until_equal()


async def value_of(call: Awaitable[data_pb2.ReadResult]) -> bytes | None:
    """What was read; None if the member could not say."""
    try:
        return (await call).node.value
    except grpc.aio.AioRpcError as error:
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise
        return None

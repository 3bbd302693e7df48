"""Members are killed with SIGKILL under running clients. Issue 2, line 1; promises G1, G3 and G5."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coordclient import AsyncClient, RequestTimeoutError, State
from tests.processes.cluster import ClusterProcesses
from tests.processes.conditions import eventually
from tests.processes.workload import CountingClients, stored_counts

pytestmark = pytest.mark.processes

GO_ON_WITHIN_S = 3.0


@pytest.mark.parametrize("victim", ["leader", "follower"])
async def test_clients_go_on_within_three_seconds_when_one_member_is_killed(
    tmp_path: Path, victim: str
) -> None:
    """Requests wait at most three seconds: a longer pause would be an error, which ends the block."""
    async with ClusterProcesses(tmp_path) as cluster:
        async with CountingClients(cluster.endpoints, request_timeout=GO_ON_WITHIN_S) as clients:
            for _ in range(2):
                await clients.wait_for_progress()
                leader = await cluster.wait_until_leader()
                killed = leader if victim == "leader" else (await cluster.followers())[0]
                await killed.kill()
                await clients.wait_for_progress()
                cluster.start(killed)
                await cluster.wait_until_ready(killed)
            await clients.wait_for_progress()
        final = clients.acknowledged
        await cluster.wait_until_equal()

        async with AsyncClient(cluster.endpoints) as reader:
            assert await stored_counts(reader, list(final)) == final


async def test_a_killed_leader_is_replaced_without_waiting_for_an_election_timeout(tmp_path: Path) -> None:
    """Its host has closed the connections. By their timeouts alone the others would wait for a minute."""
    patient = ("--election-ms", "60000")
    async with ClusterProcesses(tmp_path) as cluster:
        leader = await cluster.wait_until_leader()
        for follower in await cluster.followers():
            await follower.kill()
            follower.options = (*follower.options, *patient)
            cluster.start(follower)
            await cluster.wait_until_ready(follower)
        assert await cluster.wait_until_leader() is leader
        async with AsyncClient(cluster.endpoints) as client:
            await client.create("/before", b"")

            await leader.kill()

            await client.create("/after", b"", timeout=GO_ON_WITHIN_S * 4)


async def suspended(client: AsyncClient) -> None:
    """Wait until the client has noticed that its member is gone."""

    async def state() -> State:
        return client.state

    await eventually("the client has noticed", state, until=lambda seen: seen is State.SUSPENDED)


@pytest.mark.parametrize(
    ("attached_to", "says", "may_be_applied"),
    [
        ("the survivor", "the write was not answered in time and may still be applied", True),
        ("a killed one", "the request was not sent in time", False),
    ],
)
async def test_writes_wait_and_then_time_out_clearly_when_two_members_are_killed(
    tmp_path: Path, attached_to: str, says: str, may_be_applied: bool
) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        async with CountingClients(cluster.endpoints, request_timeout=10.0) as clients:
            await clients.wait_for_progress()
        acknowledged = clients.acknowledged
        survivor, *killed = cluster
        member = survivor if attached_to == "the survivor" else killed[0]
        async with AsyncClient(member.endpoint, session_timeout=30.0) as client:
            await client.create("/before", b"")
            await asyncio.gather(*(member.kill() for member in killed))
            if attached_to == "a killed one":
                await suspended(client)
            with pytest.raises(RequestTimeoutError, match=says) as timed_out:
                await client.create("/without-majority", b"", timeout=1.0)
            waiting = asyncio.create_task(client.create("/waited", b"", timeout=20.0))
            cluster.start(*killed)

            assert isinstance(timed_out.value, TimeoutError)
            assert timed_out.value.may_have_been_applied is may_be_applied
            assert await waiting == "/waited", "a write that is still waiting goes through"
            assert await client.exists("/before")
            assert (await client.exists("/without-majority") is not None) is may_be_applied
            assert await stored_counts(client, list(acknowledged)) == acknowledged
        assert survivor.is_running
        await cluster.wait_until_equal()


async def test_every_acknowledged_write_survives_when_all_members_are_killed_at_once(tmp_path: Path) -> None:
    """The clients stay and go on: not one of their requests fails, and none is applied twice."""
    async with ClusterProcesses(tmp_path) as cluster:
        async with CountingClients(cluster.endpoints, request_timeout=15.0) as clients:
            for _ in range(2):
                await clients.wait_for_progress()
                await asyncio.gather(*(member.kill() for member in cluster))
                before = clients.acknowledged
                cluster.start(*cluster)
                await cluster.wait_until_leader()
                await clients.wait_for_progress()
                async with AsyncClient(cluster.endpoints) as reader:
                    found = await stored_counts(reader, list(before))
                    assert all(found[path] >= count for path, count in before.items()), "nothing is lost"
        final = clients.acknowledged
        await cluster.wait_until_equal()

        async with AsyncClient(cluster.endpoints) as reader:
            assert await stored_counts(reader, list(final)) == final

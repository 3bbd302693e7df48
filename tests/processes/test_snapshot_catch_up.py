"""A follower that missed more than the log keeps gets the tree. Issue 2, line 2."""

from __future__ import annotations

import asyncio
import operator
from functools import partial
from pathlib import Path

import pytest

from coordclient import AsyncClient
from tests.processes.cluster import ClusterProcesses, MemberProcess
from tests.processes.conditions import eventually
from tests.processes.workload import CountingClients, stored_counts

pytestmark = pytest.mark.processes

WRITES = 50_000
NODES = 500
ROUND = 5_000  # writes that wait for an answer together


async def write_many(client: AsyncClient) -> None:
    """Fifty thousand pipelined writes: every node is set a hundred times."""
    for start in range(0, WRITES, ROUND):
        numbers = range(start, start + ROUND)
        await asyncio.gather(
            *(client.set(f"/many/{number % NODES}", b"%100d" % number, timeout=60) for number in numbers)
        )


async def test_a_follower_behind_the_log_catches_up_by_snapshot_while_writes_go_on(tmp_path: Path) -> None:
    trimming_soon = ("--log-trim-entries", "20", "--log-keep-entries", "5")
    async with ClusterProcesses(tmp_path, *trimming_soon) as cluster:
        stopped, other = await cluster.followers()
        async with AsyncClient(cluster.endpoints) as client:
            await client.ensure_path("/many")
            await asyncio.gather(*(client.create(f"/many/{number}") for number in range(NODES)))
            await cluster.wait_until_equal()
            known = await cluster.status(stopped)
            await stopped.stop()

            await write_many(client)

            leading = await cluster.wait_until_leader()
            status = await cluster.status(leading)
            assert known is not None
            assert status is not None
            first_kept = status.applied_index - status.log_entries + 1
            assert first_kept > known.applied_index + 1, "what the follower needs is gone from the log"
            async with CountingClients(cluster.endpoints, request_timeout=5.0) as clients:
                cluster.start(stopped)
                await cluster.wait_for_log(stopped, "snapshot_installed")
                await cluster.wait_until_ready(stopped)
                await clients.wait_for_progress()
            counted = clients.acknowledged
            final = await cluster.wait_until_equal()

            assert f"snapshot_sent to={stopped.name}" in leading.log_text()
            assert "snapshot_installed" not in other.log_text(), "who was there needs no snapshot"
            assert final.zxid >= WRITES
            assert await stored_counts(client, list(counted)) == counted
            last = await client.get(f"/many/{NODES - 1}")
            assert (last.value, last.stat.version) == (b"%100d" % (WRITES - 1), WRITES // NODES)


async def test_a_snapshot_is_sent_again_when_its_receiver_or_its_sender_dies(tmp_path: Path) -> None:
    """60 MiB take a while: first the follower is killed while it receives, then the leader while it sends."""
    trimming_soon = ("--log-trim-entries", "20", "--log-keep-entries", "5")
    async with ClusterProcesses(tmp_path, *trimming_soon) as cluster:
        behind = (await cluster.followers())[0]
        await behind.stop()
        async with AsyncClient(cluster.endpoints, session_timeout=30.0, request_timeout=30.0) as client:
            await client.ensure_path("/large")
            for start in range(0, 150, 10):
                await asyncio.gather(
                    *(client.create(f"/large/{start + number}", bytes(400 << 10)) for number in range(10))
                )
            await start_and_wait_for_chunks(cluster, behind)
            await behind.kill()
            await start_and_wait_for_chunks(cluster, behind)
            sender = await cluster.wait_until_leader()
            await sender.kill()
            cluster.start(sender)
            await cluster.wait_for_log(behind, "snapshot_installed", within_s=30.0)
            await client.create("/after")

        final = await cluster.wait_until_equal()
        assert final.nodes == 153, "the root, /large with 150 nodes, and /after"


async def start_and_wait_for_chunks(cluster: ClusterProcesses, member: MemberProcess) -> None:
    """Start a member that is behind; return when a snapshot is on its way to it."""
    known = member.log_text().count("snapshot_receiving")
    cluster.start(member)

    async def look() -> int:
        return member.log_text().count("snapshot_receiving")

    await eventually("a snapshot begins", look, until=partial(operator.lt, known))
    assert "snapshot_installed" not in member.log_text(), "it is still on its way"

"""A sync that fails and a write that finds no space: the member stops, tries nothing again, loses nothing."""

from __future__ import annotations

import asyncio
import errno
import signal
from pathlib import Path

import pytest

from coordclient import AsyncClient
from tests.crashes.extent import sample
from tests.crashes.failing_disk import FailingDisk
from tests.processes.cluster import ClusterProcesses, MemberProcess, logged_a_traceback
from tests.processes.workload import CountingClients, stored_counts

pytestmark = pytest.mark.processes

REQUEST_TIMEOUT_S = 10.0


def last_line(member: MemberProcess) -> str:
    line = member.log_text().splitlines()[-1]
    assert line.startswith(f"coordsvc: {member.name} stops: "), line
    assert not logged_a_traceback(member)
    return line


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        ("sync", errno.EIO, "check the disk and the system log, then start this member again"),
        ("write", errno.ENOSPC, "the disk is full"),
    ],
)
async def test_a_leader_whose_disk_fails_stops_and_nothing_acknowledged_is_lost(
    tmp_path: Path, call: str, error: int, says: str
) -> None:
    cluster = ClusterProcesses(tmp_path)
    disks = {
        member.name: FailingDisk(tmp_path / f"disk-{member.name}", member.data_dir) for member in cluster
    }
    for member in cluster:
        member.environment |= disks[member.name].environment
    async with cluster:
        async with CountingClients(cluster.endpoints, request_timeout=REQUEST_TIMEOUT_S) as clients:
            await clients.wait_for_progress(3)
            failed = await cluster.wait_until_leader()
            disk = disks[failed.name]
            disk.fail_sync(error) if call == "sync" else disk.fail_write(error, after=5)

            assert await failed.exit_code() == 1
            assert says in last_line(failed)
            assert disk.failed_file
            assert disk.calls_after_failure == [], "nothing is tried again"
            await clients.wait_for_progress(5)
            disk.heal()
            cluster.start(failed)
            await cluster.wait_until_ready(failed)
        acknowledged = clients.acknowledged
        await cluster.wait_until_equal()
        async with AsyncClient(cluster.endpoints) as reader:
            assert await stored_counts(reader, list(acknowledged)) == acknowledged


@pytest.mark.parametrize("after", sample(range(12), 3))
async def test_a_first_start_whose_nth_sync_fails_stops_and_the_next_one_makes_the_directory(
    tmp_path: Path, after: int
) -> None:
    cluster = ClusterProcesses(tmp_path, members=1)
    member = cluster["a"]
    disk = FailingDisk(tmp_path / "disk", member.data_dir)
    disk.fail_sync(errno.EIO, after=after)
    member.environment |= disk.environment
    try:
        cluster.start(member)
        assert await member.exit_code() == 1
        assert "check the disk" in last_line(member)
    finally:
        member.end()
    disk.heal()
    async with cluster, AsyncClient(cluster.endpoints) as client:
        assert await client.create("/made") == "/made"


async def test_a_loss_of_power_takes_no_acknowledged_write_from_a_single_member(tmp_path: Path) -> None:
    """The process dies between a write and its sync, and then all that was not synced is gone."""
    cluster = ClusterProcesses(tmp_path, members=1)
    member = cluster["a"]
    disk = FailingDisk(tmp_path / "disk", member.data_dir)
    member.environment |= disk.environment
    acknowledged: list[str] = []
    async with cluster:
        for round_number in range(2):
            async with AsyncClient(cluster.endpoints, session_timeout=30.0) as client:
                writing = asyncio.create_task(write_until_cancelled(client, round_number, acknowledged))
                await asyncio.sleep(0)
                disk.kill_before_sync(after=20)
                assert await member.exit_code() == -signal.SIGKILL
                writing.cancel()
                await asyncio.wait([writing])
                assert disk.lose_unsynced() >= 1, "the write that was not synced is gone"
                disk.heal()
                cluster.start(member)
                await cluster.wait_until_ready(member)
                stored = await client.get_children(f"/round-{round_number}")
                assert set(acknowledged) <= {f"/round-{round_number}/{name}" for name in stored}
                assert len(acknowledged) >= 5
                acknowledged.clear()


async def write_until_cancelled(client: AsyncClient, round_number: int, acknowledged: list[str]) -> None:
    await client.create(f"/round-{round_number}")
    number = 0
    while True:
        acknowledged.append(await client.create(f"/round-{round_number}/{number}"))
        number += 1

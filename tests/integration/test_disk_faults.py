"""A member whose disk is full, write-protected or damaged stops. Issue 2, line 9; promises G3 and G9.

It says in one line what happened and what to do; the cluster goes on, and nothing acknowledged is lost.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coordclient import AsyncClient
from tests.processes.cluster import ClusterProcesses, MemberProcess, logged_a_traceback
from tests.processes.small_disk import small_disk, write_protected
from tests.processes.workload import CountingClients, stored_counts

pytestmark = pytest.mark.processes

GO_ON_WITHIN_S = 5.0


def last_words(member: MemberProcess) -> str:
    """The one line in which the member says why it stopped; there must be exactly one, at the end."""
    lines = member.log_text().splitlines()
    reasons = [line for line in lines if line.startswith(f"coordsvc: {member.name} stops: ")]
    assert len(reasons) == 1, lines[-5:]
    assert lines[-1] == reasons[0], "nothing comes after it"
    assert not logged_a_traceback(member)
    return reasons[0]


@pytest.mark.parametrize("victim", ["leader", "follower"])
async def test_a_member_whose_disk_is_full_stops_and_comes_back_when_there_is_space(
    tmp_path: Path, victim: str
) -> None:
    with small_disk(tmp_path / "small") as disk:
        cluster = ClusterProcesses(tmp_path)
        cluster["a"].data_dir = disk.directory / "a"
        async with cluster:
            await make_leader(cluster, "a" if victim == "leader" else "b")
            disk.limit(cluster["a"])
            async with CountingClients(cluster.endpoints, request_timeout=GO_ON_WITHIN_S) as clients:
                filling = asyncio.create_task(fill(cluster.endpoints))
                code = await cluster["a"].exit_code(within_s=30.0)
                filling.cancel()
                await asyncio.wait([filling])

                assert code == 1
                assert "the disk is full" in last_words(cluster["a"])
                assert "free space on this file system, then start this member again" in last_words(
                    cluster["a"]
                )
                await clients.wait_for_progress()
                disk.enlarge()
                cluster.start(cluster["a"])
                await cluster.wait_until_ready(cluster["a"])
            acknowledged = clients.acknowledged
            await cluster.wait_until_equal()
            async with AsyncClient(cluster.endpoints) as reader:
                assert await stored_counts(reader, list(acknowledged)) == acknowledged


async def make_leader(cluster: ClusterProcesses, name: str) -> None:
    while (leader := await cluster.wait_until_leader()).name != name:
        await cluster.transfer_leadership(leader, name)


async def fill(endpoints: str) -> None:
    """Write large values until cancelled."""
    async with AsyncClient(endpoints, request_timeout=30.0) as client:
        await client.create("/filler", b"")
        while True:
            await asyncio.gather(*(client.set("/filler", bytes(100_000)) for _ in range(10)))


async def test_a_member_that_cannot_write_its_directory_does_not_start(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        follower = (await cluster.followers())[0]
        kept = follower.data_dir
        async with CountingClients(cluster.endpoints, request_timeout=GO_ON_WITHIN_S) as clients:
            await follower.stop()
            with write_protected(tmp_path / "protected") as directory:
                follower.data_dir = directory / "data"
                cluster.start(follower)
                assert await follower.exit_code() == 1
            assert f"{directory}/data: not writable by user" in last_words(follower)
            assert "correct its owner and mode, or choose another data directory" in last_words(follower)
            await clients.wait_for_progress()

            follower.log_file.unlink()
            follower.data_dir = tmp_path / "file"
            follower.data_dir.write_text("somebody's notes")
            cluster.start(follower)
            assert await follower.exit_code() == 1
            assert "there is a file where a directory should be" in last_words(follower)
            assert follower.data_dir.read_text() == "somebody's notes"

            follower.data_dir = kept
            cluster.start(follower)
            await cluster.wait_until_ready(follower)
        await cluster.wait_until_equal()


@pytest.mark.parametrize("database", ["log", "tree-1"])
async def test_a_member_with_a_flipped_bit_in_a_data_file_does_not_start(
    tmp_path: Path, database: str
) -> None:
    """One bit in the middle of the largest file. The member is never repaired in silence."""
    async with ClusterProcesses(tmp_path) as cluster:
        async with CountingClients(cluster.endpoints, request_timeout=GO_ON_WITHIN_S) as clients:
            await clients.wait_for_progress()
            damaged = await cluster.wait_until_leader()
            await damaged.kill()
            largest = max((damaged.data_dir / database).iterdir(), key=lambda path: path.stat().st_size)
            flip_bit(largest)
            cluster.start(damaged)

            assert await damaged.exit_code() == 1
            words = last_words(damaged)
            assert str(damaged.data_dir) in words
            assert "is damaged" in words
            assert "restore this data directory from a backup or replace this member" in words
            await clients.wait_for_progress()
            flip_bit(largest)
            damaged.log_file.unlink()
            cluster.start(damaged)
            await cluster.wait_until_ready(damaged)
        acknowledged = clients.acknowledged
        await cluster.wait_until_equal()
        async with AsyncClient(cluster.endpoints) as reader:
            assert await stored_counts(reader, list(acknowledged)) == acknowledged


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


async def test_a_second_process_on_a_data_directory_is_refused(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path, members=1) as cluster:
        intruders = ClusterProcesses(tmp_path / "second", members=1)
        intruder = intruders["a"]
        intruder.data_dir = cluster["a"].data_dir
        intruder.log_file.parent.mkdir()
        try:
            intruder.start(cluster.initial_cluster)
            assert await intruder.exit_code() == 1
        finally:
            intruder.end()

        assert f"is in use by process {cluster['a'].pid}; stop it" in last_words(intruder)
        async with AsyncClient(cluster.endpoints) as client:
            await client.create("/unharmed")

"""Servers that join a running cluster: they are told where one of its members is. Decision 0012."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from coordclient import AsyncClient
from coordsvc.storage.data_directory import read_identity
from tests.processes.cluster import ClusterProcesses, MemberProcess
from tests.processes.conditions import eventually
from tests.processes.ports import free_ports

pytestmark = pytest.mark.processes

SMALL_LOG = ("--log-trim-entries", "50", "--log-keep-entries", "10")


async def wait_for_member(cluster: ClusterProcesses, name: str, role: str) -> None:
    async def look() -> bool:
        leader = await cluster.wait_until_leader()
        status = await cluster.status(leader)
        assert status is not None
        return any(member.name == name and member.learner is (role == "learner") for member in status.members)

    await eventually(f"{name} is a {role}", look, within_s=15.0)


async def test_a_joiner_that_crashes_again_and_again_becomes_one_member(tmp_path: Path) -> None:
    """Killed while it asks, when it has been answered, and when it has begun to receive."""
    async with ClusterProcesses(tmp_path) as cluster:
        joiner = cluster.start_joining("d")
        await eventually("its id is on its disk", lambda: has_id(joiner), within_s=15.0)
        await joiner.kill()
        joiner.start()
        await cluster.wait_for_log(joiner, "joined cluster=")
        await joiner.kill()
        joiner.start()
        await eventually("it is made", lambda: is_made(joiner), within_s=15.0)
        made_as = read_identity(joiner.data_dir)
        await joiner.kill()
        joiner.options = ()
        joiner.start()
        await cluster.wait_until_ready(joiner)
        await cluster.wait_until_equal()
        await wait_for_member(cluster, "d", "learner")
        assert read_identity(joiner.data_dir) == made_as


async def has_id(member: MemberProcess) -> bool:
    return (member.data_dir / "joining").exists() or await is_made(member)


async def is_made(member: MemberProcess) -> bool:
    return (member.data_dir / "identity").exists()


async def test_a_second_server_of_the_same_name_is_refused(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        joiner = cluster.start_joining("d")
        await cluster.wait_until_ready(joiner)
        second = MemberProcess("d", free_ports(3), tmp_path / "second")
        second.data_dir.parent.mkdir()
        second.options = joiner.options
        second.start()
        code = await second.exit_code()
        assert code == 1
        assert "d exists already with another data directory: remove it first" in second.log_text()


async def test_a_joiner_that_lost_its_disk_is_refused_too(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        joiner = cluster.start_joining("d")
        await cluster.wait_until_ready(joiner)
        await joiner.kill()
        shutil.rmtree(joiner.data_dir)
        joiner.start()
        assert await joiner.exit_code() == 1
        assert "d exists already with another data directory: remove it first" in joiner.log_text()


async def test_a_joiner_gets_a_snapshot_if_the_log_begins_later(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path, *SMALL_LOG) as cluster:
        async with AsyncClient(cluster.endpoints) as client:
            await client.create("/n", b"")
            for _ in range(200):
                await client.set("/n", b"x")
            joiner = cluster.start_joining("d")
            await cluster.wait_for_log(joiner, "snapshot_installed")
            await client.set("/n", b"newest")
        await cluster.wait_until_equal()
        await joiner.stop()
        joiner.options = ()
        joiner.start()
        await cluster.wait_until_ready(joiner)
        await cluster.wait_until_equal()


async def test_a_member_that_moves_to_another_address_is_found(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        moved = (await cluster.followers())[0]
        await moved.stop()
        moved.peer_address = f"127.0.0.1:{free_ports(1)[0]}"
        moved.start()
        await cluster.wait_until_ready(moved)

        async def is_known_to_all() -> bool:
            statuses = await cluster.statuses()
            return len(statuses) == 3 and all(
                member.peer_address == moved.peer_address
                for status in statuses
                for member in status.members
                if member.name == moved.name
            )

        await eventually("all know where it is", is_known_to_all, within_s=15.0)
        others = [member for member in cluster if member is not moved]
        await asyncio.gather(*(member.kill() for member in others))
        cluster.start(*others)
        await cluster.wait_until_ready(moved)
        assert "lost its disk" not in moved.log_text()

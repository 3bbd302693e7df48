"""A member dies at every step that its disk sees, with and without a loss of power. Promises G3, G5, G7, G9.

One cluster lives through a chain of crashes: each member starts on what the crashes before have left. Clients
write all the time, sessions with ephemerals come and go, the log is trimmed every few entries. At the end
every acknowledged write is there, once, the members hold the same, and what is on their disks agrees.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from coordclient import AsyncClient
from coordsvc.storage.failpoints import POINTS, VARIABLE
from tests.crashes.extent import sample
from tests.crashes.sweeping import SweptCluster, load

pytestmark = pytest.mark.processes

MAKING = (
    *("directory_begun", "directory_log_made", "directory_tree_made", "directory_pointer_made"),
    *("record_written", "record_replaced", "record_written@2", "tree_syncing", "tree_synced"),
)
JOINING = ("record_written", "record_replaced", *MAKING[:4], "record_written@2", "directory_made")
STARTING = ("recovery_begun", "recovery_log_opened", "recovery_tree_opened")
SERVING = (
    *("log_writing@30", "log_written@30", "log_marked@30", "log_adopting@30"),
    *("tree_writing@40", "tree_written@40"),
    *("tree_syncing@2", "tree_synced", "trim_batch_written", "trim_done@2"),
)
CALLS_WHILE_SERVING = (
    *(("write", nth) for nth in (1, 2, 3, 4, 5, 6, 7, 8, 13, 21, 34, 55, 89, 144)),
    *(("sync", nth) for nth in (1, 2, 3, 4, 5, 8, 13, 21, 34, 55)),
)
CALLS_WHILE_STARTING = (("write", 2), ("sync", 1), ("write", 5), ("sync", 2), ("write", 9), ("sync", 4))
RECEIVING = tuple(point for point in POINTS if point.startswith(("snapshot_", "old_trees_")))


@pytest.mark.parametrize(
    ("power_lost", "last"), sample([(True, "record_replaced@2"), (False, "directory_made")], 1)
)
async def test_a_crash_at_any_step_of_making_a_directory(tmp_path: Path, power_lost: bool, last: str) -> None:
    cluster = SweptCluster(tmp_path, members=1)
    member = cluster.processes["a"]
    for point in [*sample(MAKING, 4), last]:
        try:
            await cluster.crash(member, point, power_lost=power_lost)
        finally:
            member.end()
    async with cluster.processes, AsyncClient(cluster.processes.endpoints) as client:
        assert await client.create("/made") == "/made"
        assert len((await cluster.stop_and_compare())[0].paths) == 2


@pytest.mark.parametrize("power_lost", sample([True, False], 1))
async def test_a_server_dies_at_any_step_of_joining(tmp_path: Path, power_lost: bool) -> None:
    """It asks under the same id each time, and becomes one member."""
    cluster = SweptCluster(tmp_path, members=1)
    async with cluster.processes:
        joiner = cluster.add_joiner("d")
        for point in sample(JOINING, 3):
            await cluster.crash(joiner, point, power_lost=power_lost)
        cluster.start(joiner)
        await cluster.processes.wait_until_ready(joiner)
        leader = await cluster.processes.status(cluster.processes["a"])
        assert leader is not None
        assert [member.name for member in leader.members] == ["a", "d"]
        await cluster.stop_and_compare()


@pytest.mark.parametrize("power_lost", sample([True, False], 1))
async def test_a_single_member_dies_at_any_step_of_serving(tmp_path: Path, power_lost: bool) -> None:
    """Also while it starts: after each of those crashes it dies once more, while it recovers."""
    cluster = SweptCluster(tmp_path, members=1)
    member = cluster.processes["a"]
    points = sample(SERVING, 3)
    async with cluster.processes:
        async with load(cluster) as clients:
            await clients.wait_for_progress(5)
            await member.kill()
            for number, point in enumerate(points):
                await cluster.crash(member, point, power_lost=power_lost)
                if number % 2:
                    again = STARTING[number // 2 % len(STARTING)]
                    await cluster.crash(member, again, power_lost=not power_lost)
            cluster.processes.start(member)
            await clients.wait_for_progress(5)
        assert len(cluster.crashes) >= len(points)
        await cluster.stop_and_compare()


@pytest.mark.parametrize(("members", "power_lost"), sample([(1, True), (1, False), (3, False), (3, True)], 2))
async def test_a_member_dies_in_the_middle_of_a_write_or_before_a_sync(
    tmp_path: Path, members: int, power_lost: bool
) -> None:
    """While it serves, and every other time once more while it starts. Whatever file that call is to.

    After each crash the clients go on, and the version of their next write tells whether one was lost.
    """
    cluster = SweptCluster(tmp_path, members=members)
    victim = cluster.processes["a"]
    async with cluster.processes:
        async with load(cluster) as clients:
            for number, (call, nth) in enumerate(sample(CALLS_WHILE_SERVING, 3)):
                await clients.wait_for_progress(3)
                await cluster.crash_in_call(victim, call, nth, power_lost=power_lost)
                if number % 2:
                    again, nth = CALLS_WHILE_STARTING[number // 2 % len(CALLS_WHILE_STARTING)]
                    await cluster.crash_in_call(victim, again, nth, power_lost=not power_lost)
                cluster.start(victim)
                await cluster.processes.wait_until_ready(victim)
            await clients.wait_for_progress(3)
        await cluster.stop_and_compare()


@pytest.mark.parametrize("power_lost", sample([True, False], 1))
async def test_a_leader_dies_at_any_step_of_serving(tmp_path: Path, power_lost: bool) -> None:
    """It is armed while it follows; what it comes to after it was made the leader counts."""
    cluster = SweptCluster(tmp_path, members=3)
    async with cluster.processes:
        async with load(cluster) as clients:
            for point in sample(SERVING[1:], 1):
                victim = (await cluster.processes.followers())[0]
                await victim.kill()
                name, _, count = point.partition("@")
                later = f"{name}@{int(count or 1) + (40 if name.startswith(('log', 'tree_w')) else 3)}"
                victim.environment[VARIABLE] = later
                cluster.processes.start(victim)
                await cluster.processes.wait_until_ready(victim)
                leader = await cluster.processes.wait_until_leader()
                await cluster.processes.transfer_leadership(leader, victim.name)
                await cluster.wait_for_crash(victim, power_lost=power_lost)
                await clients.wait_for_progress(3)
                cluster.processes.start(victim)
                await cluster.processes.wait_until_ready(victim)
        await cluster.stop_and_compare()


@pytest.mark.parametrize("power_lost", sample([True, False], 1))
async def test_a_follower_dies_at_any_step_of_receiving_a_snapshot(tmp_path: Path, power_lost: bool) -> None:
    cluster = SweptCluster(tmp_path, members=3)
    async with cluster.processes:
        behind = (await cluster.processes.followers())[0]
        async with load(cluster) as clients:
            for point in sample(RECEIVING, 3):
                if behind.is_running:
                    await behind.kill()
                await clients.wait_for_progress(30)
                await cluster.crash(behind, point, power_lost=power_lost)
                if point == "snapshot_switched":
                    for again in ("recovery_log_resetting", "recovery_log_reset"):
                        await cluster.crash(behind, again, power_lost=not power_lost)
            cluster.processes.start(behind)
            await cluster.processes.wait_until_ready(behind)
        await cluster.stop_and_compare()

"""Sessions live as long as their programs, whoever leads. Issue 2, line 5; promise G7."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from coordclient import AsyncClient, Event, EventType, State, WatchStream
from tests.processes.cluster import ClusterProcesses
from tests.processes.programs import Program

pytestmark = pytest.mark.processes

OWNER = Path(__file__).parent / "applications" / "ephemeral_owner.py"
TIMEOUT_S = 2.0
PATHS = ("/owned/one", "/owned/two", "/elsewhere/three", "/elsewhere/deep/down/four", "/five")


async def deletions(stream: WatchStream, count: int) -> list[Event]:
    """Take events until so many of them were deletions; return these."""
    found: list[Event] = []
    while len(found) < count:
        event = await anext(stream)
        if event.type is EventType.DELETED:
            found.append(event)
    return found


async def test_a_killed_programs_session_expires_in_time_and_its_nodes_go_in_one_transaction(
    tmp_path: Path,
) -> None:
    async with (
        ClusterProcesses(tmp_path) as cluster,
        AsyncClient(cluster.endpoints) as client,
        client.watch("/", recursive=True) as stream,
        Program(OWNER, cluster.endpoints, str(TIMEOUT_S), *PATHS) as owner,
    ):
        await owner.line("session")
        await client.create("/persistent", b"")
        killed_at = time.monotonic()
        await owner.kill()
        async with asyncio.timeout(TIMEOUT_S + 1.0 + killed_at - time.monotonic()):
            gone = await deletions(stream, len(PATHS))

        assert sorted(event.path for event in gone) == sorted(PATHS)
        assert len({event.zxid for event in gone}) == 1, "all go in one transaction"
        assert await client.exists("/persistent")
        assert await client.get_children("/owned") == []


async def test_a_killed_programs_session_expires_though_the_leader_dies_meanwhile(tmp_path: Path) -> None:
    """The new leader gives every session its full timeout from its first moment, and no more."""
    async with (
        ClusterProcesses(tmp_path) as cluster,
        AsyncClient(cluster.endpoints, session_timeout=30.0) as client,
        client.watch("/", recursive=True) as stream,
        Program(OWNER, cluster.endpoints, str(TIMEOUT_S), *PATHS) as owner,
    ):
        await owner.line("session")
        await asyncio.gather(owner.kill(), (await cluster.wait_until_leader()).kill())
        await cluster.wait_until_leader()
        async with asyncio.timeout(TIMEOUT_S + 1.0):
            gone = await deletions(stream, len(PATHS))

        assert len({event.zxid for event in gone}) == 1, "all go in one transaction"


async def test_a_live_session_outlives_every_leader(tmp_path: Path) -> None:
    """Four leaders are killed one after the other; neither a busy nor an idle session notices."""
    async with ClusterProcesses(tmp_path) as cluster:
        async with (
            AsyncClient(cluster.endpoints, session_timeout=TIMEOUT_S) as busy,
            AsyncClient(cluster.endpoints, session_timeout=TIMEOUT_S) as idle,
        ):
            states: list[State] = []
            for client in (busy, idle):
                client.add_listener(states.append)
            await idle.create("/idle", ephemeral=True)
            await busy.create("/busy", ephemeral=True)
            before = (busy.session_id, idle.session_id)
            for number in range(4):
                leader = await cluster.wait_until_leader()
                await leader.kill()
                await busy.set("/busy", b"%d" % number)
                await cluster.wait_until_leader()
                cluster.start(leader)
                await cluster.wait_until_ready(leader)
            async with AsyncClient(cluster.endpoints) as observer:
                owners = [await observer.get(path) for path in ("/busy", "/idle")]

            assert State.LOST not in states
            assert (busy.session_id, idle.session_id) == before
            assert tuple(node.stat.ephemeral_owner for node in owners) == before
        await cluster.wait_until_equal()


async def test_sessions_survive_a_restart_of_the_whole_cluster(tmp_path: Path) -> None:
    async with (
        ClusterProcesses(tmp_path) as cluster,
        AsyncClient(cluster.endpoints, session_timeout=15.0) as client,
    ):
        await client.create("/mine", ephemeral=True)
        session_id = client.session_id
        await asyncio.gather(*(member.kill() for member in cluster))
        cluster.start(*cluster)
        stat = await client.set("/mine", b"still here", timeout=15.0)

        assert stat.ephemeral_owner == client.session_id == session_id

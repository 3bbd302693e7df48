"""Pipelined writes of one session while leaders die. Issue 2, line 3; promises G4 and G5."""

from __future__ import annotations

import asyncio
import operator
from functools import partial
from pathlib import Path

import pytest

from coordclient import AsyncClient
from tests.processes.cluster import ClusterProcesses
from tests.processes.conditions import eventually

pytestmark = pytest.mark.processes

WRITES = 10_000


async def test_pipelined_writes_are_applied_once_and_in_order_while_the_leader_is_killed_twice(
    tmp_path: Path,
) -> None:
    """The n-th write sets the value n, so value, version and place in the history must all be n."""
    async with (
        ClusterProcesses(tmp_path) as cluster,
        AsyncClient(cluster.endpoints, session_timeout=30.0, request_timeout=60.0) as client,
    ):
        await client.create("/counter", b"0")
        created = client.last_zxid
        versions: list[int] = []

        async def write(number: int) -> None:
            versions.append((await client.set("/counter", b"%d" % number)).version)

        async def answered() -> int:
            return len(versions)

        async with asyncio.TaskGroup() as tasks:
            for number in range(1, WRITES + 1):
                tasks.create_task(write(number))
            for share in (0.2, 0.5):
                leader = await cluster.wait_until_leader()
                await eventually("writes pass", answered, until=partial(operator.le, share * WRITES))
                await leader.kill()
                assert len(versions) < WRITES, "the leader dies while writes are on their way"
                cluster.start(leader)

        assert versions == list(range(1, WRITES + 1)), "answers come in order, and tell of one set each"
        node = await client.get("/counter")
        assert (node.value, node.stat.version) == (b"%d" % WRITES, WRITES)
        history = [event.value async for event in client.history("/counter", since=created)]
        assert history == [b"%d" % number for number in range(1, WRITES + 1)]
        await cluster.wait_until_equal()

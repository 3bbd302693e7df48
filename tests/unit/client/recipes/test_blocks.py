"""Blocks: who leaves a `with` gives back what was acquired there, also from another task or thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from coordclient import AsyncClient, Client, ClientStateError
from coordsvc.testing import Server
from tests.unit.client.fake_server import FakeServer

PATH = "/locks/a"


async def test_a_block_may_end_in_another_task_once_the_first_has_ended(
    client: AsyncClient, server: FakeServer
) -> None:
    """The fixtures of some test runners do that: each half of them is a task."""
    lock = client.lock(PATH)
    held = await asyncio.create_task(lock.__aenter__())
    await asyncio.create_task(lock.__aexit__(None, None, None))

    assert held.is_released
    assert server.names(PATH) == []


async def test_a_task_that_runs_keeps_its_own(client: AsyncClient) -> None:
    lock = client.lock(PATH)
    async with lock as held:
        with pytest.raises(ClientStateError, match="another task"):
            await asyncio.create_task(lock.__aexit__(None, None, None))
        held.check()


def test_a_block_may_end_in_another_thread_once_the_first_has_ended() -> None:
    with Server() as server, Client(server.endpoints) as client:
        lock = client.lock(PATH)
        entering = threading.Thread(target=lock.__enter__)
        entering.start()
        entering.join()
        lock.__exit__(None, None, None)

        assert client.get_children(PATH) == []
        with pytest.raises(ClientStateError, match="another task"):
            lock.__exit__(None, None, None)

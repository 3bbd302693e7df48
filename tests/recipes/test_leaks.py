"""No leak: after very many acquires, watches and reconnects everything is as it was before.

The server is a process of its own, so that what this process has is what the SDK has. Counted are the things
that could pile up, and, for all that nobody thought of, Python's memory blocks and the resident size, which
may differ a little: caches fill and hash tables grow.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pytest

from coordclient import AsyncClient, State
from coordclient.recipes.lock import AsyncLock
from tests.processes.cluster import ClusterProcesses
from tests.processes.conditions import eventually
from tests.processes.ports import free_ports
from tests.processes.proxy import Proxy

pytestmark = pytest.mark.processes

CYCLES = 10_000
WATCHES = 1_000
RECONNECTS = 1_000
AT_ONCE = 100
CLIENTS = 10
WARM_UP = 0.1  # of the rounds: caches, pools, the first growth of every table
BLOCKS_MAX = 2_000  # memory blocks for all cycles together: not one for five cycles
RESIDENT_BYTES_MAX = 8 << 20


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a client has that could pile up."""

    tasks: int
    threads: int
    files: int
    znodes: int
    listeners: int
    watches: int
    jobs: int
    pending: int


def grown(before: Inventory, after: Inventory) -> dict[str, int]:
    """Return what there is more of. Less is no leak: what earlier tests have left here goes late."""
    earlier = asdict(before)
    return {name: count - earlier[name] for name, count in asdict(after).items() if count > earlier[name]}


async def inventory(client: AsyncClient, containers: Sequence[str]) -> Inventory:
    """Count, once what is under way has come to rest, and the service has removed the containers."""
    gc.collect()
    for path in containers:
        await eventually(f"{path} is removed", partial(client.exists, path), until=lambda stat: stat is None)
    await client.sync()
    while client.janitor.task_count:
        await client.sync()
    driver = client._running_driver()
    return Inventory(
        tasks=len(asyncio.all_tasks()),
        threads=threading.active_count(),
        files=len(os.listdir("/proc/self/fd")),
        znodes=await count_below(client, "/"),
        listeners=driver.listener_count,
        watches=len(driver.core.watches),
        jobs=client.janitor.task_count,
        pending=driver.core.pipeline.pending_count,
    )


async def count_below(client: AsyncClient, path: str) -> int:
    names = await client.get_children(path)
    return len(names) + sum([await count_below(client, f"{path.rstrip('/')}/{name}") for name in names])


def blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def resident_bytes() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found, "Linux tells the resident size"
    return int(found[1]) * 1024


async def check_rounds(
    client: AsyncClient, rounds: int, take: Callable[[], Awaitable[None]], containers: Sequence[str] = ()
) -> None:
    """Take the round again and again; what is there after the first ones is there after the last.

    The service removes the containers that a round leaves empty, when it comes to it.
    """
    for _ in range(max(1, round(rounds * WARM_UP))):
        await take()
    before, blocks_before, resident_before = await inventory(client, containers), blocks(), resident_bytes()
    for _ in range(rounds):
        await take()
    after = await inventory(client, containers)

    assert grown(before, after) == {}
    assert blocks() - blocks_before < BLOCKS_MAX
    assert resident_bytes() - resident_before < RESIDENT_BYTES_MAX


@asynccontextmanager
async def lone_member(directory: Path, *options: str) -> AsyncIterator[str]:
    async with ClusterProcesses(directory, *options, members=1) as cluster:
        yield cluster.endpoints


async def test_acquire_and_release(tmp_path: Path) -> None:
    async with lone_member(tmp_path) as endpoints, AsyncClient(endpoints) as client:
        await client.create("/locks")
        paths = [f"/locks/{number}" for number in range(AT_ONCE)]

        async def cycle(path: str) -> None:
            async with AsyncLock(client, path) as held:
                held.check()

        async def take() -> None:
            await asyncio.gather(*map(cycle, paths))

        await check_rounds(client, CYCLES // AT_ONCE, take, paths)


async def test_acquire_in_a_queue_and_give_up(tmp_path: Path) -> None:
    """Half of them wait behind a holder and change their mind."""
    async with lone_member(tmp_path) as endpoints, AsyncClient(endpoints) as client:

        async def take() -> None:
            held = await AsyncLock(client, "/lock").acquire()
            waiting = [asyncio.create_task(AsyncLock(client, "/lock").acquire()) for _ in range(CLIENTS)]
            await client.sync()
            for task in waiting[::2]:
                task.cancel()
            await held.release()
            for task in waiting[1::2]:
                await (await task).release()
            await asyncio.wait(waiting)

        await check_rounds(client, WATCHES // CLIENTS, take, ["/lock"])


async def test_open_and_close_watches(tmp_path: Path) -> None:
    async with lone_member(tmp_path) as endpoints, AsyncClient(endpoints) as client:
        await client.create("/watched/node", parents=True)

        async def follow() -> None:
            async with client.watch("/watched", recursive=True) as events:
                await client.set("/watched/node", b"changed")
                await anext(aiter(events))

        async def once() -> None:
            told = asyncio.Event()
            await client.get("/watched/node", watch=lambda _: told.set())
            await client.set("/watched/node", b"changed")
            await told.wait()

        async def take() -> None:
            await asyncio.gather(follow(), once(), *(follow() for _ in range(CLIENTS - 2)))

        await check_rounds(client, WATCHES // CLIENTS, take)


async def test_reconnect(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every connection breaks, again and again, under clients that hold, wait and watch."""
    caplog.set_level(logging.ERROR, "coordclient")  # What pytest keeps of the log would be taken for a leak.
    (port,) = free_ports(1)
    behind = ("--advertise-client", f"127.0.0.1:{port}")
    async with lone_member(tmp_path, *behind) as endpoints, Proxy(endpoints, port) as proxy:
        clients = [await AsyncClient(proxy.address).connect() for _ in range(CLIENTS)]
        held = await AsyncLock(clients[0], "/lock").acquire()
        waiting = [asyncio.create_task(AsyncLock(client, "/lock").acquire()) for client in clients[1:]]
        streams = [await client.watch("/lock", recursive=True) for client in clients]

        async def take() -> None:
            suspended = [asyncio.create_task(suspension(client)) for client in clients]
            await asyncio.sleep(0)
            proxy.reset()
            await asyncio.wait(suspended)
            await asyncio.gather(*(client.sync() for client in clients))
            assert not held.lost

        await check_rounds(clients[0], RECONNECTS // CLIENTS, take)

        for task in waiting:
            task.cancel()
        for stream in streams:
            await stream.close()
        await asyncio.gather(*waiting, return_exceptions=True)
        for client in clients:
            await client.close()


async def suspension(client: AsyncClient) -> None:
    """Return when the client has lost its connection."""
    noticed = asyncio.Event()

    def note(state: State) -> None:
        if state is State.SUSPENDED:
            noticed.set()

    client.add_internal_listener(note)
    try:
        await noticed.wait()
    finally:
        client.remove_internal_listener(note)

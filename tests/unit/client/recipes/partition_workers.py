"""Members of a partitioner for tests: they work, and notice when two work on the same item.

Rule of this file: members work on the fake server or a real one alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from coordclient import AsyncClient, ClientClosedError
from coordclient.recipes.partition_plan import node_name, owner_of
from coordclient.recipes.partitioner import AsyncPartitioner, AsyncPartitionHandle
from tests.unit.client.fake_server import FakeServer

PATH = "/shards"
ITEMS = [f"item-{number}" for number in range(12)]


def partitioner(client: AsyncClient, name: str, items: list[str] | None = None) -> AsyncPartitioner:
    return AsyncPartitioner(client, PATH, items or ITEMS, name=name, settle=0.01)


def plan(*names: str) -> dict[str, set[str]]:
    """Return what each member should own."""
    return {name: {item for item in ITEMS if owner_of(item, names) == name} for name in names}


def tokens(server: FakeServer) -> dict[str, int]:
    """Return the token of who holds each item, as the service sees it."""
    held = {}
    for item in ITEMS:
        directory = f"{PATH}/items/{node_name(item)}"
        nodes = [server.tree.nodes[f"{directory}/{name}"] for name in server.names(directory)]
        if nodes:
            held[item] = min(node.stat.czxid for node in nodes)
    return held


class Worker:
    """A member that works: notes what it works on, and that nobody else does."""

    busy: dict[str, str]  # by item, of all members of a test

    def __init__(self, member: AsyncPartitioner, busy: dict[str, str]) -> None:
        self.member = member
        self.begun: list[str] = []
        self.tokens: dict[str, list[int]] = {}
        self.may_stop = asyncio.Event()
        self.may_stop.set()  # Cleared: work goes on after it was cancelled, until this is set again.
        self._busy = busy
        self.running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self.member:
            await self.member.run(self._work)

    async def _work(self, item: str, handle: AsyncPartitionHandle) -> None:
        assert item not in self._busy, f"{self.member.name} begins on what {self._busy[item]} works on"
        self._busy[item] = self.member.name
        self.begun.append(item)
        self.tokens.setdefault(item, []).append(handle.token)
        try:
            await asyncio.Event().wait()
        finally:
            await self.may_stop.wait()
            del self._busy[item]

    def owns(self, items: set[str]) -> bool:
        return set(self.member.owned) == items

    def works_on(self, items: set[str]) -> bool:
        return {item for item, name in self._busy.items() if name == self.member.name} == items

    async def end(self) -> None:
        self.may_stop.set()
        self.running.cancel()
        await asyncio.wait([self.running])
        failure = None if self.running.cancelled() else self.running.exception()
        assert failure is None or isinstance(failure, ClientClosedError), failure


Begin = Callable[[AsyncPartitioner], Worker]


@asynccontextmanager
async def beginning() -> AsyncIterator[Begin]:
    """Begin members that work; they are ended afterwards, and must not have failed."""
    busy: dict[str, str] = {}
    async with AsyncExitStack() as stack:

        def begin_one(member: AsyncPartitioner) -> Worker:
            worker = Worker(member, busy)
            stack.push_async_callback(worker.end)
            return worker

        yield begin_one
    assert busy == {}


@asynccontextmanager
async def changes_of(member: AsyncPartitioner) -> AsyncIterator[asyncio.Queue[object]]:
    """Collect what a member is told, without doing anything about it."""
    queue: asyncio.Queue[object] = asyncio.Queue()

    async def collect() -> None:
        async for change in member.changes():
            queue.put_nowait(change)

    task = asyncio.create_task(collect())
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.wait([task])


async def next_change(queue: asyncio.Queue[object]) -> object:
    async with asyncio.timeout(10):
        return await queue.get()

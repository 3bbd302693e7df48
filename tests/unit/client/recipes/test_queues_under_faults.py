"""Queues and atomic commits while connections break and sessions end: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from coordclient import LockLostError
from coordclient.recipes.atomic_commit import AsyncAtomicCommit, Proposal
from coordclient.recipes.queue import AsyncQueue
from coordclient.recipes.work_queue import AsyncWorkQueue
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import ClientFrame, FakeServer

PATH = "/app/a"
SEEDS = range(4)


class Trouble:
    """Breaks connections before and after requests are applied, and ends sessions, now and then."""

    def __init__(self, server: FakeServer, seed: int) -> None:
        self._server = server
        self._random = Random(seed)
        server.on_frame = self._strike

    def _strike(self, frame: ClientFrame) -> None:
        if not (frame.writes.writes or frame.reads) or self._random.random() > 0.06:
            return
        fault = self._random.choice(("before", "after", "nothing"))
        self._server.drop_before_apply = int(fault == "before")
        self._server.drop_after_apply = int(fault == "after")
        if self._random.random() < 0.5 and self._server.sessions:
            session_id = self._random.choice(list(self._server.sessions))
            asyncio.get_running_loop().call_soon(self._expire, session_id)

    def _expire(self, session_id: int) -> None:
        if session_id in self._server.sessions:
            self._server.expire(session_id)

    def end(self) -> None:
        self._server.on_frame = None
        self._server.drop_before_apply = self._server.drop_after_apply = 0


async def until(condition: Callable[[], object], workers: list[asyncio.Task[None]]) -> None:
    """Return as soon as the condition holds; raise what a worker raised."""
    await eventually(lambda: condition() or any(worker.done() for worker in workers), seconds=30)
    for worker in workers:
        if worker.done():
            worker.result()


async def stop(workers: list[asyncio.Task[None]]) -> None:
    for worker in workers:
        worker.cancel()
    await asyncio.wait(workers)


@pytest.mark.parametrize("seed", SEEDS)
async def test_each_item_is_taken_once(connect: Connect, server: FakeServer, seed: int) -> None:
    taken: list[str] = []

    async def consume(queue: AsyncQueue) -> None:
        while True:
            taken.append((await queue.get()).id)

    queues = [AsyncQueue(await connect(request_timeout=60.0), PATH) for _ in range(3)]
    trouble = Trouble(server, seed)
    consumers = [asyncio.create_task(consume(queue)) for queue in queues[:2]]
    put = [await queues[2].put(b"%d" % number, priority=number % 3) for number in range(25)]
    await until(lambda: len(taken) >= len(put), consumers)
    trouble.end()
    await stop(consumers)

    assert await queues[2].size() == 0
    assert sorted(taken) == sorted(put)


@pytest.mark.parametrize("seed", SEEDS)
async def test_each_item_is_acknowledged_once(connect: Connect, server: FakeServer, seed: int) -> None:
    acknowledged: Counter[str] = Counter()

    async def consume(queue: AsyncWorkQueue) -> None:
        async for claim in queue.consume():
            try:
                await claim.acknowledge()
            except LockLostError:
                continue
            acknowledged[claim.id] += 1

    queues = [AsyncWorkQueue(await connect(request_timeout=60.0), PATH, attempts_max=1000) for _ in range(3)]
    trouble = Trouble(server, seed)
    consumers = [asyncio.create_task(consume(queue)) for queue in queues[:2]]
    put = [await queues[2].put(b"%d" % number) for number in range(25)]
    await until(lambda: acknowledged.total() >= len(put), consumers)
    trouble.end()
    await stop(consumers)

    assert await queues[2].size() == 0
    assert acknowledged == Counter(put)


@pytest.mark.parametrize("seed", SEEDS)
async def test_all_commit_or_none(connect: Connect, server: FakeServer, seed: int) -> None:
    carried_out: dict[str, set[tuple[str, bool]]] = {}

    async def participate(name: str, commit: AsyncAtomicCommit) -> None:
        def carry_out(proposal: Proposal) -> None:
            assert proposal.committed is not None
            carried_out.setdefault(proposal.id, set()).add((name, proposal.committed))

        await commit.participate(name, lambda proposal: proposal.value != name.encode(), carry_out, carry_out)

    commits = [AsyncAtomicCommit(await connect(request_timeout=60.0), PATH) for _ in range(4)]
    trouble = Trouble(server, seed)
    names = ("a", "b", "c")
    participants = [
        asyncio.create_task(participate(name, commit)) for name, commit in zip(names, commits, strict=False)
    ]
    against = [b"", b"a", b"", b"b", b"", b"c", b"", b"a"]  # who is to vote no
    decisions = [await commits[3].propose(names, value) for value in against]
    trouble.end()
    await until(lambda: server.names(f"{PATH}/proposals") == [], participants)
    await stop(participants)

    for decision in decisions:
        assert carried_out[decision.id] == {(name, decision.committed) for name in names}
    assert [decision.committed for decision in decisions] == [not value for value in against]

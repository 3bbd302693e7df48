"""Clients that count: each sets its own node to 1, 2, 3, ... and remembers what was acknowledged.

Rule of this file: the n-th set leaves version n, so a write that is lost, repeated or out of order shows
in the node itself. No failure of a request is caught: whoever runs the clients sees it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from coordclient import AsyncClient
from tests.processes.conditions import eventually

SESSION_TIMEOUT_S = 30.0  # outlives a restart of everything on a slow machine
PAUSE_S = 0.002  # leaves the processor to the members


@dataclass(slots=True)
class Counter:
    client: AsyncClient
    path: str
    sent: int = 0
    acknowledged: int = 0

    async def count_once(self) -> None:
        """Set the node to the next number, and read it back."""
        self.sent += 1
        stat = await self.client.set(self.path, str(self.sent).encode())
        assert stat.version == self.sent, "each set was applied once, and in order"
        self.acknowledged = self.sent
        node = await self.client.get(self.path)
        assert int(node.value) == self.sent, "a read sees the write before it"


class CountingClients:
    """`async with CountingClients(endpoints) as clients`: they count until the end of the block.

    A request that takes longer than `request_timeout` fails, and so does the block.
    """

    def __init__(
        self,
        endpoints: str,
        *,
        request_timeout: float,
        session_timeout: float = SESSION_TIMEOUT_S,
        count: int = 3,
    ) -> None:
        self.counters = [
            Counter(
                AsyncClient(endpoints, session_timeout=session_timeout, request_timeout=request_timeout),
                f"/counters/{number}",
            )
            for number in range(count)
        ]
        self._stop = asyncio.Event()
        self._tasks = asyncio.TaskGroup()

    @property
    def acknowledged(self) -> dict[str, int]:
        return {counter.path: counter.acknowledged for counter in self.counters}

    async def __aenter__(self) -> Self:
        for counter in self.counters:
            await counter.client.connect()
            await counter.client.create(counter.path, b"0", parents=True)
        await self._tasks.__aenter__()
        for counter in self.counters:
            self._tasks.create_task(self._run(counter), name=counter.path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        try:
            await self._tasks.__aexit__(kind, error, trace)
        finally:
            for counter in self.counters:
                await counter.client.close()

    async def _run(self, counter: Counter) -> None:
        while not self._stop.is_set():
            await counter.count_once()
            await asyncio.sleep(PAUSE_S)

    async def wait_for_progress(self, rounds: int = 20) -> None:
        """Wait until every client has got so many more acknowledgements."""
        goals = {path: count + rounds for path, count in self.acknowledged.items()}

        async def look() -> dict[str, int]:
            return self.acknowledged

        def reached(counts: dict[str, int]) -> bool:
            return all(counts[path] >= goal for path, goal in goals.items())

        await eventually("all clients get on", look, until=reached)


async def stored_counts(client: AsyncClient, paths: list[str]) -> dict[str, int]:
    """What the nodes hold; each must have been set as often as its value says."""
    counts = {}
    for path in paths:
        node = await client.get(path)
        assert node.stat.version == int(node.value), f"{path} was set once for each number"
        counts[path] = node.stat.version
    return counts

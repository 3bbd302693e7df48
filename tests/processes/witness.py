"""A client that watches everything, from before it happens: nothing may be missing, doubled or out of order.

Rule of this file: what it saw is compared with what the service remembers, change by change.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from coordclient import AsyncClient, Event, State
from tests.processes.conditions import eventually


class Witness:
    """`async with Witness(endpoints) as witness`, then `await witness.check(reader)` inside the block."""

    def __init__(self, endpoints: str, *, session_timeout: float = 30.0) -> None:
        self.client = AsyncClient(endpoints, session_timeout=session_timeout)
        self.events: list[Event] = []
        self.states: list[State] = []
        self.client.add_listener(self.states.append)
        self._since = 0

    async def __aenter__(self) -> Self:
        await self.client.connect()
        self._since = await self.client.sync()
        stream = self.client.watch("/", recursive=True, callback=self.events.append, since=self._since)
        await stream
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.close()

    async def check(self, reader: AsyncClient) -> None:
        """Compare what was seen with the history, and look for gaps between transactions."""
        newest = await reader.sync()

        async def last_seen() -> int:
            return self.events[-1].zxid if self.events else self._since

        await eventually("everything was seen", last_seen, until=newest.__eq__)
        seen = [(event.zxid, event.type, event.path, event.value) for event in self.events]
        remembered = [
            (event.zxid, event.type, event.path, event.value)
            async for event in reader.history("/", since=self._since)
        ]
        assert seen == remembered
        assert sorted({event.zxid for event in self.events}) == list(range(self._since + 1, newest + 1))
        assert State.LOST not in self.states

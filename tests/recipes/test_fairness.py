"""Nobody starves: whoever lost a race is not made to lose the next one by having lost."""

from __future__ import annotations

import asyncio

import pytest

from coordclient import AsyncClient
from coordclient.recipes.counter import AsyncCounter, Attempt, CounterWriter
from coordsvc.testing import running_server

HANGS_S = 20.0  # much longer than anything here takes; only a bug gets there
RACES_LOST = 2


async def test_a_counter_is_changed_although_another_changes_it_during_every_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found by the fault matrix: one process added 1,426 times while another could not add once."""
    async with (
        running_server() as server,
        AsyncClient(server.endpoints) as client,
        AsyncClient(server.endpoints) as other,
        asyncio.timeout(HANGS_S),
    ):
        slow, fast = AsyncCounter(client, "/counter"), AsyncCounter(other, "/counter")
        await slow.add(0)
        commit = CounterWriter._commit
        races = 0

        async def losing_commit(writer: CounterWriter, attempt: Attempt) -> int | None:
            nonlocal races
            if writer._client is client and races < RACES_LOST:
                races += 1
                await fast.add(1)
            return await commit(writer, attempt)

        async def pause_in_which_another_is_faster(writer: CounterWriter, failures: int) -> None:
            if writer._client is client:
                await fast.add(1)

        monkeypatch.setattr(CounterWriter, "_commit", losing_commit)
        monkeypatch.setattr(CounterWriter, "_pause", pause_in_which_another_is_faster)
        change = await slow.add(100)

        assert races == RACES_LOST
        assert change.after == change.before + 100
        assert await fast.value() == change.after

"""The time of the service: estimated from the stamps of our own writes, and never ahead of the newest."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from coordclient import AsyncClient, NoNodeError
from coordclient.recipes import service_time
from coordclient.recipes.service_time import ServiceTime
from tests.unit.client.fake_server import FakeServer


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Give the estimate a local clock that a test moves."""
    clock = SimpleNamespace(seconds=100.0)
    clock.now = lambda: clock.seconds
    monkeypatch.setattr(service_time, "clock", clock)
    return clock


@pytest.fixture
async def node(client: AsyncClient) -> str:
    return await client.create("/node")


def test_what_is_not_known_is_worth_asking_for() -> None:
    assert ServiceTime().seconds_until(10**15) == 0


async def test_between_two_stamps_our_own_clock_counts(
    client: AsyncClient, server: FakeServer, local: SimpleNamespace, node: str
) -> None:
    server.tree.now_ms = 1_000_000
    time = ServiceTime()

    assert await time.ask(client, node) == 1_000_000
    assert time.seconds_until(1_005_000) == 5
    local.seconds += 3
    assert time.seconds_until(1_005_000) == 2
    local.seconds += 3
    assert time.seconds_until(1_005_000) == 0


async def test_the_newest_stamp_counts_also_if_our_clock_ran_ahead(
    client: AsyncClient, server: FakeServer, local: SimpleNamespace, node: str
) -> None:
    server.tree.now_ms = 1_000_000
    time = ServiceTime()
    await time.ask(client, node)
    local.seconds += 60
    server.tree.now_ms += 1_000
    await time.ask(client, node)

    assert time.seconds_until(1_005_000) == 4


async def test_a_node_that_is_missing_is_told(client: AsyncClient) -> None:
    with pytest.raises(NoNodeError):
        await ServiceTime().ask(client, "/missing")

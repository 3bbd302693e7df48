"""The change feed: everything in order, with and without an end, over lost connections."""

from __future__ import annotations

import asyncio

import pytest

from coordclient import AsyncClient, HistoryTrimmedError
from tests.unit.client.conftest import Connect
from tests.unit.client.fake_server import FakeServer


async def test_history_is_read_in_order_and_ends_with_the_present(
    client: AsyncClient, server: FakeServer
) -> None:
    server.set("/a", b"1")
    server.set("/b", b"2")
    server.set("/a", b"3")

    events = [(event.path, event.value) async for event in client.history()]
    assert events == [("/a", b"1"), ("/b", b"2"), ("/a", b"3")]
    assert [event.zxid async for event in client.history("/a", since=1)] == [3]
    assert [event async for event in client.history("/nope")] == []
    await client.sync()
    assert server.watch_count() == 0


async def test_what_comes_later_does_not_belong_to_it(client: AsyncClient, server: FakeServer) -> None:
    server.set("/a", b"1")
    server.set("/a", b"2")
    seen = []
    async for event in client.history():
        server.set("/a", b"later")
        await client.sync()
        seen.append(event.value)

    assert seen == [b"1", b"2"]


async def test_a_long_history_is_read_in_parts(
    client: AsyncClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordclient.operations.HISTORY_BUFFER", 10)
    for number in range(300):
        server.set("/a", b"%d" % number)

    values = [event.value async for event in client.history()]
    assert values == [b"%d" % number for number in range(300)]


async def test_following_goes_on_over_a_lost_connection(client: AsyncClient, server: FakeServer) -> None:
    server.set("/a", b"1")
    feed = client.history(since=0, follow=True)
    assert (await anext(feed)).value == b"1"
    server.drop_connections()
    server.set("/b", b"2")
    assert (await anext(feed)).value == b"2"
    await feed.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_history_that_is_gone_is_said_to_be(client: AsyncClient, server: FakeServer) -> None:
    server.tree.zxid = server.history_begins_after = 10
    server.set("/a", b"11")

    with pytest.raises(HistoryTrimmedError, match="10"):
        await anext(client.history(since=5))
    assert [event.value async for event in client.history()] == [b"11"], "everything that is kept"


async def test_paths_are_those_of_the_namespace(connect: Connect, server: FakeServer) -> None:
    server.set("/prod/a", b"1")
    client = await connect(namespace="/prod")

    assert [event.path async for event in client.history("/a")] == ["/a"]


@pytest.mark.parametrize("count", [10, 11, 20, 25])
async def test_a_history_that_just_fills_the_buffer_ends_too(
    client: AsyncClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The stream is set again after each full buffer, though nothing more may come."""
    monkeypatch.setattr("coordclient.operations.HISTORY_BUFFER", 10)
    for number in range(count):
        server.set("/a", b"%d" % number)

    async with asyncio.timeout(10):
        values = [event.value async for event in client.history()]
    assert values == [b"%d" % number for number in range(count)]

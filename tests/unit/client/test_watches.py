"""Watches: streams without gaps, one-shot callbacks, both over lost connections and sessions."""

from __future__ import annotations

import asyncio

import pytest

from coordclient import AsyncClient, ClientClosedError, Event, EventType, NoNodeError, State
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import FakeServer


async def test_a_stream_has_every_event_after_its_start(client: AsyncClient, server: FakeServer) -> None:
    async with client.watch("/a") as events:
        server.set("/a", b"1")
        server.set("/a", b"2")
        server.delete("/a")

        seen = [await anext(events) for _ in range(3)]

    assert [(event.type, event.value) for event in seen] == [
        (EventType.CREATED, b"1"),
        (EventType.CHANGED, b"2"),
        (EventType.DELETED, b""),
    ]
    assert [event.zxid for event in seen] == [1, 2, 3]


async def test_a_recursive_stream_sees_what_is_below(client: AsyncClient, server: FakeServer) -> None:
    async with client.watch("/a", recursive=True) as events:
        server.set("/ab", b"not below")
        server.set("/a/b/c", b"1")
        paths = [(await anext(events)).path for _ in range(3)]

    assert paths == ["/a", "/a/b", "/a/b/c"]


async def test_a_stream_begins_where_it_is_told_to(client: AsyncClient, server: FakeServer) -> None:
    for number in range(5):
        server.set("/a", b"%d" % number)

    async with client.watch("/a", since=3) as events:
        assert [event.value for event in await events.batch()] == [b"3", b"4"]


async def test_a_stream_misses_nothing_over_a_lost_connection(
    client: AsyncClient, server: FakeServer
) -> None:
    async with client.watch("/a") as events:
        server.set("/a", b"0")
        assert (await anext(events)).value == b"0"
        server.drop_connections()
        for number in range(1, 50):
            server.set("/a", b"%d" % number)

        values = [(await anext(events)).value for _ in range(1, 50)]

    assert values == [b"%d" % number for number in range(1, 50)]
    assert len(server.attaches) == 2


async def test_a_stream_misses_nothing_over_a_lost_session(client: AsyncClient, server: FakeServer) -> None:
    async with client.watch("/a") as events:
        server.set("/a", b"0")
        await anext(events)
        server.expire(client.session_id)
        for number in range(1, 10):
            server.set("/a", b"%d" % number)

        values = [(await anext(events)).value for _ in range(1, 10)]

    assert values == [b"%d" % number for number in range(1, 10)]


async def test_a_slow_reader_bounds_the_buffer_and_misses_nothing(
    client: AsyncClient, server: FakeServer
) -> None:
    async with client.watch("/a", buffer_size=10) as events:
        for number in range(500):
            server.set("/a", b"%d" % number)
            if number % 10 == 0:
                await client.sync()
        assert server.watch_count() == 0, "the stream has taken its watch off the service"
        assert "paused" in repr(events)

        values = [(await anext(events)).value for _ in range(500)]

    assert values == [b"%d" % number for number in range(500)]


async def test_a_reader_is_told_when_history_is_gone(client: AsyncClient, server: FakeServer) -> None:
    async with client.watch("/a") as events:
        server.drop_connections()
        server.tree.zxid = server.history_begins_after = 100
        server.tree.changes.clear()
        event = await anext(events)

        assert (event.type, event.zxid) == (EventType.RESYNC, 100)
        server.set("/a", b"1")
        assert (await anext(events)).zxid == 101


async def test_closing_a_stream_takes_it_off_the_service_and_ends_its_reader(
    client: AsyncClient, server: FakeServer
) -> None:
    events = await client.watch("/a")
    reader = asyncio.create_task(events.batch())
    await client.sync()
    await events.close()

    assert await reader == []
    await client.sync()
    assert server.watch_count() == 0
    assert [event async for event in events] == []


async def test_closing_the_client_ends_a_reader_with_an_error(connect: Connect) -> None:
    client = await connect()
    events = await client.watch("/a")
    reader = asyncio.create_task(events.batch())
    await client.sync()
    await client.close()

    with pytest.raises(ClientClosedError):
        await reader


async def test_a_reader_that_is_cancelled_can_go_on(client: AsyncClient, server: FakeServer) -> None:
    async with client.watch("/a", buffer_size=1) as events:
        reader = asyncio.create_task(anext(events))
        await client.sync()
        reader.cancel()
        await asyncio.wait([reader])
        server.set("/a", b"1")
        server.set("/a", b"2")

        assert (await anext(events)).value == b"1"
        assert (await anext(events)).value == b"2"


async def test_a_callback_gets_every_event_in_order_and_may_use_the_client(
    client: AsyncClient, server: FakeServer
) -> None:
    seen: list[tuple[bytes, bool]] = []

    async def note(event: Event) -> None:
        seen.append((event.value, await client.exists("/a") is not None))

    stream = await client.watch("/a", callback=note)
    for number in range(20):
        server.set("/a", b"%d" % number)
    await eventually(lambda: len(seen) == 20)
    await stream.close()

    assert seen == [(b"%d" % number, True) for number in range(20)]


@pytest.mark.parametrize("buffer_size", [1, 3])
@pytest.mark.parametrize("is_coroutine", [False, True])
async def test_a_callback_that_is_slow_gets_every_event_through_a_small_buffer(
    client: AsyncClient, server: FakeServer, buffer_size: int, is_coroutine: bool
) -> None:
    """What is too much waits on the service, and is fetched from there once all else has been told."""
    seen: list[bytes] = []

    def note(event: Event) -> None:
        seen.append(event.value)

    async def note_slowly(event: Event) -> None:
        await client.sync()
        seen.append(event.value)

    callback = note_slowly if is_coroutine else note
    stream = await client.watch("/a", callback=callback, buffer_size=buffer_size)
    for number in range(20):
        server.set("/a", b"%d" % number)
    await eventually(lambda: len(seen) == 20)
    await stream.close()

    assert seen == [b"%d" % number for number in range(20)]


async def test_a_callback_is_not_called_any_more_once_its_stream_is_closed(
    client: AsyncClient, server: FakeServer
) -> None:
    """Neither for what had arrived, nor on with what it awaits."""
    seen: list[str] = []
    is_begun = asyncio.Event()

    async def note_too_late(event: Event) -> None:
        is_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("was cancelled")

    stream = await client.watch("/a", callback=note_too_late)
    server.set("/a", b"1")
    server.set("/a", b"2")
    await is_begun.wait()
    await stream.close()
    assert seen == ["was cancelled"]
    await client.sync()

    assert seen == ["was cancelled"]


async def test_many_streams_with_callbacks_have_no_task_each(client: AsyncClient, server: FakeServer) -> None:
    seen: list[Event] = []
    before = len(asyncio.all_tasks())
    streams = [await client.watch("/a", callback=seen.append) for _ in range(100)]
    server.set("/a", b"1")
    await eventually(lambda: len(seen) == 100)

    assert len(asyncio.all_tasks()) == before
    for stream in streams:
        await stream.close()


async def test_a_failing_callback_is_logged_and_called_again(
    client: AsyncClient, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []

    def fail(event: Event) -> None:
        seen.append(event)
        raise ValueError("the application's own mistake")

    stream = await client.watch("/a", callback=fail)
    server.set("/a", b"1")
    server.set("/a", b"2")
    await eventually(lambda: len(seen) == 2)
    await stream.close()

    assert "the application's own mistake" in caplog.text


# ---------------------------------------------------------------------------------------------
# One-shot watches


async def test_an_exists_watch_fires_once(client: AsyncClient, server: FakeServer) -> None:
    fired: list[Event] = []
    assert await client.exists("/a", watch=fired.append) is None
    server.set("/a", b"1")
    server.set("/a", b"2")
    await client.sync()
    await eventually(lambda: fired)

    assert [event.type for event in fired] == [EventType.CREATED]
    assert server.watch_count() == 0


async def test_a_get_watch_is_not_left_at_a_missing_node(client: AsyncClient, server: FakeServer) -> None:
    with pytest.raises(NoNodeError):
        await client.get("/a", watch=print)

    assert client._core is not None
    assert len(client._core.watches) == 0


async def test_a_children_watch_tells_that_the_list_has_changed(
    client: AsyncClient, server: FakeServer
) -> None:
    fired: list[Event] = []
    server.set("/a", b"")
    await client.get_children("/a", watch=fired.append)
    server.set("/a", b"no child")
    server.set("/a/b", b"")
    await client.sync()
    await eventually(lambda: fired)

    assert [(event.type, event.path) for event in fired] == [(EventType.CHILDREN, "/a")]


@pytest.mark.parametrize("loss", ["connection", "session"])
async def test_a_one_shot_watch_survives_a_loss(client: AsyncClient, server: FakeServer, loss: str) -> None:
    fired: list[Event] = []
    server.set("/a", b"1")
    await client.get("/a", watch=fired.append)
    if loss == "connection":
        server.drop_connections()
    else:
        server.expire(client.session_id)
    server.set("/a", b"2")
    await eventually(lambda: fired)

    assert [event.type for event in fired] == [EventType.CHANGED]
    assert client.state is State.CONNECTED


async def test_a_read_with_a_watch_that_is_cancelled_leaves_no_watch(
    client: AsyncClient, server: FakeServer
) -> None:
    server.set("/a", b"1")
    server.holds_answers = True
    read = asyncio.create_task(client.get("/a", watch=print))
    await eventually(lambda: server.watch_count() == 1)
    read.cancel()
    await asyncio.wait([read])
    server.release_answers()
    await client.sync()

    assert server.watch_count() == 0

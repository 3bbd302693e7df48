"""TreeCache: what the service holds or held, never going back, never empty for want of a connection."""

from __future__ import annotations

import asyncio

import pytest

from coordclient import AsyncClient, ClientStateError, EventType, InvalidPathError, NotConnectedError, State
from coordclient.errors import ClientClosedError, RecipeTimeoutError
from coordclient.recipes.tree_cache import AsyncTreeCache, CacheChanges
from coordproto.v1 import coordination_pb2, data_pb2
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import FakeServer

ROOT = "/app"


def below(server: FakeServer, root: str = ROOT) -> dict[str, bytes]:
    """Return what the service holds."""
    prefix = root.rstrip("/") + "/"
    return {
        path: node.value
        for path, node in server.tree.nodes.items()
        if path == root or path.startswith(prefix)
    }


def values(cache: AsyncTreeCache) -> dict[str, bytes]:
    return {path: node.value for path, node in cache.nodes().items()}


def delete_all(server: FakeServer, path: str) -> None:
    server.write(data_pb2.Write(delete=data_pb2.Delete(path=path, recursive=True)))


async def take(changes: CacheChanges, count: int) -> list[tuple[EventType, str]]:
    taken = [await anext(changes) for _ in range(count)]
    return [(change.type, change.path) for change in taken]


async def test_a_cache_holds_what_was_there_and_what_comes(client: AsyncClient, server: FakeServer) -> None:
    server.set("/app/a/b", b"1")
    server.set("/apple", b"no")
    async with AsyncTreeCache(client, ROOT) as cache:
        assert values(cache) == below(server)
        assert cache.children(ROOT) == ["a"]
        node = cache.get("/app/a/b")
        assert node is not None
        assert node.value == b"1"
        assert cache.get("/apple") is None
        assert not cache.is_stale

        server.set("/app/a/b", b"2")
        server.set("/app/c", b"3")
        server.delete("/app/a/b")
        await cache.wait_for(server.tree.zxid)
        assert values(cache) == below(server) == {"/app": b"", "/app/a": b"", "/app/c": b"3"}
        assert cache.zxid == server.tree.zxid
        assert cache.children(ROOT) == ["a", "c"]
        assert cache.children("/app/a") == []


async def test_the_whole_tree_can_be_cached(client: AsyncClient, server: FakeServer) -> None:
    server.set("/a/b", b"1")
    async with AsyncTreeCache(client, "/") as cache:
        assert set(cache.nodes()) == {"/", "/a", "/a/b"}
        assert cache.children("/") == ["a"]
        assert cache.children("/a") == ["b"]


async def test_a_large_tree_comes_in_pages(client: AsyncClient, server: FakeServer) -> None:
    server.tree.page = 3
    for number in range(40):
        server.set(f"/app/{number % 7}/{number}", b"%d" % number)

    async with AsyncTreeCache(client, ROOT) as cache:
        assert values(cache) == below(server)


async def test_a_root_may_come_and_go(client: AsyncClient, server: FakeServer) -> None:
    async with AsyncTreeCache(client, ROOT) as cache:
        assert cache.nodes() == {}
        server.set("/app/a", b"1")
        await cache.wait_for(server.tree.zxid)
        assert values(cache) == {"/app": b"", "/app/a": b"1"}
        delete_all(server, ROOT)
        await cache.wait_for(server.tree.zxid)
        assert cache.nodes() == {}
        server.set("/app", b"2")
        await cache.wait_for(server.tree.zxid)
        assert values(cache) == {"/app": b"2"}


async def test_changes_are_told_with_what_was_before(client: AsyncClient, server: FakeServer) -> None:
    server.set("/app/a", b"1")
    async with AsyncTreeCache(client, ROOT) as cache:
        changes = cache.changes()
        server.set("/app/a", b"2")
        changed = await anext(changes)
        assert (changed.type, changed.path) == (EventType.CHANGED, "/app/a")
        assert changed.previous is not None
        assert changed.node is not None
        assert (changed.previous.value, changed.node.value) == (b"1", b"2")
        server.set("/app/b", b"3")
        created = await anext(changes)
        assert (created.type, created.previous) == (EventType.CREATED, None)
        server.delete("/app/b")
        deleted = await anext(changes)
        assert (deleted.type, deleted.node, deleted.previous) == (EventType.DELETED, None, created.node)


async def test_a_slow_reader_is_told_the_difference(client: AsyncClient, server: FakeServer) -> None:
    server.set("/app/a", b"0")
    async with AsyncTreeCache(client, ROOT) as cache:
        changes = cache.changes()
        for number in range(50):
            server.set("/app/a", b"%d" % number)
        server.set("/app/passing", b"")
        server.delete("/app/passing")
        server.set("/app/last", b"")
        await cache.wait_for(server.tree.zxid)

        assert await take(changes, 2) == [(EventType.CHANGED, "/app/a"), (EventType.CREATED, "/app/last")]


async def test_changes_end_with_the_cache(client: AsyncClient) -> None:
    cache = await AsyncTreeCache(client, ROOT).start()
    reader = asyncio.create_task(anext(cache.changes()))
    await asyncio.sleep(0)
    await cache.close()
    with pytest.raises(StopAsyncIteration):
        await reader
    with pytest.raises(ClientStateError):
        cache.changes()


async def test_changes_end_when_their_reader_wants_no_more(client: AsyncClient, server: FakeServer) -> None:
    async with AsyncTreeCache(client, ROOT) as cache:
        changes = cache.changes()
        server.set("/app", b"")
        await cache.wait_for(server.tree.zxid)
        await changes.aclose()
        assert [change async for change in changes] == []


async def test_while_suspended_the_content_stays_and_is_called_stale(
    client: AsyncClient, server: FakeServer
) -> None:
    server.set("/app/a", b"1")
    server.set("/app/b", b"1")
    async with AsyncTreeCache(client, ROOT) as cache:
        changes = cache.changes()
        stale: list[tuple[State, bool, int]] = []
        client.add_internal_listener(lambda state: stale.append((state, cache.is_stale, len(cache.nodes()))))
        server.refuse_attaches = [data_pb2.NO_LEADER] * 2
        server.drop_connections()
        await eventually(lambda: client.state is State.SUSPENDED)
        server.set("/app/a", b"2")
        server.delete("/app/b")
        await eventually(lambda: not cache.is_stale)

        assert stale[0] == (State.SUSPENDED, True, 3)
        assert stale[-1][:2] == (State.CONNECTED, True)
        assert values(cache) == below(server)
        assert await take(changes, 2) == [(EventType.CHANGED, "/app/a"), (EventType.DELETED, "/app/b")]


async def test_a_lost_session_is_survived(client: AsyncClient, server: FakeServer) -> None:
    server.set("/app/a", b"1")
    async with AsyncTreeCache(client, ROOT) as cache:
        old = client.session_id
        server.expire(old)
        server.set("/app/a", b"2")
        await eventually(lambda: client.session_id not in (old, 0) and not cache.is_stale)
        assert values(cache) == below(server)
        server.set("/app/a", b"3")
        await cache.wait_for(server.tree.zxid)
        assert values(cache) == below(server)


async def test_without_the_history_only_the_differences_are_told(
    client: AsyncClient, server: FakeServer
) -> None:
    for name in "abc":
        server.set(f"/app/{name}", b"1")
    async with AsyncTreeCache(client, ROOT) as cache:
        changes = cache.changes()
        sizes: list[int] = []
        server.drop_connections()
        server.set("/app/a", b"2")
        server.delete("/app/b")
        server.set("/app/d", b"")
        delete_all(server, "/app/c")
        server.set("/app/c", b"again")
        server.history_begins_after = server.tree.zxid
        client.add_internal_listener(lambda _: sizes.append(len(cache.nodes())))
        await cache.wait_for(server.tree.zxid)

        assert values(cache) == below(server)
        assert await take(changes, 4) == [
            (EventType.DELETED, "/app/b"),
            (EventType.CHANGED, "/app/a"),
            (EventType.CHANGED, "/app/c"),
            (EventType.CREATED, "/app/d"),
        ]
        await eventually(lambda: not cache.is_stale)
        assert 0 not in sizes


async def test_what_happens_while_it_is_read_is_not_missed(client: AsyncClient, server: FakeServer) -> None:
    for number in range(30):
        server.set(f"/app/{number}/x", b"old")
    steps = iter(range(1000))

    def disturb(_: object) -> None:
        step = next(steps)
        server.set(f"/app/{step % 40}/x", b"new %d" % step)
        victim = f"/app/{(step * 7) % 30}"
        if step % 3 == 0 and victim in server.tree.nodes:
            delete_all(server, victim)

    server.on_frame = disturb
    async with AsyncTreeCache(client, ROOT) as cache:
        server.on_frame = None
        await cache.wait_for(server.tree.zxid)
        assert values(cache) == below(server)


async def test_waiting_for_a_transaction_that_does_not_concern_it_ends_at_once(
    client: AsyncClient, server: FakeServer
) -> None:
    async with AsyncTreeCache(client, ROOT) as cache:
        server.set("/elsewhere", b"")
        await cache.wait_for(server.tree.zxid, timeout=5)
        assert cache.zxid >= server.tree.zxid


async def test_waiting_for_a_transaction_times_out(client: AsyncClient, server: FakeServer) -> None:
    async with AsyncTreeCache(client, ROOT) as cache:
        server.holds_answers = True
        with pytest.raises(RecipeTimeoutError):
            await cache.wait_for(server.tree.zxid + 1, timeout=0.02)
        server.release_answers()


async def test_a_burst_that_is_larger_than_the_buffer_is_not_missed(
    client: AsyncClient, server: FakeServer
) -> None:
    async with AsyncTreeCache(client, ROOT) as cache:
        for number in range(2500):
            server.set(f"/app/{number % 100}", b"%d" % number)
        await cache.wait_for(server.tree.zxid)
        assert values(cache) == below(server)


@pytest.mark.parametrize("first", [3, 11])
async def test_a_reader_that_was_too_slow_for_the_stream_does_not_take_the_rest_for_told(
    client: AsyncClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setattr("coordclient.recipes.following.BUFFER_EVENTS_MAX", 3)
    async with AsyncTreeCache(client, ROOT) as cache:
        connection = server.sessions[client.session_id].connection
        assert connection is not None
        frame: list[coordination_pb2.ServerItem] = []
        with monkeypatch.context() as patch:
            patch.setattr(connection, "send", lambda *items: frame.extend(items))
            for number in range(10):
                server.set(f"/app/{number}", b"")
            waiting = asyncio.create_task(cache.wait_for(server.tree.zxid))
            await eventually(lambda: any(item.HasField("read") for item in frame))
        connection.send(*frame[:first])
        connection.send(*frame[first:])  # more events, and the answer that says that all have been sent
        await waiting

        assert values(cache) == below(server)


async def test_history_that_is_lost_while_it_reads_is_made_up_for(
    client: AsyncClient, server: FakeServer
) -> None:
    server.set("/app/a/x", b"old")
    server.set("/app/a", b"old")
    listings = 0

    def cut(frame: coordination_pb2.ClientFrame) -> None:
        nonlocal listings
        listings += sum(read.HasField("list_children") for read in frame.reads)
        if listings >= 2:
            server.on_frame = None
            server.refuse_attaches = [data_pb2.NO_LEADER] * 2
            server.drop_before_apply = 1

    server.on_frame = cut
    starting = asyncio.create_task(AsyncTreeCache(client, ROOT).start())
    await eventually(lambda: client.state is State.SUSPENDED)
    server.set("/app/a", b"new")  # after it was read
    server.history_begins_after = server.tree.zxid
    cache = await starting

    assert listings >= 2
    assert values(cache) == below(server)
    await cache.close()


async def test_a_client_that_is_closed_ends_the_cache(connect: Connect, server: FakeServer) -> None:
    client = await connect()
    server.set("/app/a", b"1")
    cache = await AsyncTreeCache(client, ROOT).start()
    reader = asyncio.create_task(anext(cache.changes()))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(ClientClosedError):
        await reader
    with pytest.raises(ClientClosedError):
        await cache.wait_for(server.tree.zxid + 1)

    assert cache.is_stale
    assert cache.children(ROOT) == ["a"]
    await cache.close()


async def test_a_start_that_is_cancelled_leaves_nothing_behind(
    client: AsyncClient, server: FakeServer
) -> None:
    server.set("/app/a", b"1")
    for answered in range(5):
        tasks = len(asyncio.all_tasks())
        cache = AsyncTreeCache(client, ROOT)
        frames = iter(range(answered))

        def hold(_: object, frames: object = frames) -> None:
            server.holds_answers = next(frames, None) is None  # type: ignore[call-overload]  # an iterator

        server.on_frame = hold
        starting = asyncio.create_task(cache.start())
        await eventually(lambda: server.holds_answers or starting.done())  # noqa: B023  # used within this round
        starting.cancel()
        await asyncio.wait([starting])
        server.on_frame = None
        server.release_answers()
        await cache.close()
        await client.sync()
        await eventually(lambda: server.watch_count() == 0)
        assert len(asyncio.all_tasks()) <= tasks


async def test_a_cache_that_has_been_closed_is_not_started_again(client: AsyncClient) -> None:
    cache = AsyncTreeCache(client, ROOT)
    await cache.start()
    await cache.start()
    await cache.close()
    await cache.close()
    with pytest.raises(ClientStateError, match="make a new one"):
        await cache.start()


async def test_what_makes_no_sense_is_refused(client: AsyncClient) -> None:
    with pytest.raises(InvalidPathError):
        AsyncTreeCache(client, "app")
    with pytest.raises(NotConnectedError):
        await AsyncTreeCache(AsyncClient(), ROOT).start()

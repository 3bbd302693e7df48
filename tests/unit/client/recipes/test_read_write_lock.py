"""Read-write lock: readers together, writers alone, in order of arrival, and nobody slips in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from coordclient import (
    AlreadyHeldError,
    AsyncClient,
    Client,
    GuardFailedError,
    InvalidPathError,
    LockLostError,
    LockTimeoutError,
)
from coordclient.recipes import contenders
from coordclient.recipes.grants import Grant
from coordclient.recipes.read_write_lock import (
    AsyncReadHandle,
    AsyncReadWriteLock,
    AsyncWriteHandle,
    ReadWriteLock,
)
from coordproto.v1 import data_pb2
from coordsvc.testing import Server, running_server
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import ClientFrame, FakeServer

PATH = "/locks/rw"


def lock_of(client: AsyncClient) -> AsyncReadWriteLock:
    return AsyncReadWriteLock(client, PATH)


async def waiting_writer(
    client: AsyncClient, server: FakeServer, count: int
) -> asyncio.Task[AsyncWriteHandle]:
    """Start to wait for the lock; return when there are `count` contenders."""
    task = asyncio.create_task(lock_of(client).write().acquire())
    await eventually(lambda: len(server.names(PATH)) == count)
    return task


async def waiting_reader(
    client: AsyncClient, server: FakeServer, count: int
) -> asyncio.Task[AsyncReadHandle]:
    task = asyncio.create_task(lock_of(client).read().acquire())
    await eventually(lambda: len(server.names(PATH)) == count)
    return task


async def quiet(*clients: AsyncClient) -> None:
    """Return when everything that was under way has been answered."""
    for _ in range(3):
        for client in clients:
            await client.sync()


async def test_readers_share_it(connect: Connect) -> None:
    first, second = await connect(), await connect()
    async with lock_of(first).read() as one, lock_of(second).read() as two:
        one.check()
        two.check()

    assert one.token < two.token


async def test_a_writer_excludes_everybody(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(), await connect()
    async with lock_of(first).write():
        assert await lock_of(second).read().try_acquire() is None
        assert await lock_of(second).write().try_acquire() is None
        with pytest.raises(LockTimeoutError):
            await lock_of(second).read().acquire(timeout=0.05)
        with pytest.raises(LockTimeoutError):
            await lock_of(second).write().acquire(timeout=0)
        await eventually(lambda: len(server.names(PATH)) == 1)

    held = await lock_of(second).read().try_acquire()
    assert held is not None


async def test_nobody_overtakes_a_writer_that_waits(connect: Connect, server: FakeServer) -> None:
    """A stream of readers cannot starve it, and a later reader does not see an earlier one's lock."""
    clients = [await connect() for _ in range(3)]
    reading = await lock_of(clients[0]).read().acquire()
    writer = await waiting_writer(clients[1], server, 2)
    assert await lock_of(clients[2]).read().try_acquire() is None
    late = await waiting_reader(clients[2], server, 3)
    await reading.release()
    writing = await writer

    assert not late.done()
    await writing.release()
    assert (await late).token > writing.token > reading.token


async def test_readers_behind_one_writer_wake_together_and_others_sleep_on(
    connect: Connect, server: FakeServer
) -> None:
    client = await connect()
    writing = await lock_of(client).write().acquire()
    readers = [await waiting_reader(await connect(), server, number + 2) for number in range(3)]
    last = await waiting_writer(await connect(), server, 5)
    later = [await waiting_reader(await connect(), server, number + 6) for number in range(3)]
    # Each of the eight watches over its own node, and all but the first over the one that it waits for.
    await eventually(lambda: server.watch_count() == 15)
    before = len(server.frames)
    await writing.release()
    held = [await reader for reader in readers]

    assert lists_since(server, before) == 3, "only the three readers looked"
    before = len(server.frames)
    for handle in held[::-1]:
        await handle.release()
    writing = await last
    assert lists_since(server, before) <= 3, "the writer looked at most once for each reader before it"
    assert not any(reader.done() for reader in later)
    await writing.release()
    await asyncio.gather(*later)


def lists_since(server: FakeServer, first: int) -> int:
    """Count how often anybody looked at the queue."""
    return sum(read.HasField("list_children") for frame in server.frames[first:] for read in frame.reads)


async def test_contenders_say_what_they_want_and_who_holds(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(name="one"), await connect(name="two")
    held = await lock_of(first).read().acquire()
    task = await waiting_writer(second, server, 2)
    contenders = await lock_of(second).contenders()

    assert [(c.client, c.kind, c.is_holder) for c in contenders] == [
        ("one", "read", True),
        ("two", "write", False),
    ]
    assert contenders[0].token == held.token
    await held.release()
    await task


async def test_a_task_does_not_wait_for_itself(client: AsyncClient) -> None:
    lock = lock_of(client)
    async with lock.write():
        with pytest.raises(AlreadyHeldError, match="downgrade"):
            await lock.read().acquire()
        assert await lock.read().try_acquire() is None
    async with lock.read():
        with pytest.raises(AlreadyHeldError, match="try_upgrade"):
            await lock.write().acquire()


async def test_a_reader_may_read_again_past_a_writer_that_waits(connect: Connect, server: FakeServer) -> None:
    """Otherwise it would wait for the writer, and the writer for it."""
    first, second = await connect(), await connect()
    outer = await lock_of(first).read().acquire()
    writer = await waiting_writer(second, server, 2)
    inner = await lock_of(first).read().acquire(timeout=5)

    assert inner.guard == outer.guard
    await outer.release()
    inner.check()
    assert not writer.done()
    await inner.release()
    await writer


@pytest.mark.parametrize("path", ["/", "a"])
def test_the_root_is_no_lock(path: str) -> None:
    with pytest.raises(InvalidPathError):
        AsyncReadWriteLock(AsyncClient("a:1"), path)


# ---------------------------------------------------------------------------------------------
# Changing sides


async def test_a_writer_becomes_a_reader_and_no_writer_comes_in_between(
    connect: Connect, server: FakeServer
) -> None:
    clients = [await connect() for _ in range(3)]
    writing = await lock_of(clients[0]).write().acquire()
    reader = await waiting_reader(clients[1], server, 2)
    writer = await waiting_writer(clients[2], server, 3)
    mine = await writing.downgrade()
    theirs = await reader
    await quiet(*clients)

    assert not writer.done()
    assert writing.is_released
    assert not writing.lost
    assert mine.token == writing.token, "it stands where the writer stood"
    assert [c.kind for c in await lock_of(clients[0]).contenders()] == ["read", "read", "write"]
    await mine.release()
    await theirs.release()
    assert (await writer).token > theirs.token > mine.token


async def test_what_the_writer_guarded_is_refused_after_the_downgrade(client: AsyncClient) -> None:
    await client.create("/a")
    writing = await lock_of(client).write().acquire()
    reading = await writing.downgrade()
    await client.set("/a", b"1", guard=reading)

    with pytest.raises(GuardFailedError):
        await client.set("/a", b"2", guard=writing)
    with pytest.raises(LockLostError, match="released"):
        await writing.downgrade()


async def test_a_block_of_a_writer_may_end_as_a_reader(client: AsyncClient, server: FakeServer) -> None:
    async with lock_of(client).write() as writing:
        reading = await writing.downgrade()
    async with reading:
        assert len(server.names(PATH)) == 1
        reading.check()

    assert server.names(PATH) == []


async def test_a_downgrade_of_what_was_deleted_says_so(client: AsyncClient, server: FakeServer) -> None:
    writing = await lock_of(client).write().acquire()

    def delete_before_it_arrives(frame: ClientFrame) -> None:
        if frame.writes.writes:
            server.on_frame = None
            server.delete(writing.path)

    server.on_frame = delete_before_it_arrives
    with pytest.raises(LockLostError, match="deleted"):
        await writing.downgrade()
    assert server.names(PATH) == []


async def test_a_downgrade_of_what_went_with_its_session_says_so(
    client: AsyncClient, server: FakeServer
) -> None:
    writing = await lock_of(client).write().acquire()

    def expire_before_it_arrives(frame: ClientFrame) -> None:
        if frame.writes.writes:
            server.on_frame = None
            server.expire(client.session_id)

    server.on_frame = expire_before_it_arrives
    with pytest.raises(LockLostError, match="session"):
        await writing.downgrade()
    assert server.names(PATH) == []


async def test_a_reader_becomes_a_writer_where_it_stands(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(), await connect()
    early = await lock_of(second).read().acquire()
    reading = await lock_of(first).read().acquire()
    later = await lock_of(second).read().acquire(owner="later")
    assert await reading.try_upgrade() is None, "somebody reads who came before"
    await early.release()
    assert await reading.try_upgrade() is None, "somebody reads who came later"
    await later.release()
    waiting = await waiting_writer(second, server, 2)
    writing = await reading.try_upgrade()
    await quiet(first, second)

    assert writing is not None
    assert reading.is_released
    assert not waiting.done()
    await writing.release()
    following = await waiting
    assert reading.token < later.token < writing.token < following.token


async def test_an_upgrade_alone_has_the_token_of_its_transaction(client: AsyncClient) -> None:
    other = await lock_of(client).read().acquire(owner="other")
    reading = await lock_of(client).read().acquire()
    await other.release()
    writing = await reading.try_upgrade()

    assert writing is not None
    assert writing.token > other.token
    assert writing.token == 2 * writing.guard[1]


async def test_a_reader_that_comes_meanwhile_ends_the_upgrade(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(), await connect()
    reading = await lock_of(first).read().acquire()

    def let_it_come(frame: ClientFrame) -> None:
        if any(write.HasField("transaction") for write in frame.writes.writes):
            server.on_frame = None
            server.tree.write(frame_of_a_reader(), second.session_id)

    def frame_of_a_reader() -> data_pb2.Write:
        mode = data_pb2.EPHEMERAL_SEQUENTIAL
        return data_pb2.Write(create=data_pb2.Create(path=f"{PATH}/{'a' * 32}-read-", mode=mode))

    server.on_frame = let_it_come
    assert await reading.try_upgrade() is None
    reading.check()
    # The watch over the reader's own node, which was taken off for the attempt, is there again.
    server.delete(reading.path)
    await reading.wait_lost()


async def test_a_reader_with_two_levels_cannot_become_a_writer(client: AsyncClient) -> None:
    outer = await lock_of(client).read().acquire()
    inner = await lock_of(client).read().acquire()

    assert await inner.try_upgrade() is None
    await outer.release()
    assert await inner.try_upgrade() is not None


# ---------------------------------------------------------------------------------------------
# Loss, and giving up


async def test_the_body_is_cancelled_when_the_session_is_lost(
    client: AsyncClient, server: FakeServer
) -> None:
    async def work() -> None:
        async with lock_of(client).write() as writing, await writing.downgrade():
            server.expire(client.session_id)
            await asyncio.Event().wait()

    with pytest.raises(LockLostError, match="session"):
        await work()


Act = Callable[[AsyncClient], Awaitable[Grant | None]]


async def acquire_read(client: AsyncClient) -> Grant:
    return await lock_of(client).read().acquire()


async def acquire_write(client: AsyncClient) -> Grant:
    return await lock_of(client).write().acquire()


async def downgrade(client: AsyncClient) -> Grant:
    async with lock_of(client).write() as writing:
        return await writing.downgrade()


async def upgrade(client: AsyncClient) -> Grant | None:
    async with lock_of(client).read() as reading:
        return await reading.try_upgrade()


@pytest.mark.parametrize("act", [acquire_read, acquire_write, downgrade, upgrade])
async def test_whoever_is_cancelled_leaves_nothing_wherever_it_is(
    client: AsyncClient, server: FakeServer, act: Act
) -> None:
    core = client._core
    assert core is not None
    frames = 0
    while True:
        frames += 1
        task = asyncio.ensure_future(act(client))
        left = frames

        def count(frame: ClientFrame, task: asyncio.Future[Grant | None] = task) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                task.cancel()

        server.on_frame = count
        await asyncio.wait([task])
        server.on_frame = None
        if not task.cancelled():
            grant = task.result()
            assert grant is not None
            await grant.release()
        await eventually(lambda: client.janitor.task_count == 0 and core.pipeline.pending_count == 0)
        await client.sync()
        assert server.names(PATH) == [], f"cancelled after {frames} frames"
        assert len(core.watches) == 0
        if not task.cancelled():
            break
    assert frames >= 3, "several places were tried"


async def test_on_a_real_server_changing_sides_leaves_nobody_out() -> None:
    """Many who read, write, and change sides: a writer is always alone."""
    async with running_server() as server, AsyncClient(server.endpoints) as client:
        readers = writers = 0
        upgrades = 0

        async def work(number: int) -> None:
            nonlocal readers, writers, upgrades
            handle: AsyncReadHandle | AsyncWriteHandle | None
            if number % 5 not in (0, 2):  # after each writer one reader, or two
                handle = await lock_of(client).read().acquire()
                readers += 1
                assert not writers
                await client.sync()
                readers -= 1
                writing = await handle.try_upgrade()
                if writing is not None:
                    upgrades += 1
                    assert not writers
                    assert not readers
                    await client.sync()
                    handle = writing
            else:
                writing = await lock_of(client).write().acquire()
                writers += 1
                assert (readers, writers) == (0, 1)
                await client.sync()
                writers -= 1
                handle = await writing.downgrade()
                assert not writers
            await handle.release()

        await asyncio.gather(*(work(number) for number in range(30)))
        assert upgrades
        assert await lock_of(client).contenders() == []


# ---------------------------------------------------------------------------------------------
# For threads


def test_threads_have_both_sides() -> None:
    with Server() as server, Client(server.endpoints) as client:
        lock = ReadWriteLock(client, PATH, timeout=5)
        with lock.write() as writing:
            assert [c.kind for c in lock.contenders()] == ["write"]
            assert lock.read().try_acquire(owner="another") is None
            reading = writing.downgrade()
        beside = lock.read().try_acquire(owner="another")
        assert beside is not None
        assert reading.try_upgrade() is None
        beside.release()
        alone = reading.try_upgrade()
        assert alone is not None
        with alone, pytest.raises(AlreadyHeldError):
            lock.write().acquire()
        with lock.read() as outer, lock.read() as inner:
            assert outer.guard == inner.guard
        assert lock.contenders() == []


async def test_a_writer_that_becomes_a_reader_is_not_overlooked_in_a_long_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A long queue is read in pages: who changes sides must not slip into a page that was read already."""
    unique = ["f" * 32, "e" * 32, "0" * 32]
    names = SimpleNamespace(uuid4=lambda: UUID(hex=unique.pop(0)))
    monkeypatch.setattr(contenders, "uuid", names)
    async with (
        running_server() as server,
        AsyncClient(server.endpoints) as holder,
        AsyncClient(server.endpoints) as other,
    ):
        held = await lock_of(holder).write().acquire()
        waiting = asyncio.create_task(lock_of(other).write().acquire())
        while len(await lock_of(holder).contenders()) < 2:
            await holder.sync()
        await _crowd(holder, 5100)
        now_reading: list[AsyncReadHandle] = []
        read_page = other._read_by

        async def downgrade_between_pages(*arguments: Any) -> data_pb2.ReadResult:
            page = await read_page(*arguments)
            if page.children.more and not now_reading:
                now_reading.append(await held.downgrade())
            return page

        monkeypatch.setattr(other, "_read_by", downgrade_between_pages)
        await holder.set(held.path, b"{}")  # The writer that waits looks again.
        await eventually(lambda: now_reading)
        for _ in range(10):
            await other.sync()
        assert not waiting.done(), "there is a reader"

        await now_reading[0].release()
        assert (await waiting).token > now_reading[0].token


async def _crowd(client: AsyncClient, count: int) -> None:
    """Have many readers come after all others, between them in the order of the names."""
    for first in range(0, count, 100):
        async with client.transaction() as readers:
            for number in range(first, first + 100):
                readers.create(f"{PATH}/{number + 16**30:032x}-read-{number + 10:010}")

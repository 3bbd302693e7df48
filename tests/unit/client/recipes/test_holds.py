"""Owners and levels of a lock; a lock that a task or thread has is not waited for by the same."""

from __future__ import annotations

import asyncio
import threading

import pytest

from coordclient import AlreadyHeldError, AsyncClient, Client, LockLostError, LockTimeoutError
from coordclient.recipes.lock import AsyncLock, Lock
from coordsvc.testing import Server
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import FakeServer

PATH = "/locks/a"


def reentrant(client: AsyncClient) -> AsyncLock:
    return AsyncLock(client, PATH, reentrant=True)


# ---------------------------------------------------------------------------------------------
# Not reentrant


async def test_a_task_does_not_wait_for_itself(client: AsyncClient, server: FakeServer) -> None:
    async with AsyncLock(client, PATH):
        with pytest.raises(AlreadyHeldError, match="reentrant=True"):
            await AsyncLock(client, PATH).acquire()
        assert await AsyncLock(client, PATH).try_acquire() is None
        assert len(server.names(PATH)) == 1

    async with AsyncLock(client, PATH):
        pass


async def test_another_task_another_owner_and_another_path_may_wait(
    client: AsyncClient, server: FakeServer
) -> None:
    lock = AsyncLock(client, PATH)
    held = await lock.acquire()
    task = asyncio.create_task(lock.acquire())
    await eventually(lambda: len(server.names(PATH)) == 2)
    with pytest.raises(LockTimeoutError):
        await lock.acquire(timeout=0.05, owner="another")
    async with AsyncLock(client, "/locks/b"):
        pass
    await held.release()
    await (await task).release()


async def test_what_was_released_or_lost_is_not_held_any_more(
    client: AsyncClient, server: FakeServer
) -> None:
    lock = AsyncLock(client, PATH)
    held = await lock.acquire()
    held.abandon()
    held = await lock.acquire()
    server.delete(held.path)
    await held.wait_lost()
    held = await lock.acquire()
    server.expire(client.session_id)
    await held.wait_lost()

    async with lock as held:
        held.check()


async def test_an_owner_is_known_by_what_it_is(client: AsyncClient) -> None:
    held = await AsyncLock(client, PATH).acquire(owner=("job", 7))
    with pytest.raises(AlreadyHeldError):
        await AsyncLock(client, PATH).acquire(owner=("job", 7))
    await held.release()


# ---------------------------------------------------------------------------------------------
# Reentrant


async def test_every_level_is_a_grant_and_the_last_one_frees_the_lock(
    connect: Connect, server: FakeServer
) -> None:
    client, other = await connect(), await connect()
    outer = await reentrant(client).acquire()
    before = server.tree.zxid
    inner = await reentrant(client).acquire()
    third = await reentrant(client).try_acquire()
    assert third is not None
    assert server.tree.zxid == before, "a further level asks nobody"
    assert {outer.token, inner.token, third.token} == {outer.token}
    assert inner.guard == outer.guard
    await outer.release()
    await outer.release()
    inner.check()
    with pytest.raises(LockLostError, match="released"):
        outer.check()
    assert await reentrant(other).try_acquire() is None
    await third.release()
    assert len(server.names(PATH)) == 1
    await inner.release()

    assert server.names(PATH) == []


async def test_blocks_may_be_nested(client: AsyncClient, server: FakeServer) -> None:
    lock = reentrant(client)
    async with lock as outer:
        async with lock as inner:
            assert inner.token == outer.token
        outer.check()
        assert len(server.names(PATH)) == 1
    assert server.names(PATH) == []


async def test_a_loss_reaches_every_level_at_once(client: AsyncClient, server: FakeServer) -> None:
    """The inner block is cancelled, and the error comes out of the outermost, where nothing is left to do."""
    entered = asyncio.Event()
    lost: list[bool] = []

    async def work() -> None:
        async with reentrant(client) as outer:
            try:
                async with reentrant(client) as inner:
                    entered.set()
                    await asyncio.Event().wait()
            finally:
                lost.extend([bool(outer.lost), bool(inner.lost)])

    task = asyncio.create_task(work())
    await entered.wait()
    server.delete(f"{PATH}/{server.names(PATH)[0]}")

    with pytest.raises(LockLostError, match="deleted"):
        await task
    assert lost == [True, True]
    assert task.cancelling() == 0


async def test_levels_of_one_owner_may_be_held_by_several_tasks(client: AsyncClient) -> None:
    lock = reentrant(client)
    outer = await lock.acquire(owner="job")
    inner = await asyncio.create_task(lock.acquire(owner="job"))
    await outer.release()
    inner.check()
    assert await lock.try_acquire(owner="another job") is None
    await inner.release()


# ---------------------------------------------------------------------------------------------
# For threads


def test_a_thread_does_not_wait_for_itself_and_another_does() -> None:
    with Server() as server, Client(server.endpoints) as client:
        lock = Lock(client, PATH)
        order: list[str] = []

        def wait_for_it() -> None:
            with lock:
                order.append("other thread")

        with lock:
            thread = threading.Thread(target=wait_for_it)
            thread.start()
            with pytest.raises(AlreadyHeldError):
                lock.acquire()
            with pytest.raises(LockTimeoutError):
                lock.acquire(owner="another", timeout=0.05)
            order.append("this thread")
        thread.join()
        assert order == ["this thread", "other thread"]


def test_blocks_of_a_thread_may_be_nested() -> None:
    with Server() as server, Client(server.endpoints) as client:
        lock = Lock(client, PATH, reentrant=True)
        with lock as outer, lock as inner:
            assert outer.token == inner.token
            assert len(lock.contenders()) == 1
        assert lock.contenders() == []


def test_many_threads_share_one_lock() -> None:
    with Server() as server, Client(server.endpoints) as client:
        lock = Lock(client, PATH, timeout=30, reentrant=True)
        inside: list[int] = []
        seen: list[int] = []

        def work(number: int) -> None:
            with lock, lock as held:
                inside.append(number)
                assert inside == [number]
                seen.append(held.token)
                client.sync()
                inside.remove(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) == 8
        assert seen == sorted(set(seen))

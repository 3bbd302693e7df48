"""What was reproduced as a bug of kazoo's recipes, done here against a real server: each comes out right.

Every test says in its docstring what kazoo 2.11 did against ZooKeeper 3.8.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from coordclient import AsyncClient, Client, State
from coordclient.errors import (
    BadVersionError,
    LockLostError,
    LockTimeoutError,
    RecipeTimeoutError,
    TransactionError,
)
from coordclient.recipes.barrier import AsyncBarrier
from coordclient.recipes.counter import AsyncCounter
from coordclient.recipes.double_barrier import AsyncDoubleBarrier
from coordclient.recipes.group import AsyncGroup
from coordclient.recipes.lock import AsyncLock
from coordclient.recipes.queue import AsyncQueue
from coordclient.recipes.semaphore import AsyncSemaphore
from coordclient.recipes.work_queue import AsyncWorkQueue
from coordclient.types import Event
from coordsvc.testing import AsyncServer, Server, running_server
from tests.recipes.scenario import ephemeral_nodes
from tests.unit.client.eventually import eventually

HANGS_S = 20.0  # much longer than anything here takes; only a bug gets there
IMPATIENT_S = 0.3
FLAP_EVERY_S = 0.02


@pytest.fixture
async def server() -> AsyncIterator[AsyncServer]:
    async with running_server() as server:
        yield server


@pytest.fixture
async def client(server: AsyncServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.endpoints) as client:
        yield client


@pytest.fixture
async def other(server: AsyncServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.endpoints) as client:
        yield client


async def until_it_waits(client: AsyncClient, watches: int = 1) -> None:
    """Return when a call of this client has set its watches on the service."""
    while len(client._running_driver().core.watches) < watches:
        await client.sync()
    await client.sync()


async def flap(server: AsyncServer, client: AsyncClient) -> None:
    """Break the connection and return when there is a new one."""
    suspended = asyncio.Event()

    def note(state: State) -> None:
        if state is State.SUSPENDED:
            suspended.set()

    client.add_internal_listener(note)
    server.link.cut()
    await suspended.wait()
    client.remove_internal_listener(note)
    await client.sync()


# ---------------------------------------------------------------------------------------------
# Barriers


async def test_a_waiter_survives_that_the_barrier_is_set(client: AsyncClient, other: AsyncClient) -> None:
    """Barrier.wait(4), then `set` on the node, then delete: False after 4.00 s, never woken."""
    barrier = AsyncBarrier(client, "/barrier")
    await barrier.create()
    waiting = asyncio.create_task(barrier.wait())
    await until_it_waits(client)

    await other.set("/barrier", b"still up")
    await other.delete("/barrier")

    await waiting


async def test_a_waiter_survives_a_flap(server: AsyncServer, client: AsyncClient, other: AsyncClient) -> None:
    """Barrier.wait(5), connection flap, then delete: False after 5.00 s."""
    barrier = AsyncBarrier(client, "/barrier")
    await barrier.create()
    waiting = asyncio.create_task(barrier.wait())
    await until_it_waits(client)

    await flap(server, client)
    assert not waiting.done()
    await other.delete("/barrier")

    await waiting


async def test_nobody_enters_alone_because_of_what_is_left_behind(client: AsyncClient) -> None:
    """DoubleBarrier(2).enter() by one client, stale `ready` child present: entered after 0.01 s."""
    barrier = AsyncDoubleBarrier(client, "/double", 2)
    rounds = await asyncio.gather(barrier.enter(), barrier.enter())
    await asyncio.gather(*(entered.leave() for entered in rounds))
    await client.create("/double/ready", b"stale")

    with pytest.raises(RecipeTimeoutError):
        await barrier.enter(timeout=IMPATIENT_S)

    assert not (await ephemeral_nodes(client))


# ---------------------------------------------------------------------------------------------
# A reply that is lost


async def test_an_increment_with_a_lost_reply_counts_once(server: AsyncServer, client: AsyncClient) -> None:
    """Counter += 1, the reply lost after the server applied the set: value 2."""
    counter = AsyncCounter(client, "/counter")
    await counter.add(0)
    drop = server.link.drop_next_reply()

    change = await counter.add(1)

    assert drop.happened
    assert (change.before, change.after) == (0, 1)
    assert await counter.value() == 1


async def test_an_item_whose_delete_reply_is_lost_is_not_lost(
    server: AsyncServer, client: AsyncClient
) -> None:
    """Queue [one, two].get(), delete-reply lost: returned `two`; nothing was left, `one` was lost."""
    queue = AsyncQueue(client, "/queue")
    await queue.put(b"one")
    await queue.put(b"two")
    drop = server.link.drop_next_reply()

    item = await queue.get()

    assert drop.happened
    assert item.value == b"one"
    assert await queue.size() == 1
    assert (await queue.get()).value == b"two"


# ---------------------------------------------------------------------------------------------
# Locks


async def test_flaps_do_not_prolong_an_acquire(server: AsyncServer, client: AsyncClient) -> None:
    """Lock.acquire(timeout=2), flap at 1.6 s: LockTimeout after 3.68 s, since each wait began anew."""
    async with AsyncClient(server.endpoints) as holder:
        held = await AsyncLock(holder, "/lock").acquire()

        async def flap_for_ever() -> None:
            while True:
                await asyncio.sleep(FLAP_EVERY_S)
                server.link.cut()

        flapping = asyncio.create_task(flap_for_ever())
        with pytest.raises(LockTimeoutError):
            await AsyncLock(client, "/lock").acquire(timeout=IMPATIENT_S)
        flapping.cancel()

        while len(contenders := await AsyncLock(holder, "/lock").contenders()) > 1:
            await holder.sync()
        assert [contender.path for contender in contenders] == [held.path]


async def test_a_holder_learns_that_its_session_has_ended(server: AsyncServer, client: AsyncClient) -> None:
    """Lock holder after the server really closed the session: is_acquired=True, client CONNECTED."""
    held = await AsyncLock(client, "/lock").acquire()

    await server.expire_session(client.session_id)
    await held.wait_lost()

    assert held.lost
    with pytest.raises(LockLostError):
        held.check()
    async with AsyncLock(client, "/lock") as again:
        assert again.token > held.token


async def test_a_waiter_with_a_new_session_has_a_new_place(
    server: AsyncServer, client: AsyncClient, other: AsyncClient
) -> None:
    """Waiter whose session was replaced: takes the old session's node for its own, which goes 14 s later."""
    held = await AsyncLock(other, "/lock").acquire()
    waiting = asyncio.create_task(AsyncLock(client, "/lock").acquire())
    while len(await AsyncLock(other, "/lock").contenders()) < 2:
        await other.sync()
    first_session = client.session_id

    await server.expire_session(first_session)
    while (await AsyncLock(other, "/lock").contenders())[-1].session_id in (first_session, other.session_id):
        await other.sync()
    await held.release()
    granted = await waiting

    stat = await other.exists(granted.path)
    assert stat is not None
    assert stat.ephemeral_owner == client.session_id != first_session
    assert stat.czxid == granted.token
    granted.check()


async def test_not_waiting_may_be_said_with_a_timeout(client: AsyncClient, other: AsyncClient) -> None:
    """Lock.acquire(blocking=False, timeout=5): ValueError."""
    lock = AsyncLock(client, "/lock")
    held = await lock.acquire(timeout=0)

    with pytest.raises(LockTimeoutError):
        await AsyncLock(other, "/lock").acquire(timeout=0)
    assert await AsyncLock(other, "/lock").try_acquire() is None
    held.check()


@contextmanager
def threads_client() -> Iterator[Client]:
    with Server() as server, Client(server.endpoints) as client:
        yield client


def test_with_gives_the_handle() -> None:
    """`with client.Lock(p) as x`: x is None."""
    with threads_client() as client, client.lock("/lock") as held:
        assert held.token > 0
        client.create("/guarded", guard=held)


# ---------------------------------------------------------------------------------------------
# Semaphores, groups


async def test_semaphores_leave_no_listeners(client: AsyncClient) -> None:
    """Semaphore: state_listeners before, after 5 cycles of one object, after 5 more objects: 0, 1, 6."""
    driver = client._running_driver()
    before = driver.listener_count
    one = AsyncSemaphore(client, "/semaphore", 2)

    for _ in range(5):
        async with one:
            pass
    assert driver.listener_count == before
    for _ in range(5):
        async with AsyncSemaphore(client, "/semaphore", 2):
            pass
    assert driver.listener_count == before


async def test_a_member_joins_again_after_its_session(
    server: AsyncServer, client: AsyncClient, other: AsyncClient
) -> None:
    """Party after the server really closed the session: participating=True, 0 members, never re-joins."""
    membership = await AsyncGroup(client, "/group").join("me", b"payload")
    seen_by_others = AsyncGroup(other, "/group")
    owners = {client.session_id}

    await server.expire_session(client.session_id)
    async with asyncio.timeout(HANGS_S):
        async for _ in seen_by_others.watch():
            stat = await other.exists("/group/me")
            owners |= {stat.ephemeral_owner} if stat is not None else set()
            if len(owners) == 2:
                break  # Others see the node before its maker knows of it, and no other view need follow.

    assert client.session_id in owners
    assert (await seen_by_others.members()).members == {"me": b"payload"}
    await eventually(lambda: membership.is_member)


# ---------------------------------------------------------------------------------------------
# Watches


async def test_a_callback_that_raises_is_called_once(
    client: AsyncClient, other: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """DataWatch callback raising TypeError: called twice, with 3 arguments and then with 2."""
    calls: list[Event] = []
    called = asyncio.Event()

    def callback(event: Event) -> None:
        calls.append(event)
        called.set()
        raise TypeError("the application's own")

    await client.create("/node")
    stream = await client.watch("/node", callback=callback)
    await other.set("/node", b"1")
    await called.wait()
    called.clear()
    await other.set("/node", b"2")
    await called.wait()
    await stream.close()

    assert [event.value for event in calls] == [b"1", b"2"]
    assert "the application's own" in caplog.text


async def test_a_watch_may_be_older_than_what_it_watches(client: AsyncClient, other: AsyncClient) -> None:
    """ChildrenWatch on a node that is created later: callback never called."""
    told: asyncio.Queue[Event] = asyncio.Queue()
    stream = await client.watch("/later", recursive=True, callback=told.put_nowait)

    await other.create("/later")
    await other.create("/later/child")

    paths = []
    while "/later/child" not in paths:
        paths.append((await told.get()).path)
    assert paths[0] == "/later"
    await stream.close()


# ---------------------------------------------------------------------------------------------
# Transactions


async def test_a_failed_check_raises(client: AsyncClient) -> None:
    """Failed check inside `with client.transaction()`: no exception, nothing created."""
    await client.create("/node")

    with pytest.raises(TransactionError) as failed:
        await create_if_at_version(client, "/node", 7)

    assert isinstance(failed.value.cause, BadVersionError)
    assert await client.exists("/made") is None


async def create_if_at_version(client: AsyncClient, path: str, version: int) -> None:
    async with client.transaction() as transaction:
        transaction.check(path, version=version)
        transaction.create("/made")


async def test_an_item_that_disappeared_cannot_be_acknowledged(
    client: AsyncClient, other: AsyncClient
) -> None:
    """LockingQueue.consume() after the entry disappeared: True, and the claim node left behind."""
    queue = AsyncWorkQueue(client, "/jobs")
    await queue.put(b"item")
    claim = await queue.claim()

    (item,) = await other.get_children("/jobs/items/ready")
    await other.delete(f"/jobs/items/ready/{item}", recursive=True)
    with pytest.raises(LockLostError):
        await claim.acknowledge()

    assert await queue.claims() == []
    assert await queue.size() == 0

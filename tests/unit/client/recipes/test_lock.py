"""Lock: one holder in order of arrival, a token that grows, a loss that is noticed, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from coordclient import (
    AsyncClient,
    AsyncLock,
    AsyncLockHandle,
    ClientClosedError,
    CoordError,
    GuardFailedError,
    InvalidPathError,
    LockLostError,
    LockRevokedError,
    LockTimeoutError,
    NotConnectedError,
    State,
)
from coordclient.recipes.contenders import sequence_of
from coordclient.recipes.read_write_lock import AsyncReadWriteLock
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import ClientFrame, FakeServer

PATH = "/locks/a"


async def waiting(lock: AsyncLock, server: FakeServer, count: int) -> asyncio.Task[AsyncLockHandle]:
    """Start to wait for the lock; return when there are `count` contenders."""
    task = asyncio.create_task(lock.acquire())
    await eventually(lambda: len(server.names(PATH)) == count)
    return task


def looks(server: FakeServer, begin: int) -> int:
    """Return how often somebody has read the queue, counted from a frame on."""
    reads = [read for frame in server.frames[begin:] for read in frame.reads]
    return sum(read.HasField("list_children") for read in reads)


async def test_a_free_lock_is_granted_with_everything_a_holder_needs(
    client: AsyncClient, server: FakeServer
) -> None:
    held = await client.lock(PATH).acquire()

    (name,) = server.names(PATH)
    node = server.tree.nodes[held.path]
    assert held.path == f"{PATH}/{name}"
    assert node.stat.ephemeral_owner == client.session_id
    assert held.token == node.stat.czxid
    assert held.guard == (held.path, held.token)
    assert held.valid_until == client.valid_until
    assert 0 < held.remaining <= 10
    assert not held.lost
    held.check()


async def test_releasing_leaves_nothing(client: AsyncClient, server: FakeServer) -> None:
    held = await client.lock(PATH).acquire()
    await held.release()
    await held.release()

    assert server.names(PATH) == []
    with pytest.raises(LockLostError, match="released"):
        held.check()
    assert held.remaining == 0


async def test_the_lock_is_granted_in_order_of_arrival(connect: Connect, server: FakeServer) -> None:
    clients = [await connect() for _ in range(4)]
    order: list[int] = []
    tokens: list[int] = []

    async def work(number: int) -> None:
        async with clients[number].lock(PATH) as held:
            order.append(number)
            tokens.append(held.token)

    first = await clients[0].lock(PATH).acquire()
    tasks = []
    for number in (2, 1, 3):
        tasks.append(asyncio.create_task(work(number)))
        await eventually(lambda: len(server.names(PATH)) == len(tasks) + 1)
    await first.release()
    await asyncio.gather(*tasks)

    assert order == [2, 1, 3]
    assert tokens == sorted(tokens)


async def test_one_client_may_contend_with_itself(client: AsyncClient) -> None:
    lock = client.lock(PATH)
    inside = 0

    async def work() -> None:
        nonlocal inside
        async with lock:
            inside += 1
            assert inside == 1
            await client.sync()
            inside -= 1

    await asyncio.gather(*(work() for _ in range(10)))


async def test_a_release_wakes_only_the_next(connect: Connect, server: FakeServer) -> None:
    client = await connect()
    held = await client.lock(PATH).acquire()
    tasks = [await waiting((await connect()).lock(PATH), server, number + 2) for number in range(5)]
    # Each of the six watches over its own node, and all but the first over the one before.
    await eventually(lambda: server.watch_count() == 11)
    before = len(server.frames)
    await held.release()
    await tasks[0]

    assert looks(server, before) == 0, "nobody else is woken, and the next one knows who was before it"


async def test_the_next_one_looks_again_if_more_has_happened_than_a_release(
    connect: Connect, server: FakeServer
) -> None:
    """One that was granted a lock with a delay, and has set its node to say so, may leave a grave."""
    held = await (await connect()).lock(PATH).acquire()
    task = await waiting((await connect()).lock(PATH), server, 2)
    await eventually(lambda: server.watch_count() == 3)
    server.set(held.path, b"{}")
    await eventually(lambda: looks(server, 0) == 3)
    before = len(server.frames)
    await held.release()
    await task

    assert looks(server, before) == 1


async def test_who_waits_behind_two_looks_again_when_the_nearer_one_has_gone(
    connect: Connect, server: FakeServer
) -> None:
    held = await (await connect()).lock(PATH).acquire()
    nearer = await waiting((await connect()).lock(PATH), server, 2)
    task = await waiting((await connect()).lock(PATH), server, 3)
    await eventually(lambda: server.watch_count() == 5)
    before = len(server.frames)
    nearer.cancel()
    await eventually(lambda: looks(server, before) == 1)

    assert not task.done(), "the first one still holds"
    await held.release()
    await task


async def test_a_reader_that_becomes_a_writer_at_the_same_path_has_not_gone(
    connect: Connect, server: FakeServer
) -> None:
    """Whoever changes its kind deletes its node, and makes another one where it stood."""
    reading = await AsyncReadWriteLock(await connect(), PATH).read().acquire()
    other = await connect()
    task = await waiting(other.lock(PATH), server, 2)
    await eventually(lambda: server.watch_count() == 3)
    writing = await reading.try_upgrade()
    assert writing is not None
    for _ in range(3):
        await other.sync()

    assert not task.done(), "the writer still holds"
    await writing.release()
    await task


async def test_who_is_deleted_while_it_reads_what_it_was_asked_is_not_granted(
    connect: Connect, server: FakeServer
) -> None:
    """The watch over its own node has fired for the question, and does not tell of the end."""
    held = await (await connect()).lock(PATH).acquire()
    task = await waiting((await connect()).lock(PATH), server, 2)
    await eventually(lambda: server.watch_count() == 3)
    own = next(name for name in server.names(PATH) if f"{PATH}/{name}" != held.path)
    server.set(f"{PATH}/{own}", b'{"revoke": ""}')
    server.delete(f"{PATH}/{own}")
    server.delete(held.path)

    with pytest.raises(LockRevokedError):
        await task


async def test_the_tenth_billion_contender_comes_after_the_last_of_nine(
    connect: Connect, server: FakeServer
) -> None:
    """Numbers are compared as numbers: as names the longer one would come first."""
    client = await connect()
    server.tree.sequence[PATH] = 9_999_999_999
    held = await client.lock(PATH).acquire()
    task = await waiting((await connect()).lock(PATH), server, 2)

    assert held.path.endswith("-lock-9999999999")
    await held.release()
    assert (await task).path.endswith("-lock-10000000000")


async def test_foreign_nodes_are_no_contenders(client: AsyncClient, server: FakeServer) -> None:
    for name in ("leader", "x-lock-0000000000", "0", "readme-lock-"):
        server.set(f"{PATH}/{name}", b"")

    async with client.lock(PATH):
        assert len(await client.lock(PATH).contenders()) == 1


def test_names_of_contenders() -> None:
    stem = "0123456789abcdef" * 2
    assert sequence_of(f"{stem}-lock-0000000012") == 12
    assert sequence_of(f"{stem}-lock-99999999999") == 99999999999
    assert sequence_of(f"{stem}-lock-12x") is None
    assert sequence_of("leader") is None


async def test_contenders_are_listed_in_order(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(name="one"), await connect(name="two")
    held = await first.lock(PATH).acquire()
    task = await waiting(second.lock(PATH), server, 2)
    contenders = await first.lock(PATH).contenders()

    assert [contender.client for contender in contenders] == ["one", "two"]
    assert contenders[0].token == held.token
    assert contenders[1].session_id == second.session_id
    await held.release()
    await (await task).release()
    assert await first.lock(PATH).contenders() == []


async def test_a_guarded_write_is_refused_once_the_lock_is_gone(client: AsyncClient) -> None:
    await client.create("/a")
    async with client.lock(PATH) as held:
        await client.set("/a", b"1", guard=held)

    with pytest.raises(GuardFailedError):
        await client.set("/a", b"2", guard=held)


# ---------------------------------------------------------------------------------------------
# Not waiting, or not for ever


async def test_trying_takes_a_free_lock(client: AsyncClient) -> None:
    held = await client.lock(PATH).try_acquire()

    assert held is not None
    held.check()


async def test_trying_a_held_lock_makes_no_contender(connect: Connect, server: FakeServer) -> None:
    holder, other = await connect(), await connect()
    async with holder.lock(PATH):
        before = server.tree.zxid
        assert await other.lock(PATH).try_acquire() is None

        assert server.tree.zxid == before


async def test_waiting_ends_in_time_and_leaves_nothing(connect: Connect, server: FakeServer) -> None:
    holder, other = await connect(), await connect()
    async with holder.lock(PATH) as held:
        with pytest.raises(LockTimeoutError) as failed:
            await other.lock(PATH).acquire(timeout=0.05)
        assert isinstance(failed.value, TimeoutError)
        await eventually(lambda: len(server.names(PATH)) == 1)
        with pytest.raises(LockTimeoutError):
            await other.lock(PATH).acquire(timeout=0)
        with pytest.raises(LockTimeoutError):
            async with other.lock(PATH, timeout=0.05):
                pass
        held.check()
    assert server.names(PATH) == []


async def test_an_unconnected_or_closed_client_fails_at_once(server: FakeServer) -> None:
    client = AsyncClient(server.address)
    with pytest.raises(NotConnectedError):
        await client.lock(PATH).acquire()
    async with client:
        pass
    with pytest.raises(ClientClosedError):
        await client.lock(PATH).acquire()


async def test_closing_the_client_ends_a_waiter(connect: Connect, server: FakeServer) -> None:
    holder, other = await connect(), await connect()
    async with holder.lock(PATH):
        task = await waiting(other.lock(PATH), server, 2)
        await other.close()
        with pytest.raises(ClientClosedError):
            await task


def test_the_root_is_no_lock() -> None:
    with pytest.raises(InvalidPathError):
        AsyncClient("a:1").lock("/")
    with pytest.raises(InvalidPathError):
        AsyncClient("a:1").lock("a")


# ---------------------------------------------------------------------------------------------
# Loss


async def test_the_body_is_cancelled_when_the_session_is_lost(
    client: AsyncClient, server: FakeServer
) -> None:
    entered = asyncio.Event()
    was_cancelled = False

    async def work() -> None:
        nonlocal was_cancelled
        async with client.lock(PATH) as held:
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                was_cancelled = True
                assert held.lost
                raise

    task = asyncio.create_task(work())
    await entered.wait()
    server.expire(client.session_id)

    with pytest.raises(LockLostError, match="session"):
        await task
    assert was_cancelled
    assert task.cancelling() == 0


async def test_the_lock_is_lost_locally_when_nobody_can_be_reached(
    connect: Connect, server: FakeServer
) -> None:
    client = await connect(session_timeout=0.5)
    held = await client.lock(PATH).acquire()
    server.is_silent = True
    server.drop_connections()
    await held.wait_lost()

    assert held.lost.is_set()
    assert held.remaining == 0
    with pytest.raises(LockLostError):
        held.check()
    await held.release()


async def test_a_deleted_contender_loses_the_lock(client: AsyncClient, server: FakeServer) -> None:
    async def work() -> None:
        async with client.lock(PATH) as held:
            server.delete(held.path)
            await asyncio.Event().wait()

    with pytest.raises(LockLostError, match="deleted"):
        await work()


async def test_somebody_who_sets_the_contender_does_not_take_the_lock(
    client: AsyncClient, server: FakeServer
) -> None:
    held = await client.lock(PATH).acquire()
    server.set(held.path, b"please let go")
    await client.sync()
    held.check()
    await eventually(lambda: server.watch_count() == 1)

    server.delete(held.path)
    await held.wait_lost()


async def test_a_deleted_waiter_is_told(connect: Connect, server: FakeServer) -> None:
    holder, other = await connect(), await connect()
    async with holder.lock(PATH):
        task = await waiting(other.lock(PATH), server, 2)
        server.delete(f"{PATH}/{(await holder.lock(PATH).contenders())[1].path.rpartition('/')[2]}")

        with pytest.raises(LockRevokedError):
            await task


async def test_a_waiter_whose_whole_lock_is_deleted_is_told(connect: Connect, server: FakeServer) -> None:
    holder, other = await connect(), await connect()
    held = await holder.lock(PATH).acquire()
    task = await waiting(other.lock(PATH), server, 2)
    await holder.delete(PATH, recursive=True)

    with pytest.raises(LockRevokedError):
        await task
    assert held.lost


async def test_a_waiter_whose_session_is_lost_queues_again(connect: Connect, server: FakeServer) -> None:
    holder, other = await connect(), await connect()
    held = await holder.lock(PATH).acquire()
    task = await waiting(other.lock(PATH), server, 2)
    former = other.session_id
    server.expire(former)
    await eventually(lambda: other.session_id not in (0, former) and len(server.names(PATH)) == 2)
    await held.release()
    mine = await task

    assert mine.session_id == other.session_id != former
    mine.check()


async def test_a_lost_connection_does_not_cost_the_lock(client: AsyncClient, server: FakeServer) -> None:
    async with client.lock(PATH) as held:
        server.drop_connections()
        await eventually(lambda: client.state is State.SUSPENDED or len(server.attaches) > 1)
        await client.sync()
        held.check()


async def test_a_body_that_fails_releases_and_its_error_comes_out(
    client: AsyncClient, server: FakeServer
) -> None:
    async def work() -> None:
        async with client.lock(PATH):
            raise KeyError("mine")

    with pytest.raises(KeyError):
        await work()
    assert server.names(PATH) == []


async def test_a_cancelled_body_stays_cancelled(client: AsyncClient, server: FakeServer) -> None:
    entered = asyncio.Event()

    async def work() -> None:
        async with client.lock(PATH):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    await eventually(lambda: server.names(PATH) == [])


async def test_a_body_that_ends_after_the_loss_is_told(client: AsyncClient, server: FakeServer) -> None:
    async def work() -> None:
        async with client.lock(PATH) as held:
            server.delete(held.path)
            with contextlib.suppress(asyncio.CancelledError):  # A body that takes no notice.
                await held.wait_lost()

    with pytest.raises(LockLostError):
        await work()


# ---------------------------------------------------------------------------------------------
# Nothing is left behind


async def cancelled_after(
    frames: int, act: Callable[[], Awaitable[AsyncLockHandle]], server: FakeServer
) -> AsyncLockHandle | None:
    """Run `act`, and cancel it when the server has had so many more frames. None: it was cancelled."""
    task = asyncio.ensure_future(act())
    left = frames

    def count(frame: ClientFrame) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            task.cancel()

    server.on_frame = count
    await asyncio.wait([task])
    server.on_frame = None
    return None if task.cancelled() else task.result()


@pytest.mark.parametrize("fault", ["none", "drop before apply", "drop after apply"])
async def test_a_cancelled_waiter_leaves_nothing_wherever_it_is_cancelled(
    connect: Connect, server: FakeServer, fault: str
) -> None:
    client = await connect()
    core = client._core
    assert core is not None
    frames = 0
    while True:
        frames += 1
        server.drop_before_apply = int(fault == "drop before apply")
        server.drop_after_apply = int(fault == "drop after apply")
        held = await cancelled_after(frames, client.lock(PATH).acquire, server)
        if held is not None:
            await held.release()
        await eventually(lambda: client.janitor.task_count == 0 and core.pipeline.pending_count == 0)
        await client.sync()
        assert server.names(PATH) == [], f"cancelled after {frames} frames"
        assert len(core.watches) == 0
        if held is not None:
            break
    assert frames >= 3, "several places were tried"


async def test_a_thousand_grants_leave_nothing(client: AsyncClient, server: FakeServer) -> None:
    core, driver = client._core, client._driver
    assert core is not None
    assert driver is not None
    lock = client.lock(PATH)
    async with lock:
        pass
    await client.sync()
    tasks, listeners = len(asyncio.all_tasks()), driver.listener_count
    for _ in range(1000):
        held = await lock.try_acquire()
        assert held is not None
        await held.release()
    await client.sync()

    assert len(asyncio.all_tasks()) <= tasks + 1
    assert driver.listener_count == listeners
    assert len(core.watches) == 0
    assert server.watch_count() == 0
    assert core.pipeline.pending_count == 0


async def test_giving_up_is_reported_as_what_it_is(connect: Connect) -> None:
    """Everything that a lock raises is a CoordError."""
    client = await connect()
    async with client.lock(PATH):
        with pytest.raises(CoordError):
            await client.lock(PATH).acquire(timeout=0.01)

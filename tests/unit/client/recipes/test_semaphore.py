"""Semaphore: as many as there are permits, in order, with tokens in the order of the grants."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from coordclient import (
    AsyncClient,
    Client,
    GuardFailedError,
    InvalidArgumentError,
    InvalidPathError,
    InvalidValueError,
    LockLostError,
    LockRevokedError,
    LockTimeoutError,
    MismatchError,
    NodeExistsError,
)
from coordclient.recipes.semaphore import AsyncPermit, AsyncSemaphore, Semaphore
from coordclient.types import Stat
from coordclient.watch_records import WatchRecord
from coordproto.v1 import data_pb2
from coordsvc.testing import Server, running_server
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import ClientFrame, FakeServer

PATH = "/semaphores/s"


def semaphore_of(client: AsyncClient, permits: int = 2) -> AsyncSemaphore:
    return AsyncSemaphore(client, PATH, permits)


async def waiting(
    semaphore: AsyncSemaphore, server: FakeServer, count: int, weight: int = 1
) -> asyncio.Task[AsyncPermit]:
    """Start to wait for permits; return when there are `count` contenders."""
    task = asyncio.create_task(semaphore.acquire(weight))
    await eventually(lambda: len(server.names(PATH)) == count)
    return task


async def quiet(*clients: AsyncClient) -> None:
    """Return when everything that was under way has been answered."""
    for _ in range(3):
        for client in clients:
            await client.sync()


def looks_since(server: FakeServer, first: int) -> int:
    """Count how often anybody looked at the queue."""
    return sum(read.HasField("list_children") for frame in server.frames[first:] for read in frame.reads)


# ---------------------------------------------------------------------------------------------
# Permits


async def test_as_many_as_there_are_permits(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(), await connect()
    async with semaphore_of(first), semaphore_of(second) as permit:
        permit.check()
        assert await semaphore_of(first).try_acquire() is None
        with pytest.raises(LockTimeoutError):
            await semaphore_of(first).acquire(timeout=0.05)
        with pytest.raises(LockTimeoutError):
            await semaphore_of(first).acquire(timeout=0)
        await eventually(lambda: len(server.names(PATH)) == 2)

    assert server.names(PATH) == []
    assert await semaphore_of(first).try_acquire(2) is not None


async def test_one_task_may_hold_several(client: AsyncClient) -> None:
    semaphore = semaphore_of(client)
    async with semaphore as one, semaphore as other:
        assert one.path != other.path


@pytest.mark.parametrize("who", [0, 1])
async def test_whichever_holder_goes_the_first_in_line_is_granted(
    connect: Connect, server: FakeServer, who: int
) -> None:
    """With two permits, whoever listened only to the holder two places before would miss the other."""
    clients = [await connect() for _ in range(4)]
    held = [await semaphore_of(client).acquire() for client in clients[:2]]
    first = await waiting(semaphore_of(clients[2]), server, 3)
    second = await waiting(semaphore_of(clients[3]), server, 4)
    await held[who].release()
    granted = await first
    await quiet(*clients)
    assert not second.done()
    await held[1 - who].release()

    assert (await second).token > granted.token > max(permit.token for permit in held)


async def test_one_that_was_granted_just_before_we_listened_to_it_is_not_waited_for(
    connect: Connect, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the holders that we have to listen to then: the next permit that comes free is ours."""
    holder, first, second = await connect(), await connect(), await connect()
    held = [await semaphore_of(holder).acquire() for _ in range(2)]
    granted = await waiting(semaphore_of(first), server, 3)
    listen = second.exists_with

    async def listen_late(path: str, record: WatchRecord, *, timeout: float | None = None) -> Stat | None:
        if server.tree.nodes[path].stat.ephemeral_owner == first.session_id:
            await held[0].release()
            await granted
        return await listen(path, record, timeout=timeout)

    monkeypatch.setattr(second, "exists_with", listen_late)
    last = await waiting(semaphore_of(second), server, 4)
    await granted
    await quiet(second)
    await held[1].release()

    async with asyncio.timeout(10):
        await last


async def test_tokens_grow_in_the_order_of_the_grants(connect: Connect, server: FakeServer) -> None:
    """The token is the transaction that granted it: one made later can be granted earlier than another."""
    client, other = await connect(), await connect()
    held = await semaphore_of(client).acquire(2)
    task = await waiting(semaphore_of(other), server, 2)
    last_before = server.tree.zxid
    await held.release()
    permit = await task

    assert permit.token > last_before >= permit.guard[1]
    assert permit.token == server.tree.nodes[permit.path].stat.mzxid
    assert [c.token for c in await semaphore_of(client).contenders()] == [permit.token]


async def test_a_release_wakes_the_first_in_line_and_an_arrival_nobody(
    connect: Connect, server: FakeServer
) -> None:
    held = [await semaphore_of(await connect()).acquire() for _ in range(2)]
    clients = [await connect() for _ in range(5)]
    tasks = []
    for number, client in enumerate(clients):
        tasks.append(await waiting(semaphore_of(client), server, 3 + number))
        await quiet(*clients)
    before = len(server.frames)
    late = await waiting(semaphore_of(held_client := await connect()), server, 8)
    await quiet(*clients, held_client)
    assert looks_since(server, before) == 1, "only who came has looked"

    before = len(server.frames)
    await held[0].release()
    await tasks[0]
    await quiet(*clients)
    # The first of the line looks and is granted. The next hears of that and looks, and once more when it
    # has begun to listen for holders.
    assert looks_since(server, before) == 3
    assert not any(task.done() for task in [*tasks[1:], late])


async def test_a_guarded_write_is_refused_once_the_permit_is_gone(client: AsyncClient) -> None:
    await client.create("/a")
    async with semaphore_of(client) as permit:
        await client.set("/a", b"1", guard=permit)

    with pytest.raises(GuardFailedError):
        await client.set("/a", b"2", guard=permit)


# ---------------------------------------------------------------------------------------------
# Weights


async def test_a_heavy_one_waits_for_enough_and_is_not_overtaken(
    connect: Connect, server: FakeServer
) -> None:
    clients = [await connect() for _ in range(4)]
    one = await semaphore_of(clients[0], 3).acquire()
    two = await semaphore_of(clients[1], 3).acquire()
    heavy = await waiting(semaphore_of(clients[2], 3), server, 3, weight=3)
    light = await waiting(semaphore_of(clients[3], 3), server, 4)
    assert await semaphore_of(clients[0], 3).try_acquire() is None
    await one.release()
    await quiet(*clients)
    assert not heavy.done()
    assert not light.done()
    await two.release()
    permit = await heavy

    assert permit.weight == 3
    assert not light.done()
    assert [(c.weight, c.is_holder) for c in await semaphore_of(clients[0], 3).contenders()] == [
        (3, True),
        (1, False),
    ]
    await permit.release()
    await light


async def test_one_release_lets_in_as_many_as_fit(connect: Connect, server: FakeServer) -> None:
    client, other = await connect(), await connect()
    heavy = await semaphore_of(client, 3).acquire(3)
    tasks = [await waiting(semaphore_of(other, 3), server, 2 + number) for number in range(4)]
    await heavy.release()
    granted = [await task for task in tasks[:3]]
    await quiet(client, other)

    assert not tasks[3].done()
    # All three fit at once, so which of them is marked first is nobody's business.
    assert len({permit.token for permit in granted}) == 3
    await granted[1].release()
    assert (await tasks[3]).token > max(permit.token for permit in granted)


@pytest.mark.parametrize("weight", [0, -1, 3, 1.0, True])
async def test_a_weight_that_can_never_be_granted_is_refused(client: AsyncClient, weight: int) -> None:
    with pytest.raises(InvalidArgumentError):
        await semaphore_of(client, 2).acquire(weight)


@pytest.mark.parametrize("permits", [0, -1, 1.5, True])
def test_a_semaphore_has_permits(permits: int) -> None:
    with pytest.raises(InvalidArgumentError):
        semaphore_of(AsyncClient("a:1"), permits)
    with pytest.raises(InvalidPathError):
        AsyncSemaphore(AsyncClient("a:1"), "/", 1)


# ---------------------------------------------------------------------------------------------
# The number of permits


async def test_whoever_says_another_number_is_refused(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(), await connect()
    async with semaphore_of(first, 2):
        before = server.tree.zxid
        with pytest.raises(MismatchError, match="has 2 permits, not 3"):
            await semaphore_of(second, 3).acquire()
        with pytest.raises(MismatchError):
            await semaphore_of(second, 3).try_acquire()
        assert server.tree.zxid == before, "nothing was written"


async def test_the_number_is_made_together_with_the_root(connect: Connect, server: FakeServer) -> None:
    """Two that come first and disagree: one of them is told."""
    clients = [await connect() for _ in range(4)]
    results = await asyncio.gather(
        *(semaphore_of(client, 2 + number % 2).acquire() for number, client in enumerate(clients)),
        return_exceptions=True,
    )

    assert sum(isinstance(result, MismatchError) for result in results) == 2
    assert sum(isinstance(result, AsyncPermit) for result in results) == 2


async def test_a_root_made_by_hand_gets_the_number(client: AsyncClient, server: FakeServer) -> None:
    await client.create(PATH, parents=True)
    async with semaphore_of(client, 2):
        assert server.tree.nodes[PATH].value == b'{"permits": 2}'


@pytest.mark.parametrize("value", [b"7", b"\xff", b'{"permits": 0}', b'{"permits": true}'])
async def test_a_node_that_is_something_else_is_not_touched(
    client: AsyncClient, server: FakeServer, value: bytes
) -> None:
    server.set(PATH, value)
    with pytest.raises(InvalidValueError):
        await semaphore_of(client).acquire()

    assert server.tree.nodes[PATH].value == value
    assert server.names(PATH) == []


async def test_more_permits_let_in_those_who_wait(connect: Connect, server: FakeServer) -> None:
    client, other = await connect(), await connect()
    semaphore = semaphore_of(client, 1)
    held = await semaphore.acquire()
    tasks = [await waiting(semaphore_of(other, 1), server, 2 + number) for number in range(2)]
    await quiet(client, other)
    await semaphore.resize(2)
    await tasks[0]
    assert not tasks[1].done()
    await semaphore.resize(3)
    await tasks[1]

    assert semaphore.permits == 3
    with pytest.raises(MismatchError):
        await semaphore_of(other, 1).acquire()
    held.check()


async def test_less_permits_take_nothing_away(connect: Connect, server: FakeServer) -> None:
    client, other = await connect(), await connect()
    held = [await semaphore_of(client, 2).acquire() for _ in range(2)]
    task = await waiting(semaphore_of(other, 2), server, 3)
    heavy = await waiting(semaphore_of(other, 2), server, 4, weight=2)
    await semaphore_of(client, 2).resize(1)
    await held[0].release()
    await quiet(client, other)
    assert not task.done()
    held[1].check()
    await held[1].release()
    await task
    with pytest.raises(MismatchError, match="resized to 1"):
        await heavy


async def test_a_resize_between_the_look_and_the_grant_counts(connect: Connect, server: FakeServer) -> None:
    client, other = await connect(), await connect()
    held = await semaphore_of(client, 2).acquire()

    def resize_first(frame: ClientFrame) -> None:
        if any(write.HasField("transaction") for write in frame.writes.writes):
            server.on_frame = None
            server.set(PATH, b'{"permits": 1}')

    server.on_frame = resize_first
    task = asyncio.create_task(semaphore_of(other, 2).acquire())
    await eventually(lambda: server.on_frame is None)
    await quiet(client, other)
    assert not task.done()
    await held.release()
    await task


async def test_resizing_makes_a_semaphore_that_nobody_uses(client: AsyncClient) -> None:
    await semaphore_of(client, 2).resize(5)

    async with semaphore_of(client, 5):
        pass


# ---------------------------------------------------------------------------------------------
# Loss, and giving up


async def test_the_body_is_cancelled_when_the_session_is_lost(
    client: AsyncClient, server: FakeServer
) -> None:
    async def work() -> None:
        async with semaphore_of(client):
            server.expire(client.session_id)
            await asyncio.Event().wait()

    with pytest.raises(LockLostError, match="session"):
        await work()


async def test_a_waiter_whose_session_is_lost_queues_again(connect: Connect, server: FakeServer) -> None:
    holder, other = await connect(), await connect()
    held = await semaphore_of(holder, 1).acquire()
    task = await waiting(semaphore_of(other, 1), server, 2)
    former = other.session_id
    server.expire(former)
    await eventually(lambda: other.session_id not in (0, former) and len(server.names(PATH)) == 2)
    await held.release()

    assert (await task).session_id == other.session_id != former


async def test_a_deleted_waiter_is_told(connect: Connect, server: FakeServer) -> None:
    holder, other = await connect(), await connect()
    async with semaphore_of(holder, 1) as held:
        task = await waiting(semaphore_of(other, 1), server, 2)
        (name,) = [name for name in server.names(PATH) if name not in held.path]
        server.delete(f"{PATH}/{name}")

        with pytest.raises(LockRevokedError):
            await task


async def test_somebody_who_sets_a_waiting_contender_costs_it_nothing(
    connect: Connect, server: FakeServer
) -> None:
    holder, other = await connect(), await connect()
    held = await semaphore_of(holder, 1).acquire()
    task = await waiting(semaphore_of(other, 1), server, 2)
    (name,) = [name for name in server.names(PATH) if name not in held.path]
    server.set(f"{PATH}/{name}", b"by hand")
    await held.release()

    (await task).check()


Act = Callable[[AsyncClient], Awaitable[AsyncPermit | None]]


async def acquire(client: AsyncClient) -> AsyncPermit:
    return await semaphore_of(client).acquire(2)


async def try_to_acquire(client: AsyncClient) -> AsyncPermit | None:
    return await semaphore_of(client).try_acquire(2)


@pytest.mark.parametrize("act", [acquire, try_to_acquire])
@pytest.mark.parametrize("fault", ["none", "drop before apply", "drop after apply"])
async def test_whoever_is_cancelled_leaves_nothing_wherever_it_is(
    client: AsyncClient, server: FakeServer, act: Act, fault: str
) -> None:
    core = client._core
    assert core is not None
    frames = 0
    while True:
        frames += 1
        server.drop_before_apply = int(fault == "drop before apply")
        server.drop_after_apply = int(fault == "drop after apply")
        task = asyncio.ensure_future(act(client))
        left = frames

        def count(frame: ClientFrame, task: asyncio.Future[AsyncPermit | None] = task) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                task.cancel()

        server.on_frame = count
        await asyncio.wait([task])
        server.on_frame = None
        if not task.cancelled():
            permit = task.result()
            assert permit is not None
            await permit.release()
        await eventually(lambda: client.janitor.task_count == 0 and core.pipeline.pending_count == 0)
        await client.sync()
        assert server.names(PATH) == [], f"cancelled after {frames} frames"
        assert len(core.watches) == 0
        if not task.cancelled():
            break
    assert frames >= 4, "several places were tried"


async def test_a_cancelled_waiter_takes_its_watches_with_it(connect: Connect, server: FakeServer) -> None:
    holder, other = await connect(), await connect()
    async with semaphore_of(holder, 1):
        first = await waiting(semaphore_of(other, 1), server, 2)
        second = await waiting(semaphore_of(other, 1), server, 3)
        await quiet(holder, other)
        for task in (second, first):
            task.cancel()
            await asyncio.wait([task])
        await eventually(lambda: len(server.names(PATH)) == 1)
        await eventually(lambda: server.watch_count() == 1)


async def test_foreign_nodes_are_no_contenders(client: AsyncClient, server: FakeServer) -> None:
    for name in ("x", "0", f"{'a' * 32}-permit-"):
        server.set(f"{PATH}/{name}", b"")
    server.write(data_pb2.Write(set=data_pb2.Set(path=PATH, value=b"")))

    async with semaphore_of(client, 1):
        assert len(await semaphore_of(client, 1).contenders()) == 1


# ---------------------------------------------------------------------------------------------
# On a real server, where the root goes when nobody holds


async def test_permits_are_never_exceeded_and_tokens_never_repeat() -> None:
    dice = random.Random(4)
    async with running_server() as server:
        clients = [await AsyncClient(server.endpoints).connect() for _ in range(3)]
        taken = 0
        tokens: list[int] = []

        async def work(number: int, weight: int) -> None:
            nonlocal taken
            async with await semaphore_of(clients[number % 3], 3).acquire(weight) as permit:
                tokens.append(permit.token)
                taken += weight
                assert taken <= 3
                await clients[number % 3].sync()
                taken -= weight

        for _ in range(3):
            await asyncio.gather(*(work(number, dice.randint(1, 3)) for number in range(12)))
        assert len(set(tokens)) == 36
        for client in clients:
            await client.close()


async def test_the_number_may_be_another_when_nobody_has_held_for_a_while() -> None:
    async with running_server() as server, AsyncClient(server.endpoints) as client:
        async with semaphore_of(client, 1):
            with pytest.raises(NodeExistsError):
                await client.create(PATH)
        async with client.watch(PATH) as events:
            if await client.exists(PATH) is not None:
                await events.batch()
        async with semaphore_of(client, 2):
            pass


# ---------------------------------------------------------------------------------------------
# For threads


def test_threads_share_permits() -> None:
    with Server() as server, Client(server.endpoints) as client:
        semaphore = Semaphore(client, PATH, 3, timeout=5)
        with semaphore as one, semaphore.acquire(2) as two:
            assert (one.weight, two.weight) == (1, 2)
            assert semaphore.try_acquire() is None
            assert [c.weight for c in semaphore.contenders()] == [1, 2]
            with pytest.raises(LockTimeoutError):
                semaphore.acquire(timeout=0.05)
        semaphore.resize(4)
        assert semaphore.permits == 4
        with pytest.raises(MismatchError):
            Semaphore(client, PATH, 3).acquire()

"""Queue: by priority and in order, each item to one consumer, never lost and never twice."""

from __future__ import annotations

import asyncio

import pytest

from coordclient import (
    AsyncClient,
    Client,
    ClientClosedError,
    GuardFailedError,
    NotConnectedError,
    RecipeTimeoutError,
    RequestTimeoutError,
)
from coordclient.recipes.queue import AsyncQueue, Queue, QueueItem
from coordsvc.testing import Server
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import ClientFrame, FakeServer
from tests.unit.client.recipes.session_losses import cancelled_after, lose_session, settled

PATH = "/queues/a"
READY = f"{PATH}/items/ready"
CONSUMERS = f"{PATH}/consumers"


@pytest.fixture
def queue(client: AsyncClient) -> AsyncQueue:
    return AsyncQueue(client, PATH)


async def drained(queue: AsyncQueue) -> list[bytes]:
    """Take everything that is there."""
    values = []
    while (item := await queue.try_get()) is not None:
        values.append(item.value)
    return values


async def idle_consumer(client: AsyncClient, server: FakeServer, place: int = 1) -> asyncio.Task[QueueItem]:
    """Start to wait for an item; return when that consumer stands in line at its place."""
    task = asyncio.create_task(AsyncQueue(client, PATH).get())
    await eventually(lambda: len(server.names(CONSUMERS)) == place)
    await eventually(lambda: has_settled_in_line(server))
    return task


def has_settled_in_line(server: FakeServer, namespace: str = "") -> bool:
    """Return whether the first in line watches the items, and everybody their own node and the one before."""
    waiting = len(server.names(namespace + CONSUMERS))
    return server.watch_count() == 2 * waiting


def listings(server: FakeServer, folder: str, first_frame: int) -> int:
    """Return how often a folder was listed since then."""
    return sum(
        read.list_children.path == folder
        for frame in server.frames[first_frame:]
        for read in frame.reads
        if read.HasField("list_children")
    )


# ---------------------------------------------------------------------------------------------
# Order


async def test_items_come_by_priority_and_then_in_order(queue: AsyncQueue) -> None:
    for value, priority in ((b"c", 200), (b"d", 200), (b"a", 5), (b"b", 100)):
        await queue.put(value, priority=priority)

    assert await drained(queue) == [b"a", b"b", b"c", b"d"]


async def test_an_item_that_comes_later_but_is_more_urgent_is_taken_first(queue: AsyncQueue) -> None:
    """kazoo serves what it has listed before, until that is used up."""
    for number in range(3):
        await queue.put(b"%d" % number)
    first = await queue.get()
    await queue.put(b"urgent", priority=1)

    assert first.value == b"0"
    assert await drained(queue) == [b"urgent", b"1", b"2"]


async def test_an_item_says_what_it_is(queue: AsyncQueue, server: FakeServer) -> None:
    item_id = await queue.put(b"value", priority=7)
    seen = await queue.peek()
    taken = await queue.get()

    assert seen == QueueItem(item_id, b"value", 7)
    assert (taken.id, taken.value, taken.priority) == (item_id, b"value", 7)
    assert taken.token > 0
    assert server.names(READY) == []


async def test_tokens_grow_in_the_order_of_the_takes(queue: AsyncQueue) -> None:
    for priority in (3, 2, 1):
        await queue.put(b"", priority=priority)
    tokens = [(await queue.get()).token for _ in range(3)]

    assert tokens == sorted(set(tokens))


async def test_the_size_counts_what_is_there_and_what_will_be(queue: AsyncQueue) -> None:
    assert await queue.size() == 0
    await queue.put(b"now")
    await queue.put(b"later", delay=60)
    assert await queue.size() == 2
    await queue.get()
    assert await queue.size() == 1


async def test_an_empty_queue_gives_nothing(queue: AsyncQueue) -> None:
    assert await queue.try_get() is None
    assert await queue.peek() is None


async def test_what_others_put_there_is_left_alone_or_served_as_it_is(
    queue: AsyncQueue, server: FakeServer
) -> None:
    server.set(f"{READY}/readme", b"not an item")
    server.set(f"{READY}/e-050-0000000001", b"raw bytes")
    await queue.put(b"ours")

    item = await queue.get()
    assert (item.id, item.value, item.priority) == ("e-050-0000000001", b"raw bytes", 50)
    assert await drained(queue) == [b"ours"]
    assert server.names(READY) == ["readme"]


async def test_an_item_that_is_set_while_it_is_taken_is_read_again(
    queue: AsyncQueue, server: FakeServer
) -> None:
    server.set(f"{READY}/e-050-0000000001", b"old")

    def change(frame: ClientFrame) -> None:
        if any(write.HasField("transaction") for write in frame.writes.writes):
            server.on_frame = None
            server.set(f"{READY}/e-050-0000000001", b"new")

    await queue.put(b"later", priority=900)
    server.on_frame = change
    assert (await queue.get()).value == b"new"


# ---------------------------------------------------------------------------------------------
# Waiting


async def test_a_consumer_waits_for_an_item(connect: Connect, server: FakeServer) -> None:
    consumer = await idle_consumer(await connect(), server)
    await AsyncQueue(await connect(), PATH).put(b"here")

    assert (await consumer).value == b"here"
    await eventually(lambda: server.names(CONSUMERS) == [])
    await eventually(lambda: server.watch_count() == 0)


async def test_a_namespace_makes_no_difference(connect: Connect, server: FakeServer) -> None:
    consumer = asyncio.create_task(AsyncQueue(await connect(namespace="/prod"), PATH).get())
    await eventually(
        lambda: len(server.names(f"/prod{CONSUMERS}")) == 1 and has_settled_in_line(server, "/prod")
    )
    await AsyncQueue(await connect(namespace="/prod"), PATH).put(b"here")

    assert (await consumer).value == b"here"


async def test_idle_consumers_are_served_in_order_of_arrival(connect: Connect, server: FakeServer) -> None:
    clients = [await connect() for _ in range(3)]
    consumers = [await idle_consumer(client, server, place + 1) for place, client in enumerate(clients)]
    producer = AsyncQueue(await connect(), PATH)
    for number in range(3):
        await producer.put(b"%d" % number)
        await consumers[number]

    assert [consumer.result().value for consumer in consumers] == [b"0", b"1", b"2"]


async def test_an_item_wakes_one_consumer(connect: Connect, server: FakeServer) -> None:
    clients = [await connect() for _ in range(5)]
    consumers = [await idle_consumer(client, server, place + 1) for place, client in enumerate(clients)]
    before = len(server.frames)
    await AsyncQueue(await connect(), PATH).put(b"one")
    await consumers[0]
    await eventually(lambda: len(server.names(CONSUMERS)) == 4 and has_settled_in_line(server))

    for client in clients:
        await client.sync()

    # The first looked and took; the second is first now, and looks before and after it begins to watch.
    assert 2 <= listings(server, READY, before) <= 3
    for consumer in consumers[1:]:
        consumer.cancel()
    await asyncio.wait(consumers)


async def test_a_consumer_whose_session_is_lost_queues_up_again(connect: Connect, server: FakeServer) -> None:
    client = await connect()
    consumer = await idle_consumer(client, server)
    former = client.session_id
    server.expire(former)
    await eventually(lambda: client.session_id not in (0, former) and len(server.names(CONSUMERS)) == 1)
    await AsyncQueue(await connect(), PATH).put(b"here")

    assert (await consumer).value == b"here"


async def test_a_consumer_that_is_sent_out_of_the_line_queues_up_again(
    connect: Connect, server: FakeServer
) -> None:
    consumer = await idle_consumer(await connect(), server)
    (place,) = server.names(CONSUMERS)
    server.delete(f"{CONSUMERS}/{place}")
    await eventually(lambda: server.names(CONSUMERS) not in ([], [place]))
    await AsyncQueue(await connect(), PATH).put(b"here")

    assert (await consumer).value == b"here"


async def test_a_consumer_goes_on_over_a_lost_connection(connect: Connect, server: FakeServer) -> None:
    consumer = await idle_consumer(await connect(), server)
    server.drop_connections()
    await AsyncQueue(await connect(), PATH).put(b"here")

    assert (await consumer).value == b"here"


async def test_a_newcomer_does_not_overtake_those_who_wait(connect: Connect, queue: AsyncQueue) -> None:
    async with (await connect()).lock(CONSUMERS):
        await queue.put(b"for the one in line")
        with pytest.raises(RecipeTimeoutError):
            await queue.get(timeout=0.1)

    assert (await queue.get()).value == b"for the one in line"


async def test_waiting_ends_in_time_and_leaves_nothing(
    client: AsyncClient, queue: AsyncQueue, server: FakeServer
) -> None:
    for timeout in (0.05, 0, -1):
        with pytest.raises(RecipeTimeoutError, match=PATH):
            await queue.get(timeout=timeout)
    await settled(client)

    assert server.names(CONSUMERS) == []
    assert server.watch_count() == 0


async def test_no_timeout_at_all_takes_what_is_there(queue: AsyncQueue) -> None:
    await queue.put(b"here")

    assert (await queue.get(timeout=0)).value == b"here"


async def test_closing_the_client_ends_a_consumer(connect: Connect, server: FakeServer) -> None:
    client = await connect()
    consumer = await idle_consumer(client, server)
    await client.close()

    with pytest.raises(ClientClosedError):
        await consumer


async def test_an_unconnected_client_fails_at_once(server: FakeServer) -> None:
    queue = AsyncQueue(AsyncClient(server.address), PATH)
    with pytest.raises(NotConnectedError):
        await queue.get()
    with pytest.raises(NotConnectedError):
        await queue.put(b"")


# ---------------------------------------------------------------------------------------------
# Delays


async def test_a_delayed_item_is_never_early(client: AsyncClient, server: FakeServer) -> None:
    server.tree.now_ms = 1_000_000
    await AsyncQueue(client, PATH).put(b"later", delay=5)
    server.tree.now_ms += 4_999
    assert await AsyncQueue(client, PATH).try_get() is None
    server.tree.now_ms += 1
    item = await AsyncQueue(client, PATH).try_get()

    assert item is not None
    assert item.value == b"later"


async def test_the_services_clock_decides_and_not_ours(client: AsyncClient, server: FakeServer) -> None:
    """Our clock says that the time has come; the service's stands still."""
    server.tree.now_ms = 1_000_000
    queue = AsyncQueue(client, PATH)
    await queue.put(b"later", delay=0.02)
    with pytest.raises(RecipeTimeoutError):
        await queue.get(timeout=0.2)

    assert await queue.size() == 1


async def test_a_waiting_consumer_wakes_when_an_item_is_due(connect: Connect, server: FakeServer) -> None:
    server.tree.now_ms = 1_000_000
    producer = AsyncQueue(await connect(), PATH)
    await producer.put(b"due", delay=0.05)
    await producer.put(b"much later", delay=500)
    consumer = await idle_consumer(await connect(), server)
    server.tree.now_ms += 50

    assert (await consumer).value == b"due"


async def test_a_waiting_consumer_hears_of_an_item_that_is_due_sooner(
    connect: Connect, server: FakeServer
) -> None:
    server.tree.now_ms = 1_000_000
    producer = AsyncQueue(await connect(), PATH)
    await producer.put(b"much later", delay=500)
    consumer = await idle_consumer(await connect(), server)
    await producer.put(b"soon", delay=0.05)
    server.tree.now_ms += 50

    assert (await consumer).value == b"soon"


async def test_items_that_are_due_come_in_the_order_in_which_they_became_so(
    client: AsyncClient, server: FakeServer
) -> None:
    server.tree.now_ms = 1_000_000
    queue = AsyncQueue(client, PATH)
    await queue.put(b"third", delay=3)
    await queue.put(b"second", delay=2)
    await queue.put(b"urgent", delay=3, priority=1)
    await queue.put(b"first")
    server.tree.now_ms += 3_000

    assert await drained(AsyncQueue(client, PATH)) == [b"urgent", b"first", b"second", b"third"]


async def test_delayed_items_are_listed_only_when_they_have_changed(
    client: AsyncClient, queue: AsyncQueue, server: FakeServer
) -> None:
    server.tree.now_ms = 1_000_000
    await queue.put(b"much later", delay=500)
    await queue.try_get()
    before = len(server.frames)
    await queue.put(b"now")
    await queue.get()
    await queue.try_get()

    assert listings(server, f"{PATH}/items/delayed", before) == 0


async def test_an_item_that_somebody_else_has_made_ready_is_no_trouble(
    client: AsyncClient, queue: AsyncQueue, server: FakeServer
) -> None:
    server.tree.now_ms = 1_000_000
    await queue.put(b"due", delay=5)
    assert await queue.try_get() is None
    server.tree.now_ms += 5_000
    assert await AsyncQueue(client, PATH).peek() is not None

    assert (await queue.get()).value == b"due"
    assert await queue.size() == 0


# ---------------------------------------------------------------------------------------------
# Nothing lost, nothing twice


async def test_many_consumers_get_each_item_once(connect: Connect) -> None:
    producer = AsyncQueue(await connect(), PATH)
    queues = [AsyncQueue(await connect(), PATH) for _ in range(4)]
    taken: list[bytes] = []

    async def consume(queue: AsyncQueue) -> None:
        while (item := await queue.get()).value != b"end":
            taken.append(item.value)

    consumers = [asyncio.create_task(consume(queue)) for queue in queues]
    values = [b"%03d" % number for number in range(40)]
    for value in values:
        await producer.put(value)
    for _ in consumers:
        await producer.put(b"end", priority=999)
    await asyncio.gather(*consumers)

    assert sorted(taken) == values


@pytest.mark.parametrize("is_applied", [True, False], ids=["applied", "not applied"])
async def test_a_session_that_is_lost_while_taking_costs_no_item(
    client: AsyncClient, queue: AsyncQueue, server: FakeServer, is_applied: bool
) -> None:
    """kazoo lost the item whose deletion was not answered, and returned the next."""
    await queue.put(b"one")
    await queue.put(b"two")
    await settled(client)
    lose_session(server, client, is_applied=is_applied)

    assert (await queue.get()).value == b"one"
    assert await drained(queue) == [b"two"]


@pytest.mark.parametrize("is_applied", [True, False], ids=["applied", "not applied"])
async def test_a_session_that_is_lost_while_putting_puts_once(
    client: AsyncClient, queue: AsyncQueue, server: FakeServer, is_applied: bool
) -> None:
    await queue.put(b"one")
    await settled(client)
    lose_session(server, client, is_applied=is_applied)
    await queue.put(b"two")

    assert await drained(queue) == [b"one", b"two"]


@pytest.mark.parametrize("fault", ["drop_before_apply", "drop_after_apply"])
async def test_a_lost_answer_puts_once_and_takes_once(
    queue: AsyncQueue, server: FakeServer, fault: str
) -> None:
    await queue.put(b"one")
    setattr(server, fault, 1)
    await queue.put(b"two")
    setattr(server, fault, 1)
    first = await queue.get()
    setattr(server, fault, 2)

    assert [first.value, *await drained(queue)] == [b"one", b"two"]


@pytest.mark.parametrize("fault", ["none", "drop_before_apply", "drop_after_apply"])
async def test_a_cancelled_call_has_taken_nothing_wherever_it_is_cancelled(
    connect: Connect, server: FakeServer, fault: str
) -> None:
    client = await connect()
    queue = AsyncQueue(client, PATH)
    for value in (b"one", b"two"):
        await queue.put(value)
    await settled(client)
    frames, item = 0, None
    while item is None:
        frames += 1
        if fault != "none":
            setattr(server, fault, 1)
        item = await cancelled_after(frames, queue.get, server)
        server.drop_before_apply = server.drop_after_apply = 0
        await settled(client)
        assert await queue.size() == (2 if item is None else 1), f"cancelled after {frames} frames"
        assert server.names(CONSUMERS) == []
        assert server.watch_count() == 0
        assert server.names(f"{PATH}/receipts") == []

    assert item.value == b"one", "what was put back stands where it stood"
    assert frames >= 3, "several places were tried"


@pytest.mark.parametrize("fault", ["none", "drop_after_apply"])
async def test_a_cancelled_consumer_in_line_leaves_nothing(
    connect: Connect, server: FakeServer, fault: str
) -> None:
    client = await connect()
    queue = AsyncQueue(client, PATH)
    for frames in range(1, 8):
        if fault != "none":
            setattr(server, fault, 1)
        assert await cancelled_after(frames, lambda: queue.get(timeout=5), server) is None
        server.drop_after_apply = 0
        await settled(client)
        assert server.names(CONSUMERS) == [], f"cancelled after {frames} frames"
        assert server.watch_count() == 0


async def test_cancelling_and_closing_at_once_costs_no_item(connect: Connect, server: FakeServer) -> None:
    client = await connect()
    await AsyncQueue(client, PATH).put(b"one")
    await settled(client)

    def cancel(frame: ClientFrame) -> None:
        if any(write.HasField("transaction") for write in frame.writes.writes):
            server.on_frame = None
            task.cancel()

    task = asyncio.create_task(AsyncQueue(client, PATH).get())
    server.on_frame = cancel
    await asyncio.wait([task])
    await client.close()

    assert task.cancelled()
    assert await drained(AsyncQueue(await connect(), PATH)) == [b"one"]


async def test_folders_that_the_service_removed_are_made_again(
    client: AsyncClient, queue: AsyncQueue
) -> None:
    await queue.put(b"one")
    await client.delete(PATH, recursive=True)
    assert await queue.try_get() is None
    await queue.put(b"two")
    await client.delete(f"{PATH}/receipts", recursive=True)

    assert await drained(queue) == [b"two"]


async def test_a_put_can_be_guarded(client: AsyncClient, queue: AsyncQueue) -> None:
    async with client.lock("/locks/producer") as held:
        await queue.put(b"guarded", guard=held)
    with pytest.raises(GuardFailedError):
        await queue.put(b"too late", guard=held)

    assert await drained(queue) == [b"guarded"]


async def test_a_put_that_is_not_answered_ends_in_time(connect: Connect, server: FakeServer) -> None:
    client = await connect(request_timeout=0.1)
    server.is_silent = True
    server.drop_connections()
    with pytest.raises(RequestTimeoutError) as failed:
        await AsyncQueue(client, PATH).put(b"one")

    assert failed.value.may_have_been_applied


async def test_a_hundred_items_leave_nothing(client: AsyncClient, server: FakeServer) -> None:
    driver, core = client._driver, client._core
    assert driver is not None
    assert core is not None
    queue = AsyncQueue(client, PATH)
    await queue.put(b"first")
    await queue.get()
    await settled(client)
    tasks, listeners = len(asyncio.all_tasks()), driver.listener_count
    for _ in range(50):
        consumer = asyncio.create_task(queue.get())
        await queue.put(b"")
        await consumer
        await queue.put(b"")
        await queue.get()
    await settled(client)

    assert len(asyncio.all_tasks()) == tasks
    assert driver.listener_count == listeners
    assert len(core.watches) == 0
    assert server.names(f"{PATH}/receipts") == []
    assert server.names(READY) == []


# ---------------------------------------------------------------------------------------------
# For threads, and on a real server


def test_threads_put_and_take() -> None:
    with Server() as server, Client(server.endpoints) as client:
        queue = Queue(client, PATH)
        queue.put(b"second", priority=2, delay=0.05)
        item_id = queue.put(b"first", priority=1)
        seen = queue.peek()

        assert seen is not None
        assert seen.id == item_id
        assert queue.size() == 2
        assert queue.get(timeout=10).value == b"first"
        assert queue.get(timeout=10).value == b"second"
        assert queue.try_get() is None
        with pytest.raises(RecipeTimeoutError):
            queue.get(timeout=0.05)

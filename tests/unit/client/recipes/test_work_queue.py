"""WorkQueue: claimed by one at a time, done once acknowledged, back again otherwise, aside in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from coordclient import (
    AsyncClient,
    Client,
    ClientClosedError,
    GuardFailedError,
    InvalidArgumentError,
    LockLostError,
    RecipeTimeoutError,
    RequestTimeoutError,
)
from coordclient.recipes.claims import AsyncClaim
from coordclient.recipes.work_queue import AsyncWorkQueue, WorkQueue
from coordsvc.testing import Server
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import FakeServer
from tests.unit.client.recipes.session_losses import cancelled_after, lose_session, settled

PATH = "/jobs/a"
READY = f"{PATH}/items/ready"
CLAIMS = f"{PATH}/items/claims"
CONSUMERS = f"{PATH}/consumers"


@pytest.fixture
def queue(client: AsyncClient) -> AsyncWorkQueue:
    return AsyncWorkQueue(client, PATH, attempts_max=3)


@pytest.fixture
async def other(connect: Connect) -> AsyncWorkQueue:
    """Return the same queue in the hands of another client."""
    return AsyncWorkQueue(await connect(name="other"), PATH, attempts_max=3)


async def fail(queue: AsyncWorkQueue, *, reason: str = "no good") -> None:
    """Claim the first item and fail."""
    claim = await queue.try_claim()
    assert claim is not None
    await claim.give_back(reason=reason)


async def crash(queue: AsyncWorkQueue, server: FakeServer) -> None:
    """Claim the first item and lose the session."""
    claim = await queue.try_claim()
    assert claim is not None
    server.expire(claim.session_id)
    await claim.wait_lost()


# ---------------------------------------------------------------------------------------------
# Claiming and acknowledging


async def test_an_item_is_claimed_and_acknowledged(queue: AsyncWorkQueue, server: FakeServer) -> None:
    item_id = await queue.put(b"value", priority=7)
    claim = await queue.claim()
    node = server.tree.nodes[claim.path]

    assert (claim.id, claim.value, claim.priority, claim.attempt) == (item_id, b"value", 7, 1)
    assert claim.token == node.stat.czxid
    assert node.stat.ephemeral_owner == claim.session_id
    claim.check()
    await claim.acknowledge()
    assert server.names(READY) == []
    assert server.names(CLAIMS) == []
    with pytest.raises(LockLostError):
        claim.check()


async def test_items_come_by_priority_and_then_in_order(queue: AsyncWorkQueue) -> None:
    for value, priority in ((b"c", 200), (b"a", 5), (b"b", 5)):
        await queue.put(value, priority=priority)
    claims = [await queue.claim() for _ in range(3)]

    assert [claim.value for claim in claims] == [b"a", b"b", b"c"]
    assert [claim.token for claim in claims] == sorted({claim.token for claim in claims})


async def test_nobody_else_gets_what_is_claimed(queue: AsyncWorkQueue, other: AsyncWorkQueue) -> None:
    await queue.put(b"one")
    claim = await queue.claim()

    assert await other.try_claim() is None
    with pytest.raises(RecipeTimeoutError, match=PATH):
        await other.claim(timeout=0.05)
    with pytest.raises(RecipeTimeoutError, match=PATH):
        await other.claim(timeout=0)
    assert await other.size() == 1
    claim.check()


async def test_what_is_claimed_may_fill_more_than_a_page(queue: AsyncWorkQueue, server: FakeServer) -> None:
    server.tree.page = 2
    for number in range(6):
        await queue.put(b"%d" % number)
    claims = [await queue.claim() for _ in range(6)]

    assert [claim.value for claim in claims] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert await queue.try_claim() is None


async def test_a_clean_end_of_the_body_acknowledges(queue: AsyncWorkQueue) -> None:
    await queue.put(b"one")
    async with await queue.claim() as claim:
        assert claim.value == b"one"

    assert await queue.size() == 0
    assert claim.is_released


async def test_a_body_that_has_acknowledged_itself_ends_in_peace(queue: AsyncWorkQueue) -> None:
    await queue.put(b"one")
    async with await queue.claim() as claim:
        await claim.acknowledge()

    assert await queue.size() == 0


async def test_a_claim_guards_writes(client: AsyncClient, queue: AsyncWorkQueue) -> None:
    await queue.put(b"one")
    await client.create("/result")
    async with await queue.claim() as claim:
        await client.set("/result", b"done", guard=claim)
    with pytest.raises(GuardFailedError):
        await client.set("/result", b"too late", guard=claim)


async def test_who_works_on_what_can_be_seen(queue: AsyncWorkQueue, other: AsyncWorkQueue) -> None:
    first, second = await queue.put(b"one"), await queue.put(b"two")
    claims = [await queue.claim(), await other.claim()]
    seen = await queue.claims()

    assert [info.id for info in seen] == [first, second]
    assert [info.token for info in seen] == [claim.token for claim in claims]
    assert seen[1].client == "other"
    assert seen[1].session_id == claims[1].session_id
    assert seen[1].attempt == 1
    assert seen[1].process_id > 0
    for claim in claims:
        await claim.acknowledge()
    assert await queue.claims() == []


async def test_claims_that_cannot_be_read_are_shown_without_details(
    queue: AsyncWorkQueue, server: FakeServer
) -> None:
    server.set(f"{CLAIMS}/e-100-0000000009", b"[1]")
    server.set(f"{CLAIMS}/e-100-0000000010", b"\xff")

    assert [(info.id, info.attempt) for info in await queue.claims()] == [("", 0), ("", 0)]


async def test_consuming_takes_no_more_than_is_worked_on(queue: AsyncWorkQueue, server: FakeServer) -> None:
    for number in range(5):
        await queue.put(b"%d" % number)
    values = []
    claims: AsyncIterator[AsyncClaim] = queue.consume()
    async for claim in claims:
        assert len(server.names(CLAIMS)) == 1
        async with claim:
            values.append(claim.value)
        if len(values) == 5:
            break

    assert values == [b"0", b"1", b"2", b"3", b"4"]
    assert await queue.size() == 0


async def test_many_consumers_do_each_item_once(connect: Connect) -> None:
    producer = AsyncWorkQueue(await connect(), PATH)
    done: list[bytes] = []

    async def consume() -> None:
        async for claim in AsyncWorkQueue(await connect(), PATH).consume():
            async with claim:
                done.append(claim.value)

    consumers = [asyncio.create_task(consume()) for _ in range(4)]
    values = [b"%03d" % number for number in range(30)]
    for value in values:
        await producer.put(value)
    await eventually(lambda: len(done) == 30)
    for consumer in consumers:
        consumer.cancel()
    await asyncio.wait(consumers)

    assert sorted(done) == values


# ---------------------------------------------------------------------------------------------
# Failing


async def test_an_item_that_is_given_back_keeps_its_place(queue: AsyncWorkQueue) -> None:
    await queue.put(b"one")
    await queue.put(b"two")
    await fail(queue)
    claim = await queue.claim()

    assert (claim.value, claim.attempt) == (b"one", 2)


async def test_a_body_that_raises_gives_back_and_its_error_comes_out(queue: AsyncWorkQueue) -> None:
    await queue.put(b"one")
    with pytest.raises(KeyError):
        async with await queue.claim():
            raise KeyError("mine")
    claim = await queue.claim()

    assert claim.attempt == 2
    await claim.reject("enough")
    assert [letter.reason for letter in await queue.dead_letters()] == ["enough"]


async def test_a_cancelled_body_gives_back_and_the_attempt_does_not_count(
    queue: AsyncWorkQueue, client: AsyncClient
) -> None:
    await queue.put(b"one")
    entered = asyncio.Event()

    async def work() -> None:
        async with await queue.claim():
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    await asyncio.wait([task])
    await settled(client)

    assert task.cancelled()
    assert (await queue.claim()).attempt == 1


async def test_giving_back_wakes_a_consumer(
    queue: AsyncWorkQueue, other: AsyncWorkQueue, server: FakeServer
) -> None:
    await queue.put(b"one")
    claim = await queue.claim()
    consumer = asyncio.create_task(other.claim())
    await eventually(lambda: len(server.names(CONSUMERS)) == 1 and server.watch_count() == 3)
    await claim.give_back()

    assert (await consumer).attempt == 2


async def test_an_item_can_rest_before_it_is_tried_again(
    client: AsyncClient, queue: AsyncWorkQueue, server: FakeServer
) -> None:
    server.tree.now_ms = 1_000_000
    item_id = await queue.put(b"one")
    claim = await queue.claim()
    await claim.give_back(delay=5, reason="busy")
    assert await queue.size() == 1
    assert await AsyncWorkQueue(client, PATH).try_claim() is None
    server.tree.now_ms += 5_000
    again = await AsyncWorkQueue(client, PATH).claim()

    assert (again.id, again.value, again.attempt) == (item_id, b"one", 2)


async def test_after_the_last_attempt_an_item_is_laid_aside(queue: AsyncWorkQueue) -> None:
    item_id = await queue.put(b"one")
    for number in range(3):
        await fail(queue, reason=f"failure {number}")
    (letter,) = await queue.dead_letters()

    assert await queue.try_claim() is None
    assert (letter.id, letter.value, letter.attempts) == (item_id, b"one", 3)
    assert letter.reason == "failure 2"
    assert await queue.size() == 0


async def test_crashes_count_as_attempts(queue: AsyncWorkQueue, server: FakeServer) -> None:
    await queue.put(b"one")
    await fail(queue, reason="bad luck")
    await crash(queue, server)
    await crash(queue, server)
    assert await queue.try_claim() is None
    (letter,) = await queue.dead_letters()

    assert letter.attempts == 3
    assert letter.reason == "the consumer of attempt 3 was lost; an attempt before it ended with: bad luck"


async def test_a_rejected_item_is_laid_aside_at_once(queue: AsyncWorkQueue) -> None:
    await queue.put(b"one")
    await (await queue.claim()).reject("makes no sense")
    (letter,) = await queue.dead_letters()

    assert (letter.attempts, letter.reason) == (1, "makes no sense")
    assert await queue.size() == 0


async def test_a_dead_letter_can_be_tried_again_or_deleted(queue: AsyncWorkQueue) -> None:
    first, second = await queue.put(b"one", priority=9), await queue.put(b"two")
    for _ in range(2):
        await (await queue.claim()).reject("no")
    assert [letter.id for letter in await queue.dead_letters()] == [first, second]

    assert await queue.redeliver(first)
    assert await queue.discard(second)
    assert not await queue.redeliver(first)
    assert not await queue.discard("nobody")
    assert await queue.dead_letters() == []
    claim = await queue.claim()
    assert (claim.id, claim.value, claim.priority, claim.attempt) == (first, b"one", 9, 1)


async def test_attempts_max_must_make_sense(client: AsyncClient) -> None:
    with pytest.raises(InvalidArgumentError):
        AsyncWorkQueue(client, PATH, attempts_max=0)


# ---------------------------------------------------------------------------------------------
# Loss


async def test_the_body_is_cancelled_when_the_session_is_lost(
    queue: AsyncWorkQueue, other: AsyncWorkQueue, server: FakeServer
) -> None:
    await queue.put(b"one")
    entered = asyncio.Event()

    async def work() -> None:
        async with await queue.claim() as claim:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                assert claim.lost

    task = asyncio.create_task(work())
    await entered.wait()
    consumer = asyncio.create_task(other.claim())
    await eventually(lambda: len(server.names(CONSUMERS)) == 1 and server.watch_count() == 3)
    (info,) = await other.claims()
    server.expire(info.session_id)

    with pytest.raises(LockLostError):
        await task
    again = await consumer
    assert again.attempt == 2
    assert again.token > info.token


async def test_acknowledging_a_lost_claim_raises(queue: AsyncWorkQueue, server: FakeServer) -> None:
    """kazoo's LockingQueue says True."""
    await queue.put(b"one")
    claim = await queue.claim()
    server.expire(claim.session_id)
    await claim.wait_lost()
    with pytest.raises(LockLostError):
        await claim.acknowledge()

    assert await queue.size() == 1


@pytest.mark.parametrize("gone", ["claim", "item"])
async def test_acknowledging_what_somebody_deleted_raises_and_leaves_nothing(
    client: AsyncClient, queue: AsyncWorkQueue, server: FakeServer, gone: str
) -> None:
    """The word of the deletion is still under way when the claim is acknowledged."""
    await queue.put(b"one")
    claim = await queue.claim()
    (name,) = server.names(READY)
    claim._stop_watching()
    server.delete(f"{CLAIMS if gone == 'claim' else READY}/{name}")
    with pytest.raises(LockLostError):
        await claim.acknowledge()
    await claim.release()
    await settled(client)

    assert claim.lost
    assert server.names(CLAIMS) == []


async def test_acknowledging_does_not_touch_the_claim_of_the_next(
    queue: AsyncWorkQueue, other: AsyncWorkQueue, server: FakeServer
) -> None:
    await queue.put(b"one")
    claim = await queue.claim()
    claim._stop_watching()
    server.delete(claim.path)
    theirs = await other.claim()
    assert theirs.path == claim.path
    with pytest.raises(LockLostError):
        await claim.acknowledge()

    theirs.check()
    await theirs.acknowledge()
    assert await queue.size() == 0


async def test_a_body_that_ends_after_its_claim_was_deleted_is_told(
    queue: AsyncWorkQueue, server: FakeServer
) -> None:
    await queue.put(b"one")

    async def work() -> None:
        async with await queue.claim() as claim:
            server.delete(claim.path)
            await asyncio.Event().wait()

    with pytest.raises(LockLostError, match="deleted"):
        await work()
    assert (await queue.claim()).attempt == 2


async def test_a_claim_ends_once(queue: AsyncWorkQueue) -> None:
    await queue.put(b"one")
    claim = await queue.claim()
    await claim.give_back()
    with pytest.raises(LockLostError, match="before"):
        await claim.acknowledge()
    with pytest.raises(LockLostError, match="before"):
        await claim.give_back()
    await claim.release()

    assert await queue.size() == 1


@pytest.mark.parametrize("is_applied", [True, False], ids=["applied", "not applied"])
async def test_a_session_that_is_lost_while_acknowledging_is_told_the_truth(
    client: AsyncClient, queue: AsyncWorkQueue, server: FakeServer, is_applied: bool
) -> None:
    await queue.put(b"one")
    claim = await queue.claim()
    await settled(client)
    lose_session(server, client, is_applied=is_applied)
    if is_applied:
        await claim.acknowledge()
    else:
        with pytest.raises(LockLostError):
            await claim.acknowledge()

    assert await queue.size() == (0 if is_applied else 1)


@pytest.mark.parametrize("is_applied", [True, False], ids=["applied", "not applied"])
async def test_a_session_that_is_lost_while_claiming_claims_again(
    client: AsyncClient, queue: AsyncWorkQueue, server: FakeServer, is_applied: bool
) -> None:
    await queue.put(b"one")
    await settled(client)
    lose_session(server, client, is_applied=is_applied)
    claim = await queue.claim()

    assert claim.session_id == client.session_id
    assert claim.attempt == (2 if is_applied else 1)
    claim.check()


async def test_an_end_that_is_not_answered_says_so(connect: Connect, server: FakeServer) -> None:
    client = await connect(request_timeout=0.2)
    queue = AsyncWorkQueue(client, PATH)
    await queue.put(b"one")
    claim = await queue.claim()
    server.holds_answers = True
    with pytest.raises(RequestTimeoutError) as failed:
        await claim.acknowledge()
    server.release_answers()

    assert failed.value.may_have_been_applied


async def test_closing_the_client_ends_a_consumer(connect: Connect, server: FakeServer) -> None:
    client = await connect()
    consumer = asyncio.create_task(AsyncWorkQueue(client, PATH).claim())
    await eventually(lambda: len(server.names(CONSUMERS)) == 1)
    await client.close()

    with pytest.raises(ClientClosedError):
        await consumer


@pytest.mark.parametrize("fault", ["none", "drop_before_apply", "drop_after_apply"])
async def test_a_cancelled_call_leaves_no_claim_wherever_it_is_cancelled(
    connect: Connect, server: FakeServer, fault: str
) -> None:
    client = await connect()
    queue = AsyncWorkQueue(client, PATH)
    await queue.put(b"one")
    await settled(client)
    frames, claim = 0, None
    while claim is None:
        frames += 1
        if fault != "none":
            setattr(server, fault, 1)
        claim = await cancelled_after(frames, queue.claim, server)
        server.drop_before_apply = server.drop_after_apply = 0
        await settled(client)
        assert len(server.names(CLAIMS)) == (0 if claim is None else 1), f"cancelled after {frames} frames"
        assert server.names(CONSUMERS) == []
        assert await queue.size() == 1

    assert claim.attempt == 1, "a call that was cancelled is no attempt"
    assert frames >= 4, "several places were tried"


async def test_an_acknowledgement_is_carried_out_even_if_its_caller_is_cancelled(
    client: AsyncClient, queue: AsyncWorkQueue, server: FakeServer
) -> None:
    await queue.put(b"one")
    claim = await queue.claim()
    await settled(client)
    await cancelled_after(1, claim.acknowledge, server)
    await settled(client)

    assert await queue.size() == 0
    assert server.names(CLAIMS) == []


async def test_fifty_items_leave_nothing(client: AsyncClient, server: FakeServer) -> None:
    driver, core = client._driver, client._core
    assert driver is not None
    assert core is not None
    queue = AsyncWorkQueue(client, PATH, attempts_max=1)
    await queue.put(b"first")
    await (await queue.claim()).acknowledge()
    await settled(client)
    tasks, listeners = len(asyncio.all_tasks()), driver.listener_count
    for number in range(50):
        await queue.put(b"")
        claim = await queue.claim()
        await (claim.acknowledge() if number % 2 else claim.release())
        if not number % 2:
            await (await queue.claim()).acknowledge()
    await settled(client)

    assert len(asyncio.all_tasks()) == tasks
    assert driver.listener_count == listeners
    assert len(core.watches) == 0
    assert [server.names(folder) for folder in (READY, CLAIMS, f"{PATH}/receipts", f"{PATH}/dead")] == [
        []
    ] * 4


# ---------------------------------------------------------------------------------------------
# For threads, and on a real server


def test_threads_claim_and_end() -> None:
    with Server() as server, Client(server.endpoints) as client:
        queue = WorkQueue(client, PATH, attempts_max=2)
        item_id = queue.put(b"value", priority=3)

        def work() -> None:
            with queue.claim(timeout=10) as claim:
                assert (claim.id, claim.value, claim.priority, claim.attempt) == (item_id, b"value", 3, 1)
                assert [info.token for info in queue.claims()] == [claim.token]
                raise KeyError("mine")

        with pytest.raises(KeyError):
            work()
        claim = queue.claim()
        claim.give_back(reason="again no good")
        (letter,) = queue.dead_letters()
        assert letter.reason == "again no good"
        assert queue.redeliver(letter.id)
        for claim in queue.consume():
            with claim:
                claim.check()
            break
        assert queue.size() == 0
        assert queue.try_claim() is None

        queue.put(b"again")
        claim = queue.claim()
        claim.reject("enough")
        with pytest.raises(LockLostError):
            claim.acknowledge()
        assert queue.discard(queue.dead_letters()[0].id)


def test_a_thread_is_told_at_the_end_of_with_that_its_claim_was_lost() -> None:
    with Server() as server, Client(server.endpoints) as client:
        queue = WorkQueue(client, PATH)
        queue.put(b"value")

        def work() -> None:
            with queue.claim() as claim:
                server.expire_session(client.session_id)
                assert claim.lost.wait(20)

        with pytest.raises(LockLostError):
            work()
        assert queue.claim(timeout=10).attempt == 2

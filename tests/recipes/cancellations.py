"""The calls that are cancelled at every await: of all recipes.

Rule of this file: every call that can wait is here, and where somebody can be in the way, behind others too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from coordclient import AsyncClient
from coordclient.errors import RecipeTimeoutError
from coordclient.recipes.atomic_commit import AsyncAtomicCommit
from coordclient.recipes.barrier import AsyncBarrier
from coordclient.recipes.config_value import AsyncConfigValue
from coordclient.recipes.counter import AsyncCounter
from coordclient.recipes.double_barrier import AsyncDoubleBarrier
from coordclient.recipes.election import AsyncElection
from coordclient.recipes.group import AsyncGroup
from coordclient.recipes.lock import AsyncLock
from coordclient.recipes.partitioner import AsyncPartitioner
from coordclient.recipes.queue import AsyncQueue
from coordclient.recipes.read_write_lock import AsyncReadWriteLock
from coordclient.recipes.semaphore import AsyncSemaphore
from coordclient.recipes.service_registry import AsyncServiceRegistry
from coordclient.recipes.tree_cache import AsyncTreeCache
from coordclient.recipes.work_queue import AsyncWorkQueue
from tests.recipes.scenario import AT_ONCE_S, PATH, Scenario, keep, nothing_meanwhile

ALONE_S = 0.2

# ---------------------------------------------------------------------------------------------
# Lock and election


async def lock_is_free(other: AsyncClient) -> None:
    handle = await AsyncLock(other, PATH).acquire(timeout=AT_ONCE_S)
    await handle.release()
    assert await AsyncLock(other, PATH).contenders() == []


async def lock_is_held(other: AsyncClient) -> Callable[[], Awaitable[None]]:
    handle = await AsyncLock(other, PATH).acquire(timeout=AT_ONCE_S)

    return handle.release


async def nobody_leads(other: AsyncClient) -> None:
    assert await AsyncElection(other, PATH).leader() is None
    term = await AsyncElection(other, PATH, b"other").campaign(timeout=AT_ONCE_S)
    await term.resign()
    assert await AsyncLock(other, PATH).contenders() == []


async def another_leads(other: AsyncClient) -> Callable[[], Awaitable[None]]:
    term = await AsyncElection(other, PATH, b"other").campaign(timeout=AT_ONCE_S)

    return term.resign


async def held_and_released(client: AsyncClient) -> None:
    handle = await AsyncLock(client, PATH).acquire()
    await handle.release()


async def held_in_a_block(client: AsyncClient) -> None:
    async with AsyncLock(client, PATH):
        await client.sync()


async def led_in_a_block(client: AsyncClient) -> None:
    async with AsyncElection(client, PATH, b"ours").lead():
        await client.sync()


# ---------------------------------------------------------------------------------------------
# Read-write lock and semaphore


async def written(client: AsyncClient) -> None:
    handle = await AsyncReadWriteLock(client, PATH).write().acquire()
    reading = await handle.downgrade()
    await reading.release()


async def upgraded(client: AsyncClient) -> None:
    handle = await AsyncReadWriteLock(client, PATH).read().acquire()
    writing = await handle.try_upgrade()
    assert writing is not None, "nobody else reads"
    await writing.release()


async def nobody_reads_or_writes(other: AsyncClient) -> None:
    handle = await AsyncReadWriteLock(other, PATH).write().acquire(timeout=AT_ONCE_S)
    await handle.release()
    assert await AsyncReadWriteLock(other, PATH).contenders() == []


async def somebody_writes(other: AsyncClient) -> Callable[[], Awaitable[None]]:
    return (await AsyncReadWriteLock(other, PATH).write().acquire(timeout=AT_ONCE_S)).release


async def permits_are_free(other: AsyncClient) -> None:
    permit = await AsyncSemaphore(other, PATH, 2).acquire(2, timeout=AT_ONCE_S)
    await permit.release()
    assert await AsyncSemaphore(other, PATH, 2).contenders() == []


async def permits_are_taken(other: AsyncClient) -> Callable[[], Awaitable[None]]:
    return (await AsyncSemaphore(other, PATH, 2).acquire(2, timeout=AT_ONCE_S)).release


# ---------------------------------------------------------------------------------------------
# Queues


async def an_item_is_there(other: AsyncClient) -> Callable[[], Awaitable[None]]:
    await AsyncQueue(other, PATH).put(b"item")
    return nothing_meanwhile


async def an_item_will_come(other: AsyncClient) -> Callable[[], Awaitable[None]]:
    async def put() -> None:
        await AsyncQueue(other, PATH).put(b"item")

    return put


async def put_back(item: Any, other: AsyncClient) -> None:
    await AsyncQueue(other, PATH).put(item.value)


async def item_is_there_still(other: AsyncClient) -> None:
    """Whoever was cancelled has taken nothing; whoever was not, has put it back."""
    queue = AsyncQueue(other, PATH)
    item = await queue.get(timeout=AT_ONCE_S)
    assert item.value == b"item"
    assert await queue.size() == 0, "there was one"


async def at_most_one_item_is_there(other: AsyncClient) -> None:
    queue = AsyncQueue(other, PATH)
    assert await queue.size() <= 1
    await queue.try_get()


async def work_is_there(other: AsyncClient) -> Callable[[], Awaitable[None]]:
    await AsyncWorkQueue(other, PATH).put(b"item")
    return nothing_meanwhile


async def work_will_come(other: AsyncClient) -> Callable[[], Awaitable[None]]:
    async def put() -> None:
        await AsyncWorkQueue(other, PATH).put(b"item")

    return put


async def work_can_be_claimed(other: AsyncClient) -> None:
    queue = AsyncWorkQueue(other, PATH, attempts_max=1000)
    claim = await queue.claim(timeout=AT_ONCE_S)
    await claim.acknowledge()
    assert await queue.size() == 0


async def work_is_there_or_done(other: AsyncClient) -> None:
    queue = AsyncWorkQueue(other, PATH, attempts_max=1000)
    assert await queue.claims() == [], "whoever was cancelled holds no claim"
    claim = await queue.try_claim()
    if claim is not None:
        await claim.acknowledge()
    assert await queue.size() == 0


async def claimed_and_acknowledged(client: AsyncClient) -> None:
    async with await AsyncWorkQueue(client, PATH, attempts_max=1000).claim():
        await client.sync()


async def claimed_and_given_back(client: AsyncClient) -> None:
    claim = await AsyncWorkQueue(client, PATH, attempts_max=1000).claim()
    async with claim:
        await claim.give_back(reason="later")


# ---------------------------------------------------------------------------------------------
# Values and barriers


async def others_can_add(other: AsyncClient) -> None:
    counter = AsyncCounter(other, PATH)
    before = await counter.value()
    # What was cancelled while it was under way may be applied at this very moment.
    assert (await counter.add(1, timeout=AT_ONCE_S)).after in (before + 1, before + 2)


async def updated(client: AsyncClient) -> None:
    async with AsyncConfigValue(client, PATH, default=0) as shared:
        await shared.update(lambda value: value + 1)


async def others_can_update(other: AsyncClient) -> None:
    async with AsyncConfigValue(other, PATH, default=0) as shared:
        before = shared.value
        # What was cancelled while it was under way may be applied at this very moment.
        assert await shared.update(lambda value: value + 1) in (before + 1, before + 2)


async def cached(client: AsyncClient) -> None:
    async with AsyncTreeCache(client, PATH) as cache:
        await cache.wait_for(await client.sync())


async def a_node_can_be_made(other: AsyncClient) -> None:
    await other.ensure_path(f"{PATH}/a/b")


async def a_barrier_is_up(other: AsyncClient) -> Callable[[], Awaitable[None]]:
    await AsyncBarrier(other, PATH).create()

    async def lift() -> None:
        await AsyncBarrier(other, PATH).lift()

    return lift


async def no_barrier_is_up(other: AsyncClient) -> None:
    assert not await AsyncBarrier(other, PATH).is_up()


async def own_barrier(client: AsyncClient) -> None:
    await AsyncBarrier(client, PATH).create(ephemeral=True)
    await AsyncBarrier(client, PATH).lift()


async def a_barrier_can_be_lifted(other: AsyncClient) -> None:
    await AsyncBarrier(other, PATH).lift()
    assert not await AsyncBarrier(other, PATH).is_up()


async def entered(client: AsyncClient) -> None:
    try:
        entered = await AsyncDoubleBarrier(client, PATH, 2).enter(timeout=ALONE_S)
    except RecipeTimeoutError:
        return
    await entered.release()


async def a_second_party_will_come(other: AsyncClient) -> Callable[[], Awaitable[None]]:
    async def come() -> None:
        try:
            entered = await AsyncDoubleBarrier(other, PATH, 2).enter(timeout=ALONE_S)
        except RecipeTimeoutError:
            return
        await entered.release()

    return come


async def two_can_meet(other: AsyncClient) -> None:
    barrier = AsyncDoubleBarrier(other, PATH, 2)
    rounds = await asyncio.gather(*(barrier.enter(timeout=AT_ONCE_S) for _ in range(2)))
    await asyncio.gather(*(entered.leave(timeout=AT_ONCE_S) for entered in rounds))


# ---------------------------------------------------------------------------------------------
# Who is there


async def joined(client: AsyncClient) -> None:
    async with await AsyncGroup(client, PATH).join("ours", b"value") as membership:
        await membership.update(b"another")


async def nobody_is_there(other: AsyncClient) -> None:
    assert dict((await AsyncGroup(other, PATH).members()).members) == {}
    membership = await AsyncGroup(other, PATH).join("ours")
    await membership.leave()


async def leave(membership: Any, _: AsyncClient) -> None:
    await membership.leave()


async def registered(client: AsyncClient) -> None:
    registry = AsyncServiceRegistry(client, PATH)
    async with await registry.register("api", "127.0.0.1", 80, id="ours") as registration:
        await registration.update(payload={"number": 1})


async def no_instance_is_there(other: AsyncClient) -> None:
    registry = AsyncServiceRegistry(other, PATH)
    assert await registry.discover("api") == []
    registration = await registry.register("api", "127.0.0.1", 80, id="ours")
    await registration.close()


async def close(registration: Any, _: AsyncClient) -> None:
    await registration.close()


async def took_part(client: AsyncClient) -> None:
    async with AsyncPartitioner(client, PATH, ["a", "b"], name="ours", settle=0) as partitioner:
        async for _ in partitioner.changes():
            if len(partitioner.owned) == 2:
                break


async def items_are_free(other: AsyncClient) -> None:
    async with AsyncPartitioner(other, PATH, ["a", "b"], name="ours", settle=0) as partitioner:
        async for _ in partitioner.changes():
            if len(partitioner.owned) == 2:
                break


async def nothing_is_undecided(other: AsyncClient) -> None:
    proposals = await AsyncAtomicCommit(other, PATH).proposals()
    assert [proposal for proposal in proposals if proposal.committed is None] == []


async def proposed(client: AsyncClient) -> None:
    await AsyncAtomicCommit(client, PATH).propose(["nobody"], b"value", timeout=0.2)


SCENARIOS = [
    Scenario("lock.acquire", lambda client: AsyncLock(client, PATH).acquire(), lock_is_free),
    Scenario("lock.try_acquire", lambda client: AsyncLock(client, PATH).try_acquire(), lock_is_free),
    Scenario(
        "lock.acquire in the queue",
        lambda client: AsyncLock(client, PATH).acquire(),
        lock_is_free,
        beforehand=lock_is_held,
    ),
    Scenario("lock.release", held_and_released, lock_is_free, undo=keep),
    Scenario("async with lock", held_in_a_block, lock_is_free, undo=keep),
    Scenario(
        "election.campaign", lambda client: AsyncElection(client, PATH, b"ours").campaign(), nobody_leads
    ),
    Scenario(
        "election.campaign in the queue",
        lambda client: AsyncElection(client, PATH, b"ours").campaign(),
        nobody_leads,
        beforehand=another_leads,
    ),
    Scenario("async with election.lead()", led_in_a_block, nobody_leads, undo=keep),
    Scenario(
        "read_write_lock.read().acquire",
        lambda client: AsyncReadWriteLock(client, PATH).read().acquire(),
        nobody_reads_or_writes,
        beforehand=somebody_writes,
    ),
    Scenario(
        "read_write_lock.write().acquire",
        lambda client: AsyncReadWriteLock(client, PATH).write().acquire(),
        nobody_reads_or_writes,
        beforehand=somebody_writes,
    ),
    Scenario("write_handle.downgrade", written, nobody_reads_or_writes, undo=keep),
    Scenario("read_handle.try_upgrade", upgraded, nobody_reads_or_writes, undo=keep),
    Scenario(
        "semaphore.acquire", lambda client: AsyncSemaphore(client, PATH, 2).acquire(2), permits_are_free
    ),
    Scenario(
        "semaphore.acquire in the queue",
        lambda client: AsyncSemaphore(client, PATH, 2).acquire(2),
        permits_are_free,
        beforehand=permits_are_taken,
    ),
    Scenario(
        "queue.put",
        lambda client: AsyncQueue(client, PATH).put(b"item"),
        at_most_one_item_is_there,
        undo=keep,
    ),
    Scenario(
        "queue.get",
        lambda client: AsyncQueue(client, PATH).get(),
        item_is_there_still,
        undo=put_back,
        beforehand=an_item_is_there,
    ),
    Scenario(
        "queue.get in the line",
        lambda client: AsyncQueue(client, PATH).get(),
        item_is_there_still,
        undo=put_back,
        beforehand=an_item_will_come,
    ),
    Scenario(
        "work_queue.claim",
        lambda client: AsyncWorkQueue(client, PATH, attempts_max=1000).claim(),
        work_can_be_claimed,
        beforehand=work_is_there,
    ),
    Scenario(
        "work_queue.claim in the line",
        lambda client: AsyncWorkQueue(client, PATH, attempts_max=1000).claim(),
        work_can_be_claimed,
        beforehand=work_will_come,
    ),
    Scenario(
        "claim.acknowledge",
        claimed_and_acknowledged,
        work_is_there_or_done,
        undo=keep,
        beforehand=work_is_there,
    ),
    Scenario(
        "claim.give_back", claimed_and_given_back, work_is_there_or_done, undo=keep, beforehand=work_is_there
    ),
    Scenario("counter.add", lambda client: AsyncCounter(client, PATH).add(1), others_can_add, undo=keep),
    Scenario("config_value.update", updated, others_can_update, undo=keep),
    Scenario("tree_cache.wait_for", cached, a_node_can_be_made, undo=keep),
    Scenario(
        "barrier.wait",
        lambda client: AsyncBarrier(client, PATH).wait(),
        no_barrier_is_up,
        undo=keep,
        beforehand=a_barrier_is_up,
    ),
    Scenario("barrier.create", own_barrier, a_barrier_can_be_lifted, undo=keep),
    Scenario("double_barrier.enter", entered, two_can_meet, undo=keep, beforehand=a_second_party_will_come),
    Scenario("group.join", lambda client: AsyncGroup(client, PATH).join("ours"), nobody_is_there, undo=leave),
    Scenario("membership.update", joined, nobody_is_there, undo=keep),
    Scenario(
        "services.register",
        lambda client: AsyncServiceRegistry(client, PATH).register("api", "127.0.0.1", 80, id="ours"),
        no_instance_is_there,
        undo=close,
    ),
    Scenario("registration.update", registered, no_instance_is_there, undo=keep),
    Scenario("async with partitioner", took_part, items_are_free, undo=keep),
    Scenario("atomic_commit.propose", proposed, nothing_is_undecided, undo=keep),
]

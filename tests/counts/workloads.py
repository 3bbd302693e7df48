"""What is counted: one function a workload, which prepares, and returns what was counted of the work itself.

Rule of this file: it works and does not judge; what the numbers should be stands in recorded.toml.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from coordclient import AsyncClient, Consistency
from coordclient.types import Event
from tests.counts.counted_cluster import NAMES, CountedCluster

Counts = Counter[str]

PATH: Final = "/counted"
VALUE: Final = b"v" * 100
LARGE_VALUE: Final = b"v" * 100 * 1024


@dataclass(frozen=True, slots=True)
class Workload:
    """`operations`: by how many to divide, to speak of one. `tick_ms`: None, if no tick is counted."""

    name: str
    operations: int
    work: Callable[[CountedCluster, int], Counts]
    tick_ms: int | None = None

    def count(self) -> Counts:
        """Do the work in a cluster of its own."""
        cluster = CountedCluster() if self.tick_ms is None else CountedCluster(self.tick_ms)
        with closing(cluster):
            return self.work(cluster, self.operations)


def _client_with_node(cluster: CountedCluster, member: str) -> AsyncClient:
    client = cluster.client(member)
    cluster.run(client.create(PATH, VALUE))
    return client


async def _write_in_turn(client: AsyncClient, count: int) -> None:
    for _ in range(count):
        await client.set(PATH, VALUE)


async def _write_at_once(client: AsyncClient, count: int, value: bytes = VALUE) -> None:
    await asyncio.gather(*(client.set(PATH, value) for _ in range(count)))


async def _read_at_once(
    client: AsyncClient, count: int, consistency: Consistency = Consistency.LINEARIZABLE
) -> None:
    await asyncio.gather(*(client.get(PATH, consistency=consistency) for _ in range(count)))


# ---------------------------------------------------------------------------------------------
# Writes


def writes_in_turn_at_the_leader(cluster: CountedCluster, operations: int) -> Counts:
    client = _client_with_node(cluster, cluster.leader)
    return cluster.count(_write_in_turn(client, operations))


def writes_in_turn_at_a_follower(cluster: CountedCluster, operations: int) -> Counts:
    client = _client_with_node(cluster, cluster.followers[0])
    return cluster.count(_write_in_turn(client, operations))


def writes_in_a_burst(cluster: CountedCluster, operations: int) -> Counts:
    client = _client_with_node(cluster, cluster.followers[0])
    return cluster.count(_write_at_once(client, operations))


def large_writes_in_a_burst(cluster: CountedCluster, operations: int) -> Counts:
    client = _client_with_node(cluster, cluster.leader)
    return cluster.count(_write_at_once(client, operations, LARGE_VALUE))


def writes_on_64_connections(cluster: CountedCluster, operations: int) -> Counts:
    clients = [cluster.client(NAMES[number % len(NAMES)]) for number in range(64)]
    cluster.run(clients[0].create(PATH, VALUE))

    async def work() -> None:
        await asyncio.gather(*(_write_in_turn(client, operations // len(clients)) for client in clients))

    return cluster.count(work())


def transactions_of_5_in_turn(cluster: CountedCluster, operations: int) -> Counts:
    client = _client_with_node(cluster, cluster.followers[0])
    paths = [f"{PATH}/{number}" for number in range(5)]

    async def prepare() -> None:
        for path in paths:
            await client.create(path)

    async def work() -> None:
        for _ in range(operations):
            async with client.transaction() as transaction:
                for path in paths:
                    transaction.set(path, VALUE)

    cluster.run(prepare())
    return cluster.count(work())


# ---------------------------------------------------------------------------------------------
# Reads


def reads_in_turn_at_a_follower(cluster: CountedCluster, operations: int) -> Counts:
    client = _client_with_node(cluster, cluster.followers[0])

    async def work() -> None:
        for _ in range(operations):
            await client.get(PATH)

    return cluster.count(work())


def reads_in_a_burst_at_the_leader(cluster: CountedCluster, operations: int) -> Counts:
    client = _client_with_node(cluster, cluster.leader)
    return cluster.count(_read_at_once(client, operations))


def reads_in_a_burst_at_a_follower(cluster: CountedCluster, operations: int) -> Counts:
    client = _client_with_node(cluster, cluster.followers[0])
    return cluster.count(_read_at_once(client, operations))


def session_reads_in_a_burst(cluster: CountedCluster, operations: int) -> Counts:
    client = _client_with_node(cluster, cluster.followers[0])
    return cluster.count(_read_at_once(client, operations, Consistency.SESSION))


def reads_on_64_connections(cluster: CountedCluster, operations: int) -> Counts:
    clients = [cluster.client(NAMES[number % len(NAMES)]) for number in range(64)]
    cluster.run(clients[0].create(PATH, VALUE))

    async def read_in_turn(client: AsyncClient) -> None:
        for _ in range(operations // len(clients)):
            await client.get(PATH)

    async def work() -> None:
        await asyncio.gather(*map(read_in_turn, clients))

    return cluster.count(work())


# ---------------------------------------------------------------------------------------------
# Watches, locks, and doing nothing


def changes_told_to_100_watchers(cluster: CountedCluster, operations: int) -> Counts:
    writer = _client_with_node(cluster, cluster.leader)
    clients = [cluster.client(NAMES[number % len(NAMES)]) for number in range(10)]

    async def begin() -> list[AsyncIterator[Event]]:
        return [await client.watch(PATH).__aenter__() for client in clients for _ in range(10)]

    async def work(watchers: list[AsyncIterator[Event]]) -> None:
        for _ in range(operations):
            await writer.set(PATH, VALUE)
            await asyncio.gather(*(anext(watcher) for watcher in watchers))

    return cluster.count(work(cluster.run(begin())))


def lock_hand_overs(cluster: CountedCluster, operations: int) -> Counts:
    """Two sessions at two members take one lock in turn: held by one, it is wanted by the other."""
    first, second = (cluster.client(member) for member in cluster.followers)

    async def hold_in_turn(client: AsyncClient) -> None:
        for _ in range(operations // 2):
            async with client.lock(PATH):
                await client.sync()

    async def work() -> None:
        await asyncio.gather(hold_in_turn(first), hold_in_turn(second))

    return cluster.count(work())


def writes_a_second_apart(cluster: CountedCluster, operations: int) -> Counts:
    """With what ticks make of a write: the commit index is kept, and nothing is synced for that."""
    client = _client_with_node(cluster, cluster.leader)

    async def work() -> None:
        for _ in range(operations):
            await client.set(PATH, VALUE)
            await asyncio.sleep(1.0)

    return cluster.count_time(operations + 1, work())


def idle_seconds_with_30_sessions(cluster: CountedCluster, operations: int) -> Counts:
    for number in range(30):
        cluster.client(NAMES[number % len(NAMES)], session_timeout_s=10.0)
    return cluster.count_time(operations)


WORKLOADS: Final = tuple(
    Workload(work.__name__.replace("_", "-"), operations, work, tick_ms)
    for work, operations, tick_ms in (
        (writes_in_turn_at_the_leader, 100, None),
        (writes_in_turn_at_a_follower, 100, None),
        (writes_in_a_burst, 256, None),
        (large_writes_in_a_burst, 8, None),
        (writes_on_64_connections, 640, None),
        (transactions_of_5_in_turn, 20, None),
        (reads_in_turn_at_a_follower, 100, None),
        (reads_in_a_burst_at_the_leader, 256, None),
        (reads_in_a_burst_at_a_follower, 256, None),
        (session_reads_in_a_burst, 256, None),
        (reads_on_64_connections, 640, None),
        (changes_told_to_100_watchers, 10, None),
        (lock_hand_overs, 20, None),
        (writes_a_second_apart, 10, 100),
        (idle_seconds_with_30_sessions, 20, 100),
    )
)

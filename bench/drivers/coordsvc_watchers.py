"""Driver: changes of one node told to many watchers, through the SDK. Prints one line of JSON.

Every watcher is a stream of its own with a callback of its own; the watchers are spread over the connections,
and the connections over the members. One more connection makes the changes.

Rule of this file: an operation is one change. At rate 0 the next change is made when every watcher has heard
of the last one, and its time is that of the last watcher; at a rate, each telling of each watcher is timed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import time

import uvloop

from coordclient import AsyncClient, Event
from coordclient.watches import WatchStream

PATH = "/bench-watched"
WARM_UP_CHANGES = 10
REST_S = 0.02  # between two changes: for systems whose watchers must be set again


class Audience:
    """What the watchers have heard, of changes that are numbered by the version that they make."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.heard: dict[int, int] = {}
        self.sent: dict[int, float] = {}
        self.times_s: list[float] = []
        self.first_measured = 0  # at a rate: the first change of which each telling is timed; 0: none is
        self._told = asyncio.Event()
        self.last_s = 0.0

    def hear(self, event: Event) -> None:
        version = event.stat.version if event.stat is not None else 0
        count = self.heard.get(version, 0) + 1
        self.heard[version] = count
        if self.first_measured and version >= self.first_measured:
            self.times_s.append(time.perf_counter() - self.sent[version])
        if count == self.size:
            self.last_s = time.perf_counter()
            self._told.set()

    async def wait_told(self, version: int) -> None:
        while self.heard.get(version, 0) < self.size:
            self._told.clear()
            await self._told.wait()


async def open_watchers(
    endpoints: list[str], connections: int, watchers: int, audience: Audience
) -> tuple[list[AsyncClient], list[WatchStream]]:
    clients = []
    streams = []
    for number in range(connections):
        member = endpoints[number % len(endpoints)]
        client = AsyncClient(member, session_timeout=10.0)
        await client.connect()
        clients.append(client)
    for client in clients:
        for _ in range(watchers):
            stream = client.watch(PATH, callback=audience.hear)
            streams.append(await stream.start())
    return clients, streams


async def one_after_the_other(client: AsyncClient, audience: Audience, value: bytes, changes: int) -> None:
    """Make each change when all have heard of the one before it."""
    for version in range(1, WARM_UP_CHANGES + changes + 1):
        sent_s = time.perf_counter()
        acknowledged = asyncio.ensure_future(client.set(PATH, value))
        await audience.wait_told(version)
        if version > WARM_UP_CHANGES:
            audience.times_s.append(audience.last_s - sent_s)
        await acknowledged
        await asyncio.sleep(REST_S)


async def at_a_rate(
    client: AsyncClient, audience: Audience, value: bytes, rate: float, seconds: float
) -> int:
    """Make changes at a rate, however long they take, after a second of the same that is not timed."""
    audience.first_measured = int(rate) + 1
    under_way: set[asyncio.Task[object]] = set()
    began_s = time.perf_counter()
    version = 0
    measured = 0
    for number in range(int(rate * (1 + seconds))):
        due_s = began_s + number / rate
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        version += 1
        measured += version >= audience.first_measured
        audience.sent[version] = time.perf_counter()
        task: asyncio.Task[object] = asyncio.ensure_future(client.set(PATH, value))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await audience.wait_told(version)
    if under_way:
        await asyncio.wait(under_way)
    return measured


async def run(arguments: argparse.Namespace) -> dict[str, float]:
    endpoints = arguments.endpoints.split(",")
    audience = Audience(arguments.connections * arguments.watchers)
    value = b"v" * arguments.value_bytes
    async with AsyncClient(arguments.endpoints, session_timeout=10.0) as writer:
        if await writer.exists(PATH) is not None:
            await writer.delete(PATH)
        await writer.create(PATH, value)
        clients, streams = await open_watchers(endpoints, arguments.connections, arguments.watchers, audience)
        from_s = time.time()
        if arguments.rate:
            changes = await at_a_rate(writer, audience, value, arguments.rate, arguments.seconds)
            from_s += 1
        else:
            changes = arguments.changes
            await one_after_the_other(writer, audience, value, changes)
        to_s = time.time()
        for stream in streams:
            await stream.close()
        for client in clients:
            await client.close()
    return figures(audience.times_s, changes, from_s, to_s)


def figures(times_s: list[float], changes: int, from_s: float, to_s: float) -> dict[str, float]:
    times_s.sort()

    def at(fraction: float) -> float:
        return times_s[max(0, math.ceil(fraction * len(times_s)) - 1)] * 1000

    return {
        "operations": changes,
        "seconds": to_s - from_s,
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
        "errors": 0,
        "told": len(times_s),
        "measured_from": from_s,
        "measured_to": to_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--watchers", type=int, default=100, help="of each connection")
    parser.add_argument("--changes", type=int, default=100, help="one after the other")
    parser.add_argument("--rate", type=float, default=0.0, help="changes a second; 0: one after the other")
    parser.add_argument("--seconds", type=float, default=5.0, help="at a rate: how long is measured")
    parser.add_argument("--value-bytes", type=int, default=100)
    print(json.dumps(uvloop.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()

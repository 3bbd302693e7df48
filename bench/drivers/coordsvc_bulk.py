"""Driver of the bulk scenario, through the SDK: makes many nodes, lists a large one, probes writes.

    coordsvc_bulk fill ENDPOINTS PARENT NODES PER_DIRECTORY VALUE_BYTES IN_FLIGHT
    coordsvc_bulk ls ENDPOINTS PATH TIMES
    coordsvc_bulk probe ENDPOINTS WORKERS PAUSE_MS      until standard input ends

`fill` and `ls` print one line of JSON; `probe` prints one line per write: when it was sent (seconds since the
epoch) and how long it took (ms).

Rule of this file: the same nodes, values and pauses as in the bulk drivers of the other systems.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Iterator

import uvloop

from coordclient import AsyncClient

VALUES = 65536  # of them neighbours share nothing, so that no compression gains anything
STRIDE = 40503
VALUE_BYTES_MAX = 4096
SESSION_TIMEOUT_S = 30.0


def pseudo_random_bytes() -> bytes:
    """The bytes that values are cut from; no compression gains anything on them."""
    dice = 1
    drawn = bytearray()
    for _ in range(VALUES + VALUE_BYTES_MAX):
        dice = (dice * 1103515245 + 12345) & 0xFFFF_FFFF
        drawn.append(dice >> 16 & 0xFF)
    return bytes(drawn)


def print_result(operations: int, seconds: float, times_s: list[float], items: int) -> None:
    times_s.sort()
    last = len(times_s) - 1
    result = {
        "operations": operations,
        "seconds": seconds,
        "p50_ms": 1000 * times_s[last // 2],
        "p99_ms": 1000 * times_s[last * 99 // 100],
        "max_ms": 1000 * times_s[last],
        "errors": 0,
        "items": items,
    }
    print(json.dumps(result))


def node_path(parent: str, node: int, per_directory: int) -> str:
    return f"{parent}/d{node // per_directory:04d}/n{node:07d}" if per_directory else f"{parent}/n{node:07d}"


async def fill(
    client: AsyncClient, parent: str, nodes: int, per_directory: int, value_bytes: int, in_flight: int
) -> None:
    """Make the nodes; each of `in_flight` tasks has one operation under way."""
    values = pseudo_random_bytes()
    await client.ensure_path(parent)
    if per_directory:
        for first in range(0, nodes, per_directory):
            await client.create(f"{parent}/d{first // per_directory:04d}")
    numbers = iter(range(nodes))
    times_s: list[float] = []
    clock = time.perf_counter

    async def work(numbers: Iterator[int]) -> None:
        for node in numbers:
            at = node * STRIDE % VALUES
            sent_s = clock()
            await client.create(node_path(parent, node, per_directory), values[at : at + value_bytes])
            times_s.append(clock() - sent_s)

    began_s = clock()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(in_flight):
            tasks.create_task(work(numbers))
    print_result(nodes, clock() - began_s, times_s, nodes)


async def list_children(client: AsyncClient, path: str, times: int) -> None:
    times_s = []
    items = 0
    began_s = time.perf_counter()
    for _ in range(times):
        sent_s = time.perf_counter()
        items = len(await client.get_children(path))
        times_s.append(time.perf_counter() - sent_s)
    print_result(times, time.perf_counter() - began_s, times_s, items)


async def probe(client: AsyncClient, workers: int, pause_ms: int) -> None:
    """Write, rest, write again, until standard input ends."""
    value = pseudo_random_bytes()[:100]
    over = asyncio.Event()

    async def work(path: str) -> None:
        await client.ensure_path(path)
        while not over.is_set():
            sent_at_s, sent_s = time.time(), time.perf_counter()
            await client.set(path, value)
            print(f"{sent_at_s:.6f} {1000 * (time.perf_counter() - sent_s):.3f}")
            await asyncio.sleep(pause_ms / 1000)

    async with asyncio.TaskGroup() as tasks:
        for worker in range(workers):
            tasks.create_task(work(f"/probe/{worker}"))
        await asyncio.to_thread(sys.stdin.read)
        over.set()


async def main() -> None:
    action, endpoints, *arguments = sys.argv[1:]
    async with AsyncClient(endpoints, session_timeout=SESSION_TIMEOUT_S) as client:
        gc.freeze()
        match action, arguments:
            case "fill", [parent, *numbers]:
                await fill(client, parent, *map(int, numbers))
            case "ls", [path, times]:
                await list_children(client, path, int(times))
            case "probe", [workers, pause_ms]:
                await probe(client, int(workers), int(pause_ms))
            case _:
                sys.exit(__doc__)


if __name__ == "__main__":
    uvloop.run(main())

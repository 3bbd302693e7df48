"""`make bench`: durable writes and linearizable reads against three members on this machine.

One client process and one session; values of 100 bytes; one operation at a time, and 256 in flight. Every
write is on the disks of a majority before it is answered; every read is linearizable.

`make bench ARGS=hand-over`: how long a lock takes from one process to another.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import platform
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from bench import hand_over
from bench.cluster import running_cluster
from coordclient import AsyncClient

KEYS = 256
VALUE = b"v" * 100
WARM_UP_S = 1.0

Operation = Callable[[int], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Measurement:
    name: str
    in_flight: int
    per_second: float
    p50_ms: float
    p99_ms: float


async def measure(name: str, operation: Operation, in_flight: int, seconds: float) -> Measurement:
    """Keep `in_flight` operations under way for some seconds, and time each."""
    await _load(operation, in_flight, WARM_UP_S)
    began = time.perf_counter()
    latencies = await _load(operation, in_flight, seconds)
    elapsed_s = time.perf_counter() - began
    latencies.sort()
    return Measurement(
        name,
        in_flight,
        len(latencies) / elapsed_s,
        _percentile_ms(latencies, 0.50),
        _percentile_ms(latencies, 0.99),
    )


async def _load(operation: Operation, in_flight: int, seconds: float) -> list[float]:
    latencies: list[float] = []
    clock = time.perf_counter
    stop = clock() + seconds

    async def work(key: int) -> None:
        while (sent := clock()) < stop:
            await operation(key)
            latencies.append(clock() - sent)

    async with asyncio.TaskGroup() as tasks:
        for key in range(in_flight):
            tasks.create_task(work(key))
    return latencies


def _percentile_ms(sorted_latencies: list[float], fraction: float) -> float:
    index = min(len(sorted_latencies) - 1, math.ceil(fraction * len(sorted_latencies)) - 1)
    return sorted_latencies[index] * 1000


async def run(endpoints: str, seconds: float) -> list[Measurement]:
    async with AsyncClient(endpoints, session_timeout=30.0) as client:
        await client.ensure_path("/bench")
        for key in range(KEYS):
            await client.create(f"/bench/{key}", VALUE)
        paths = [f"/bench/{key}" for key in range(KEYS)]
        results = []
        for in_flight in (1, KEYS):
            results.append(
                await measure("durable writes", lambda key: client.set(paths[key], VALUE), in_flight, seconds)
            )
            results.append(
                await measure("linearizable reads", lambda key: client.get(paths[key]), in_flight, seconds)
            )
        return results


def machine() -> str:
    """Name this machine: model, cores, memory, Python."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = platform.python_version()
    return f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()}, CPython {python}"


def table(results: list[Measurement]) -> str:
    lines = ["| scenario | in flight | operations/s | p50 | p99 |", "|---|---|---|---|---|"]
    lines += [
        f"| {result.name} | {result.in_flight} | {result.per_second:,.0f} "
        f"| {result.p50_ms:.2f} ms | {result.p99_ms:.2f} ms |"
        for result in results
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("throughput", "hand-over"), default="throughput")
    parser.add_argument("--hand-overs", type=int, default=hand_over.HAND_OVERS, help="how many are measured")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--endpoints", help="measure this cluster instead of starting one")
    arguments = parser.parse_args()
    if arguments.what == "hand-over":
        print(f"a lock between two processes, on three members, on {machine()}\n")
        hand_over.run(arguments.endpoints, arguments.hand_overs)
        return
    print(f"three members and one client on {machine()}; 100-byte values\n")
    if arguments.endpoints:
        results = asyncio.run(run(arguments.endpoints, arguments.seconds))
    else:
        with running_cluster() as endpoints:
            results = asyncio.run(run(endpoints, arguments.seconds))
    print(table(results))


if __name__ == "__main__":
    main()

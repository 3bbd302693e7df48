"""What the drivers in Python share: their arguments, the load on asyncio, and the line that they print.

Rule of this file: it knows no system.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench.measuring import BenchError, percentile

WARM_UP_S = 1.0
TRANSACTION_SETS = 5
KINDS = ("write", "read", "session-read", "mixed", "transaction")

# Performs one operation: the number of the connection, the kind (never `mixed`), the number of the key.
Operation = Callable[[int, str, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Load:
    """The arguments of a driver."""

    endpoints: str
    operation: str
    connections: int
    in_flight: int
    value_bytes: int
    seconds: float
    keys: int
    read_share: float

    @property
    def value(self) -> bytes:
        return b"v" * self.value_bytes

    def endpoint(self, connection: int) -> str:
        """Return the one endpoint that a connection goes to."""
        endpoints = self.endpoints.split(",")
        return endpoints[connection % len(endpoints)]

    def path(self, key: int) -> str:
        return f"/bench/{key % self.keys}"

    def first_key(self, worker: int) -> int:
        """Return where a worker begins: each goes through all keys, and each begins elsewhere."""
        return worker * self.keys // (self.connections * self.in_flight)

    def drawn(self, dice: random.Random) -> str:
        """Return the kind of the next operation."""
        if self.operation != "mixed":
            return self.operation
        return "read" if dice.random() < self.read_share else "write"


class Window:
    """The moments between which operations count, and the latencies of those that did."""

    def __init__(self, seconds: float) -> None:
        self.begins_s = time.perf_counter() + WARM_UP_S
        self.ends_s = self.begins_s + seconds
        self.latencies_s: list[float] = []
        self._seconds = seconds
        self._unix_s = time.time() + WARM_UP_S

    def is_over(self) -> bool:
        return time.perf_counter() >= self.ends_s

    def note(self, sent_s: float) -> None:
        """Count an operation that was sent at that moment of `time.perf_counter` and is answered now."""
        answered_s = time.perf_counter()
        if self.begins_s <= answered_s < self.ends_s:
            self.latencies_s.append(answered_s - sent_s)

    def line(self, errors: int = 0) -> str:
        """Return what the driver prints."""
        if not self.latencies_s:
            raise BenchError("no operation was answered while it was measured")
        ordered = sorted(self.latencies_s)
        found = {
            "operations": len(ordered),
            "seconds": self._seconds,
            "p50_ms": percentile(ordered, 0.50) * 1000,
            "p99_ms": percentile(ordered, 0.99) * 1000,
            "max_ms": ordered[-1] * 1000,
            "errors": errors,
            "measured_from": self._unix_s,
            "measured_to": self._unix_s + self._seconds,
        }
        return json.dumps(found)


def load_of(arguments: Sequence[str] | None = None) -> Load:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--operation", choices=KINDS, default="write")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--keys", type=int, default=256)
    parser.add_argument("--read-share", type=float, default=0.9)
    return Load(**vars(parser.parse_args(arguments)))


async def drive(load: Load, operation: Operation) -> Window:
    """Keep the operations under way for as long as the load says; the first that fails ends it all."""
    window = Window(load.seconds)
    clock = time.perf_counter

    async def work(worker: int) -> None:
        dice = random.Random(worker)
        connection = worker % load.connections
        key = load.first_key(worker)
        while (sent_s := clock()) < window.ends_s:
            kind = load.drawn(dice)
            await operation(connection, kind, key)
            window.note(sent_s)
            key += TRANSACTION_SETS if kind == "transaction" else 1

    async with asyncio.TaskGroup() as tasks:
        for worker in range(load.connections * load.in_flight):
            tasks.create_task(work(worker))
    return window

"""Durable writes, reads and transactions: one at a time and many in flight, small values and large.

One client process. With one connection it is attached to the leader of its system; 64 connections are spread
over the members. Every write is on the disks of a majority before it is acknowledged.

A read of the scenarios `read-*` may not be stale: etcd's default, coordsvc's default, and for ZooKeeper sync
and get, sent together. What a member answers from its own state is in `session-read-*`.

Rule of this file: the same keys, value sizes and operations in flight for every system.
"""

from __future__ import annotations

from bench.drivers.running import run_driver
from bench.measuring import Measurement
from bench.scenarios.scenario import Scenario
from bench.systems import System

_NATIVE = {"coordsvc": ("sdk",), "etcd": ("native",), "zookeeper": ("native",)}
_WITH_PYTHON = {"coordsvc": ("sdk",), "etcd": ("native", "python"), "zookeeper": ("native", "kazoo")}
_KEYS = 256
_KEYS_LARGE = 32
_LARGE_BYTES = 10_000
_WARM_UP_S = 4.0


def _scenario(
    name: str,
    title: str,
    operation: str,
    *,
    in_flight: int = 1,
    connections: int = 1,
    value_bytes: int = 100,
    python: bool = False,
) -> Scenario:
    keys = _KEYS if value_bytes < _LARGE_BYTES else _KEYS_LARGE
    arguments = ["--operation", operation, "--connections", str(connections), "--in-flight", str(in_flight)]
    arguments += ["--value-bytes", str(value_bytes), "--keys", str(keys)]

    def run(system: System, client: str, seconds: float) -> Measurement:
        return run_driver(system, client, name, seconds, *arguments)

    alone = in_flight * connections == 1
    return Scenario(
        name,
        title,
        run,
        clients=_WITH_PYTHON if python else _NATIVE,
        figure="p50_ms" if alone else "per_second",
        smaller_is_better=alone,
        warm_up_s=_WARM_UP_S,
    )


SCENARIOS = (
    _scenario("write-1", "durable writes, one at a time", "write", python=True),
    _scenario("write-64", "durable writes, 64 in flight, one client", "write", in_flight=64),
    _scenario("write-256", "durable writes, 256 in flight, one client", "write", in_flight=256, python=True),
    _scenario("read-1", "linearizable reads, one at a time", "read", python=True),
    _scenario("read-64", "linearizable reads, 64 in flight, one client", "read", in_flight=64),
    _scenario(
        "read-256", "linearizable reads, 256 in flight, one client", "read", in_flight=256, python=True
    ),
    _scenario(
        "write-64-connections", "durable writes, 64 connections, one in flight each", "write", connections=64
    ),
    _scenario(
        "read-64-connections",
        "linearizable reads, 64 connections, one in flight each",
        "read",
        connections=64,
    ),
    _scenario("mixed-256", "90 % linearizable reads, 10 % writes, 256 in flight", "mixed", in_flight=256),
    _scenario("session-read-1", "session reads, one at a time", "session-read"),
    _scenario("session-read-256", "session reads, 256 in flight, one client", "session-read", in_flight=256),
    _scenario("transaction-1", "transactions of 5 writes, one at a time", "transaction"),
    _scenario("transaction-64", "transactions of 5 writes, 64 in flight", "transaction", in_flight=64),
    _scenario(
        "write-1k-64", "durable writes of 1 KiB, 64 in flight", "write", in_flight=64, value_bytes=1024
    ),
    _scenario(
        "write-100k-8", "durable writes of 100 KiB, 8 in flight", "write", in_flight=8, value_bytes=102_400
    ),
    _scenario(
        "read-1k-64", "linearizable reads of 1 KiB, 64 in flight", "read", in_flight=64, value_bytes=1024
    ),
    _scenario(
        "read-100k-8", "linearizable reads of 100 KiB, 8 in flight", "read", in_flight=8, value_bytes=102_400
    ),
)

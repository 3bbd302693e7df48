"""Driver: changes of one node told to many watchers, through kazoo. Prints one line of JSON.

What it does, measures and prints is what `zookeeper_watchers.c` does: ZooKeeper's watches fire once, so each
watcher sets its own again by reading the node.

Rule of this file: an operation is one change; callbacks are called by kazoo on its own threads, one of each
connection, and whatever they share is guarded.
"""

from __future__ import annotations

import argparse
import json
import math
import threading
import time
from typing import Any

from kazoo.client import KazooClient

PATH = "/bench-watched"
WARM_UP_CHANGES = 10
REST_S = 0.02
WITHIN_S = 30.0


class Audience:
    """What all watchers have heard and read, by the version that a change made."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.changed = threading.Condition()
        self.heard: dict[int, int] = {}
        self.read: dict[int, int] = {}
        self.sent_s: dict[int, float] = {}
        self.last_heard_s: dict[int, float] = {}
        self.last_read_s: dict[int, float] = {}
        self.times_s: list[float] = []
        self.first_measured = 0  # at a rate: the first change of which each telling is timed; 0: none is
        self.missed = 0

    def hear(self, version: int) -> None:
        now_s = time.perf_counter()
        with self.changed:
            self.heard[version] = self.heard.get(version, 0) + 1
            if self.first_measured and version >= self.first_measured:
                self.times_s.append(now_s - self.sent_s[version])
            if self.heard[version] == self.size:
                self.last_heard_s[version] = now_s

    def note_read(self, before: int, version: int) -> None:
        with self.changed:
            self.missed += max(0, version - before - 1)
            self.read[version] = self.read.get(version, 0) + 1
            if self.read[version] == self.size:
                self.last_read_s[version] = time.perf_counter()
            self.changed.notify()

    def wait_read(self, version: int) -> None:
        """Wait until every watcher has the value of this version, which is after it was told."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.read.get(version, 0) >= self.size, WITHIN_S):
                raise TimeoutError(f"version {version} was not read by all watchers within {WITHIN_S:g} s")


class Watcher:
    """One watcher: called for a change, it reads the node and so sets its watch again."""

    def __init__(self, client: KazooClient, audience: Audience) -> None:
        self._client = client
        self._audience = audience
        self._version = -1

    def set(self) -> None:
        self._client.get_async(PATH, watch=self._fired).rawlink(self._take)

    def _fired(self, event: Any) -> None:
        if event.type == "CHANGED":
            self._audience.hear(self._version + 1)  # the first change after the one that was read
            self.set()

    def _take(self, answer: Any) -> None:
        _, stat = answer.get()
        before, self._version = self._version, stat.version
        self._audience.note_read(before, stat.version)


def connected(hosts: str) -> KazooClient:
    client = KazooClient(hosts=hosts, timeout=10.0)
    client.start(timeout=30.0)
    return client


def one_after_the_other(writer: KazooClient, audience: Audience, value: bytes, changes: int) -> list[float]:
    """Make each change when all have the value of the one before it; return how long the values took."""
    values_s = []
    for version in range(1, WARM_UP_CHANGES + changes + 1):
        sent_s = time.perf_counter()
        writer.set(PATH, value)
        audience.wait_read(version)
        if version > WARM_UP_CHANGES:
            audience.times_s.append(audience.last_heard_s[version] - sent_s)
            values_s.append(audience.last_read_s[version] - sent_s)
        time.sleep(REST_S)
    return values_s


def at_a_rate(writer: KazooClient, audience: Audience, value: bytes, rate: float, seconds: float) -> None:
    """Make changes at a rate, however long they take, after a second of the same that is not timed."""
    audience.first_measured = int(rate) + 1
    began_s = time.perf_counter()
    version = 0
    for number in range(int(rate * (1 + seconds))):
        time.sleep(max(0.0, began_s + number / rate - time.perf_counter()))
        version += 1
        audience.sent_s[version] = time.perf_counter()
        writer.set_async(PATH, value)
    audience.wait_read(version)


def run(arguments: argparse.Namespace) -> dict[str, float]:
    endpoints = arguments.endpoints.split(",")
    audience = Audience(arguments.connections * arguments.watchers)
    value = b"v" * arguments.value_bytes
    writer = connected(arguments.endpoints)
    if writer.exists(PATH):
        writer.delete(PATH)
    writer.create(PATH, value)
    clients = [connected(endpoints[number % len(endpoints)]) for number in range(arguments.connections)]
    for client in clients:
        client.sync(PATH)
        for _ in range(arguments.watchers):
            Watcher(client, audience).set()
    audience.wait_read(0)
    from_s = time.time()
    found: dict[str, float] = {"operations": arguments.changes}
    if arguments.rate:
        found["operations"] = int(arguments.rate * (1 + arguments.seconds)) - int(arguments.rate)
        at_a_rate(writer, audience, value, arguments.rate, arguments.seconds)
        from_s += 1
    else:
        values_s = sorted(one_after_the_other(writer, audience, value, arguments.changes))
        found["value_p50_ms"] = values_s[len(values_s) // 2] * 1000
    to_s = time.time()
    for client in (*clients, writer):
        client.stop()
        client.close()
    times_s = sorted(audience.times_s)
    for name, fraction in (("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0)):
        found[name] = times_s[max(0, math.ceil(fraction * len(times_s)) - 1)] * 1000
    found |= {"seconds": to_s - from_s, "errors": 0, "told": len(times_s), "missed": audience.missed}
    return found | {"measured_from": from_s, "measured_to": to_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--watchers", type=int, default=100, help="of each connection")
    parser.add_argument("--changes", type=int, default=100, help="one after the other")
    parser.add_argument("--rate", type=float, default=0.0, help="changes a second; 0: one after the other")
    parser.add_argument("--seconds", type=float, default=5.0, help="at a rate: how long is measured")
    parser.add_argument("--value-bytes", type=int, default=100)
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()

"""Driver: many sessions of ZooKeeper that do nothing but live. One process's share of them.

It speaks the protocol itself, because a process has no room for hundreds of ZooKeeper's clients with their
threads: a connect request, then a ping every third of the session timeout, as ZooKeeper's own clients send
it. It prints one line when all its sessions are open, and one for each that was lost; it ends when its
standard input does.

Rule of this file: a session has a connection of its own, and is pinged by its own clock.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import struct
import sys

OPENING_AT_ONCE = 8
_PING = struct.pack(">iii", 8, -2, 11)  # length, xid of pings, type of request
_PING_REPLY_BYTES = 4 + 16


async def open_one(endpoint: str, timeout_ms: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a session and return its connection."""
    host, _, port = endpoint.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    # Protocol version, last zxid seen, timeout, session, password, read-only.
    request = struct.pack(">iqiqi16s?", 0, 0, timeout_ms, 0, 16, bytes(16), False)
    writer.write(struct.pack(">i", len(request)) + request)
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    answer = await reader.readexactly(length)
    _version, granted_ms = struct.unpack_from(">ii", answer)
    assert granted_ms == timeout_ms, f"asked for {timeout_ms} ms, got {granted_ms} ms"
    return reader, writer


async def keep_alive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, interval_s: float) -> None:
    """Send pings and wait for their answers, until the connection ends."""
    loop = asyncio.get_running_loop()
    due_s = loop.time() + interval_s
    try:
        while True:
            await asyncio.sleep(due_s - loop.time())
            due_s += interval_s
            writer.write(_PING)
            await reader.readexactly(_PING_REPLY_BYTES)
    except (OSError, asyncio.IncompleteReadError):
        print("lost", flush=True)


async def run(endpoints: list[str], count: int, timeout_s: float) -> None:
    room = asyncio.Semaphore(OPENING_AT_ONCE)
    interval_s = timeout_s / 3
    pingers: list[asyncio.Task[None]] = []

    async def add_one(number: int) -> None:
        async with room:
            reader, writer = await open_one(endpoints[number % len(endpoints)], round(timeout_s * 1000))
            pingers.append(asyncio.create_task(keep_alive(reader, writer, interval_s), name="pinger"))
            # Users start at any time: so do the renewals.
            await asyncio.sleep(random.random() * interval_s / count * OPENING_AT_ONCE)

    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(add_one(number))
    print("open", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for pinger in pingers:
        pinger.cancel()
    await asyncio.wait(pingers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--timeout", type=float, default=10.0, help="session timeout in seconds")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.endpoints.split(","), arguments.sessions, arguments.timeout))


if __name__ == "__main__":
    main()

"""Driver: one of two processes that hand a lock to and fro, through the SDK. Prints one line of JSON.

It holds the lock a number of times, each time until the other has come to rest in the queue, and prints when
each turn was granted and when it was about to be released, in seconds since the epoch.

Rule of this file: each process notes its own moments; nothing is sent between them but the lock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

import uvloop

from coordclient import AsyncClient

LOCK = "/bench-hand-over"
HOLD_MS = 120  # how long a holder holds at least, so that the other has come to rest in the queue
ALONE_S = 1.0  # after so long without the other, it has had its turns


async def take_turns(endpoints: str, turns: int, hold_s: float) -> list[tuple[float, float]]:
    moments = []
    async with AsyncClient(endpoints, session_timeout=10.0) as client:
        lock = client.lock(LOCK)
        for _ in range(turns):
            handle = await lock.acquire()
            granted_s = time.time()
            while len(await lock.contenders()) < 2:
                if time.time() > granted_s + ALONE_S:
                    break
            await asyncio.sleep(hold_s)
            moments.append((granted_s, time.time()))
            await handle.release()
    return moments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--turns", type=int, required=True)
    parser.add_argument("--hold-ms", type=int, default=HOLD_MS)
    arguments = parser.parse_args()
    print(json.dumps(uvloop.run(take_turns(arguments.endpoints, arguments.turns, arguments.hold_ms / 1000))))


if __name__ == "__main__":
    main()

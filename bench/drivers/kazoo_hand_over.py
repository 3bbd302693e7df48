"""Driver: one of two processes that hand a lock to and fro, through kazoo. Prints one line of JSON.

What it does, measures and prints is what `coordsvc_hand_over` does, with kazoo's Lock.

Rule of this file: each process notes its own moments; nothing is sent between them but the lock.
"""

from __future__ import annotations

import argparse
import json
import time

from kazoo.client import KazooClient

LOCK = "/bench-hand-over"
HOLD_MS = 120  # how long a holder holds at least, so that the other has come to rest in the queue
ALONE_S = 1.0


def take_turns(endpoints: str, turns: int, hold_s: float) -> list[tuple[float, float]]:
    moments = []
    client = KazooClient(hosts=endpoints, timeout=10.0)
    client.start(timeout=30.0)
    lock = client.Lock(LOCK)
    for _ in range(turns):
        lock.acquire()
        granted_s = time.time()
        while len(lock.contenders()) < 2:
            if time.time() > granted_s + ALONE_S:
                break
        time.sleep(hold_s)
        moments.append((granted_s, time.time()))
        lock.release()
    client.stop()
    client.close()
    return moments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--turns", type=int, required=True)
    parser.add_argument("--hold-ms", type=int, default=HOLD_MS)
    arguments = parser.parse_args()
    print(json.dumps(take_turns(arguments.endpoints, arguments.turns, arguments.hold_ms / 1000)))


if __name__ == "__main__":
    main()

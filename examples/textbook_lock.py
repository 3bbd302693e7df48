"""The lock of the ZooKeeper textbooks, with znodes alone: no recipe, only the basic surface.

Whoever has the lowest number holds the lock; everybody else waits for the one just before it, so that a
release wakes one waiter and not all. Run it several times at once: they add to one number, in turn.

    python examples/textbook_lock.py NAME ROUNDS [ENDPOINTS]

In an application use `client.lock(path)`: it adds deadlines, fencing tokens, and word of a lost lock.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from functools import partial

from coordclient import Client, Event, NodeExistsError

LOCK = "/textbook/lock"
TOTAL = "/textbook/total"


def acquire(client: Client) -> str:
    """Wait for the lock and return our node."""
    mine = client.create(f"{LOCK}/lock-", ephemeral=True, sequential=True)
    while True:
        contenders = sorted(client.get_children(LOCK), key=number)
        position = contenders.index(mine.rpartition("/")[2])
        if position == 0:
            return mine
        gone = threading.Event()
        before = f"{LOCK}/{contenders[position - 1]}"
        if client.exists(before, watch=partial(tell, gone)) is not None:
            gone.wait()


def tell(gone: threading.Event, _: Event) -> None:
    gone.set()


def release(client: Client, mine: str) -> None:
    client.delete(mine)


def number(name: str) -> int:
    return int(name.rpartition("-")[2])


def main(name: str, rounds: int, endpoints: str) -> None:
    with Client(endpoints) as client:
        client.ensure_path(LOCK)
        with contextlib.suppress(NodeExistsError):  # Somebody else was here first.
            client.create(TOTAL, b"0")
        for _ in range(rounds):
            mine = acquire(client)
            try:
                total = int(client.get(TOTAL).value)
                client.set(TOTAL, str(total + 1).encode())
            finally:
                release(client, mine)
        print(f"{name} added {rounds}; the total is {client.get(TOTAL).value.decode()}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1:7400")

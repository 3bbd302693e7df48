"""Driver: many sessions that do nothing but live, through the SDK. One process's share of them.

It prints one line when all its sessions are open, and one for each that was lost; it ends when its standard
input does.

Rule of this file: a session is an `AsyncClient` with a connection of its own; none is shared.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys

import uvloop

from coordclient import AsyncClient, State

OPENING_AT_ONCE = 8


async def run(endpoints: list[str], count: int, timeout_s: float) -> None:
    clients: list[AsyncClient] = []
    room = asyncio.Semaphore(OPENING_AT_ONCE)

    def note(state: State) -> None:
        if state in (State.SUSPENDED, State.LOST):
            print(state.value, flush=True)

    async def open_one(number: int) -> None:
        async with room:
            client = AsyncClient(
                endpoints[number % len(endpoints)], session_timeout=timeout_s, connect_timeout=30.0
            )
            client.add_listener(note)
            await client.connect()
            clients.append(client)
            # Users start at any time: so do the renewals.
            await asyncio.sleep(random.random() * timeout_s / 3 / count * OPENING_AT_ONCE)

    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(open_one(number))
    print("open", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            client.remove_listener(note)
            tasks.create_task(client.close())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--timeout", type=float, default=10.0, help="session timeout in seconds")
    arguments = parser.parse_args()
    uvloop.run(run(arguments.endpoints.split(","), arguments.sessions, arguments.timeout))


if __name__ == "__main__":
    main()

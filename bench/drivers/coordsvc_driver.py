"""Drives coordsvc through its SDK, `AsyncClient`, on one event loop. See `bench.drivers` for the usage.

Rule of this file: calls that the README shows, no keyword that a user would not write.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import uvloop

from bench.drivers.load import TRANSACTION_SETS, Load, drive, load_of
from coordclient import AsyncClient, Consistency, NodeExistsError

SESSION_TIMEOUT_S = 30.0
MAKERS = 128


async def run(load: Load) -> str:
    value = load.value
    paths = [load.path(key) for key in range(load.keys)]
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                AsyncClient(load.endpoint(connection), session_timeout=SESSION_TIMEOUT_S)
            )
            for connection in range(load.connections)
        ]
        await clients[0].ensure_path("/bench")
        await _make_keys(clients[0], paths, value)

        async def operation(connection: int, kind: str, key: int) -> None:
            client = clients[connection]
            path = paths[key % load.keys]
            if kind == "write":
                await client.set(path, value)
            elif kind == "read":
                await client.get(path)
            elif kind == "session-read":
                await client.get(path, consistency=Consistency.SESSION)
            else:
                async with client.transaction() as transaction:
                    for number in range(key, key + TRANSACTION_SETS):
                        transaction.set(paths[number % load.keys], value)

        for client in clients:  # a member that lags must know the keys before it is asked
            await client.get(paths[-1])
        return (await drive(load, operation)).line()


async def _make_keys(client: AsyncClient, paths: list[str], value: bytes) -> None:
    """Have all keys hold the value; several at a time, since there may be 100,000."""

    async def make(first: int) -> None:
        for path in paths[first::MAKERS]:
            try:
                await client.create(path, value)
            except NodeExistsError:
                await client.set(path, value)

    async with asyncio.TaskGroup() as tasks:
        for first in range(MAKERS):
            tasks.create_task(make(first))


if __name__ == "__main__":
    print(uvloop.run(run(load_of())))

"""Drives coordsvc through its SDK, `AsyncClient`, on one event loop. See `bench.drivers` for the usage.

Rule of this file: calls that the README shows, no keyword that a user would not write.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from bench.drivers.load import TRANSACTION_SETS, Load, drive, load_of
from coordclient import AsyncClient, Consistency, NodeExistsError

SESSION_TIMEOUT_S = 30.0


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
        for path in paths:
            try:
                await clients[0].create(path, value)
            except NodeExistsError:
                await clients[0].set(path, value)

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


if __name__ == "__main__":
    print(asyncio.run(run(load_of())))

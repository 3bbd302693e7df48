"""Many who contend, lose connections and sessions, change their minds: tokens grow, and nothing is left.

Rule of this file: what a holder writes under its guard is the truth about who held when; what a holder
believes is judged elsewhere, on a cluster with clocks of its own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from coordclient import (
    AsyncClient,
    CoordError,
    GuardFailedError,
    LockLostError,
    LockTimeoutError,
    SessionExpiredError,
)
from coordclient.recipes.contenders import positions_of
from coordclient.recipes.election import AsyncElection
from coordclient.recipes.grants import Grant
from coordclient.recipes.lock import AsyncLock
from coordclient.recipes.read_write_lock import AsyncReadWriteLock
from coordclient.recipes.semaphore import AsyncSemaphore
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import FakeServer

PATH = "/contended"
WRITTEN = "/written"
CLIENTS = 4
ROUNDS = 15
FAULTS = 30

Acquire = Callable[[AsyncClient, random.Random], Awaitable[Grant | None]]


async def lock(client: AsyncClient, dice: random.Random) -> Grant | None:
    described = AsyncLock(client, PATH)
    if dice.random() < 0.2:
        return await described.try_acquire()
    return await described.acquire(timeout=dice.choice([None, 0.05]))


async def writer(client: AsyncClient, dice: random.Random) -> Grant | None:
    """Write as one who came as a writer, or as a reader that was let."""
    described = AsyncReadWriteLock(client, PATH)
    if dice.random() < 0.5:
        held = await described.write().acquire()
        if dice.random() < 0.5:
            return held
        reading = await held.downgrade()
    else:
        reading = await described.read().acquire()
    try:
        writing = await reading.try_upgrade()
    except asyncio.CancelledError:
        reading.abandon()  # It is held as before if the upgrade does not come about.
        raise
    if writing is None:
        await reading.release()
    return writing


async def permits(client: AsyncClient, dice: random.Random) -> Grant | None:
    return await AsyncSemaphore(client, PATH, 3).acquire(dice.choice([2, 3]))  # so there is one at a time


async def term(client: AsyncClient, dice: random.Random) -> Grant | None:
    return await AsyncElection(client, PATH, b"x").campaign(timeout=dice.choice([None, 0.05]))


class Turmoil:
    """What happens to the connections and sessions, for a while."""

    def __init__(self, server: FakeServer, dice: random.Random) -> None:
        self.server = server
        self.dice = dice

    async def rage(self) -> None:
        for _ in range(FAULTS):
            await asyncio.sleep(self.dice.random() / 20)
            what = self.dice.randrange(5)
            if what == 0:
                self.server.drop_connections()
            elif what == 1:
                self.server.drop_before_apply = 1
            elif what == 2:
                self.server.drop_after_apply = 1
            elif what == 3 and self.server.sessions:
                self.server.expire(self.dice.choice(sorted(self.server.sessions)))


async def contend(client: AsyncClient, acquire: Acquire, dice: random.Random) -> None:
    for _ in range(ROUNDS):
        task = asyncio.ensure_future(acquire(client, dice))
        if dice.random() < 0.3:
            await asyncio.sleep(dice.random() / 100)
            task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            continue
        try:
            held = task.result()
        except (LockTimeoutError, LockLostError):
            continue
        if held is not None:
            await write_under(client, held)
            await held.release()


async def write_under(client: AsyncClient, held: Grant) -> None:
    for _ in range(2):
        try:
            await client.set(WRITTEN, b"%d" % held.token, guard=held)
        except GuardFailedError:
            return
        except CoordError:
            continue  # The session is over; a new one will be refused by the guard.


async def settled(client: AsyncClient) -> None:
    """Return when the client has a session, and whatever it sent has been answered."""
    while True:
        try:
            await client.sync()
        except SessionExpiredError:
            continue
        return


@pytest.mark.parametrize("acquire", [lock, writer, permits, term])
@pytest.mark.parametrize("seed", range(3))
async def test_tokens_grow_whatever_happens_and_nothing_is_left(
    connect: Connect, server: FakeServer, acquire: Acquire, seed: int
) -> None:
    server.set(WRITTEN, b"0")
    clients = [await connect() for _ in range(CLIENTS)]
    dice = random.Random(seed)
    turmoil = asyncio.create_task(Turmoil(server, random.Random(-seed)).rage())
    async with asyncio.timeout(60):
        await asyncio.gather(*(contend(client, acquire, random.Random(dice.random())) for client in clients))
    turmoil.cancel()
    await asyncio.wait([turmoil])
    server.drop_before_apply = server.drop_after_apply = 0
    for client in clients:
        core = client._core
        assert core is not None
        await eventually(lambda client=client: client.janitor.task_count == 0)  # type: ignore[misc]  # a default binds it
        await settled(client)
        assert len(core.watches) == 0

    tokens = [int(change.value) for change in server.tree.changes if change.path == WRITTEN]
    assert tokens == sorted(tokens)
    assert len(set(tokens)) > CLIENTS, "somebody was granted something"
    assert positions_of(server.names(PATH)) == []

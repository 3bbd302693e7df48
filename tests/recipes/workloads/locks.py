"""Workloads of what is held by one or few: Lock, ReadWriteLock, Semaphore, Election.

Rule of this file: whoever holds something writes under its guard, and notes until when it believes in it.
"""

from __future__ import annotations

import asyncio

from coordclient.recipes.election import AsyncElection, Term
from coordclient.recipes.lock import AsyncLock
from coordclient.recipes.read_write_lock import AsyncReadWriteLock
from coordclient.recipes.semaphore import AsyncSemaphore
from tests.recipes.workloads.place import EXPECTED, Place, believe_in, released, work_under

IMPATIENT_S = 0.05
PERMITS = 2


async def lock(place: Place) -> None:
    """Acquire in every way there is: patiently, impatiently, without waiting, and with a change of mind."""
    work = f"{place.path}-work"
    await place.ensure(work)
    shared = AsyncLock(place.client, place.path)

    async def step(number: int) -> bool:
        with place.begin("hold", resource=place.path) as act:
            if number % 4 == 1:
                handle = await shared.try_acquire()
                if handle is None:
                    return False
            elif number % 4 == 2:
                handle = await shared.acquire(timeout=IMPATIENT_S)
            else:
                handle = await shared.acquire()
            async with handle:
                await work_under(place, act, handle, work)
        if number % 5 == 0:
            waiting = asyncio.create_task(shared.acquire())
            await asyncio.sleep(0.005)
            if waiting.cancel():
                await asyncio.wait([waiting])
            if not waiting.cancelled() and waiting.exception() is None:
                await waiting.result().release()
        return True

    await place.repeat(step)


async def read_write_lock(place: Place) -> None:
    """Read, and write every third time; now and then a writer becomes a reader, and a reader a writer."""
    work = f"{place.path}-work"
    await place.ensure(work)
    shared = AsyncReadWriteLock(place.client, place.path)

    async def write(number: int) -> None:
        with place.begin("hold", resource=place.path, kind="write") as act:
            handle = await shared.write().acquire()
            async with released(handle):
                await work_under(place, act, handle, work)
                if number % 2 == 0:
                    return
                reading = await handle.downgrade()
        with place.begin("hold", resource=place.path, kind="read", converted=True) as act:
            async with reading:
                await believe_in(act, reading, place.client.sync)

    async def read(number: int) -> None:
        with place.begin("hold", resource=place.path, kind="read") as act:
            handle = await shared.read().acquire()
            async with released(handle):
                await believe_in(act, handle, place.client.sync)
                if number % 2 == 0:
                    return
                writing = await handle.try_upgrade()
                if writing is None:
                    return
        with place.begin("hold", resource=place.path, kind="write", converted=True) as act:
            async with writing:
                await work_under(place, act, writing, work)

    async def step(number: int) -> None:
        await (write(number) if number % 3 == 0 else read(number))

    await place.repeat(step)


async def semaphore(place: Place) -> None:
    """Take one permit, or two at once."""
    shared = AsyncSemaphore(place.client, place.path, PERMITS)

    async def step(number: int) -> None:
        weight = 1 + (number % 3 == 0)
        with place.begin("hold", resource=place.path, weight=weight) as act:
            permit = await shared.acquire(weight)
            async with permit:
                await believe_in(act, permit, place.client.sync)

    await place.repeat(step)


async def election(place: Place) -> None:
    """Lead for a moment, resign, and watch all the time who leads."""
    work = f"{place.path}-work"
    await place.ensure(work)
    shared = AsyncElection(place.client, place.path, place.process.encode())
    observing = asyncio.create_task(observe(place, shared))

    async def step(_: int) -> None:
        with place.begin("hold", resource=place.path) as act:
            term: Term = await shared.campaign()
            async with released(term), term:
                await work_under(place, act, term, work)

    try:
        await place.repeat(step)
        await place.settle()
    finally:
        observing.cancel()
        await asyncio.wait([observing])
    if not observing.cancelled() and observing.exception() is not None:
        await observing


async def observe(place: Place, shared: AsyncElection) -> None:
    while True:
        try:
            async for leader in shared.observe():
                token = None if leader is None else leader.token
                place.begin("observed", token=token).end()
        except EXPECTED as error:
            place.begin("observing was broken off").end(error)

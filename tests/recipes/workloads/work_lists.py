"""Workloads of what is handed on: Queue and WorkQueue.

Rule of this file: every value is put once in the whole run, so that one that was got twice tells.
"""

from __future__ import annotations

import asyncio
import contextlib

from coordclient.recipes.claims import AsyncClaim
from coordclient.recipes.queue import AsyncQueue
from coordclient.recipes.work_queue import AsyncWorkQueue
from tests.recipes.workloads.place import EXPECTED, Place, believe_in

PRIORITIES = (100, 100, 200, 50)
BATCH = 5
GIVE_BACK_EVERY = 7
PATIENCE_S = 4.0  # somebody who died first in the line blocks it for the rest of its session
PUT_EVERY_S = 0.1
CHANGE_OF_MIND_S = 0.005


async def queue(place: Place) -> None:
    """Put and get at once; get in every way there is; in the end take what is left."""
    shared = AsyncQueue(place.client, place.path)

    async def put(number: int) -> None:
        priority = PRIORITIES[number % len(PRIORITIES)]
        value = f"{place.process} {priority} {number}"
        with place.begin("put", value=value):
            await shared.put(value.encode(), priority=priority)
        await place.pause(PUT_EVERY_S)

    async def get(number: int) -> None:
        with place.begin("get") as act:
            item = await (shared.get(timeout=PATIENCE_S) if number % 3 else shared.try_get())
            if item is not None:
                act.note(value=item.value.decode(), token=item.token)

    async def change_mind(number: int) -> None:
        """What a cancelled call may just have got is put back."""
        if number % BATCH == 0:
            with place.begin("cancelled get") as act:
                getting = asyncio.create_task(shared.get())
                await asyncio.wait([getting], timeout=CHANGE_OF_MIND_S)
                getting.cancel()
                await asyncio.wait([getting])
                if not getting.cancelled() and getting.exception() is None:
                    act.note(value=getting.result().value.decode(), token=getting.result().token)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(place.repeat(put))
        for side in (get, change_mind):
            tasks.create_task(place.repeat(side, last_steps=0))
    await place.settle()
    while await shared.size():
        with contextlib.suppress(*EXPECTED):
            await get(0)


async def work_queue(place: Place) -> None:
    """Put items, claim them, and acknowledge most; in the end work off what is left."""
    shared = AsyncWorkQueue(place.client, place.path, attempts_max=100)

    async def put(number: int) -> None:
        value = f"{place.process} {number}"
        with place.begin("put", value=value) as act:
            act.note(id=await shared.put(value.encode()))
        await place.pause(PUT_EVERY_S)

    async def work(claim: AsyncClaim, *, gives_back: bool) -> None:
        value = claim.value.decode()
        with place.begin("hold", resource=f"{place.path}/{value}", attempt=claim.attempt) as act:
            await believe_in(act, claim, place.client.sync)
        if gives_back:
            with place.begin("give back", value=value):
                await claim.give_back(reason="the workload wants so")
            return
        with place.begin("acknowledge", value=value):
            await claim.acknowledge()

    async def claim(number: int) -> None:
        with place.begin("claim") as act:
            found = await (shared.claim(timeout=PATIENCE_S) if number else shared.try_claim())
            if found is None:
                return
            act.note(value=found.value.decode())
        await work(found, gives_back=number > 0 and number % GIVE_BACK_EVERY == 0)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(place.repeat(put))
        tasks.create_task(place.repeat(claim, last_steps=0))
    await place.settle()
    while await shared.size() or await shared.claims():
        with contextlib.suppress(*EXPECTED):
            await claim(0)

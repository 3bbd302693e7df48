"""Workloads of Barrier and DoubleBarrier.

Rule of this file: rounds have numbers, so that everybody can be asked which one it passed, and when.
"""

from __future__ import annotations

from coordclient import clock
from coordclient.recipes.barrier import AsyncBarrier
from coordclient.recipes.double_barrier import AsyncDoubleBarrier
from tests.recipes.workloads.place import Place

LIFTER = "survivor-1"
STANDING_S = 0.05
WAIT_S = 5.0
PARTIES = 2


async def barrier(place: Place) -> None:
    """One process puts barriers up and lifts them; the others wait for each."""
    announced = f"{place.path}-round"
    await place.ensure(place.path, announced)

    async def put_up(number: int) -> None:
        shared = AsyncBarrier(place.client, f"{place.path}/{number}")
        with place.begin("lift", round=number) as act:
            await shared.create()
            await place.client.set(announced, str(number).encode())
            await place.pause(STANDING_S)
            act.note(lifting_s=clock.now())
            await shared.lift()

    async def wait(_: int) -> None:
        number = int((await place.client.get(announced)).value or b"0")
        if number:
            place.has_begun.set()
            with place.begin("wait", round=number):
                await AsyncBarrier(place.client, f"{place.path}/{number}").wait(timeout=WAIT_S)

    await place.repeat(put_up if place.process == LIFTER else wait, last_steps=0)


async def double_barrier(place: Place) -> None:
    """Any two enter together, and leave together."""
    shared = AsyncDoubleBarrier(place.client, place.path, PARTIES)

    async def meet(_: int) -> None:
        with place.begin("enter") as act:
            entered = await shared.enter(timeout=WAIT_S)
            # The numbers begin anew if the barrier was not in use for a while, and has been removed.
            name = f"{entered.record.czxid}/{entered.number}"
            act.note(round=name)
        with place.begin("leave", round=name, was_lost=entered.remaining == 0):
            await entered.leave(timeout=WAIT_S)

    await place.repeat(meet, last_steps=0)

"""Workloads of who is there: Group, ServiceRegistry, Partitioner.

Rule of this file: what is watched and what a fresh look shows are noted side by side, in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from coordclient.recipes.group import AsyncGroup
from coordclient.recipes.partitioner import AsyncPartitioner
from coordclient.recipes.service_registry import AsyncServiceRegistry
from tests.recipes.workloads.place import EXPECTED, Held, Place, note_grant, write_under

CALM_S = 0.05
CONVERGED_S = 10.0
ITEMS = ("north", "east", "south", "west")


async def group(place: Place) -> None:
    """Join, say something new now and then, and follow who else is there."""
    shared = AsyncGroup(place.client, place.path)
    newest: dict[str, str] = {}

    async def follow() -> None:
        async for view in shared.watch():
            newest.clear()
            newest.update(_texts(view.members))
            place.begin("seen", generation=view.generation, members=dict(newest)).end()

    membership = await shared.join(place.process, b"0")
    following = asyncio.create_task(follow())

    async def update(number: int) -> None:
        with place.begin("update", value=str(number)):
            await membership.update(str(number).encode())
        await place.pause(CALM_S)

    await place.repeat(update)
    await place.settle()
    with place.begin("final") as act:
        async with asyncio.timeout(CONVERGED_S):
            while True:
                with contextlib.suppress(*EXPECTED):
                    stored = _texts((await shared.members()).members)
                    act.note(seen=dict(newest), stored=stored)
                    if stored == newest:
                        break
                await asyncio.sleep(CALM_S)
    await place.leave()
    following.cancel()
    await asyncio.wait([following])
    await membership.leave()


def _texts(members: Mapping[str, bytes]) -> dict[str, str]:
    return {name: value.decode() for name, value in members.items()}


async def services(place: Place) -> None:
    """Offer a service, say something new now and then, and follow who else does."""
    registry = AsyncServiceRegistry(place.client, place.path)
    newest: dict[str, str] = {}

    async def follow() -> None:
        async for instances in registry.watch("api"):
            newest.clear()
            newest.update({instance.id: str(instance.payload["number"]) for instance in instances})
            place.begin("seen", members=dict(newest)).end()

    registration = await registry.register("api", "127.0.0.1", 8000, id=place.process, payload={"number": 0})
    following = asyncio.create_task(follow())

    async def update(number: int) -> None:
        with place.begin("update", value=str(number)):
            await registration.update(payload={"number": number})
        await place.pause(CALM_S)

    await place.repeat(update)
    await place.settle()
    with place.begin("final") as act:
        async with asyncio.timeout(CONVERGED_S):
            while True:
                with contextlib.suppress(*EXPECTED):
                    found = await registry.discover("api")
                    stored = {instance.id: str(instance.payload["number"]) for instance in found}
                    act.note(seen=dict(newest), stored=stored)
                    if stored == newest:
                        break
                await asyncio.sleep(CALM_S)
    await place.leave()
    following.cancel()
    await asyncio.wait([following])
    await registration.close()


async def partitioner(place: Place) -> None:
    """Share four items out among all, and write under the guard of each that we own."""

    await place.ensure(*(f"{place.path}-work/{item}" for item in ITEMS))
    shared = AsyncPartitioner(place.client, place.path, ITEMS, name=place.process, settle=0.2)

    async def work(item: str, handle: Held) -> None:
        with place.begin("hold", resource=f"{place.path}/{item}") as act:
            believed_until_s = note_grant(act, handle)
            try:
                while True:
                    handle.check()
                    believed_until_s = handle.valid_until
                    act.note(believed_until_s=believed_until_s)
                    await write_under(place, handle.guard, handle.token, f"{place.path}-work/{item}")
                    await asyncio.sleep(CALM_S)
            finally:
                act.note(believed_until_s=min(believed_until_s, place.notebook.now()))

    async with shared:
        running = asyncio.create_task(shared.run(work))
        place.has_begun.set()
        await place.settle()
        with place.begin("final") as act:
            act.note(owned=sorted(shared.owned))
        await place.leave()
        running.cancel()
        await asyncio.wait([running])
    if not running.cancelled() and running.exception() is not None:
        await running

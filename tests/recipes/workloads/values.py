"""Workloads of shared values: Counter, ConfigValue, TreeCache.

Rule of this file: everybody changes the same things, and everybody notes what came of it.
"""

from __future__ import annotations

import asyncio
import contextlib

from coordclient.recipes.config_value import AsyncConfigValue
from coordclient.recipes.counter import AsyncCounter
from coordclient.recipes.tree_cache import AsyncTreeCache
from tests.recipes.workloads.place import EXPECTED, Place

ADDERS = 2
CHILDREN = 4
CALM_S = 0.03
CONVERGED_S = 10.0


async def counter(place: Place) -> None:
    """Add without pause, from two tasks."""
    shared = AsyncCounter(place.client, place.path)

    async def add(number: int) -> None:
        with place.begin("add", delta=1 + number % 3) as act:
            change = await shared.add(1 + number % 3)
            act.note(before=change.before, after=change.after, zxid=change.zxid)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(ADDERS):
            tasks.create_task(place.repeat(add))
    await place.settle()
    with place.begin("final") as act:
        act.note(value=await shared.value())


async def config_value(place: Place) -> None:
    """Update a number by compare-and-set, and follow it."""

    async with AsyncConfigValue(place.client, place.path, default=0) as shared:

        async def update(_: int) -> None:
            with place.begin("update") as act:
                act.note(value=await shared.update(lambda value: value + 1))
            await place.pause(CALM_S)

        async def follow() -> None:
            async for value in shared.watch():
                place.begin("seen", value=value).end()

        following = asyncio.create_task(follow())
        await place.repeat(update)
        await place.settle()
        with place.begin("final") as act:
            stored = int((await place.client.get(place.path)).value)
            async with asyncio.timeout(CONVERGED_S):
                while shared.value != stored:
                    await shared.changed()
            act.note(value=stored)
        following.cancel()
        await asyncio.wait([following])


async def tree_cache(place: Place) -> None:
    """Create, set and delete below one root, and keep a copy of it."""

    await place.ensure(place.path)
    async with AsyncTreeCache(place.client, place.path) as cache:

        async def change(number: int) -> None:
            path = f"{place.path}/{place.process}-{number % CHILDREN}"
            with place.begin("change", path=path):
                if number % 11 == 0:
                    await place.client.delete(path, missing_ok=True)
                else:
                    await place.client.ensure_path(path)
                    await place.client.set(path, str(number).encode())
            await place.pause(CALM_S)

        async def follow() -> None:
            async for change in cache.changes():
                mzxid = None if change.node is None else change.node.stat.mzxid
                place.begin("seen", path=change.path, mzxid=mzxid).end()

        following = asyncio.create_task(follow())
        await place.repeat(change)
        await place.settle()
        with place.begin("final") as act:
            nodes = None
            while nodes is None:
                with contextlib.suppress(*EXPECTED):
                    await cache.wait_for(await place.client.sync(), timeout=CONVERGED_S)
                    nodes = await place.client.get_children_nodes(place.path)
            act.note(
                cached={
                    path: node.value.decode() for path, node in cache.nodes().items() if path != place.path
                },
                stored={node.path: node.value.decode() for node in nodes},
            )
        following.cancel()
        await asyncio.wait([following])

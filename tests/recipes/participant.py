"""One process of the fault matrix: `participant.py NAME ENDPOINTS SESSION_TIMEOUT_S HISTORY_FILE`.

Runs the workloads of all recipes at once, each with a client of its own. Says `working` when each has done
something; after the first SIGTERM it begins nothing new and says `stopped` when the last workload has come to
rest; after the second one, when nobody begins anything any more, it notes what it sees and says `noted`;
after the third one it lets go of what it has, and ends.

Rule of this file: it has no opinion on what happens; it is noted, and judged by others.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from coordclient import AsyncClient
from tests.checkers.recipe_history import Notebook
from tests.recipes.workloads.every import WORKLOADS, Workload
from tests.recipes.workloads.place import Place


async def run(name: str, endpoints: str, session_timeout_s: float, history: Path) -> None:
    phases = stopping, finishing, leaving = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def told() -> None:
        next(phase for phase in phases if not phase.is_set()).set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told)
    with history.open("a", encoding="utf-8") as file:
        notebook = Notebook(name, file)
        async with AsyncExitStack() as stack:
            places = []
            for recipe in WORKLOADS:
                client = AsyncClient(endpoints, session_timeout=session_timeout_s, name=name)
                await stack.enter_async_context(client)
                places.append(Place(recipe, name, client, notebook, stopping, finishing, leaving))
            async with asyncio.TaskGroup() as tasks:
                for place in places:
                    tasks.create_task(live(place, WORKLOADS[place.recipe]), name=place.recipe)
                for place in places:
                    await place.has_begun.wait()
                print("working", flush=True)
                for place in places:
                    await place.has_settled.wait()
                print("stopped", flush=True)
                for place in places:
                    await place.has_noted.wait()
                print("noted", flush=True)
        print("finished", flush=True)


async def live(place: Place, workload: Workload) -> None:
    """Run one workload. What it did not expect is noted, and does not stop the others."""
    with place.begin("whole workload") as act:
        try:
            await workload(place)
        except Exception as error:  # noqa: BLE001  # the judge reports it, whatever it is
            act.note(failure=f"{type(error).__name__}: {error}")
            place.has_begun.set()
        await place.leave()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4])))

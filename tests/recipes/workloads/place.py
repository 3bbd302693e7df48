"""Where a workload runs: its client, its notebook, and word of when to stop.

Rule of this file: what a fault may do to a user of a recipe, the errors in `EXPECTED`, is taken as a reason
to try again; every other error ends the workload, and is noted as its failure.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from coordclient import AsyncClient, clock
from coordclient.errors import (
    ConnectionLostError,
    GuardFailedError,
    LockLostError,
    OutcomeUnknownError,
    RecipeTimeoutError,
    RequestTimeoutError,
    SessionExpiredError,
)
from coordclient.types import Guard
from tests.checkers.recipe_history import Notebook, OpenAct

ROOT = "/matrix"
EXPECTED = (
    ConnectionLostError,
    GuardFailedError,
    LockLostError,
    OutcomeUnknownError,
    RecipeTimeoutError,
    RequestTimeoutError,
    SessionExpiredError,
)
PAUSE_S = 0.03


@dataclass(slots=True)
class Place:
    """What a workload is given.

    Attributes:
        stopping: Set: begin nothing new.
        finishing: Set: nobody begins anything any more; note what you see in the end.
        leaving: Set: everybody has noted that; let go of what you have.
    """

    recipe: str
    process: str
    client: AsyncClient
    notebook: Notebook
    stopping: asyncio.Event
    finishing: asyncio.Event
    leaving: asyncio.Event
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    has_settled: asyncio.Event = field(default_factory=asyncio.Event)
    has_noted: asyncio.Event = field(default_factory=asyncio.Event)

    async def settle(self) -> None:
        """Say that this workload begins nothing any more, and wait until nobody else does."""
        await self.stopping.wait()
        self.has_settled.set()
        await self.finishing.wait()

    async def leave(self) -> None:
        """Say that the last has been noted, and wait until all have done so."""
        await self.settle()
        self.has_noted.set()
        await self.leaving.wait()

    @property
    def path(self) -> str:
        """Where this recipe's objects are."""
        return f"{ROOT}/{self.recipe}"

    @property
    def is_stopping(self) -> bool:
        return self.stopping.is_set()

    def begin(self, operation: str, **details: object) -> OpenAct:
        return self.notebook.begin(self.recipe, operation, **details)

    async def pause(self, seconds: float = PAUSE_S) -> None:
        """Let others have their turn; return at once when it is time to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()

    async def repeat(self, step: Callable[[int], Awaitable[object]], *, last_steps: int = 2) -> None:
        """Take step after step until it is time to stop, and then so many more that succeed.

        They show that the fault is over. A step that returns False has not succeeded.
        """
        number = 0
        while not self.is_stopping or last_steps > 0:
            number += 1
            was_stopping = self.is_stopping
            with contextlib.suppress(*EXPECTED):
                if await step(number) is not False:
                    last_steps -= was_stopping
                    self.has_begun.set()
            await self.pause()

    async def ensure(self, *paths: str) -> None:
        """Make nodes that the workload needs, in as many sessions as it takes."""
        for path in paths:
            while True:
                try:
                    await self.client.ensure_path(path)
                except EXPECTED:
                    continue
                break


class Held(Protocol):
    """What the recipes call a grant."""

    @property
    def path(self) -> str: ...

    @property
    def token(self) -> int: ...

    @property
    def guard(self) -> tuple[str, int]: ...

    @property
    def valid_until(self) -> float: ...

    @property
    def is_released(self) -> bool: ...

    def check(self) -> None: ...

    async def release(self) -> None: ...


async def work_under(place: Place, act: OpenAct, held: Held, work: str, *, writes: int = 3) -> None:
    """Note the grant, and write under its guard as long as it is certain."""
    believed_until_s = note_grant(act, held)
    try:
        for _ in range(writes):
            held.check()
            believed_until_s = held.valid_until
            act.note(believed_until_s=believed_until_s)
            await write_under(place, held, held.token, work)
    finally:
        # Given back, or told of the loss: from here on it is not believed in.
        act.note(believed_until_s=min(believed_until_s, clock.now()))


async def believe_in(act: OpenAct, held: Held, work: Callable[[], Awaitable[object]]) -> None:
    """Note the grant, and until when it is believed in while the work is done."""
    believed_until_s = note_grant(act, held)
    try:
        held.check()
        await work()
    finally:
        act.note(believed_until_s=min(believed_until_s, clock.now()))


def note_grant(act: OpenAct, held: Held) -> float:
    believed_until_s = held.valid_until
    granted_s = clock.now()
    act.note(token=held.token, node=held.path, granted_s=granted_s)
    act.note(believed_until_s=max(granted_s, believed_until_s))
    return believed_until_s


async def write_under(place: Place, guard: Guard, token: int, work: str) -> None:
    await place.client.set(work, f"{place.process} {token}".encode(), guard=guard)


@contextlib.asynccontextmanager
async def released(held: Held) -> AsyncIterator[None]:
    """Give a grant back at the end, whatever happens."""
    try:
        yield
    finally:
        await held.release()

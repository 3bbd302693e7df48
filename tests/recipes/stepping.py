"""Letting something happen at a chosen await of a coroutine: a cancellation, or anything else.

Rule of this file: it happens once. A coroutine is cancelled as asyncio would do it; `early` while it waits,
`late` when what it waited for has just come, and it has not been told yet: then a result is there, and so is
the cancellation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Strike = Callable[[object], None]


class Moment(Enum):
    """When at an await the cancellation comes."""

    EARLY = "while it waits"
    LATE = "when the answer has just come"


@dataclass(slots=True)
class Outcome(Generic[T]):
    """What came of it: at how many awaits it was suspended, and its result if it had one."""

    awaits: int
    results: list[T]


class Stepped(Generic[T]):
    """Awaits a coroutine, and strikes at its await number `at`, counted from 0.

    `strike` is called, in the task, with the future that is about to be awaited.

    Attributes:
        awaits: At how many awaits it has been suspended so far.
    """

    def __init__(self, work: Coroutine[Any, Any, T], at: int, strike: Strike) -> None:
        self.awaits = 0
        self._work = work
        self._at = at
        self._strike = strike

    def __await__(self) -> Generator[Any, None, T]:  # whatever the futures are
        error: BaseException | None = None
        while True:
            try:
                waited = self._work.send(None) if error is None else self._work.throw(error)
            except StopIteration as done:
                result: T = done.value
                return result
            if self.awaits == self._at:
                self._strike(waited)
            self.awaits += 1
            error = None
            try:
                yield waited
            except BaseException as raised:  # noqa: BLE001  # it belongs to the coroutine, whatever it is
                error = raised

    async def run(self) -> Outcome[T]:
        """Run the coroutine in a task of its own; errors come out.

        If it has fewer awaits than that it runs to its end undisturbed.
        """

        async def run() -> T:
            return await self

        task = asyncio.get_running_loop().create_task(run())
        await asyncio.wait([task])
        return Outcome(self.awaits, [] if task.cancelled() else [task.result()])


def cancellation(moment: Moment) -> Strike:
    """Cancel the task that awaits."""

    def strike(waited: object) -> None:
        task = asyncio.current_task()
        assert task is not None
        if moment is Moment.LATE and isinstance(waited, asyncio.Future):
            # This callback is called before the one of the task, which is added only after the yield.
            waited.add_done_callback(lambda _: task.cancel())
        else:
            task.cancel()

    return strike

"""An asyncio event loop whose time is the world's: programs of the SDK run in it, unchanged and repeatably.

One loop is one process. It can stand still (its clock and the network go on) and be killed. Ready callbacks
run in order, or, to find out who relies on more than asyncio promises, in an order of the dice.

Rule of this file: no real clock, no selector, no threads. Tasks are hashed by their number, because sets of
tasks are iterated in the SDK, and an address would decide in which order.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from heapq import heappop, heappush
from typing import Any, TypeVar, TypeVarTuple

from tests.simulation.clients.client_clock import ClientClock
from tests.simulation.clients.drawing import Bits
from tests.simulation.world import World

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_CALLBACKS_MAX = 100_000  # at one moment: more is a program that spins
_ROUNDS_AFTER_DEATH_MAX = 1_000


class SpinningError(AssertionError):
    """A program did not come to rest, although no time passed."""


class DeadlockError(AssertionError):
    """Every task of a program waits, and nothing can wake one."""


class SimulatedTask(asyncio.Task[T]):
    """A task with a number that does not depend on where it lies in memory."""

    def __init__(
        self,
        work: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        loop: SimulatedLoop,
        number: int,
        name: str | None,
        context: Context | None,
    ) -> None:
        self.number = number
        super().__init__(work, loop=loop, name=name or f"task {number}", context=context)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulatedLoop(asyncio.AbstractEventLoop):
    """The event loop of one process.

    Attributes:
        failures: Exceptions that nobody handled.
        surroundings: What the modules of the SDK see in place of the machine while this loop runs: for a
            module's namespace and a name in it, what stands there.
    """

    def __init__(self, world: World, name: str, clock: ClientClock, *, is_shuffled: bool = False) -> None:
        self.world = world
        self.name = name
        self.clock = clock
        self.is_paused = False
        self.is_dead = False
        self.failures: list[str] = []
        self.surroundings: list[tuple[dict[str, Any], str, object]] = []
        self._order = Bits(world.draw("order of callbacks", name)) if is_shuffled else None
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._tasks: dict[int, SimulatedTask[Any]] = {}
        self._sequence = 0
        self._is_running = False
        self._is_awaited = False  # the world will call `_run`
        self._ahead_s = 0.0  # after death time jumps

    def __repr__(self) -> str:
        return f"<SimulatedLoop {self.name} tasks={len(self._tasks)}>"

    # -----------------------------------------------------------------------------------------
    # For the world

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False
        self._call_for_a_turn()

    def kill(self) -> None:
        """End the process. Its tasks are unwound, unheard by anybody, so that nothing is left pending."""
        self.is_dead = True
        cancelled = 0  # the number of the last task that was cancelled: each is, once
        for _ in range(_ROUNDS_AFTER_DEATH_MAX):
            for number, task in list(self._tasks.items()):
                if number > cancelled:
                    task.cancel()
            cancelled = self._sequence
            self._turn()
            if not self._tasks:
                return
            if self._timers:
                self._ahead_s = max(self._ahead_s, self._timers[0][0] - self.clock.now())
        raise SpinningError(f"{self.name}: {self.waiting()} cannot be cancelled")

    def waiting(self) -> list[str]:
        """Return the names of the tasks that are not done."""
        return [task.get_name() for task in self._tasks.values()]

    def _call_for_a_turn(self) -> None:
        if not self._is_awaited and not self._is_running and not self.is_dead:
            self._is_awaited = True
            self.world.at(0, self._run)

    def _run(self) -> None:
        self._is_awaited = False
        if not self.is_paused and not self.is_dead:
            self._turn()

    def _turn(self) -> None:
        """Run everything that is ready, and what becomes ready by that."""
        outer = events._get_running_loop()
        replaced = [(space, name, space[name]) for space, name, _ in self.surroundings]
        for space, name, value in self.surroundings:
            space[name] = value
        events._set_running_loop(self)
        self._is_running = True
        try:
            self._run_ready()
        finally:
            self._is_running = False
            events._set_running_loop(outer)
            for space, name, value in replaced:
                space[name] = value

    def _run_ready(self) -> None:
        ready = self._ready
        self._take_due()
        count = 0
        while ready:
            if self._order is not None and len(ready) > 1:
                ready.rotate(-self._order.below(len(ready)))
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()
            count += 1
            if count > _CALLBACKS_MAX:
                raise SpinningError(f"{self.name} does not come to rest: {self.waiting()}")
            if not ready:
                self._take_due()

    def _take_due(self) -> None:
        timers, now = self._timers, self.time()
        while timers and timers[0][0] <= now:
            self._ready.append(heappop(timers)[2])

    # -----------------------------------------------------------------------------------------
    # What asyncio asks of a loop

    def time(self) -> float:
        return self.clock.now() + self._ahead_s

    def is_running(self) -> bool:
        return self._is_running

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        self._call_for_a_turn()
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._sequence += 1
        heappush(self._timers, (when, self._sequence, handle))
        if not self.is_dead:
            self.world.at(self.clock.delay_ns(when), self._run)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> SimulatedTask[T]:
        self._sequence += 1
        task = SimulatedTask(coro, loop=self, number=self._sequence, name=name, context=context)
        self._tasks[task.number] = task
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        assert isinstance(task, SimulatedTask), "only ours are made here"
        self._tasks.pop(task.number, None)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    # -----------------------------------------------------------------------------------------
    # Alone in its world

    def run_until_complete(self, future: Generator[Any, None, T] | Coroutine[Any, Any, T]) -> T:  # type: ignore[override]  # no awaitables but coroutines
        """Let the world go on until this is done.

        Raises:
            DeadlockError: Nothing is left to happen.
        """
        task = self.create_task(future, name="main")
        while not task.done():
            if not self.world.step():
                raise DeadlockError(f"nothing can wake {self.waiting()}")
        return task.result()

"""The load of `coordctl bench`: writes and reads a second, from many sessions, spread over the members.

The load is paced: an operation leaves when it is due, whether or not earlier ones were answered, and its time
counts from when it was due. So a cluster that stalls for a second is charged for all that came meanwhile.

Rule of this file: it leaves nothing behind. What it writes is ephemeral, and what is above that has a TTL, so
even a run that is killed is cleared away by the service.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from coordclient import AsyncClient, clock
from coordclient.cli.benchmark_verdict import KindFigures, Latencies
from coordclient.errors import CoordError, NodeExistsError

WRITES: Final = "writes"
READS: Final = "reads"
WARM_UP_S: Final = 1.0
_LEFTOVER_TTL_S: Final = 60.0
_NOT_SENT: Final = "not sent, too many on their way"
_IN_FLIGHT_MIN: Final = 64
_IN_FLIGHT_BYTES_MAX: Final = 32 << 20  # of large values fewer are on their way at a time
_OPENED_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked of a cluster. `in_flight_max`: a second's worth; what comes on top is not sent."""

    sessions: int
    writes_per_second: int
    reads_per_second: int

    @property
    def in_flight_max(self) -> int:
        return max(_IN_FLIGHT_MIN, self.writes_per_second + self.reads_per_second)


LOADS: Final = {
    "s": Load(sessions=12, writes_per_second=100, reads_per_second=100),
    "m": Load(sessions=48, writes_per_second=500, reads_per_second=500),
    "l": Load(sessions=120, writes_per_second=2000, reads_per_second=2000),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """A session, the member that it was attached to at first, and the node that it writes and reads."""

    client: AsyncClient
    path: str


@dataclass(slots=True)
class Samples:
    """What is known of the operations that were due within the measured time. Times in seconds."""

    latencies: dict[str, dict[str, list[float]]]  # by kind and member
    offered: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)  # by kind
    failures: Counter[str] = field(default_factory=Counter)  # by what went wrong
    late: list[float] = field(default_factory=list)
    ended_s: dict[str, float] = field(default_factory=dict)

    def figures(self, kind: str, seconds: float) -> KindFigures:
        everywhere = [one for found in self.latencies[kind].values() for one in found]
        return KindFigures(
            offered=self.offered[kind],
            latencies=Latencies.of(everywhere),
            seconds=max(seconds, self.ended_s.get(kind, 0.0)),
            errors=self.errors[kind],
        )

    def of_member(self, kind: str, member: str) -> Latencies:
        return Latencies.of(self.latencies[kind].get(member, ()))


@asynccontextmanager
async def callers(
    make_client: Callable[[str], AsyncClient], endpoints: Sequence[str], prefix: str, load: Load
) -> AsyncIterator[list[Caller]]:
    """Open the sessions, spread over the endpoints, each with a node below `prefix`; then clear it all away.

    Raises:
        CoordError: As the SDK does, for what cannot be opened or created.
    """
    async with AsyncExitStack() as stack:
        ground = await stack.enter_async_context(make_client(",".join(endpoints)))
        directory = await stack.enter_async_context(_ground(ground, prefix))
        opened: list[Caller] = []
        stack.push_async_callback(_close, opened)
        gate = asyncio.Semaphore(_OPENED_AT_ONCE)

        async def open_one(number: int) -> None:
            client = make_client(endpoints[number % len(endpoints)])
            async with gate:
                opened.append(Caller(await client.connect(), f"{directory}/{number}"))
                await client.create(f"{directory}/{number}", ephemeral=True)

        async with _single_error(), asyncio.TaskGroup() as tasks:
            for number in range(load.sessions):
                tasks.create_task(open_one(number))
        yield opened


@contextlib.asynccontextmanager
async def _single_error() -> AsyncIterator[None]:
    """Of the errors of a group the first one, which is as good as any."""
    try:
        yield
    except* CoordError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


async def _close(opened: list[Caller]) -> None:
    """End the sessions; their nodes go with them. One that cannot be ended expires by itself."""
    async with asyncio.TaskGroup() as tasks:
        for caller in opened:
            tasks.create_task(caller.client.close())


@asynccontextmanager
async def _ground(client: AsyncClient, prefix: str) -> AsyncIterator[str]:
    """A directory of this run's own below `prefix`; what was missing on the way is made, and goes again."""
    made: list[str] = []
    names = prefix.strip("/").split("/") if prefix != "/" else []
    try:
        for depth in range(1, len(names) + 1):
            path = "/" + "/".join(names[:depth])
            with contextlib.suppress(NodeExistsError):
                made.append(await client.create(path, ttl=_LEFTOVER_TTL_S))
        below = "" if prefix == "/" else prefix
        made.append(await client.create(f"{below}/run-", sequential=True, ttl=_LEFTOVER_TTL_S))
        yield made[-1]
    finally:
        # What cannot be deleted now, the service removes after the TTL, unless somebody else uses it.
        with contextlib.suppress(CoordError):
            for path in reversed(made):
                await client.delete(path, missing_ok=True)


class Offering:
    """Offers a load for some seconds, after a warm-up that is not measured."""

    def __init__(self, load: Load, opened: Sequence[Caller], value_bytes: int, seconds: float) -> None:
        self.samples = Samples({WRITES: {}, READS: {}})
        self._load = load
        self._opened = opened
        self._value = b"v" * value_bytes
        self._seconds = seconds
        self._in_flight = 0
        self._in_flight_max = min(load.in_flight_max, _IN_FLIGHT_BYTES_MAX // max(1, value_bytes))
        self._begin_s = clock.now()
        self._measure_from_s = self._begin_s + WARM_UP_S

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._measure_from_s + self._seconds - clock.now())

    async def run(self) -> Samples:
        """Return when the last operation has been answered or has failed."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._offer(tasks, WRITES, self._load.writes_per_second, 0))
            tasks.create_task(self._offer(tasks, READS, self._load.reads_per_second, 1))
        return self.samples

    async def _offer(self, tasks: asyncio.TaskGroup, kind: str, per_second: int, first: int) -> None:
        """Send what is due. Writes and reads visit the sessions in the same order, one session apart."""
        for number in range(round((WARM_UP_S + self._seconds) * per_second)):
            due_s = self._begin_s + number / per_second
            await asyncio.sleep(max(0.0, due_s - clock.now()))
            is_measured = due_s >= self._measure_from_s
            if is_measured:
                self.samples.offered[kind] += 1
                self.samples.late.append(clock.now() - due_s)
            if self._in_flight >= self._in_flight_max:
                if is_measured:
                    self._failed(kind, _NOT_SENT)
                continue
            caller = self._opened[(number + first) % len(self._opened)]
            self._in_flight += 1
            tasks.create_task(self._perform(kind, caller, due_s, is_measured=is_measured))

    async def _perform(self, kind: str, caller: Caller, due_s: float, *, is_measured: bool) -> None:
        problem = ""
        try:
            if kind == WRITES:
                await caller.client.set(caller.path, self._value)
            else:
                await caller.client.get(caller.path)
        except CoordError as error:
            problem = type(error).__name__
        finally:
            self._in_flight -= 1
        if not is_measured:
            return
        if problem:
            self._failed(kind, problem)
            return
        ended_s = clock.now()
        self.samples.latencies[kind].setdefault(caller.client.member, []).append(ended_s - due_s)
        self.samples.ended_s[kind] = ended_s - self._measure_from_s

    def _failed(self, kind: str, problem: str) -> None:
        self.samples.errors[kind] += 1
        self.samples.failures[problem] += 1

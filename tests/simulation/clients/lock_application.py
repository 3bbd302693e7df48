"""Applications that contend for a lock, or for leadership, with the real recipes of the SDK.

Each goes through some rounds: wait for the grant, write to a fenced resource while it lasts, give it back.
Some attempts are cancelled at a drawn await; processes stand still for longer than their session lives, and
die.

Rule of this file: what a holder believed is written down when it happens, never worked out later.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from coordclient.errors import ClientClosedError, LockRevokedError
from coordclient.recipes.election import AsyncElection
from coordclient.recipes.grants import Grant
from coordclient.recipes.lock import AsyncLock
from tests.checkers.history import LockRecord
from tests.simulation.clients.client_clock import ClientClock
from tests.simulation.clients.drawing import Bits
from tests.simulation.clients.fenced_resource import FencedResource
from tests.simulation.clients.notebook import Notebook
from tests.simulation.clients.simulated_async_client import SimulatedAsyncClient, surround
from tests.simulation.clients.simulated_loop import SimulatedLoop
from tests.simulation.clients.stepping import counting_awaits
from tests.simulation.clients.workload import Workload
from tests.simulation.world import MILLISECOND, SECOND, World

LOCK = "/locks/one"
ELECTION = "/elections/one"
_AWAITS_MAX = 8  # of an attempt: about as many as it takes to be granted
_SETTLE_SECONDS = 1.0


class LockLife:
    """One process: a loop, a client and its rounds.

    Attributes:
        is_idle: All rounds are over, and the session lives on.
        session_at_end: The session that the process had then.
    """

    def __init__(
        self,
        world: World,
        workload: Workload,
        name: str,
        members: Sequence[str],
        notebook: Notebook,
        resources: dict[str, FencedResource],
    ) -> None:
        self.world = world
        self.name = name
        self.is_idle = False
        self.session_at_end = 0
        self._workload = workload
        self._notebook = notebook
        self._resources = resources
        self._bits = bits = Bits(world.draw("lock life", name))
        rate = 1 + (bits.below(41) - 20) / 1000
        clock = ClientClock(world, offset_s=float(bits.below(100_000)), rate=rate)
        self.loop = SimulatedLoop(world, name, clock, is_shuffled=bits.percent(30))  # type: ignore[abstract]  # it has what the SDK asks of a loop
        surround(self.loop)
        timeout_s = workload.session_timeout_ms / 1000
        self.client = SimulatedAsyncClient(self.loop, members, notebook, session_timeout=timeout_s)
        self._held: tuple[Grant, LockRecord] | None = None
        self._main = self.loop.create_task(self._run(), name=f"{name} main")

    @property
    def has_ended(self) -> bool:
        return self._main.done()

    def explain(self) -> str:
        return f"{self.name}: {self.client!r}, waiting: {', '.join(self.loop.waiting())}"

    def failures(self) -> list[str]:
        """Return what went wrong in a way that nobody expected."""
        main = self._main
        if main.done() and not main.cancelled() and main.exception() is not None:
            return [*self.loop.failures, f"{self.name}: {main.exception()!r}"]
        return self.loop.failures

    # -----------------------------------------------------------------------------------------
    # Trouble

    def pause(self) -> None:
        if self._held is not None:
            self._held[1].was_paused = True
        self.loop.pause()

    def resume(self) -> None:
        self.loop.resume()

    def kill(self) -> None:
        if self._held is not None:
            self._note_end(*self._held)
        self.stop_recording()
        self.loop.kill()

    def stop_recording(self) -> None:
        """Whatever this process has not been answered has no outcome."""
        self.client.note_open_calls()

    # -----------------------------------------------------------------------------------------
    # Rounds

    async def _run(self) -> None:
        await self.client.connect(timeout=math.inf)
        for _ in range(self._workload.lock_rounds):
            if self._bits.below(2):
                await asyncio.sleep(self._bits.below(2 * self._workload.think_ns) / SECOND)
            await self._round()
        await asyncio.sleep(_SETTLE_SECONDS)
        while tasks := list(self.client.janitor._tasks):
            await asyncio.wait(tasks)
        self.is_idle = True
        self.session_at_end = self.client.session_id

    async def _round(self) -> None:
        bits = self._bits
        is_election = bits.percent(30)
        path = ELECTION if is_election else LOCK
        record = LockRecord(self.name, self.client.session_id, path, self.world.now_ns)
        self._notebook.locks.append(record)
        acquire = self._campaign if is_election else self._acquire
        steps_left = bits.below(_AWAITS_MAX) if bits.percent(self._workload.cancel_percent) else -1
        attempt: asyncio.Task[Grant]

        def stopped() -> None:
            nonlocal steps_left
            if steps_left == 0:
                self.loop.call_soon(attempt.cancel)
            steps_left -= 1

        async def counted() -> Grant:
            return await counting_awaits(acquire(path), stopped)

        attempt = self.loop.create_task(counted(), name=f"{self.name} attempt")
        await asyncio.wait([attempt])
        if attempt.cancelled():
            return
        try:
            grant = attempt.result()
        except LockRevokedError:
            return
        await self._hold(grant, record)

    async def _acquire(self, path: str) -> Grant:
        return await AsyncLock(self.client, path).acquire()

    async def _campaign(self, path: str) -> Grant:
        return await AsyncElection(self.client, path, self.name.encode()).campaign()

    # -----------------------------------------------------------------------------------------
    # Holding

    async def _hold(self, grant: Grant, record: LockRecord) -> None:
        record.session = grant.session_id
        record.node, record.token, record.granted_ns = grant.path, grant.token, self.world.now_ns
        self._held = grant, record
        grant.lost.add_callback(lambda: self._note_loss(record))
        self.world.trace(self.name, "granted", record.lock, grant.token)
        for _ in range(1 + self._bits.below(4)):
            if grant.lost or grant.remaining <= 0:
                break
            self._resources[record.lock].send(self.name, grant.token)
            await asyncio.sleep(self._hold_s())
        self._note_end(grant, record)
        self._held = None
        record.released_ns = self.world.now_ns
        try:
            await grant.release()
        except ClientClosedError:
            return
        self.world.trace(self.name, "released", record.lock, grant.token)

    def _hold_s(self) -> float:
        """Draw how long to hold: a good while, or as long as a message travels."""
        if self._bits.below(2):
            return self._bits.below(10_000) / 1_000_000
        return self._bits.below(self._workload.session_timeout_ms) / 4000

    def _note_loss(self, record: LockRecord) -> None:
        if record.lost_ns is None:
            record.lost_ns = self.world.now_ns
            if record.believed_until_ns is None:
                record.believed_until_ns = self.world.now_ns
            self.world.trace(self.name, "lost", record.lock, record.token)

    def _note_end(self, grant: Grant, record: LockRecord) -> None:
        """Until now, or its deadline, it has taken itself for the holder."""
        if record.believed_until_ns is not None:
            return
        now_ns = self.world.now_ns
        valid_until = grant.valid_until
        if valid_until > -math.inf:
            now_ns = min(now_ns, self.loop.clock.world_ns(valid_until))
        record.believed_until_ns = now_ns


class LockApplication:
    """The lives of one contender."""

    def __init__(
        self,
        world: World,
        workload: Workload,
        name: str,
        members: Sequence[str],
        notebook: Notebook,
        resources: dict[str, FencedResource],
    ) -> None:
        self.world = world
        self.name = name
        self._workload = workload
        self._members = members
        self._notebook = notebook
        self._resources = resources
        self._is_calm = False
        self.lives: list[LockLife] = []

    @property
    def is_done(self) -> bool:
        """Whether all is over, well or badly: what went wrong is told by `failures`."""
        return self.lives[-1].has_ended

    def start(self) -> None:
        self._begin_life()
        world, workload = self.world, self._workload
        length_ns = 2 * SECOND + 4 * workload.lock_rounds * workload.think_ns
        for number in range(workload.pauses):
            delay_ns = world.draw_below(length_ns, "pause at", self.name, number)
            longest_ns = 3 * workload.session_timeout_ms * MILLISECOND
            pause_ns = world.draw_log(10 * MILLISECOND, longest_ns, "pause", self.name, number)
            world.at(delay_ns, lambda pause_ns=pause_ns: self._pause(pause_ns))  # type: ignore[misc]  # a default binds it
        for number in range(workload.kills):
            world.at(world.draw_below(length_ns, "kill at", self.name, number), self._kill)

    def _begin_life(self) -> None:
        name = f"{self.name}.{len(self.lives)}"
        life = LockLife(self.world, self._workload, name, self._members, self._notebook, self._resources)
        self.lives.append(life)

    def _pause(self, pause_ns: int) -> None:
        if self._is_calm:
            return
        life = self.lives[-1]
        self.world.trace(life.name, "paused", pause_ns)
        life.pause()
        self.world.at(pause_ns, life.resume)

    def _kill(self) -> None:
        if self._is_calm or self.is_done:
            return
        self.world.trace(self.lives[-1].name, "killed")
        self.lives[-1].kill()
        self._begin_life()

    def calm(self) -> None:
        self._is_calm = True
        self.lives[-1].resume()

    def explain(self) -> str:
        return self.lives[-1].explain()

"""One simulated application: operations in bursts, and processes that stand still, die and are replaced.

Rule of this file: what it does follows from the workload and from draws by key.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tests.simulation.clients.drawing import Bits
from tests.simulation.clients.life import Life
from tests.simulation.clients.notebook import Notebook
from tests.simulation.clients.workload import Workload
from tests.simulation.world import MICROSECOND, MILLISECOND, SECOND, World

_PENDING_MAX = 300


class Application:
    """The lives of one client, one after the other; each is a process with sessions of its own."""

    def __init__(
        self, world: World, workload: Workload, name: str, members: Sequence[str], notebook: Notebook
    ) -> None:
        self.world = world
        self.name = name
        self.submitted = 0
        self._workload = workload
        self._members = members
        self._notebook = notebook
        self._bursts = 0
        self._lives: list[Life] = []
        self._is_calm = False

    @property
    def life(self) -> Life:
        return self._lives[-1]

    @property
    def is_done(self) -> bool:
        """Whether everything was asked, and everything that was asked has ended."""
        if self.submitted < self._workload.operations:
            return False
        return all(life.has_ended or life.is_over for life in self._lives)

    def explain(self) -> str:
        """Say how far it has come."""
        life = self.life
        asked = f"{self.submitted} of {self._workload.operations} asked"
        return f"{life.name}: {asked}, {life.pending_count} open, {life.client.core}"

    def start(self) -> None:
        self._begin_life()
        self.life.plant()
        self._plan_trouble()
        self._next_burst()

    def calm(self) -> None:
        """From now on the process neither stands still nor dies."""
        self._is_calm = True
        self.life.client.resume()

    def _begin_life(self) -> None:
        name = f"{self.name}.{len(self._lives)}"
        self._lives.append(Life(self.world, self._workload, name, self._members, self._notebook))

    # -----------------------------------------------------------------------------------------
    # Trouble

    def _plan_trouble(self) -> None:
        workload, world = self._workload, self.world
        bursts = workload.operations // max(1, workload.burst_max // 2) + 1
        length_ns = bursts * workload.think_ns + 2 * SECOND
        for number in range(workload.pauses):
            delay_ns = world.draw_below(length_ns, "pause at", self.name, number)
            world.at(delay_ns, partial(self._pause, number))
        for number in range(workload.kills):
            world.at(world.draw_below(length_ns, "kill at", self.name, number), self._kill)

    def _pause(self, number: int) -> None:
        if self._is_calm:
            return
        longest_ns = 3 * self._workload.session_timeout_ms * MILLISECOND
        pause_ns = self.world.draw_log(10 * MILLISECOND, longest_ns, "pause", self.name, number)
        life = self.life
        life.client.pause()
        self.world.trace(life.name, "paused", pause_ns)
        self.world.at(pause_ns, life.client.resume)

    def _kill(self) -> None:
        if self._is_calm or self.submitted >= self._workload.operations:
            return
        self.world.trace(self.life.name, "killed")
        self.life.kill()
        self._begin_life()

    def _perhaps_reset(self, life: Life) -> None:
        """Break the connection about when the answers are on their way."""
        world = self.world
        if (
            self._is_calm
            or world.draw_below(100, "reset", life.name, self._bursts) >= self._workload.reset_percent
        ):
            return
        delay_ns = world.draw_log(10 * MICROSECOND, 30 * MILLISECOND, "reset after", life.name, self._bursts)
        world.at(delay_ns, life.client.break_connection)

    def _perhaps_leave(self, life: Life) -> None:
        """End the session behind what has just been sent; the next burst has another."""
        percent = self._workload.leave_percent
        if self._is_calm or self.submitted >= self._workload.operations:
            return
        if self.world.draw_below(100, "leave", life.name, self._bursts) < percent:
            life.leave()

    # -----------------------------------------------------------------------------------------
    # Operations

    def _next_burst(self) -> None:
        self._bursts += 1
        delay_ns = self.world.draw_below(2 * self._workload.think_ns, "think", self.name, self._bursts)
        self.world.at(delay_ns, self._burst)

    def _burst(self) -> None:
        workload, life = self._workload, self.life
        if life.is_over or life.is_leaving:
            self._begin_life()
            life = self.life
        if not life.client.is_paused and life.pending_count < _PENDING_MAX:
            count = 1 + self.world.draw_below(workload.burst_max, "burst", self.name, self._bursts)
            for _ in range(min(count, workload.operations - self.submitted)):
                self.submitted += 1
                life.perform(self.submitted, Bits(self.world.draw("operation", self.name, self.submitted)))
            life.client.flush()
            self._perhaps_reset(life)
            self._perhaps_leave(life)
        if self.submitted < workload.operations:
            self._next_burst()
        else:
            life.finish()

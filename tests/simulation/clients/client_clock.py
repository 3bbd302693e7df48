"""The clock of one simulated client: it began anywhere and runs a little too fast or too slow.

Rule of this file: the client sees seconds of its own clock, the world sees nanoseconds of its one.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation.world import SECOND, World


@dataclass(slots=True)
class ClientClock:
    """Seconds that only grow. They go on while the client is paused, as CLOCK_BOOTTIME does.

    Attributes:
        rate: Seconds of this clock in a second of the world.
    """

    world: World
    offset_s: float = 0.0
    rate: float = 1.0

    def now(self) -> float:
        return self.offset_s + self.world.now_ns * self.rate / SECOND

    def delay_ns(self, until_s: float) -> int:
        """Return how long the world has to wait until this clock shows `until_s`."""
        delay_s = (until_s - self.now()) / self.rate
        return max(0, int(delay_s * SECOND) + 1)

    def world_ns(self, reading_s: float) -> int:
        """Return the time of the world at which this clock shows `reading_s`."""
        return int((reading_s - self.offset_s) / self.rate * SECOND)

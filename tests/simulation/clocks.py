"""The clocks of one member: they drift, the wall clock jumps, and the monotonic one may miss a suspension.

Rule of this file: monotonic time never goes back; true time is the world's alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation.world import MILLISECOND, World

_EPOCH_MS = 1_700_000_000_000


@dataclass(slots=True)
class MemberClock:
    """`rate` is how many of its nanoseconds pass in one of the world's."""

    world: World
    rate: float = 1.0
    offset_ns: int = 0
    wall_offset_ms: int = 0

    def monotonic_ms(self) -> int:
        return int(self.world.now_ns * self.rate + self.offset_ns) // MILLISECOND

    def wall_ms(self) -> int:
        return _EPOCH_MS + int(self.world.now_ns * self.rate) // MILLISECOND + self.wall_offset_ms

    def jump_wall(self, by_ms: int) -> None:
        """Somebody sets the clock."""
        self.wall_offset_ms += by_ms

    def miss(self, elapsed_ns: int) -> None:
        """The machine was suspended for so long, and the monotonic clock stood still with it."""
        self.offset_ns -= int(elapsed_ns * self.rate)

    def delay_ns(self, own_ms: float) -> int:
        """Return how long the world waits for so many milliseconds of this clock."""
        return max(1, int(own_ms * MILLISECOND / self.rate))

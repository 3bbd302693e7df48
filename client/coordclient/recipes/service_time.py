"""The time of the service, as far as a client can know it: a bound from below.

Every write is stamped with the service's clock, which never goes back. A client that has seen a stamp knows
that it is now at least that late there, and its own clock says how much time has passed since.

Rule of this file: never early. What is estimated only says when to ask; a write's own stamp decides.
"""

from __future__ import annotations

import math

from coordclient import clock
from coordclient.operations import Operations

FOREVER = math.inf


class ServiceTime:
    """Estimates the service's clock from the stamps of nodes."""

    def __init__(self) -> None:
        self._offset_ms = -math.inf  # the service's clock minus ours, at least

    @property
    def is_known(self) -> bool:
        return self._offset_ms > -math.inf

    def learn(self, stamp_ms: int) -> None:
        """Take note of a stamp (`ctime` or `mtime`, in ms since the epoch) that the service has given."""
        self._offset_ms = max(self._offset_ms, stamp_ms - clock.now() * 1000)

    def now_ms(self) -> float:
        """Return the service's time: at least this late, if the clocks run equally fast."""
        return clock.now() * 1000 + self._offset_ms

    def seconds_until(self, due_ms: float) -> float:
        """Return how long to wait before it is worth asking whether `due_ms` has come; 0: at once."""
        return max(0.0, (due_ms - self.now_ms()) / 1000) if self.is_known else 0.0

    async def ask(self, client: Operations, path: str) -> int:
        """Return the service's present time in ms since the epoch: the stamp of a write.

        Args:
            path: A node of ours whose value means nothing; it is set to nothing. NoNodeError if missing.
        """
        stat = await client.set(path, b"", timeout=FOREVER)
        self._offset_ms = stat.mtime - clock.now() * 1000  # the newest counts, also if our clock runs faster
        return stat.mtime

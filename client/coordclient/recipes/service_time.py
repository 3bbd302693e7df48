"""The time of the service, as far as a client can know it: a bound from below.

Every write is stamped with the service's clock, which never goes back. A client whose write has just been
answered knows that it is at least that late there, and its own clock says how much time has passed since.

Rule of this file: never early. What is estimated only says when to ask; a write's own stamp decides.
"""

from __future__ import annotations

import math

from coordclient import clock
from coordclient.operations import Operations
from coordclient.recipes.deadlines import FOREVER


class ServiceTime:
    """Estimates the service's clock from the stamps of our own writes.

    The stamp of a node that somebody else wrote would be a bound, too, but may be hours old.
    """

    def __init__(self) -> None:
        self._offset_ms = -math.inf  # the service's clock minus ours, at least

    @property
    def is_known(self) -> bool:
        return self._offset_ms > -math.inf

    def now_ms(self) -> float:
        """Return the service's time: it is at least this late there, if the clocks run equally fast."""
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

"""When the session was last renewed, when to ask again, and until when it is certainly alive.

Rule of this file: pure, and on the safe side. The session counts from the moment a ping was *sent*,
because the leader renewed it no earlier than that.
"""

from __future__ import annotations

import math

VALID_FRACTION = 0.9  # of the session timeout; the rest covers clocks that run at different speeds
PINGS_PER_TIMEOUT = 3
PONG_FRACTION_MIN = 0.25  # of the session timeout: a ping unanswered for longer ends the connection,
PONG_FRACTION_MAX = 0.4
PONG_SECONDS = 2.0  # but for short timeouts it may take as long as an election, within the limits above


class Renewal:
    """The pings of one session after the other. All times are seconds of the caller's clock."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.valid_until = -math.inf
        self._attach_sent_at = math.inf
        self._pings: dict[int, float] = {}  # sent and not answered, by number
        self._number = 0
        self._next_at = math.inf
        self._due_since = math.inf

    @property
    def is_due(self) -> bool:
        """Return whether the next frame should carry a ping."""
        return self._due_since < math.inf

    def attach_sent(self, now: float) -> None:
        self._attach_sent_at = now

    def attached(self, timeout_s: float, now: float) -> None:
        """The session is attached. Attaching goes through the log, so it renewed the session."""
        self.timeout_s = timeout_s
        self._extend(self._attach_sent_at)
        self._next_at = now + timeout_s / PINGS_PER_TIMEOUT

    def detached(self) -> None:
        """The connection is gone, and its pings with it."""
        self._pings.clear()
        self._next_at = self._due_since = math.inf

    def lost(self) -> None:
        """The session is gone."""
        self.valid_until = -math.inf

    def ping_sent(self, now: float) -> int:
        """Return the number for the ping that leaves now."""
        self._number += 1
        self._pings[self._number] = now
        self._due_since = math.inf
        self._next_at = now + self.timeout_s / PINGS_PER_TIMEOUT
        return self._number

    def ponged(self, number: int) -> None:
        """The leader has renewed the session after the ping of this number."""
        sent_at = self._pings.get(number)
        if sent_at is None:
            return
        self._pings = {ping: at for ping, at in self._pings.items() if ping > number}
        self._extend(sent_at)

    def _extend(self, sent_at: float) -> None:
        self.valid_until = max(self.valid_until, sent_at + self.timeout_s * VALID_FRACTION)

    def tick(self, now: float) -> None:
        if now >= self._next_at:
            self.ask(now)

    def worry(self, now: float) -> None:
        """Ask what is the matter, unless that has been asked."""
        if not self._pings and not self.is_due:
            self.ask(now)

    def ask(self, now: float) -> None:
        """Have the next frame carry a ping."""
        self._due_since = now
        self._next_at = math.inf

    def is_silent(self, now: float) -> bool:
        """Return whether a ping has waited too long, to be sent or to be answered."""
        return now >= self._given_up_at()

    def _given_up_at(self) -> float:
        oldest = min(next(iter(self._pings.values()), math.inf), self._due_since)
        patience_s = max(
            self.timeout_s * PONG_FRACTION_MIN, min(self.timeout_s * PONG_FRACTION_MAX, PONG_SECONDS)
        )
        return oldest + patience_s

    def next_wakeup(self) -> float:
        return min(self._next_at, self._given_up_at())

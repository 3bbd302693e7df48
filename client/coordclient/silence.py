"""When a member that owes answers has been silent for too long: a stopped process keeps its connections open.

A ping asks the leader, and has to wait while one is elected. So a silent member is asked something that it
answers by itself and at once; if it says nothing at all, another member is better.

Rule of this file: pure. A large answer that takes its time on a slow line looks like silence, so who leaves
for nothing becomes more patient each time, up to where a ping ends the connection anyway.
"""

from __future__ import annotations

import math

KNOCK_FRACTION = 0.1  # of the session timeout: silence while answers are owed, before the member is asked
KNOCK_SECONDS_MAX = 0.5
PATIENCE_FRACTION = 0.05  # of the session timeout: how long it may take to say anything at all then
PATIENCE_SECONDS_MIN = 0.2
PATIENCE_SECONDS_MAX = 1.0
HELD_UP_SECONDS = 0.25  # who looks at the clock so late was held up, and has not read what may have come
SLOWEST_BYTES_PER_SECOND = 1 << 20  # what was sent and not answered may still be on its way


class Silence:
    """The silence of one member after the other. All times are seconds of the caller's clock."""

    def __init__(self) -> None:
        self._since = 0.0  # answers have been owed, and nothing was heard, since then
        self._knocked_at = math.inf
        self._is_knock_due = False
        self._sent_bytes = 0
        self._left = 0  # connections in a row that were given up

    @property
    def is_knock_due(self) -> bool:
        """Return whether the next frame should ask the member whether it is there."""
        return self._is_knock_due

    def heard(self, now: float) -> None:
        """The member has said something, whatever it was."""
        self._since = now
        self._sent_bytes = 0
        self._end_knock()

    def answered(self) -> None:
        """An operation was answered: the patience was sufficient."""
        self._left = 0

    def nothing_owed(self, now: float) -> None:
        self._since = now

    def sent(self, size: int) -> None:
        """A frame of so many bytes has left."""
        self._sent_bytes += size

    def detached(self) -> None:
        """The connection is gone."""
        self._sent_bytes = 0
        self._end_knock()

    def _end_knock(self) -> None:
        self._knocked_at = math.inf
        self._is_knock_due = False

    def knock_at(self, timeout_s: float) -> float:
        """Return when to ask the member, if answers are owed."""
        if self._is_knock_due or self._knocked_at < math.inf:
            return math.inf
        return self._since + min(timeout_s * KNOCK_FRACTION, KNOCK_SECONDS_MAX)

    def ask(self) -> None:
        """Have the next frame ask the member."""
        self._is_knock_due = True

    def knocked(self, now: float) -> None:
        """The member is asked by the frame that leaves now."""
        self._is_knock_due = False
        self._knocked_at = now

    def leave_at(self, timeout_s: float) -> float:
        """Return when to give the member up, if it goes on saying nothing."""
        if self._knocked_at == math.inf:
            return math.inf  # As nearly always: this is asked with every frame.
        patience_s = min(max(timeout_s * PATIENCE_FRACTION, PATIENCE_SECONDS_MIN), PATIENCE_SECONDS_MAX)
        line_s = self._sent_bytes / SLOWEST_BYTES_PER_SECOND
        return self._knocked_at + patience_s * (1 << min(self._left, 8)) + line_s

    def is_over(self, now: float, timeout_s: float) -> bool:
        """Return whether to give the member up. A caller that was held up itself gives it the time again."""
        leave_at = self.leave_at(timeout_s)
        if now < leave_at:
            return False
        if now > leave_at + HELD_UP_SECONDS:
            self._knocked_at = now
            return False
        return True

    def left(self) -> None:
        """The member was given up."""
        self._left += 1

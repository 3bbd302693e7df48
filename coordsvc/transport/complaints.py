"""Warnings about peers and strangers, so seldom that they cannot flood the log.

Rule of this file: the same complaint at most once in `INTERVAL_S`; what was left out is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

INTERVAL_S = 10.0
_KEPT_MAX = 1000

LOG = logging.getLogger("coordsvc.transport")


class Complaints:
    """Remembers what was said lately."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}

    def warn(self, subject: str, text: str) -> None:
        """Log `text`, unless something about `subject` was logged less than an interval ago."""
        now = self._clock()
        last, left_out = self._said.get(subject, (now - INTERVAL_S, 0))
        if now - last < INTERVAL_S:
            self._said[subject] = (last, left_out + 1)
            return
        if len(self._said) >= _KEPT_MAX:
            self._said.clear()
        self._said[subject] = (now, 0)
        LOG.warning("%s%s", text, f" ({left_out} more of these since the last line)" if left_out else "")

    def forget(self, subject: str) -> None:
        """The cause is gone: the next complaint about `subject` is news again."""
        self._said.pop(subject, None)

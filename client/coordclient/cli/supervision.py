"""When a command that runs under coordination is told to end, and when it is killed.

Rule of this file: pure; time and news come in, decisions go out. The command is dead before anybody else can
hold what it was started for, as far as the clocks can tell.
"""

from __future__ import annotations

import math
import signal
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

GRACE_DEFAULT_S: Final = 5.0
GRACE_FRACTION_MAX: Final = 0.5  # of the session timeout; the rest rides out a change of leader
GRACE_FRACTION_DEFAULT: Final = 0.25
MARGIN_MAX_S: Final = 0.5
MARGIN_FRACTION: Final = 0.05
ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})


class Order(Enum):
    """What is to be done with the command now."""

    NOTHING = auto()
    TERMINATE = auto()
    KILL = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now, and at what time to ask again if nothing happens before.

    Attributes:
        passed_on: A signal that was kept back, and is due.
    """

    order: Order
    wake_at: float
    passed_on: signal.Signals | None = None


def grace_for(session_timeout_s: float) -> float:
    """Return how long a command has between SIGTERM and SIGKILL if nobody has said."""
    return min(GRACE_DEFAULT_S, session_timeout_s * GRACE_FRACTION_DEFAULT)


def margin_for(session_timeout_s: float) -> float:
    """Return how long before the end of the certain time a command must be dead."""
    return min(MARGIN_MAX_S, session_timeout_s * MARGIN_FRACTION)


class Course:
    """The course of one command. All times are readings of the same clock, in seconds."""

    def __init__(self, *, grace_s: float, margin_s: float = 0.0, drain_s: float = 0.0) -> None:
        """Describe what the command is granted.

        Args:
            grace_s: From SIGTERM to SIGKILL.
            margin_s: How long before the end of the certain time it must be dead.
            drain_s: How long the first signal that asks it to end is kept back.
        """
        self.grace_s = grace_s
        self.margin_s = margin_s
        self.drain_s = drain_s
        self.is_stopping = False
        self.is_draining = False
        self._kill_at = math.inf
        self._kept_back: signal.Signals | None = None
        self._pass_on_at = math.inf

    def look(self, now: float, *, valid_until: float, is_lost: bool, must_stop: bool = False) -> Step:
        """Decide.

        Args:
            valid_until: Until when nobody else can hold the grant, as is known at present.
            is_lost: The grant is gone for certain; `valid_until` says nothing then.
            must_stop: Somebody asks for the grant, and the command was started on this condition.
        """
        if self.is_stopping:
            return self._look_while_stopping(now)
        begin_at = math.inf if is_lost else valid_until - self.margin_s - self.grace_s
        if is_lost or must_stop or now >= begin_at:
            self.is_stopping = True
            self._kill_at = now + self.grace_s
            if not is_lost:
                self._kill_at = max(now, min(self._kill_at, valid_until - self.margin_s))
            return Step(Order.TERMINATE, self._kill_at)
        if now >= self._pass_on_at:
            self._pass_on_at = math.inf
            return Step(Order.NOTHING, begin_at, self._kept_back)
        return Step(Order.NOTHING, min(begin_at, self._pass_on_at))

    def _look_while_stopping(self, now: float) -> Step:
        if now < self._kill_at:
            return Step(Order.NOTHING, self._kill_at)
        self._kill_at = math.inf
        return Step(Order.KILL, math.inf)

    def received(self, number: signal.Signals, now: float) -> bool:
        """Take in a signal to `coordctl`; return whether it is passed on at once.

        The first one that asks the command to end is kept back while it drains; the next one is not.
        """
        if number not in ENDING or self.drain_s <= 0 or self.is_draining:
            self._pass_on_at = math.inf if number in ENDING else self._pass_on_at
            return True
        self.is_draining = True
        self._kept_back = number
        self._pass_on_at = now + self.drain_s
        return False

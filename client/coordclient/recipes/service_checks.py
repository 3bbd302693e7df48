"""What a health check is: how it is asked again and again, and what it may answer.

Rule of this file: a check may fail, hang or raise whatever it likes; what comes out is a `CheckResult`,
within its time. What a row of results amounts to is decided in `service_monitor.py`.
"""

from __future__ import annotations

import asyncio
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from coordclient.errors import InvalidArgumentError
from coordclient.types import Status

NOTE_CHARACTERS_MAX = 500
GRACE_SECONDS = 0.2  # for a check that runs while it is stopped


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check saw: a status, and a note for people, which is cut to 500 characters."""

    status: Status
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "note", self.note.strip()[:NOTE_CHARACTERS_MAX])


Tell: TypeAlias = Callable[[CheckResult], None]


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How time passes between checks, and the dice that keep many instances from checking at once."""

    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    dice: Callable[[], float] = random.random


class Check(ABC):
    """A way to find out how an instance is.

    Attributes:
        critical_after: So many failures in a row make it critical.
        passing_after: So many successes in a row take it out of critical.
    """

    critical_after: int = 1
    passing_after: int = 1

    @property
    @abstractmethod
    def label(self) -> str:
        """Return what the check is called where its results are shown."""

    @abstractmethod
    async def run(self, tell: Tell, rhythm: Rhythm) -> None:
        """Check again and again, and tell each result, until cancelled."""


def check_positive(what: str, seconds: float) -> None:
    """Raise InvalidArgumentError unless these are seconds that one can wait."""
    if not 0 < seconds < math.inf:
        raise InvalidArgumentError(f"{what} must be a positive, finite number of seconds, not {seconds!r}")


@dataclass(frozen=True, kw_only=True)
class PeriodicCheck(Check):
    """A check that asks, waits `interval` seconds, and asks again. Subclasses say how they ask in `probe`.

    It asks at once when it is started; the first pause is shortened at random, so that instances which
    were started together do not check together. It never asks while it is still asking.

    Args:
        interval: Seconds between the end of one check and the beginning of the next.
        timeout: Seconds after which a check without a result has failed.
        critical_after: So many failures in a row make the instance critical.
        passing_after: So many successes in a row take it out of critical.
        name: Shown with the results; made up if not given.
    """

    interval: float = 10.0
    timeout: float = 5.0
    critical_after: int = 3
    passing_after: int = 1
    name: str = ""

    def __post_init__(self) -> None:
        check_positive("interval", self.interval)
        check_positive("timeout", self.timeout)
        if self.critical_after < 1 or self.passing_after < 1:
            raise InvalidArgumentError("critical_after and passing_after must be at least 1")

    @abstractmethod
    async def probe(self) -> CheckResult:
        """Ask once. Whatever is raised is a failure; after `timeout` seconds this is cancelled."""

    async def run(self, tell: Tell, rhythm: Rhythm) -> None:
        """Ask at once and then every `interval` seconds, and tell each result, until cancelled."""
        pause = self.interval * (0.5 + rhythm.dice() / 2)
        probe: asyncio.Task[object] | None = None
        try:
            while True:
                if probe is None or probe.done():
                    probe = asyncio.create_task(self.probe(), name=f"coordclient check {self.label}")
                    probe.add_done_callback(_fetch)
                    await asyncio.wait([probe], timeout=self.timeout)
                    tell(self._result(probe))
                    probe.cancel()
                else:
                    note = "the check before has not ended although it was cancelled"
                    tell(CheckResult(Status.CRITICAL, note))
                await rhythm.pause(pause)
                pause = self.interval
        finally:
            if probe is not None and not probe.done():
                probe.cancel()
                await asyncio.wait([probe], timeout=GRACE_SECONDS)

    def _result(self, probe: asyncio.Task[object]) -> CheckResult:
        if not probe.done():
            return CheckResult(Status.CRITICAL, f"no result within {self.timeout:g} s")
        if probe.cancelled():
            return CheckResult(Status.CRITICAL, "the check was cancelled")
        error = probe.exception()
        if error is not None:
            return CheckResult(Status.CRITICAL, f"{type(error).__name__}: {error}")
        result = probe.result()
        if isinstance(result, CheckResult):
            return result
        return CheckResult(Status.CRITICAL, f"the check gave {result!r} instead of a CheckResult")


def _fetch(probe: asyncio.Task[object]) -> None:
    if not probe.cancelled():
        probe.exception()  # Fetched here, so that one which comes too late is not reported as lost.

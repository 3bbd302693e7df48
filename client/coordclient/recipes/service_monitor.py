"""What the results of health checks amount to: thresholds for each check, the worst of several counts.

Rule of this file: nothing here talks to the service. Whoever owns the monitor is told when the verdict has
changed, and announces it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from coordclient.janitor import Janitor
from coordclient.recipes.service_checks import GRACE_SECONDS, Check, CheckResult, Rhythm
from coordclient.types import Status

NOT_CHECKED = CheckResult(Status.CRITICAL, "not checked yet")
_BADNESS = {Status.PASSING: 0, Status.WARNING: 1, Status.CRITICAL: 2, Status.DRAINING: 3}


def worst(statuses: Sequence[Status]) -> Status:
    """Return the status that counts when there are several. DRAINING, which the program says, beats all."""
    return max(statuses, key=_BADNESS.__getitem__)


class Standing:
    """What a row of results of one check amounts to. As in Consul, a warning is a success of a kind.

    It is critical until the first success. Later one failure, or one success, changes nothing by itself:
    it takes `critical_after` failures in a row to get in, and `passing_after` successes to get out.
    """

    def __init__(self, *, critical_after: int = 1, passing_after: int = 1) -> None:
        self.result = NOT_CHECKED
        self._critical_after = critical_after
        self._passing_after = passing_after
        self._failures = 0
        self._successes = 0

    @property
    def is_checked(self) -> bool:
        return self.result is not NOT_CHECKED

    def take(self, result: CheckResult) -> None:
        """Take in what the check saw."""
        is_critical = self.result.status is Status.CRITICAL
        if result.status is Status.CRITICAL:
            self._failures += 1
            self._successes = 0
            if is_critical or self._failures >= self._critical_after:
                self.result = result
            return
        self._successes += 1
        self._failures = 0
        if not is_critical or self._successes >= self._passing_after:
            self.result = result
        elif not self.is_checked:
            self.result = CheckResult(
                Status.CRITICAL, f"{self._successes} of {self._passing_after} successes"
            )


class HealthMonitor:
    """Runs the checks of one instance, and knows what they amount to.

    Attributes:
        verdict: The worst standing, with the note that goes with it.
    """

    def __init__(
        self, checks: Sequence[Check], changed: Callable[[], None], rhythm: Rhythm | None = None
    ) -> None:
        """Prepare the checks; `changed` is called when the verdict's status has changed."""
        assert checks, "an instance without checks needs no monitor"
        self.verdict = NOT_CHECKED
        self._changed = changed
        self._rhythm = rhythm or Rhythm()
        self._checks = [
            (check, Standing(critical_after=check.critical_after, passing_after=check.passing_after))
            for check in checks
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, janitor: Janitor) -> None:
        """Begin to check. The janitor ends the checks with the client, if nobody does before."""
        for check, standing in self._checks:
            running = check.run(self._teller(standing), self._rhythm)
            task = janitor.start(running, f"health check {check.label}")
            task.add_done_callback(partial(self._ended, standing))
            self._tasks.append(task)

    def stop(self) -> None:
        """End all checks. Nothing is told any more from here on."""
        self._changed = _nobody
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """End all checks and wait, for a bounded time, until they have ended."""
        self.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * GRACE_SECONDS)

    def _ended(self, standing: Standing, task: asyncio.Task[None]) -> None:
        """A check has ended that should go on: whatever it saw last is not true for ever."""
        if task.cancelled():
            return
        error = task.exception()
        standing.result = CheckResult(Status.CRITICAL, f"the check has ended by itself: {error!r}")
        self._judge()

    def _teller(self, standing: Standing) -> Callable[[CheckResult], None]:
        def tell(result: CheckResult) -> None:
            standing.take(result)
            self._judge()

        return tell

    def _judge(self) -> None:
        check, standing = max(self._checks, key=lambda each: _BADNESS[each[1].result.status])
        before, verdict = self.verdict, standing.result
        if standing.is_checked and len(self._checks) > 1 and verdict.note:
            verdict = CheckResult(verdict.status, f"{check.label}: {verdict.note}")
        if verdict.status is not before.status or (before is NOT_CHECKED and verdict is not NOT_CHECKED):
            self.verdict = verdict
            self._changed()


def _nobody() -> None:
    return

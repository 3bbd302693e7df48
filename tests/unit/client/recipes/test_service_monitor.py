"""What a row of results amounts to, and the worst of several checks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordclient.janitor import Janitor
from coordclient.recipes.service_checks import Check, CheckResult, Rhythm
from coordclient.recipes.service_monitor import NOT_CHECKED, HealthMonitor, Standing, worst
from coordclient.types import Status
from tests.unit.client.eventually import eventually

PASSING, WARNING, CRITICAL = Status.PASSING, Status.WARNING, Status.CRITICAL
RESULTS = st.lists(st.sampled_from([PASSING, WARNING, CRITICAL]), max_size=30)


def standing_after(*statuses: Status, critical_after: int = 1, passing_after: int = 1) -> Standing:
    standing = Standing(critical_after=critical_after, passing_after=passing_after)
    for number, status in enumerate(statuses):
        standing.take(CheckResult(status, f"result {number}"))
    return standing


def test_it_is_critical_until_it_was_checked() -> None:
    assert standing_after().result is NOT_CHECKED
    assert standing_after(PASSING).result == CheckResult(PASSING, "result 0")


def test_one_failure_does_not_count_if_more_are_asked_for() -> None:
    assert standing_after(PASSING, CRITICAL, CRITICAL, critical_after=3).result.status is PASSING
    assert standing_after(PASSING, CRITICAL, CRITICAL, CRITICAL, critical_after=3).result.status is CRITICAL
    assert (
        standing_after(PASSING, *[CRITICAL, CRITICAL, PASSING] * 5, critical_after=3).result.status is PASSING
    )


def test_the_first_failure_is_told_although_nothing_else_has_changed() -> None:
    assert standing_after(CRITICAL, critical_after=3).result == CheckResult(CRITICAL, "result 0")


def test_one_success_does_not_count_if_more_are_asked_for() -> None:
    assert standing_after(PASSING, passing_after=2).result == CheckResult(CRITICAL, "1 of 2 successes")
    assert standing_after(PASSING, CRITICAL, PASSING, passing_after=2).result.status is CRITICAL
    assert standing_after(PASSING, WARNING, passing_after=2).result.status is WARNING


def test_between_passing_and_warning_nothing_is_waited_for() -> None:
    standing = standing_after(PASSING, PASSING, passing_after=2)
    for status in (WARNING, PASSING, WARNING):
        standing.take(CheckResult(status))
        assert standing.result.status is status


@settings(deadline=None)
@given(RESULTS, st.integers(1, 4), st.integers(1, 4))
def test_a_status_follows_from_the_results_alone(
    statuses: list[Status], critical_after: int, passing_after: int
) -> None:
    """The definition, read backwards from the last result."""
    standing = standing_after(*statuses, critical_after=critical_after, passing_after=passing_after)
    status = CRITICAL
    for end in range(1, len(statuses) + 1):
        results = statuses[:end]
        if results[-1] is CRITICAL:
            if len(results) >= critical_after and set(results[-critical_after:]) == {CRITICAL}:
                status = CRITICAL
        elif status is not CRITICAL or (
            len(results) >= passing_after and CRITICAL not in results[-passing_after:]
        ):
            status = results[-1]

    assert standing.result.status is status


def test_the_worst_status_counts() -> None:
    assert worst([PASSING, WARNING, CRITICAL]) is CRITICAL
    assert worst([WARNING, PASSING]) is WARNING
    assert worst([CRITICAL, Status.DRAINING]) is Status.DRAINING


# ---------------------------------------------------------------------------------------------
# Several checks


class ScriptedCheck(Check):
    """A check that finds what the test says."""

    def __init__(self, label: str) -> None:
        self._label = label
        self.end = asyncio.Event()
        self.tell: Callable[[CheckResult], None] = lambda _: None
        self.is_running = False

    @property
    def label(self) -> str:
        return self._label

    async def run(self, tell: Callable[[CheckResult], None], rhythm: Rhythm) -> None:
        self.tell = tell
        self.is_running = True
        try:
            await self.end.wait()
            raise KeyError("broken")
        finally:
            self.is_running = False


class Monitored:
    """A monitor with two checks, and what it has told."""

    def __init__(self) -> None:
        self.disk, self.network = ScriptedCheck("disk"), ScriptedCheck("network")
        self.told: list[tuple[Status, str]] = []
        self.monitor = HealthMonitor([self.disk, self.network], self._changed)
        self.janitor = Janitor()

    def _changed(self) -> None:
        self.told.append((self.monitor.verdict.status, self.monitor.verdict.note))

    async def start(self) -> None:
        self.monitor.start(self.janitor)
        await eventually(lambda: self.disk.is_running and self.network.is_running)


@pytest.fixture
async def monitored() -> Monitored:
    monitored = Monitored()
    await monitored.start()
    return monitored


async def test_the_worst_of_several_checks_is_told_and_only_when_it_changes(monitored: Monitored) -> None:
    monitored.disk.tell(CheckResult(PASSING))
    assert monitored.told == []  # the other one has not been asked yet
    monitored.network.tell(CheckResult(PASSING))
    monitored.network.tell(CheckResult(PASSING, "still well"))
    monitored.disk.tell(CheckResult(WARNING, "90 % full"))
    monitored.network.tell(CheckResult(CRITICAL, "no route"))
    monitored.disk.tell(CheckResult(CRITICAL, "full"))
    monitored.network.tell(CheckResult(PASSING))

    assert monitored.told == [(PASSING, ""), (WARNING, "disk: 90 % full"), (CRITICAL, "network: no route")]
    await monitored.monitor.close()


async def test_a_first_failure_is_told_with_its_reason(monitored: Monitored) -> None:
    monitored.disk.tell(CheckResult(CRITICAL, "full"))

    assert monitored.told == [(CRITICAL, "disk: full")]
    await monitored.monitor.close()


async def test_a_closed_monitor_tells_nothing_and_leaves_no_task(monitored: Monitored) -> None:
    await monitored.monitor.close()

    assert not monitored.disk.is_running
    assert not monitored.network.is_running
    assert monitored.janitor.task_count == 0
    monitored.disk.tell(CheckResult(CRITICAL, "too late"))
    assert monitored.told == []


async def test_a_check_that_ends_by_itself_is_critical(monitored: Monitored) -> None:
    """It is one of the application's own, and broken."""
    monitored.disk.tell(CheckResult(PASSING))
    monitored.network.tell(CheckResult(PASSING))
    monitored.disk.end.set()
    await eventually(lambda: len(monitored.told) == 2)
    await monitored.monitor.close()

    assert monitored.told[1] == (CRITICAL, "disk: the check has ended by itself: KeyError('broken')")

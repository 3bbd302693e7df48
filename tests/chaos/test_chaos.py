"""A short run of chaos on real processes, and the proof that its judges would have said no.

`make chaos SECONDS=600 MEMBERS=5` is the long one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from coordsvc.statemachine.changes import ChangeType
from coordsvc.statemachine.commands import Get
from coordsvc.statemachine.results import Node
from tests.chaos.judge import judge
from tests.chaos.plan import HECTIC
from tests.chaos.run import Report, Run, Settings
from tests.checkers.history import LINEARIZABLE, OK, STREAM_RECURSIVE, History, WatchRecord

pytestmark = pytest.mark.processes

SECONDS = 24.0
SEED = 20


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Three members, all faults mixed; everything is kept in the directory of the test."""
    settings = Settings(tmp_path_factory.mktemp("chaos"), SECONDS, seed=SEED, timing=HECTIC)
    return asyncio.run(Run(settings).run())


def test_no_promise_is_broken_by_any_mixture_of_faults(report: Report) -> None:
    assert [str(violation) for violation in report.violations] == []
    assert report.faults.total() >= 8, "the members were disturbed"
    assert report.suspensions > 0, "clients noticed"
    assert report.operations > 300
    assert report.transactions > 100
    assert report.events > 100
    history = report.history
    assert len([lock for lock in history.locks if lock.granted_ns is not None]) > 3
    assert len(history.fenced_writes) > 10
    assert len(history.digests) == 3


Plant = Callable[[History], None]


def _lose_an_acknowledged_write(history: History) -> None:
    newest = max(operation.zxid or 0 for operation in history.operations if operation.outcome == OK)
    history.committed = [change for change in history.committed if change.zxid < newest]


def _apply_a_write_twice(history: History) -> None:
    counted = [change for change in history.committed if change.path.startswith("/counter-")]
    change = next(each for each in reversed(counted) if each.type is ChangeType.CHANGED)
    zxid = history.committed[-1].zxid + 1
    newest_ms = max(each.stat.mtime for each in history.committed)
    stat = replace(change.stat, mzxid=zxid, mtime=newest_ms, version=change.stat.version + 1)
    history.committed.append(replace(change, zxid=zxid, stat=stat))


def _answer_a_read_with_old_news(history: History) -> None:
    """A linearizable read gets what one that had ended before it was called was told, and things changed."""
    told: dict[str, tuple[int, Node]] = {}
    for place, operation in enumerate(history.operations):
        if not isinstance(operation.request, Get) or operation.consistency != LINEARIZABLE:
            continue
        result = operation.result
        if operation.outcome != OK or not isinstance(result, Node):
            continue
        zxid, before = told.setdefault(operation.path, (operation.zxid or 0, result))
        if before.stat.mzxid < result.stat.mzxid:
            history.operations[place] = replace(operation, zxid=zxid, result=before)
            return
    raise AssertionError("some node was read before and after a change")


def _long_watch(history: History) -> tuple[int, WatchRecord]:
    streams = [place for place, watch in enumerate(history.watches) if watch.kind == STREAM_RECURSIVE]
    longest = max(streams, key=lambda place: len(history.watches[place].events))
    return longest, history.watches[longest]


def _miss_an_event(history: History) -> None:
    place, watch = _long_watch(history)
    middle = len(watch.events) // 2
    events = watch.events[:middle] + watch.events[middle + 1 :]
    history.watches[place] = replace(watch, events=events)


def _invent_an_event(history: History) -> None:
    place, watch = _long_watch(history)
    middle = len(watch.events) // 2
    invented = replace(watch.events[middle], path="/never", stat=None)
    events = [*watch.events[: middle + 1], invented, *watch.events[middle + 1 :]]
    history.watches[place] = replace(watch, events=events)


def _accept_a_smaller_token(history: History) -> None:
    last = max(history.fenced_writes, key=lambda write: (write.resource, write.order))
    token, order = last.token - 1, last.order + 1
    history.fenced_writes.append(replace(last, token=token, order=order, accepted=True))


def _grant_one_token_twice(history: History) -> None:
    granted = [record for record in history.locks if record.granted_ns is not None]
    history.locks.append(replace(granted[-1], client="somebody else"))


def _let_a_member_differ(history: History) -> None:
    history.digests[0] = replace(history.digests[0], digest=history.digests[0].digest ^ 1)


@pytest.mark.parametrize(
    ("plant", "invariant"),
    [
        (_lose_an_acknowledged_write, "G3"),
        (_apply_a_write_twice, "S4"),
        (_apply_a_write_twice, "G5"),
        (_answer_a_read_with_old_news, "C4"),
        (_miss_an_event, "W7"),
        (_invent_an_event, "W5"),
        (_accept_a_smaller_token, "K2"),
        (_grant_one_token_twice, "K1"),
        (_let_a_member_differ, "G9"),
    ],
)
def test_a_violation_planted_in_the_recorded_history_is_found(
    report: Report, plant: Plant, invariant: str
) -> None:
    history = report.history
    planted = replace(
        history,
        operations=list(history.operations),
        watches=list(history.watches),
        committed=list(history.committed),
        fenced_writes=list(history.fenced_writes),
        locks=list(history.locks),
        digests=list(history.digests),
    )
    plant(planted)

    assert invariant in {violation.invariant for violation in judge(planted)}

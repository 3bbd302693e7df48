"""The order check accepts what an honest service does, and refuses every single lie told in it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest

from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.commands import Create, Delete, Exists, Get, Guard, ListChildren, Set, Transaction
from coordsvc.statemachine.results import (
    Children,
    Created,
    Deleted,
    ErrorCode,
    ExistsResult,
    Failure,
    Node,
    TransactionResult,
    WasSet,
)
from coordsvc.statemachine.types import CreateMode
from tests.checkers.history import FAIL, OK, SESSION, STALE, UNKNOWN, History, Operation, Sync
from tests.checkers.honest_service import HonestService
from tests.checkers.random_history import RandomHistory
from tests.checkers.zxid_order import check


def invariants(history: History) -> list[str]:
    return [violation.invariant for violation in check(history)]


def story() -> HonestService:
    """Ann and Bob share a node; everybody is told the truth."""
    service = HonestService()
    service.open("ann")
    service.open("bob")
    service.do("ann", Create("/a", b"one"))  # zxid 1
    service.do("bob", Get("/a"))
    service.do("bob", Set("/a", b"two", 0))  # zxid 2
    service.do("ann", Get("/a"))
    service.do("ann", Create("/a/e", b"", mode=1))  # zxid 3
    service.do("bob", ListChildren("/a", with_nodes=True))
    service.do("bob", Set("/a", b"never", 0))  # refused: the version is 1
    service.do("ann", Sync())
    return service


@pytest.mark.parametrize("seed", range(12))
def test_what_an_honest_service_does_is_accepted(seed: int) -> None:
    history = RandomHistory(seed).make(400)

    assert history.committed[-1].zxid > 30
    assert check(history) == []


def test_an_empty_history_is_accepted() -> None:
    assert check(History()) == []


def test_answers_may_come_in_any_order_while_the_operations_overlap() -> None:
    service = story()
    slow, fast = service.history.operations[4], service.history.operations[5]
    slow.completed_ns = service.now_ns
    fast.invoked_ns = slow.invoked_ns

    assert check(service.history) == []


# -- lies ---------------------------------------------------------------------------------------


def get(history: History, place: int) -> tuple[Operation, Node]:
    operation = history.operations[place]
    assert isinstance(operation.result, Node)
    return operation, operation.result


def lost_update(history: History) -> None:
    """Bob's acknowledged set is not there."""
    del history.committed[1]
    for change in history.committed[1:]:
        change.zxid -= 1


def missing_end(history: History) -> None:
    """The newest acknowledged write was lost."""
    del history.committed[-1]


def gap(history: History) -> None:
    for change in history.committed[1:]:
        change.zxid += 1


def stale_value(history: History) -> None:
    operation, node = get(history, 3)
    operation.result = replace(node, value=b"one")


def stale_read(history: History) -> None:
    """A whole old answer, honest about its age: too old for a linearizable read."""
    _, old = get(history, 1)
    operation, _ = get(history, 3)
    operation.result, operation.zxid = old, 1


def future_read(history: History) -> None:
    """A read sees what was called only after its answer."""
    _, newer = get(history, 3)
    operation, _ = get(history, 1)
    operation.result, operation.zxid = newer, 2


def wrong_stat(history: History) -> None:
    operation, node = get(history, 3)
    operation.result = replace(node, stat=replace(node.stat, version=2))


def wrong_time(history: History) -> None:
    operation, node = get(history, 3)
    operation.result = replace(node, stat=replace(node.stat, mtime=node.stat.mtime + 1))


def wrong_set_answer(history: History) -> None:
    operation = history.operations[2]
    assert isinstance(operation.result, WasSet)
    operation.result = WasSet(replace(operation.result.stat, version=5))


def wrong_path(history: History) -> None:
    operation = history.operations[0]
    assert isinstance(operation.result, Created)
    operation.result = replace(operation.result, path="/b")


def missing_child(history: History) -> None:
    operation = history.operations[5]
    assert isinstance(operation.result, Children)
    operation.result = replace(operation.result, names=[], nodes=[])


def phantom_more(history: History) -> None:
    operation = history.operations[5]
    assert isinstance(operation.result, Children)
    operation.result = replace(operation.result, more=True)


def refused_but_right(history: History) -> None:
    """A set whose version matched was refused."""
    operation = history.operations[2]
    operation.outcome, operation.zxid = FAIL, 1
    operation.result = Failure(ErrorCode.BAD_VERSION, "", "/a", 0, 1)


def accepted_but_wrong(history: History) -> None:
    """A set whose version did not match was acknowledged."""
    operation = history.operations[6]
    assert isinstance(history.operations[2].result, WasSet)
    operation.outcome, operation.result = OK, history.operations[2].result


def wrong_error(history: History) -> None:
    operation = history.operations[6]
    operation.result = Failure(ErrorCode.NO_NODE, "", "/a")


def wrong_actual_version(history: History) -> None:
    operation = history.operations[6]
    assert isinstance(operation.result, Failure)
    operation.result = replace(operation.result, actual_version=7)


def failed_with_effect(history: History) -> None:
    """A write failed for certain, and yet something was committed that only it can have done."""
    operation = history.operations[2]
    operation.outcome, operation.zxid = FAIL, None
    operation.result = Failure(ErrorCode.LIMIT_EXCEEDED, "too much at once")


def applied_twice(history: History) -> None:
    """A set of any version stands in the order twice: its repeat was not noticed."""
    history.operations[2].request = Set("/a", b"two")
    last = history.committed[1].stat
    later_ms = last.mtime + 99
    again = replace(last, version=2, mzxid=4, pzxid=3, cversion=1, num_children=1, mtime=later_ms)
    history.committed.append(Change(ChangeType.CHANGED, "/a", 4, b"two", again))


def out_of_nowhere(history: History) -> None:
    last = history.committed[1]
    stat = replace(last.stat, version=2, mzxid=4, pzxid=3, cversion=1, num_children=1, data_length=1)
    history.committed.append(Change(ChangeType.CHANGED, "/a", 4, b"!", stat))


def two_writes_one_zxid(history: History) -> None:
    history.operations[2].zxid = 1


def write_before_its_cause(history: History) -> None:
    """Ann's create was over before Bob's set was called, and yet stands behind it."""
    history.operations[4].completed_ns = history.operations[1].completed_ns
    history.operations[4].invoked_ns = history.operations[1].invoked_ns
    history.operations[4].completed_ns = history.operations[2].invoked_ns - 1


def old_sync(history: History) -> None:
    history.operations[7].zxid = 2


def no_zxid(history: History) -> None:
    history.operations[3].zxid = None


def future_zxid(history: History) -> None:
    history.operations[7].zxid = 9


def backward_time(history: History) -> None:
    history.committed[2].stat.mtime -= 1_000


def ended_session_writes(history: History) -> None:
    service = story()
    service.close("ann")
    history.operations, history.committed = service.history.operations, service.history.committed
    history.session_ends = service.history.session_ends
    history.session_ends[0].zxid = 2


LIES: list[tuple[Callable[[History], None], str]] = [
    (lost_update, "G3"),
    (missing_end, "G3"),
    (gap, "G1"),
    (stale_value, "C2"),
    (stale_read, "C4"),
    (future_read, "C4"),
    (wrong_stat, "C2"),
    (wrong_time, "C2"),
    (wrong_set_answer, "C1"),
    (wrong_path, "C1"),
    (missing_child, "C2"),
    (phantom_more, "C2"),
    (refused_but_right, "C1"),
    (accepted_but_wrong, "G1"),
    (wrong_error, "C1"),
    (wrong_actual_version, "C1"),
    (failed_with_effect, "C3"),
    (applied_twice, "S4"),
    (out_of_nowhere, "G8"),
    (two_writes_one_zxid, "G1"),
    (write_before_its_cause, "C4"),
    (old_sync, "C4"),
    (no_zxid, "H1"),
    (future_zxid, "G3"),
    (backward_time, "Z10"),
    (ended_session_writes, "S1"),
]


@pytest.mark.parametrize(("lie", "invariant"), LIES, ids=lambda part: getattr(part, "__name__", part))
def test_a_lie_is_refused(lie: Callable[[History], None], invariant: str) -> None:
    history = deepcopy(story().history)
    assert check(history) == []

    lie(history)

    assert invariant in invariants(history)


def test_a_violation_names_the_invariant_the_operation_and_what_would_be_right() -> None:
    history = story().history
    stale_value(history)

    (violation,) = check(history)

    assert violation.records == [history.operations[3]]
    assert str(violation).startswith("C2: the wrong answer at zxid 2: right is Node(path='/a', value=b'two'")
    assert "ann #2 (session 1) Get(path='/a') -> ok at zxid 2: Node(path='/a', value=b'one'" in str(violation)


# -- what was never answered --------------------------------------------------------------------


def test_a_write_without_an_answer_may_have_been_carried_out() -> None:
    service = story()
    service.do("bob", Set("/a", b"perhaps"), answered=False)
    service.do("ann", Get("/a"))

    assert check(service.history) == []


def test_a_write_without_an_answer_may_be_lost() -> None:
    service = story()
    service.do("bob", Set("/a", b"perhaps"), answered=False, carried_out=False)
    service.do("ann", Get("/a"))

    assert check(service.history) == []


def test_a_write_without_an_answer_is_not_carried_out_twice() -> None:
    service = story()
    service.do("ann", Create("/a/x"))
    lost = service.do("bob", Delete("/a/x"), answered=False)
    service.do("ann", Create("/a/x"))
    service.do("bob", Delete("/a/x"), answered=False)
    assert check(service.history) == []

    service.history.operations.remove(lost)
    service.history.operations[-1].invoked_ns = service.now_ns

    assert "G8" in invariants(service.history)


def test_one_lost_write_cannot_explain_two_transactions() -> None:
    service = story()
    service.do("ann", Create("/a/x"))
    lost = service.do("bob", Delete("/a/x"), answered=False)
    service.do("ann", Create("/a/x"))
    again = service.do("bob", Delete("/a/x"), answered=False)
    service.history.operations.remove(again)
    lost.invoked_ns = 0

    assert "S4" in invariants(service.history)


def test_what_may_have_been_reaped_is_not_blamed_on_a_lost_write() -> None:
    """A lost delete took the first node; the second had a time to live, and its end looks the same."""
    service = story()
    service.do("ann", Create("/a/x"))
    service.do("bob", Delete("/a/x", version=0), answered=False)
    service.do("ann", Create("/a/x", b"", CreateMode.TTL, 500))
    service.now_ns += 1_000_000_000
    service.reap("/a/x")

    assert check(service.history) == []


def test_a_write_has_no_effect_before_it_was_called() -> None:
    service = story()
    lost = service.do("bob", Set("/a", b"perhaps"), answered=False)
    service.do("ann", Get("/a"))
    lost.invoked_ns = service.now_ns + 1

    assert "G8" in invariants(service.history)


def test_which_lost_write_did_what_is_not_guessed_too_early() -> None:
    service = story()
    early = service.do("bob", Delete("/c"), answered=False, carried_out=False)
    service.do("ann", Create("/c"))
    service.do("bob", Delete("/c"), answered=False)
    service.do("ann", Create("/c"))
    late = service.do("bob", Delete("/c"), answered=False)
    early.number, late.number = late.number, early.number
    service.history.operations.remove(early)
    service.history.operations.append(early)

    assert check(service.history) == []


def test_a_guarded_write_is_judged_with_its_guard() -> None:
    service = story()
    service.do("bob", Set("/a", b"guarded"), Guard("/a/e", 3))
    refused = service.do("bob", Set("/a", b"guarded"), Guard("/a/e", 2))
    assert check(service.history) == []
    assert refused.outcome == FAIL

    refused.guards = [Guard("/a/e", 3)]

    assert invariants(service.history) == ["C1"]


# -- consistency --------------------------------------------------------------------------------


@pytest.mark.parametrize("consistency", [SESSION, STALE])
def test_an_old_answer_is_right_for_those_who_asked_for_less(consistency: int) -> None:
    service = story()
    stale_read(service.history)
    service.history.operations[3].consistency = consistency

    assert check(service.history) == []


@pytest.mark.parametrize("consistency", [SESSION, STALE])
def test_also_an_old_answer_must_have_been_true_once(consistency: int) -> None:
    service = story()
    stale_value(service.history)
    service.history.operations[3].consistency = consistency

    assert invariants(service.history) == ["C2"]


def test_min_zxid_is_kept_at_every_consistency() -> None:
    service = story()
    stale_read(service.history)
    service.history.operations[3].consistency = STALE
    service.history.operations[3].min_zxid = 2

    assert invariants(service.history) == ["C2"]


# -- transactions, sessions, reaping ------------------------------------------------------------


def test_a_transaction_is_judged_as_a_whole() -> None:
    service = story()
    done = service.do("bob", Transaction([], [Set("/a", b"x"), Create("/b"), Get("/a")]))
    assert isinstance(done.result, TransactionResult)
    assert check(service.history) == []

    del service.history.committed[-1]

    assert invariants(service.history) == ["C1"]


def test_every_answer_within_a_transaction_counts() -> None:
    service = story()
    done = service.do("bob", Transaction([], [Delete("/a", recursive=True), Exists("/a")]))
    assert isinstance(done.result, TransactionResult)
    assert done.result.results[0] == Deleted(2)
    done.result.results[0] = Deleted(1)

    assert invariants(service.history) == ["C1"]


def test_a_transaction_that_only_looks_takes_no_zxid() -> None:
    service = story()
    looked = service.do("bob", Transaction([], [Exists("/nothing")]))
    assert check(service.history) == []
    assert isinstance(looked.result, TransactionResult)
    looked.result.results[0] = ExistsResult(service.history.committed[0].stat)

    assert invariants(service.history) == ["C1"]


@pytest.mark.parametrize("is_known", [True, False])
def test_a_session_ends_with_all_its_ephemerals_in_one_transaction(is_known: bool) -> None:
    service = story()
    service.do("ann", Create("/a/f", b"", mode=1))
    service.expire("ann")
    if not is_known:
        service.history.session_ends.clear()
    assert check(service.history) == []

    del service.history.committed[-1]

    assert "G8" in invariants(service.history)


def test_an_ephemeral_does_not_just_vanish() -> None:
    service = story()
    last = service.history.committed[2]
    service.do("ann", Create("/a/f", b"", mode=1))
    service.history.committed.append(replace(last, type=ChangeType.DELETED, zxid=5))

    assert "G8" in invariants(service.history)


def test_only_what_may_be_reaped_is_reaped() -> None:
    service = story()
    service.do("bob", Create("/box", b"", mode=4))
    service.do("bob", Create("/box/x"))
    service.do("bob", Delete("/box/x"))
    service.reap("/box")
    assert service.history.committed[-1].type is ChangeType.DELETED
    assert check(service.history) == []

    create = service.history.operations[-3].request
    assert isinstance(create, Create)
    create.mode = 0

    assert "G8" in invariants(service.history)


def test_an_unknown_outcome_is_not_a_wrong_one() -> None:
    service = story()
    refused = service.history.operations[6]
    refused.outcome, refused.result = UNKNOWN, Failure(ErrorCode.SESSION_EXPIRED, "")

    assert check(service.history) == []


@pytest.mark.parametrize("is_known", [True, False])
def test_what_lingers_leaves_a_grave_when_its_session_expires(is_known: bool) -> None:
    service = story()
    service.do("ann", Create("/a/f", b"who", mode=1, ttl_ms=500))
    service.expire("ann")
    service.do("bob", Get("/a/f"))
    service.now_ns += 1_000_000_000
    service.reap("/a/f")
    if not is_known:
        service.history.session_ends.clear()
    assert [change.type for change in service.history.committed[-4:]] == [
        ChangeType.DELETED,
        ChangeType.DELETED,
        ChangeType.CREATED,
        ChangeType.DELETED,
    ]
    assert check(service.history) == []

    grave = service.history.committed[-2]
    service.history.committed[-2] = replace(grave, value=b"somebody else")

    assert "G8" in invariants(service.history)


def test_a_grave_of_a_session_that_was_closed_is_found() -> None:
    service = story()
    service.do("ann", Create("/a/f", b"", mode=1, ttl_ms=500))
    service.expire("ann")
    service.history.session_ends[0].was_closed = True

    assert "G8" in invariants(service.history)


def test_a_missing_grave_is_found() -> None:
    service = story()
    service.do("ann", Create("/a/f", b"", mode=1, ttl_ms=500))
    service.expire("ann")
    del service.history.committed[-1]

    assert "G8" in invariants(service.history)


def test_a_grave_of_what_does_not_linger_is_found() -> None:
    service = story()
    lingering = service.do("ann", Create("/a/f", b"", mode=1, ttl_ms=500))
    service.expire("ann")
    assert isinstance(lingering.request, Create)
    lingering.request.ttl_ms = 0

    assert "G8" in invariants(service.history)

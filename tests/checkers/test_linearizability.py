"""The search over trees accepts honest histories without their zxids, and refuses impossible answers."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest

from coordsvc.statemachine.commands import (
    Check,
    Compare,
    Create,
    Delete,
    Exists,
    Get,
    Guard,
    Set,
    Transaction,
)
from coordsvc.statemachine.results import (
    Created,
    Deleted,
    ErrorCode,
    ExistsResult,
    Failure,
    Node,
    TransactionResult,
    WasSet,
)
from tests.checkers.history import FAIL, OK, STALE, History
from tests.checkers.honest_service import HonestService
from tests.checkers.linearizability import check, parts
from tests.checkers.random_history import RandomHistory

SUBTREES = ["/k1", "/k1/a", "/k1/b", "/k1/a/a", "/k2", "/k2/a", "/k3", "/k3/x"]


def invariants(history: History) -> list[str]:
    return [violation.invariant for violation in check(history)]


@pytest.mark.parametrize("seed", range(12))
def test_what_an_honest_service_does_is_accepted(seed: int) -> None:
    history = RandomHistory(seed, SUBTREES, transactions=False, lost=0.04).make(250)
    for operation in history.operations:
        operation.zxid = 1 if operation.zxid is not None else None
    history.committed.clear()

    assert check(history) == []


@pytest.mark.parametrize("seed", range(12))
def test_also_with_transactions_in_a_single_subtree(seed: int) -> None:
    history = RandomHistory(seed, ["/k1", "/k1/a", "/k1/b", "/k1/a/a"], lost=0.04).make(120)

    assert "C1" not in invariants(history)


@pytest.mark.parametrize("seed", range(12))
def test_one_wrong_value_in_a_random_history_is_found(seed: int) -> None:
    history = RandomHistory(seed, SUBTREES, transactions=False, lost=0.02).make(150)
    reads = [
        operation
        for operation in history.operations
        if isinstance(operation.result, Node) and operation.consistency == 0
    ]
    read = reads[len(reads) // 2]
    assert isinstance(read.result, Node)
    read.result = replace(read.result, value=b"nobody wrote this")

    assert invariants(history) in (["C1"], ["C1?"])


def story() -> HonestService:
    service = HonestService()
    service.open("ann")
    service.open("bob")
    service.do("ann", Create("/a", b"one"))
    service.do("bob", Get("/a"))
    service.do("bob", Set("/a", b"two", 0))
    service.do("ann", Get("/a"))
    service.do("ann", Create("/a/n-", b"", mode=3))
    service.do("bob", Set("/a", b"never", 0))
    service.do("bob", Transaction([Compare("/a", 8, 0, value=b"two")], [Delete("/a", recursive=True)], []))
    service.do("ann", Exists("/a"))
    return service


def stale_read(history: History) -> None:
    history.operations[3].result = history.operations[1].result


def future_read(history: History) -> None:
    history.operations[1].result = history.operations[3].result


def lost_write(history: History) -> None:
    """Bob's transaction was acknowledged; Ann still sees the node."""
    assert isinstance(history.operations[2].result, WasSet)
    history.operations[7].result = ExistsResult(history.operations[2].result.stat)


def repeated_write(history: History) -> None:
    """Bob's set was applied twice: the version jumps."""
    history.operations[2].request = Set("/a", b"two")
    node = history.operations[3].result
    assert isinstance(node, Node)
    history.operations[3].result = replace(node, stat=replace(node.stat, version=2))


def two_winners(history: History) -> None:
    """Both conditional sets of version 0 succeeded."""
    history.operations[5].outcome = OK
    history.operations[5].result = history.operations[2].result


def wrong_refusal(history: History) -> None:
    history.operations[2].outcome = FAIL
    history.operations[2].result = Failure(ErrorCode.BAD_VERSION, "", "/a", 0, 1)
    history.operations[3].result = history.operations[1].result


def wrong_error(history: History) -> None:
    history.operations[5].result = Failure(ErrorCode.NO_NODE, "", "/a")


def wrong_number(history: History) -> None:
    created = history.operations[4].result
    assert isinstance(created, Created)
    history.operations[4].result = replace(created, path="/a/n-0000000007")


def wrong_count(history: History) -> None:
    told = history.operations[6].result
    assert isinstance(told, TransactionResult)
    told.results = [Deleted(1)]


def wrong_branch(history: History) -> None:
    history.operations[6].result = TransactionResult(succeeded=False, results=[])


LIES: list[Callable[[History], None]] = [
    stale_read,
    future_read,
    lost_write,
    repeated_write,
    two_winners,
    wrong_refusal,
    wrong_error,
    wrong_number,
    wrong_count,
    wrong_branch,
]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: str(lie.__name__))
def test_a_lie_is_refused(lie: Callable[[History], None]) -> None:
    history = deepcopy(story().history)
    assert check(history) == []

    lie(history)

    assert invariants(history) == ["C1"]


def test_a_violation_names_the_operations() -> None:
    history = story().history
    stale_read(history)

    (violation,) = check(history)

    assert violation.records == [history.operations[3]]
    assert str(violation).startswith("C1: /a: no order explains the answers; none of these can be the next:")


def test_reads_that_asked_for_less_are_not_judged() -> None:
    history = story().history
    stale_read(history)
    history.operations[3].consistency = STALE

    assert check(history) == []


def test_a_stale_value_is_right_while_the_operations_overlap() -> None:
    history = story().history
    stale_read(history)
    history.operations[3].invoked_ns = history.operations[2].invoked_ns

    assert check(history) == []


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_write_without_an_answer_may_or_may_not_count(*, carried_out: bool) -> None:
    service = story()
    service.do("bob", Create("/a", b"perhaps"), answered=False, carried_out=carried_out)
    service.do("ann", Exists("/a"))

    assert check(service.history) == []


def test_a_write_without_an_answer_counts_once() -> None:
    service = story()
    service.do("ann", Create("/b", b""))
    lost = service.do("bob", Delete("/b"), answered=False)
    service.do("ann", Create("/b", b""))
    service.do("bob", Delete("/b"))
    assert check(service.history) == []
    service.do("ann", Exists("/b"))

    service.history.operations.remove(lost)

    assert invariants(service.history) == ["C1"]


def test_an_ephemeral_goes_with_its_session_and_not_before() -> None:
    service = story()
    service.do("ann", Create("/e", b"", mode=1))
    service.close("ann")
    service.do("bob", Exists("/e"))
    assert check(service.history) == []

    service.history.operations[-2].request = Create("/e", b"")
    created = service.history.operations[-2].result
    assert isinstance(created, Created)
    created.stat.ephemeral_owner = 0

    assert invariants(service.history) == ["C1"]


def test_an_ephemeral_must_be_gone_when_its_session_was_closed() -> None:
    service = story()
    created = service.do("ann", Create("/e", b"", mode=1)).result
    assert isinstance(created, Created)
    service.close("ann")
    gone = service.do("bob", Exists("/e"))
    gone.result = ExistsResult(created.stat)

    assert invariants(service.history) == ["C1"]


@pytest.mark.parametrize("mode", [1, 3])
def test_what_lingers_may_be_there_after_its_session_and_belongs_to_nobody(mode: int) -> None:
    service = story()
    created = service.do("ann", Create("/a/e", b"who", mode=mode, ttl_ms=500, parents=True)).result
    assert isinstance(created, Created)
    service.expire("ann")
    grave = service.do("bob", Exists(created.path))
    service.now_ns += 1_000_000_000
    service.reap(created.path)
    service.do("bob", Exists(created.path))
    assert check(service.history) == []

    grave.result = ExistsResult(replace(created.stat, version=1, ephemeral_owner=0))

    assert invariants(service.history) == ["C1"]


def test_a_session_that_was_closed_leaves_nothing_that_lingers() -> None:
    service = story()
    created = service.do("ann", Create("/e", b"", mode=1, ttl_ms=500)).result
    assert isinstance(created, Created)
    service.close("ann")
    gone = service.do("bob", Exists("/e"))
    assert check(service.history) == []

    gone.result = ExistsResult(replace(created.stat, ephemeral_owner=0))

    assert invariants(service.history) == ["C1"]


def test_a_container_may_be_reaped() -> None:
    service = story()
    service.do("bob", Create("/box", b"", mode=4))
    service.do("bob", Create("/box/x"))
    service.do("bob", Delete("/box/x"))
    service.reap("/box")
    service.do("bob", Exists("/box"))
    assert check(service.history) == []

    assert isinstance(service.history.operations[-4].request, Create)
    service.history.operations[-4].request.mode = 0

    assert invariants(service.history) == ["C1"]


def test_what_hangs_on_zxids_is_believed() -> None:
    service = HonestService()
    service.do("ann", Create("/a"))
    service.do("ann", Set("/a", b"x"), Guard("/a", 1))
    service.do("ann", Set("/a", b"y"), Guard("/a", 7))
    service.do("ann", Transaction([Compare("/a", 3, 0, 9)], [Set("/a", b"!")], [Set("/a", b"z")]))
    service.do("ann", Transaction([], [Check("/a", czxid=9), Set("/a", b"!")]))
    service.do("ann", Get("/a"))

    assert check(service.history) == []


def test_subtrees_are_judged_apart_and_transactions_join_them() -> None:
    service = HonestService()
    for path in ("/a", "/b", "/c"):
        service.do("ann", Create(path))
    assert sorted(parts(service.history)) == ["/a", "/b", "/c"]

    service.do("ann", Transaction([], [Set("/a", b"x"), Set("/b", b"x")]))

    assert sorted(map(len, parts(service.history).values())) == [1, 3]
    assert check(service.history) == []


def test_a_transaction_takes_effect_as_a_whole() -> None:
    service = HonestService()
    service.do("ann", Create("/a"))
    service.do("ann", Create("/b"))
    service.do("ann", Transaction([], [Delete("/a"), Delete("/b")]), answered=False)
    service.do("ann", Exists("/a"))
    service.do("ann", Exists("/b"))
    assert check(service.history) == []

    created = service.history.operations[1].result
    assert isinstance(created, Created)
    service.history.operations[-1].result = ExistsResult(created.stat)

    assert invariants(service.history) == ["C1"]


def test_numbers_below_the_root_are_believed_once_told_or_met() -> None:
    service = HonestService()
    service.open("ann")
    service.do("ann", Create("/x"))
    service.do("ann", Create("/n-", mode=2))
    service.do("ann", Create("/n-", mode=2), answered=False)
    service.do("ann", Exists("/n-0000000002"))
    service.do("ann", Exists("/n-0000000001"))
    assert check(service.history) == []

    del service.history.operations[2]

    assert invariants(service.history) == ["C1"]


def test_a_search_that_gives_up_is_no_pass() -> None:
    assert [violation.invariant for violation in check(story().history, budget=3)] == ["C1?"]

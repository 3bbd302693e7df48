"""Transactions: etcd's shape, ZooKeeper's multi as the special case, all or nothing."""

from __future__ import annotations

from typing import cast

import pytest

from coordsvc.statemachine.changes import ChangeType
from coordsvc.statemachine.commands import (
    Check,
    Compare,
    CompareOperator,
    CompareTarget,
    Create,
    Delete,
    Exists,
    Get,
    ListChildren,
    Set,
    Transaction,
    TransactionOp,
    Unknown,
)
from coordsvc.statemachine.results import (
    Checked,
    Children,
    Created,
    Deleted,
    ErrorCode,
    ExistsResult,
    Node,
    TransactionResult,
    WasSet,
)
from coordsvc.statemachine.types import CreateMode, Limits
from tests.unit.statemachine.driver import Driver

EQUAL, NOT_EQUAL, LESS, GREATER = CompareOperator


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.create("/a", b"m")
    return driver


def holds(driver: Driver, *compares: Compare) -> bool:
    result = driver.write(Transaction(compares=list(compares))).result
    assert isinstance(result, TransactionResult), result
    return result.succeeded


# -- all or nothing -----------------------------------------------------------------------------


def test_every_operation_answers_and_sees_the_ones_before_it(driver: Driver) -> None:
    result = driver.transact(
        Create("/a/b", b"1"),
        Set("/a/b", b"2", 0),
        Check("/a/b", 1),
        Get("/a/b"),
        ListChildren("/a"),
        Delete("/a/b", 1),
        Exists("/a/b"),
    )
    created, was_set, checked, node, children, deleted, exists = result.results
    assert isinstance(created, Created)
    assert isinstance(was_set, WasSet)
    assert isinstance(checked, Checked)
    assert isinstance(node, Node)
    assert isinstance(children, Children)
    assert (created.stat.version, was_set.stat.version, node.value) == (0, 1, b"2")
    assert (children.names, children.stat.num_children) == (["b"], 1)
    assert deleted == Deleted(1)
    assert exists == ExistsResult(None)


def test_all_changes_share_one_zxid_and_stand_in_the_order_of_the_operations(driver: Driver) -> None:
    outcome = driver.write(
        Transaction(success=[Create("/z"), Set("/z", b"1"), Create("/b"), Set("/a", b"2"), Delete("/z")])
    )
    assert [(change.type, change.path) for change in outcome.changes] == [
        (ChangeType.CREATED, "/z"),
        (ChangeType.CHANGED, "/z"),
        (ChangeType.CREATED, "/b"),
        (ChangeType.CHANGED, "/a"),
        (ChangeType.DELETED, "/z"),
    ]
    assert {change.zxid for change in outcome.changes} == {2} == {outcome.zxid}
    assert driver.machine.zxid == 2


def test_a_failing_operation_undoes_the_ones_before_it(driver: Driver) -> None:
    session = driver.open_session()
    operations: list[TransactionOp] = [
        Set("/a", b"new"),
        Create("/a/e", mode=CreateMode.EPHEMERAL),
        Create("/x/y/z", parents=True),
        Delete("/a", 7),
        Create("/b"),
    ]
    refusal = driver.refusal(Transaction(success=operations), session)
    assert refusal.code == ErrorCode.TRANSACTION_FAILED
    assert refusal.failed_index == 3
    assert refusal.path == "/a"
    assert (refusal.expected_version, refusal.actual_version) == (7, 1)
    assert refusal.op_codes == [
        ErrorCode.OK,
        ErrorCode.OK,
        ErrorCode.OK,
        ErrorCode.BAD_VERSION,
        ErrorCode.RUNTIME_INCONSISTENCY,
    ]
    assert refusal.message.startswith(
        "nothing was changed: operation 3 (delete /a) failed: /a has version 1, not 7"
    )
    assert driver.children("/") == ["a"]
    assert driver.node("/a").value == b"m"
    assert driver.end_session(session) == []


def test_the_path_of_the_failure_is_that_of_the_operation(driver: Driver) -> None:
    refusal = driver.refusal(Transaction(success=[Create("/missing/x")]))
    assert refusal.path == "/missing/x"
    assert "there is no /missing" in refusal.message


def test_sequential_names_after_a_failed_transaction(driver: Driver) -> None:
    """One of the points that ZooKeeper's tests pin: the numbers are not used up."""
    create = Create("/a/n-", mode=CreateMode.PERSISTENT_SEQUENTIAL)
    driver.refusal(Transaction(success=[create, create, Check("/no")]))
    result = driver.transact(create, create)
    assert [made.path for made in result.results if isinstance(made, Created)] == [
        "/a/n-0000000000",
        "/a/n-0000000001",
    ]


def test_a_path_touched_again_and_again_counts_right(driver: Driver) -> None:
    """ZOOKEEPER-4695: the same path several times in one multi spoiled the digest there."""
    driver.transact(
        Delete("/a"),
        Create("/a", b"1"),
        Delete("/a"),
        Create("/a", b"2"),
        Set("/a", b"3"),
        Create("/a/b"),
        Delete("/a/b"),
    )
    assert driver.node("/a").value == b"3"
    assert driver.stat("/a").cversion == 2
    assert driver.stat("/").cversion == 5


def test_a_transaction_of_reads_and_checks_uses_no_zxid(driver: Driver) -> None:
    outcome = driver.write(Transaction(success=[Check("/a"), Get("/a"), Exists("/b"), ListChildren("/")]))
    assert isinstance(outcome.result, TransactionResult)
    assert (outcome.zxid, outcome.changes) == (1, [])
    assert driver.machine.zxid == 1


def test_an_empty_transaction_succeeds(driver: Driver) -> None:
    assert driver.transact() == TransactionResult(succeeded=True, results=[])


def test_reads_in_a_transaction_can_fail_it(driver: Driver) -> None:
    for read in (Get("/no"), ListChildren("/no"), Get("no"), Exists("no")):
        refusal = driver.refusal(Transaction(success=[Set("/a", b"x"), read]))
        assert refusal.failed_index == 1


# -- compares -----------------------------------------------------------------------------------


def test_compares_choose_the_branch(driver: Driver) -> None:
    transaction = Transaction(
        compares=[Compare("/a", CompareTarget.VALUE, EQUAL, value=b"m")],
        success=[Set("/a", b"n")],
        failure=[Create("/else")],
    )
    first = driver.write(transaction).result
    assert isinstance(first, TransactionResult)
    assert first.succeeded
    assert isinstance(first.results[0], WasSet)
    second = driver.write(transaction).result
    assert isinstance(second, TransactionResult)
    assert not second.succeeded
    assert isinstance(second.results[0], Created)
    assert driver.node("/a").value == b"n"


def test_all_compares_must_hold(driver: Driver) -> None:
    exists = Compare("/a", CompareTarget.EXISTS, EQUAL, 1)
    missing = Compare("/b", CompareTarget.EXISTS, EQUAL, 0)
    wrong = Compare("/a", CompareTarget.VERSION, GREATER, 0)
    assert holds(driver, exists, missing)
    assert not holds(driver, exists, missing, wrong)
    assert not holds(driver, wrong, exists)


def test_compares_look_at_the_state_before_the_transaction(driver: Driver) -> None:
    result = driver.write(
        Transaction([Compare("/b", CompareTarget.EXISTS, EQUAL, 0)], [Create("/b")], [Check("/b")])
    ).result
    assert isinstance(result, TransactionResult)
    assert result.succeeded


def test_a_failing_operation_of_the_else_branch_fails_the_transaction(driver: Driver) -> None:
    never = Compare("/a", CompareTarget.EXISTS, EQUAL, 0)
    refusal = driver.refusal(Transaction([never], [Set("/a", b"x")], [Create("/b"), Create("/b")]))
    assert refusal.op_codes == [ErrorCode.OK, ErrorCode.NODE_EXISTS]


@pytest.mark.parametrize(
    ("target", "number"),
    [
        (CompareTarget.EXISTS, 1),
        (CompareTarget.VERSION, 1),
        (CompareTarget.CVERSION, 3),
        (CompareTarget.CZXID, 2),
        (CompareTarget.MZXID, 3),
        (CompareTarget.PZXID, 6),
        (CompareTarget.EPHEMERAL_OWNER, 0),
        (CompareTarget.NUM_CHILDREN, 1),
    ],
)
def test_each_number_is_compared_in_each_way(driver: Driver, target: CompareTarget, number: int) -> None:
    driver.create("/n")
    driver.set("/n")
    driver.create("/n/x")
    driver.create("/n/y")
    driver.delete("/n/x")
    for operator, below, same, above in (
        (EQUAL, False, True, False),
        (NOT_EQUAL, True, False, True),
        (LESS, False, False, True),
        (GREATER, True, False, False),
    ):
        assert holds(driver, Compare("/n", target, operator, number - 1)) is below
        assert holds(driver, Compare("/n", target, operator, number)) is same
        assert holds(driver, Compare("/n", target, operator, number + 1)) is above


def test_the_owner_of_an_ephemeral_node_is_compared(driver: Driver) -> None:
    session = driver.open_session()
    driver.create("/e", mode=CreateMode.EPHEMERAL, session=session)
    assert holds(driver, Compare("/e", CompareTarget.EPHEMERAL_OWNER, EQUAL, session.session_id))


def test_values_are_compared_as_bytes(driver: Driver) -> None:
    def value(operator: CompareOperator, other: bytes) -> bool:
        return holds(driver, Compare("/a", CompareTarget.VALUE, operator, value=other))

    assert value(EQUAL, b"m")
    assert not value(EQUAL, b"")
    assert value(NOT_EQUAL, b"mm")
    assert value(LESS, b"m\0")
    assert not value(LESS, b"m")
    assert value(GREATER, b"lzz")
    assert not value(GREATER, b"\xff")


@pytest.mark.parametrize("target", [target for target in CompareTarget if target != CompareTarget.VALUE])
def test_every_number_of_a_missing_node_is_minus_one_but_that_it_exists(
    driver: Driver, target: CompareTarget
) -> None:
    number = 0 if target == CompareTarget.EXISTS else -1
    assert holds(driver, Compare("/b", target, EQUAL, number))
    assert not holds(driver, Compare("/b", target, NOT_EQUAL, number))
    assert holds(driver, Compare("/b", target, LESS, number + 1))
    assert holds(driver, Compare("/b", target, GREATER, number - 1))


def test_a_missing_value_equals_none_and_is_less_than_all(driver: Driver) -> None:
    for value in (b"", b"x"):
        expected = {EQUAL: False, NOT_EQUAL: True, LESS: True, GREATER: False}
        for operator, outcome in expected.items():
            assert holds(driver, Compare("/b", CompareTarget.VALUE, operator, value=value)) is outcome


# -- what is refused as a whole -----------------------------------------------------------------


def test_too_many_of_anything_is_refused(driver: Driver) -> None:
    compare = Compare("/a", CompareTarget.EXISTS, EQUAL, 1)
    for transaction in (
        Transaction(compares=[compare] * 129),
        Transaction(success=[Check("/a")] * 129),
        Transaction(failure=[Check("/a")] * 129),
    ):
        refusal = driver.refusal(transaction)
        assert refusal.code == ErrorCode.LIMIT_EXCEEDED
        assert "128" in refusal.message
        assert "129" in refusal.message
    assert isinstance(
        driver.write(Transaction([compare] * 128, [Check("/a")] * 128, [Check("/a")] * 128)).result,
        TransactionResult,
    )


@pytest.mark.parametrize("nested", [Transaction(), Unknown(), None])
def test_what_is_no_operation_is_refused_even_in_the_branch_not_taken(driver: Driver, nested: object) -> None:
    operation = cast("TransactionOp", nested)
    for transaction in (
        Transaction(success=[operation]),
        Transaction(success=[Set("/a")], failure=[operation]),
    ):
        refusal = driver.refusal(transaction)
        assert (refusal.code, refusal.failed_index) == (ErrorCode.INVALID_ARGUMENT, None)


@pytest.mark.parametrize(("target", "operator"), [(9, 0), (-1, 0), (0, 4), (0, -1)])
def test_unknown_compares_are_refused(driver: Driver, target: int, operator: int) -> None:
    compares = [Compare("/a", CompareTarget.EXISTS, EQUAL, 0), Compare("/a", target, operator)]
    refusal = driver.refusal(Transaction(compares=compares))
    assert refusal.code == ErrorCode.INVALID_ARGUMENT
    assert "compare 1" in refusal.message


def test_a_transaction_deletes_no_more_than_one_recursive_delete_may() -> None:
    driver = Driver(Limits(recursive_delete_nodes=4))
    for path in ("/a", "/a/x", "/a/y", "/b", "/b/x"):
        driver.create(path)
    refusal = driver.refusal(
        Transaction(success=[Delete("/a", recursive=True), Delete("/b", recursive=True)])
    )
    assert refusal.op_codes == [ErrorCode.OK, ErrorCode.LIMIT_EXCEEDED]

"""Transactions: compares choose a branch, and all of the branch happens or none.

Rule of this file: what is wrong with the transaction itself is refused before anything is looked at; what is
wrong with one operation of the chosen branch is reported as ZooKeeper's multi does, with a code an operation.
"""

from __future__ import annotations

from collections.abc import Callable

from coordsvc.statemachine import failures
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
)
from coordsvc.statemachine.operations import Operations
from coordsvc.statemachine.paths import clip
from coordsvc.statemachine.reads import Room, read_in_transaction
from coordsvc.statemachine.results import ErrorCode, Failure, OpResult, TransactionResult
from coordsvc.statemachine.types import Limits, Stat
from coordsvc.statemachine.znodes import Znode

_KNOWN: tuple[type, ...] = (Create, Set, Delete, Check, Get, Exists, ListChildren)
_TARGETS = frozenset(int(target) for target in CompareTarget)
_OPERATORS = frozenset(int(operator) for operator in CompareOperator)
_MISSING = -1  # every number of a node that does not exist

_NUMBERS: dict[int, Callable[[Stat], int]] = {
    CompareTarget.VERSION: lambda stat: stat.version,
    CompareTarget.CVERSION: lambda stat: stat.cversion,
    CompareTarget.CZXID: lambda stat: stat.czxid,
    CompareTarget.MZXID: lambda stat: stat.mzxid,
    CompareTarget.PZXID: lambda stat: stat.pzxid,
    CompareTarget.EPHEMERAL_OWNER: lambda stat: stat.ephemeral_owner,
    CompareTarget.NUM_CHILDREN: lambda stat: stat.num_children,
}


def carry_out(operations: Operations, transaction: Transaction) -> TransactionResult | Failure:
    """Carry out the branch that the compares choose, or refuse all of it."""
    refusal = _refuse(operations.limits, transaction)
    if refusal is not None:
        return refusal
    succeeded = all(_holds(operations.tree.find(each.path), each) for each in transaction.compares)
    branch = transaction.success if succeeded else transaction.failure
    mark = operations.tree.mark()
    room = Room(operations.limits.children_page_bytes)
    results: list[OpResult] = []
    for index, operation in enumerate(branch):
        result = _carry_out_one(operations, operation, room)
        if isinstance(result, Failure):
            operations.tree.roll_back(mark)
            operations.changes.clear()
            return _failed(branch, index, result)
        results.append(result)
    return TransactionResult(succeeded, results)


def _refuse(limits: Limits, transaction: Transaction) -> Failure | None:
    """Return what is wrong with the transaction itself, or None."""
    for what, count in (
        ("compares", len(transaction.compares)),
        ("operations", len(transaction.success)),
        ("operations in its else branch", len(transaction.failure)),
    ):
        if count > limits.transaction_ops:
            return failures.limit_exceeded(
                "", f"a transaction may have {limits.transaction_ops} {what}, not {count}"
            )
    for index, compare in enumerate(transaction.compares):
        if compare.target not in _TARGETS or compare.operator not in _OPERATORS:
            reason = f"compare {index} has the unknown target {compare.target} or operator {compare.operator}"
            return failures.invalid_argument(compare.path, reason)
    for branch in (transaction.success, transaction.failure):
        for index, operation in enumerate(branch):
            if not isinstance(operation, _KNOWN):
                return failures.invalid_argument(
                    "", f"operation {index} is of no kind that a transaction may hold"
                )
    return None


def _carry_out_one(operations: Operations, operation: TransactionOp, room: Room) -> OpResult | Failure:
    match operation:
        case Create():
            return operations.create(operation)
        case Set():
            return operations.set(operation)
        case Delete():
            return operations.delete(operation)
        case Check():
            return operations.check(operation)
        case Get() | Exists() | ListChildren():
            return read_in_transaction(operations.tree, operations.limits, operation, room)


def _failed(branch: list[TransactionOp], index: int, cause: Failure) -> Failure:
    """Tell which operation failed and why, and that none was carried out."""
    operation = branch[index]
    path = clip(operation.path, 4096)
    name = type(operation).__name__.lower()
    after = len(branch) - index - 1
    return Failure(
        ErrorCode.TRANSACTION_FAILED,
        f"nothing was changed: operation {index} ({name} {path}) failed: {cause.message}",
        path,
        cause.expected_version,
        cause.actual_version,
        index,
        [ErrorCode.OK] * index + [cause.code] + [ErrorCode.RUNTIME_INCONSISTENCY] * after,
    )


def _holds(node: Znode | None, compare: Compare) -> bool:
    """Whether one compare holds. Of a missing node every number is -1, and the value is less than all."""
    if compare.target == CompareTarget.VALUE:
        if node is None:
            return compare.operator in (CompareOperator.LESS, CompareOperator.NOT_EQUAL)
        return _stand(compare.operator, node.value, compare.value)
    if compare.target == CompareTarget.EXISTS:
        return _stand(compare.operator, int(node is not None), compare.number)
    number = _MISSING if node is None else _NUMBERS[compare.target](node.stat)
    return _stand(compare.operator, number, compare.number)


def _stand(operator: int, left: int | bytes, right: int | bytes) -> bool:
    """Whether two numbers, or two values, stand in the relation."""
    if operator == CompareOperator.EQUAL:
        return left == right
    if operator == CompareOperator.NOT_EQUAL:
        return left != right
    if isinstance(left, int) and isinstance(right, int):
        return left < right if operator == CompareOperator.LESS else left > right
    assert isinstance(left, bytes), "numbers are compared with numbers"
    assert isinstance(right, bytes), "values are compared with values"
    return left < right if operator == CompareOperator.LESS else left > right

"""Small judgements that several checkers share: does an answer agree, what may a write have done, when.

Rule of this file: pure functions of records. What a client was told is compared in full, except the words of
messages and the paths of refused arguments, which are for people.
"""

from __future__ import annotations

from bisect import bisect_left

from coordsvc.statemachine.commands import Create, Delete, Set, Transaction
from coordsvc.statemachine.results import Children, ErrorCode, Failure, TransactionResult
from tests.checkers.history import FAIL, OK, History, Operation, Result

# Refusals that follow from the state of the tree alone, so that a model must come to the same.
JUDGED_CODES = frozenset(
    {
        ErrorCode.NO_NODE,
        ErrorCode.NODE_EXISTS,
        ErrorCode.BAD_VERSION,
        ErrorCode.NOT_EMPTY,
        ErrorCode.NO_CHILDREN_FOR_EPHEMERALS,
        ErrorCode.INVALID_PATH,
        ErrorCode.INVALID_ARGUMENT,
        ErrorCode.GUARD_FAILED,
        ErrorCode.TRANSACTION_FAILED,
        ErrorCode.SESSION_REQUIRED,
        ErrorCode.CHECK_FAILED,
    }
)
_PATHLESS_CODES = (ErrorCode.INVALID_PATH, ErrorCode.INVALID_ARGUMENT)
_CHANGING = (Create, Set, Delete)


def is_answered(operation: Operation) -> bool:
    """Whether the state machine answered, so that the answer can be judged at its zxid."""
    if operation.outcome == OK:
        return True
    result = operation.result
    if operation.outcome != FAIL or not isinstance(result, Failure) or operation.zxid is None:
        return False
    return result.code in JUDGED_CODES and ErrorCode.LIMIT_EXCEEDED not in result.op_codes


def has_changed(operation: Operation) -> bool:
    """Whether an answered operation says that it changed something."""
    if operation.outcome != OK:
        return False
    request = operation.request
    if not isinstance(request, Transaction):
        return isinstance(request, _CHANGING)
    result = operation.result
    succeeded = isinstance(result, TransactionResult) and result.succeeded
    branch = request.success if succeeded else request.failure
    return any(isinstance(each, _CHANGING) for each in branch)


def agrees(told: Result | None, expected: Result) -> bool:
    """Whether the client was told what is right."""
    if isinstance(told, Failure) and isinstance(expected, Failure):
        return (
            told.code == expected.code
            and (told.path == expected.path or told.code in _PATHLESS_CODES)
            and told.expected_version == expected.expected_version
            and told.actual_version == expected.actual_version
            and told.failed_index == expected.failed_index
            and told.op_codes == expected.op_codes
        )
    if isinstance(told, Children) and isinstance(expected, Children):
        return _pages_agree(told, expected)
    if isinstance(told, TransactionResult) and isinstance(expected, TransactionResult):
        return (
            told.succeeded == expected.succeeded
            and len(told.results) == len(expected.results)
            and all(map(agrees, told.results, expected.results))
        )
    return told == expected


def _pages_agree(told: Children, expected: Children) -> bool:
    """A page may be shorter than what was asked for, if it says that there is more."""
    count = len(told.names)
    if told.stat != expected.stat or told.names != expected.names[:count]:
        return False
    if told.nodes != expected.nodes[: len(told.nodes)] or (expected.nodes and len(told.nodes) != count):
        return False
    is_whole = count == len(expected.names)
    return told.more == expected.more if is_whole else told.more and count > 0


class SeenZxids:
    """The newest transaction that anybody is known to have seen before a given moment."""

    def __init__(self, sightings: list[tuple[int, int]]) -> None:
        """Take pairs of a time and a zxid that somebody had seen by then."""
        self._times: list[int] = []
        self._zxids: list[int] = []
        newest = 0
        for time_ns, zxid in sorted(sightings):
            if zxid > newest:
                newest = zxid
                self._times.append(time_ns)
                self._zxids.append(zxid)

    def before(self, time_ns: int) -> int:
        """Return the newest zxid seen strictly before that moment."""
        found = bisect_left(self._times, time_ns)
        return self._zxids[found - 1] if found else 0

    def seen_ns(self, zxid: int) -> int | None:
        """Return when this transaction, or a later one, was first seen; None: never."""
        found = bisect_left(self._zxids, zxid)
        return self._times[found] if found < len(self._zxids) else None


def sightings(history: History) -> list[tuple[int, int]]:
    """Return when anybody was told of which zxid: by an answer, or by an event."""
    seen = [
        (operation.completed_ns, operation.zxid)
        for operation in history.operations
        if operation.completed_ns is not None and operation.zxid is not None and is_answered(operation)
    ]
    seen += [(event.arrived_ns, event.zxid) for watch in history.watches for event in watch.events]
    return seen


def begun_ns(history: History) -> list[int]:
    """Return by zxid before which moment it cannot have been committed: its write was not called yet."""
    newest = max((change.zxid for change in history.committed), default=0)
    begun = [0] * (newest + 1)
    for operation in history.operations:
        zxid = operation.zxid
        if zxid is not None and 0 < zxid <= newest and has_changed(operation):
            begun[zxid] = operation.invoked_ns
    for zxid in range(1, newest + 1):
        begun[zxid] = max(begun[zxid], begun[zxid - 1])
    return begun


def describe(operation: Operation) -> str:
    """Tell of one operation in one line."""
    request = operation.request
    told: object = operation.result
    if isinstance(told, Failure):
        told = f"{told.code.name} {told.path}".strip()
    zxid = "" if operation.zxid is None else f" at zxid {operation.zxid}"
    sequence = f" sequence {operation.sequence}" if operation.sequence else ""
    return (
        f"{operation.client} #{operation.number} (session {operation.session}{sequence}) {request}"
        f" -> {operation.outcome}{zxid}: {told}"
    )

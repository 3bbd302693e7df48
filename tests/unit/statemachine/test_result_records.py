"""The record of an answer: every kind comes back equal, every truncation is refused."""

from __future__ import annotations

import pytest

from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.result_records import decode_result, encode_result
from coordsvc.statemachine.results import (
    Checked,
    Children,
    Created,
    Deleted,
    ErrorCode,
    ExistsResult,
    Failure,
    Node,
    TransactionResult,
    WasSet,
    WriteResult,
)
from coordsvc.statemachine.types import Stat

STAT = Stat(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
NODE = Node("/a", b"value", STAT)

RESULTS: list[WriteResult] = [
    Created("/a/\U0001f512", STAT),
    WasSet(STAT),
    Deleted(10_000),
    TransactionResult(succeeded=False, results=[]),
    TransactionResult(
        succeeded=True,
        results=[
            Created("/a", STAT),
            WasSet(STAT),
            Deleted(1),
            Checked(),
            NODE,
            ExistsResult(None),
            ExistsResult(STAT),
            Children(["b", "c"], [], STAT, more=True),
            Children(["b"], [NODE], STAT, more=False),
        ],
    ),
    Failure(ErrorCode.NO_NODE, "there is no node /a", "/a"),
    Failure(ErrorCode.INVALID_PATH, "no text: \ud800", "\ud800"),
    Failure(ErrorCode.BAD_VERSION, "no", "/a", expected_version=0, actual_version=-5),
    Failure(
        ErrorCode.TRANSACTION_FAILED,
        "no",
        "/a",
        failed_index=1,
        op_codes=[ErrorCode.OK, ErrorCode.NOT_EMPTY, ErrorCode.RUNTIME_INCONSISTENCY],
    ),
]


@pytest.mark.parametrize("result", RESULTS)
def test_an_answer_comes_back_as_it_was(result: WriteResult) -> None:
    assert decode_result("it", encode_result(42, result)) == (42, result)


@pytest.mark.parametrize("result", RESULTS)
def test_every_truncation_is_refused(result: WriteResult) -> None:
    record = encode_result(42, result)
    for length in range(len(record)):
        with pytest.raises(CorruptStateError, match="the record of it is damaged"):
            decode_result("it", record[:length])
    with pytest.raises(CorruptStateError, match="too many"):
        decode_result("it", record + b"!")


def test_unknown_kinds_are_refused() -> None:
    record = encode_result(42, Deleted(1))
    with pytest.raises(CorruptStateError, match="unknown kind"):
        decode_result("it", record[:9] + b"\x63")
    with pytest.raises(CorruptStateError, match="a read is not the result of a write"):
        decode_result("it", record[:9] + b"\x04")

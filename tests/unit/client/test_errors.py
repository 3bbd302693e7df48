"""Errors: every code has its class, every class its place in the tree."""

from __future__ import annotations

import pytest

import coordclient
from coordclient.errors import (
    BadVersionError,
    CoordError,
    LockTimeoutError,
    NotEvaluatedError,
    RequestError,
    RequestTimeoutError,
    TransactionError,
    error_class,
    error_from_wire,
)
from coordproto.v1 import data_pb2

CODES = [code for code in data_pb2.ErrorCode.values() if code != data_pb2.OK]


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_class_of_its_own_kind(code: int) -> None:
    assert error_class(code) is not RequestError, "a code that nobody has thought of"
    error = error_from_wire(data_pb2.Error(code=code, message="what happened", path="/a"))  # type: ignore[arg-type]  # it is one

    assert isinstance(error, CoordError)
    assert (error.code, error.path, str(error)) == (code, "/a", "what happened")


def test_a_code_from_the_future_is_a_plain_refusal() -> None:
    assert error_class(9999) is RequestError


def test_timeouts_are_builtin_timeouts_too() -> None:
    assert issubclass(RequestTimeoutError, TimeoutError)
    assert issubclass(LockTimeoutError, TimeoutError)


def test_versions_are_told() -> None:
    error = error_from_wire(data_pb2.Error(code=data_pb2.BAD_VERSION, expected_version=0, actual_version=3))

    assert isinstance(error, BadVersionError)
    assert (error.expected, error.actual) == (0, 3)


def test_a_failed_transaction_tells_which_operation_and_why() -> None:
    error = error_from_wire(
        data_pb2.Error(
            code=data_pb2.TRANSACTION_FAILED,
            message="no",
            path="/a",
            failed_index=1,
            op_codes=[data_pb2.OK, data_pb2.BAD_VERSION, data_pb2.RUNTIME_INCONSISTENCY],
            expected_version=1,
            actual_version=2,
        )
    )

    assert isinstance(error, TransactionError)
    assert (error.failed_index, error.operation_codes) == (1, (0, 3, 10))
    assert isinstance(error.cause, BadVersionError)
    assert error.cause.actual == 2
    assert error_class(error.operation_codes[2]) is NotEvaluatedError


def test_an_error_without_words_still_says_something() -> None:
    assert str(coordclient.NoNodeError()) == "There is no such node."


def test_every_error_is_exported() -> None:
    exported = {name for name in dir(coordclient) if name.endswith("Error")}
    known = {kind.__name__ for kind in _tree(CoordError)}

    assert known - exported <= {"NotEvaluatedError", "NoWatchError"}


def _tree(kind: type[CoordError]) -> list[type[CoordError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]

"""How `coordctl` ends: the numbers are promised to scripts."""

from __future__ import annotations

import pytest

from coordclient import errors
from coordclient.cli.exit_codes import EXIT_CODE_HELP, ExitCode, exit_code_of


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NoNodeError(), 4),
        (errors.NodeExistsError(), 5),
        (errors.BadVersionError(), 5),
        (errors.NotEmptyError(), 5),
        (errors.GuardFailedError(), 5),
        (errors.InvalidPathError(), 2),
        (errors.RequestTimeoutError(), 6),
        (errors.OutcomeUnknownError(), 6),
        (errors.ConnectionLostError(), 3),
        (errors.SessionExpiredError(), 7),
        (errors.LockLostError("", token=1), 123),
        (errors.LockTimeoutError(), 124),
        (errors.LockRevokedError(), 5),
        (errors.MismatchError(), 5),
        (errors.InstanceTakenError(), 5),
        (errors.LimitExceededError(), 1),
        (errors.AccessDeniedError(), 1),
        (errors.CoordError("of a later version"), 1),
    ],
)
def test_each_kind_of_failure_has_its_number(error: errors.CoordError, code: int) -> None:
    assert exit_code_of(error) == code


def test_every_number_is_explained() -> None:
    assert [code for code in ExitCode if f"\n  {int(code)}  " not in EXIT_CODE_HELP] == []

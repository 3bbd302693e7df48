"""How `coordctl` ends: one number per kind of outcome, promised to scripts.

Rule of this file: a number, once published, never changes its meaning.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from coordclient import errors


class ExitCode(IntEnum):
    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    NO_NODE = 4
    CONFLICT = 5
    TIMEOUT = 6
    SESSION_LOST = 7
    LOST = 123
    NOT_GRANTED = 124
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127
    INTERRUPTED = 130


EXIT_CODE_HELP: Final = """\b
Exit codes:
  0  done
  1  the service refused the request, or something else went wrong
  2  wrong usage
  3  no member could be reached, or the cluster has no leader
  4  there is no such node
  5  conflict: node exists, other version, not empty, guard or check failed
  6  timed out; a write may or may not have been applied
  7  the session was lost
  123  the lock, permit or leadership was lost; the command was stopped
  124  not granted: it was held for as long as --timeout says, or at all with --try
  126  the command cannot be executed
  127  the command was not found
  130  interrupted by Ctrl-C
With -- COMMAND the command's own exit code, and 128 + n if signal n ended it."""

_BY_CLASS: Final[tuple[tuple[type[errors.CoordError], ExitCode], ...]] = (
    (errors.NoNodeError, ExitCode.NO_NODE),
    (errors.NodeExistsError, ExitCode.CONFLICT),
    (errors.BadVersionError, ExitCode.CONFLICT),
    (errors.NotEmptyError, ExitCode.CONFLICT),
    (errors.NoChildrenForEphemeralsError, ExitCode.CONFLICT),
    (errors.GuardFailedError, ExitCode.CONFLICT),
    (errors.CheckFailedError, ExitCode.CONFLICT),
    (errors.TransactionError, ExitCode.CONFLICT),
    (errors.MismatchError, ExitCode.CONFLICT),
    (errors.InstanceTakenError, ExitCode.CONFLICT),
    (errors.LockRevokedError, ExitCode.CONFLICT),
    (errors.LockLostError, ExitCode.LOST),
    (errors.RecipeTimeoutError, ExitCode.NOT_GRANTED),
    (errors.InvalidPathError, ExitCode.USAGE),
    (errors.InvalidArgumentError, ExitCode.USAGE),
    (errors.RequestTimeoutError, ExitCode.TIMEOUT),
    (errors.OutcomeUnknownError, ExitCode.TIMEOUT),
    (errors.ConnectionLostError, ExitCode.UNREACHABLE),
    (errors.SessionExpiredError, ExitCode.SESSION_LOST),
)


def exit_code_of(error: errors.CoordError) -> ExitCode:
    """Return the number with which a command ends that failed in this way."""
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return code
    return ExitCode.REFUSED

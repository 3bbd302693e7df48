"""Every error that the SDK raises: one tree under `CoordError`. A raw gRPC error never leaks.

Rule of this file: the class says what may have happened. A `RequestError` changed nothing; whatever may
have been applied all the same says so in `may_have_been_applied`.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordproto.v1 import data_pb2

Code = data_pb2.ErrorCode


class CoordError(Exception):
    """Anything that went wrong between the application and the coordination service.

    Attributes:
        message: What happened, to what, and what to do.
        path: The znode concerned; empty if none.
        code: The service's `ErrorCode`; 0 if the error arose in the client.
        may_have_been_applied: Whether the request may have taken effect although it failed.
    """

    may_have_been_applied: bool = False

    def __init__(self, message: str = "", *, path: str = "", code: int = 0) -> None:
        super().__init__(message or (self.__doc__ or type(self).__name__).partition("\n")[0])
        self.message = str(self.args[0])
        self.path = path
        self.code = code

    def __str__(self) -> str:
        return self.message


# ---------------------------------------------------------------------------------------------
# The service refused; nothing changed


class RequestError(CoordError):
    """The service refused the request; nothing changed."""


class NoNodeError(RequestError):
    """There is no such node."""


class NodeExistsError(RequestError):
    """The node exists already."""


class BadVersionError(RequestError):
    """The node's version is not the expected one."""

    def __init__(
        self,
        message: str = "",
        *,
        path: str = "",
        code: int = 0,
        expected: int | None = None,
        actual: int | None = None,
    ) -> None:
        super().__init__(message, path=path, code=code)
        self.expected = expected
        self.actual = actual


class NotEmptyError(RequestError):
    """The node has children."""


class NoChildrenForEphemeralsError(RequestError):
    """An ephemeral node cannot have children."""


class InvalidPathError(RequestError, ValueError):
    """The path breaks the rules for paths."""


class InvalidArgumentError(RequestError, ValueError):
    """An argument makes no sense."""


class GuardFailedError(RequestError):
    """A guard did not hold: the lock or leadership that guarded this write is gone."""


class CheckFailedError(RequestError):
    """A transaction's check on absence or identity did not hold."""


class TransactionError(RequestError):
    """A transaction failed as a whole; nothing changed.

    Attributes:
        failed_index: Which operation failed.
        operation_codes: For each operation its `ErrorCode`: 0 before the failed one.
        cause: The failed operation's own error.
    """

    def __init__(
        self,
        message: str = "",
        *,
        path: str = "",
        code: int = 0,
        failed_index: int | None = None,
        operation_codes: Sequence[int] = (),
        cause: CoordError | None = None,
    ) -> None:
        super().__init__(message, path=path, code=code)
        self.failed_index = failed_index
        self.operation_codes = tuple(operation_codes)
        self.cause = cause


class CompareFailedError(TransactionError):
    """The compares of a transaction did not hold, and it had no other branch; nothing changed."""


class AccessDeniedError(RequestError):
    """This client may not do that."""


class LimitExceededError(RequestError):
    """A limit of the service would be exceeded."""


class TooManyWatchesError(LimitExceededError):
    """The session has as many watches as it may have."""


class NoWatchError(RequestError):
    """There is no such watch."""


class SessionRequiredError(RequestError):
    """The request needs a session."""


class HistoryTrimmedError(RequestError):
    """The history that was asked for is no longer kept: read the present state instead."""


class MalformedError(RequestError):
    """The service could not understand a message; client and server may not fit together."""


class NotEvaluatedError(RequestError):
    """The operation was not evaluated, because an earlier one of its transaction failed."""


# ---------------------------------------------------------------------------------------------
# Session and connection


class SessionExpiredError(CoordError):
    """The session is over: its ephemeral nodes and locks are gone. The client opens a new one by itself."""


class ConnectionLostError(CoordError):
    """No member of the cluster could be reached, or none could serve."""


class OutcomeUnknownError(CoordError):
    """The request may or may not have been applied."""

    may_have_been_applied = True


class RequestTimeoutError(CoordError, TimeoutError):
    """The request was not answered in time."""


class ClientStateError(CoordError):
    """The client cannot be used in its present state."""


class NotConnectedError(ClientStateError):
    """The client is not connected: call connect() first, or use it in a `with` statement."""


class ClientClosedError(NotConnectedError):
    """The client has been closed: make a new one."""


class ForkedClientError(ClientStateError):
    """The client was made before a fork and cannot be used in the child: make a new one there.

    A new one cannot connect either if clients, or anything else that uses gRPC, were connected at the time
    of the fork: fork before that, or start the process by "spawn" or "forkserver".
    """


class WrongLoopError(ClientStateError):
    """The client belongs to another event loop: use it where it was connected, or make one here."""


# ---------------------------------------------------------------------------------------------
# Recipes


class RecipeError(CoordError):
    """A recipe could not do what it was asked to."""


class LockLostError(RecipeError):
    """The lock or leadership was lost while it was held.

    Attributes:
        token: The fencing token of the grant that is lost.
    """

    def __init__(self, message: str = "", *, path: str = "", token: int = 0) -> None:
        super().__init__(message, path=path)
        self.token = token


class RecipeTimeoutError(RecipeError, TimeoutError):
    """What was waited for did not come in time; this client no longer waits for it."""


class LockTimeoutError(RecipeTimeoutError):
    """The lock, permit or leadership was not granted in time; this client no longer waits for it."""


class LockRevokedError(RecipeError):
    """Somebody deleted this client's place in the queue."""


class AlreadyHeldError(RecipeError):
    """This task or thread holds the lock already; waiting for itself it would never get it."""


class MismatchError(RecipeError):
    """Others use this recipe at this path with other settings: permits, parties, items."""


class MemberNameTakenError(RecipeError):
    """Another session is a member of the group under this name."""


class InstanceTakenError(RecipeError):
    """Another session has registered an instance of this id."""


class NoInstanceError(RecipeError):
    """No instance of the service can be used at present.

    Attributes:
        name: The service.
        why: What is known of its instances.
    """

    def __init__(self, name: str, why: str = "it has no instance") -> None:
        super().__init__(f"no instance of {name!r} can be used: {why}")
        self.name = name
        self.why = why


class CounterRangeError(RecipeError):
    """The counter would leave its range; nothing changed."""


class InvalidValueError(RecipeError):
    """The node holds what the recipe cannot read; it was not touched."""


# ---------------------------------------------------------------------------------------------
# From the wire

_CLASSES: dict[int, type[CoordError]] = {
    Code.NO_NODE: NoNodeError,
    Code.NODE_EXISTS: NodeExistsError,
    Code.BAD_VERSION: BadVersionError,
    Code.NOT_EMPTY: NotEmptyError,
    Code.NO_CHILDREN_FOR_EPHEMERALS: NoChildrenForEphemeralsError,
    Code.INVALID_PATH: InvalidPathError,
    Code.INVALID_ARGUMENT: InvalidArgumentError,
    Code.GUARD_FAILED: GuardFailedError,
    Code.TRANSACTION_FAILED: TransactionError,
    Code.RUNTIME_INCONSISTENCY: NotEvaluatedError,
    Code.LIMIT_EXCEEDED: LimitExceededError,
    Code.SESSION_EXPIRED: SessionExpiredError,
    Code.SESSION_REQUIRED: SessionRequiredError,
    Code.SEQUENCE_GAP: ConnectionLostError,
    Code.SESSION_MOVED: ConnectionLostError,
    Code.NO_LEADER: ConnectionLostError,
    Code.CATCHING_UP: ConnectionLostError,
    Code.SHUTTING_DOWN: ConnectionLostError,
    Code.SLOW_CONSUMER: ConnectionLostError,
    Code.HISTORY_TRIMMED: HistoryTrimmedError,
    Code.UNKNOWN_OUTCOME: OutcomeUnknownError,
    Code.ACCESS_DENIED: AccessDeniedError,
    Code.TOO_MANY_WATCHES: TooManyWatchesError,
    Code.NO_WATCH: NoWatchError,
    Code.MALFORMED: MalformedError,
    Code.CHECK_FAILED: CheckFailedError,
    Code.REQUEST_TIMEOUT: RequestTimeoutError,
}


def error_class(code: int) -> type[CoordError]:
    """Return the class for a code; a code that this version does not know is a plain refusal."""
    return _CLASSES.get(code, RequestError)


def error_from_wire(error: data_pb2.Error, *, path: str | None = None) -> CoordError:
    """Translate an `Error` message. `path`, if given, stands in for the one in the message."""
    code = int(error.code)
    where = error.path if path is None else path
    kind = error_class(code)
    if kind is BadVersionError:
        return BadVersionError(
            error.message,
            path=where,
            code=code,
            expected=error.expected_version if error.HasField("expected_version") else None,
            actual=error.actual_version if error.HasField("actual_version") else None,
        )
    if kind is TransactionError:
        return _transaction_error(error, where)
    return kind(error.message, path=where, code=code)


def _transaction_error(error: data_pb2.Error, path: str) -> TransactionError:
    codes = [int(code) for code in error.op_codes]
    index = error.failed_index if error.HasField("failed_index") else None
    cause = None
    if index is not None and index < len(codes):
        single = data_pb2.Error()
        single.CopyFrom(error)
        single.code = error.op_codes[index]
        if single.code != Code.TRANSACTION_FAILED:
            cause = error_from_wire(single, path=path)
    return TransactionError(
        error.message,
        path=path,
        code=int(error.code),
        failed_index=index,
        operation_codes=codes,
        cause=cause,
    )

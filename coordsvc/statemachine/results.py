"""What the state machine answers. Failures are values here: a failed write is a normal outcome.

Rule of this file: values only; the numbers of `ErrorCode` are those of `coordproto.v1.ErrorCode`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from coordsvc.statemachine.types import Stat


class ErrorCode(IntEnum):
    OK = 0
    NO_NODE = 1
    NODE_EXISTS = 2
    BAD_VERSION = 3
    NOT_EMPTY = 4
    NO_CHILDREN_FOR_EPHEMERALS = 5
    INVALID_PATH = 6
    INVALID_ARGUMENT = 7
    GUARD_FAILED = 8
    TRANSACTION_FAILED = 9
    RUNTIME_INCONSISTENCY = 10
    LIMIT_EXCEEDED = 11
    SESSION_EXPIRED = 12
    SESSION_REQUIRED = 13
    SEQUENCE_GAP = 14
    SESSION_MOVED = 15
    NO_LEADER = 16
    CATCHING_UP = 17
    SHUTTING_DOWN = 18
    SLOW_CONSUMER = 19
    HISTORY_TRIMMED = 20
    UNKNOWN_OUTCOME = 21
    ACCESS_DENIED = 22
    TOO_MANY_WATCHES = 23
    NO_WATCH = 24
    MALFORMED = 25
    CHECK_FAILED = 26
    REQUEST_TIMEOUT = 27


@dataclass(slots=True)
class Failure:
    """A refused operation; nothing changed."""

    code: ErrorCode
    message: str  # what happened, to which path, and what to do
    path: str = ""
    expected_version: int | None = None
    actual_version: int | None = None
    failed_index: int | None = None  # TRANSACTION_FAILED
    op_codes: list[ErrorCode] = field(default_factory=list)  # TRANSACTION_FAILED


@dataclass(slots=True)
class Created:
    path: str
    stat: Stat


@dataclass(slots=True)
class WasSet:
    stat: Stat


@dataclass(slots=True)
class Deleted:
    count: int  # nodes that went


@dataclass(slots=True)
class Checked:
    pass


@dataclass(slots=True)
class Node:
    path: str
    value: bytes
    stat: Stat


@dataclass(slots=True)
class ExistsResult:
    stat: Stat | None


@dataclass(slots=True)
class Children:
    """One page of children, sorted by code point. `nodes` is filled only if asked for."""

    names: list[str]
    nodes: list[Node]
    stat: Stat
    more: bool


OpResult = Created | WasSet | Deleted | Checked | Node | ExistsResult | Children


@dataclass(slots=True)
class TransactionResult:
    succeeded: bool  # the compares held
    results: list[OpResult]


WriteResult = Created | WasSet | Deleted | TransactionResult | Failure
ReadResult = Node | ExistsResult | Children | Failure

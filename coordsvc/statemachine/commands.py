"""What clients can ask of the tree: writes, reads inside transactions, compares, guards.

Rule of this file: values only. They come decoded from outside, so nothing here is trusted: `apply`
validates every field and answers with a typed failure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


@dataclass(slots=True)
class Guard:
    """The znode at `path` must still be the one that transaction `czxid` created."""

    path: str
    czxid: int


@dataclass(slots=True)
class Create:
    path: str
    value: bytes = b""
    mode: int = 0  # CreateMode; an unknown number is refused with INVALID_ARGUMENT
    ttl_ms: int = 0  # of an ephemeral node: how long it lingers after its session has expired
    parents: bool = False


@dataclass(slots=True)
class Set:
    path: str
    value: bytes = b""
    version: int = -1


@dataclass(slots=True)
class Delete:
    path: str
    version: int = -1
    recursive: bool = False


@dataclass(slots=True)
class Check:
    """Holds if the node exists and matches what is given; with `absent`, if there is no such node."""

    path: str
    version: int = -1
    czxid: int | None = None
    absent: bool = False


@dataclass(slots=True)
class Get:
    path: str


@dataclass(slots=True)
class Exists:
    path: str


@dataclass(slots=True)
class ListChildren:
    path: str
    after: str = ""
    limit: int = 0  # 0: as many as a page may have, see Limits
    with_nodes: bool = False


class CompareTarget(IntEnum):
    EXISTS = 0
    VERSION = 1
    CVERSION = 2
    CZXID = 3
    MZXID = 4
    PZXID = 5
    EPHEMERAL_OWNER = 6
    NUM_CHILDREN = 7
    VALUE = 8


class CompareOperator(IntEnum):
    EQUAL = 0
    NOT_EQUAL = 1
    LESS = 2
    GREATER = 3


@dataclass(slots=True)
class Compare:
    """A missing node: every number is -1, EXISTS is 0, and its value equals none and is less than all."""

    path: str
    target: int
    operator: int
    number: int = 0
    value: bytes = b""


TransactionOp = Create | Set | Delete | Check | Get | Exists | ListChildren


@dataclass(slots=True)
class Transaction:
    """If every compare holds `success` is carried out, else `failure`: all of it or none."""

    compares: list[Compare] = field(default_factory=list)
    success: list[TransactionOp] = field(default_factory=list)
    failure: list[TransactionOp] = field(default_factory=list)


@dataclass(slots=True)
class Unknown:
    """A write of a kind that this version does not know (an empty `oneof`): always refused.

    With a `reason` it stands for one that a member refused to put into the log, because of its size.
    """

    reason: str = ""


@dataclass(slots=True)
class Write:
    """One write of a client, with the guards that must hold for it."""

    operation: Create | Set | Delete | Transaction | Unknown
    guards: list[Guard] = field(default_factory=list)

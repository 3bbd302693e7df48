"""The words of the state machine: znodes as clients see them. Reference: ZooKeeper data model.

Rule of this file: plain data, no behaviour beyond what follows from the data itself.
Records of the hot path are slotted dataclasses that are never changed once made (by convention,
not by `frozen=True`, which triples the cost of making one).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

ANY_VERSION = -1


class CreateMode(IntEnum):
    """How a znode lives. The numbers are those of `coordproto.v1.CreateMode`."""

    PERSISTENT = 0
    EPHEMERAL = 1
    PERSISTENT_SEQUENTIAL = 2
    EPHEMERAL_SEQUENTIAL = 3
    CONTAINER = 4
    TTL = 5
    TTL_SEQUENTIAL = 6


@dataclass(slots=True)
class Stat:
    """ZooKeeper's Stat. Times in ms since the epoch; sizes in bytes; `cversion` as on the wire."""

    czxid: int
    mzxid: int
    pzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    data_length: int
    num_children: int


@dataclass(slots=True)
class Limits:
    """Hard ceilings of the replicated state machine. Must be equal on all members.

    Policy limits that may differ between members (frame size, value size, ...) are checked before a
    command enters the log; these are the backstop behind them, and what bounds the state itself.
    """

    path_bytes: int = 4096
    value_bytes: int = 1 << 20
    transaction_ops: int = 128
    recursive_delete_nodes: int = 10_000
    ephemerals_per_session: int = 10_000
    sessions: int = 100_000
    results_per_session: int = 1024
    children_page: int = 5000  # names: a page takes some milliseconds
    children_page_nodes: int = 1000  # of a page with the nodes too
    children_page_bytes: int = 2 << 20
    history_changes: int = 100_000
    history_bytes: int = 64 << 20
    results_bytes_per_session: int = 8 << 20  # of results above 1 KiB that are not acknowledged
    session_timeout_ms_min: int = 100
    session_timeout_ms_max: int = 600_000

"""What an applied command did to the tree: the input of watches, and the records of the history.

Rule of this file: a change describes one znode; all changes of a transaction share its zxid.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from coordsvc.statemachine.types import Stat


class ChangeType(IntEnum):
    """The numbers are those of `coordproto.v1.EventType`."""

    CREATED = 0
    CHANGED = 1
    DELETED = 2


@dataclass(slots=True)
class Change:
    """One znode was created, set or deleted. `stat` is the one after it (DELETED: the last one)."""

    type: ChangeType
    path: str
    zxid: int
    value: bytes  # the new value; empty for DELETED
    stat: Stat

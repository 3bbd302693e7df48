"""How a write ended, beyond its result.

Rule of this file: values only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from coordsvc.statemachine.changes import Change
from coordsvc.statemachine.results import WriteResult


class WriteStatus(IntEnum):
    """What became of one write of a session. Only APPLIED moves the session's sequence on."""

    APPLIED = 0  # carried out, or refused for good: the result is recorded and a repeat gets it again
    REPEATED = 1  # it was carried out before: this is the first answer
    GAP = 2  # not now: the sequence is not the next one, or the session has no room for another result
    UNKNOWN_SESSION = 3  # there is no such session (any more)


@dataclass(slots=True)
class WriteOutcome:
    """`zxid` is the transaction; for a write that changed nothing, the newest one at that moment."""

    status: WriteStatus
    result: WriteResult
    zxid: int
    changes: list[Change]

"""All the checkers of histories, one after the other.

Rule of this file: the first violation is raised; a checker that cannot tell has not passed.
"""

from __future__ import annotations

from tests.checkers import zxid_order
from tests.checkers.history import History
from tests.simulation.invariants import Violation


def judge(history: History) -> None:
    """Raise the first violation that any checker finds."""
    for check in (zxid_order.check,):
        for found in check(history):
            operations = [repr(operation) for operation in found.operations]
            raise Violation(found.invariant, found.text, operations)

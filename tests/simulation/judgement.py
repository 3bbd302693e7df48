"""Everything that is judged at the end of a run.

Rule of this file: the first violation is raised; a checker that cannot tell has not passed.
"""

from __future__ import annotations

from tests.checkers.history import History
from tests.simulation.clients import verdict
from tests.simulation.clients.fleet import Fleet
from tests.simulation.invariants import Violation


def judge(fleet: Fleet, history: History) -> None:
    """Raise the first violation that any checker finds."""
    for found in verdict.judge(fleet, history):
        raise Violation(found.invariant, found.text, [repr(record) for record in found.records])

"""What the clients saw, judged: all checkers over one history, and what only the simulation can know.

Rule of this file: it calls the checkers and adds K5 (nothing is left behind by those who gave up), K0 (no
program fails in a way that the SDK does not promise) and G5 (no living session is given up); it excuses
nothing.
"""

from __future__ import annotations

from coordsvc.statemachine.changes import Change, ChangeType
from tests.checkers import linearizability
from tests.checkers.history import History, Violation
from tests.checkers.judge import judge as judge_history
from tests.simulation.clients.fleet import Fleet
from tests.simulation.clients.lock_application import ELECTION, LOCK

_SEARCHED_CALLS_MAX = 100
_SEARCH_BUDGET = 10_000  # steps a subtree
_UNDECIDED = "C1?"  # no verdict, and no pass: the order by zxid has been judged all the same


def judge(fleet: Fleet, history: History) -> list[Violation]:
    """Return everything that is wrong. The members' part of the history has been filled in."""
    violations = judge_history(history)
    if _is_small(fleet):
        searched = linearizability.check(history, _SEARCH_BUDGET)
        violations += [violation for violation in searched if violation.invariant != _UNDECIDED]
    violations += [Violation("G5", failure) for failure in fleet.notebook.failures]
    violations += _left_behind(fleet, history.committed)
    for life in fleet.lock_lives():
        violations += [Violation("K0", f"{life.name}: {failure}") for failure in life.failures()]
    return violations


def _is_small(fleet: Fleet) -> bool:
    """Whether the search for an order can be expected to come to an end."""
    workload = fleet.workload
    return not workload.lock_clients and len(fleet.notebook.calls) <= _SEARCHED_CALLS_MAX


def _left_behind(fleet: Fleet, committed: list[Change]) -> list[Violation]:
    """K5: a program that holds and wants nothing has no node at any lock."""
    present: dict[str, int] = {}
    for change in committed:
        if change.type is ChangeType.DELETED:
            present.pop(change.path, None)
        elif change.path.startswith((LOCK + "/", ELECTION + "/")):
            present[change.path] = change.stat.ephemeral_owner
    idle = {life.session_at_end: life.name for life in fleet.lock_lives() if life.is_idle}
    return [
        Violation("K5", f"{idle[owner]} is done, and its session {owner:#x} still owns {path}")
        for path, owner in present.items()
        if owner and owner in idle
    ]

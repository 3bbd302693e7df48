"""What the clients saw, judged: all checkers over one history, and what only the simulation can know.

The order by zxid is judged in every run. The search that does not believe zxids comes on top: a small part of
a tree must be decided, else the run has failed (C1?). Any other part is searched for a while, and may stay
undecided; the probe counts only the runs of which every part was decided.

Rule of this file: it calls the checkers and adds K5 (nothing is left behind by those who gave up), K0 (no
program fails in a way that the SDK does not promise) and G5 (no living session is given up). It excuses only
a large part that the search gave up.
"""

from __future__ import annotations

from coordsvc.statemachine.changes import Change, ChangeType
from tests.checkers import linearizability
from tests.checkers.history import History, Violation
from tests.checkers.judge import judge as judge_history
from tests.checkers.search import BUDGET
from tests.simulation.clients.fleet import Fleet
from tests.simulation.clients.lock_application import ELECTION, LOCK
from tests.simulation.probes import Probes

_SMALL_CALLS_MAX = 40
_SMALL_OPEN_MAX = 12  # calls open at the same moment, for ever if unanswered: each doubles the search
_LARGE_BUDGET = 40_000  # steps a part


def judge(fleet: Fleet, history: History, probes: Probes) -> list[Violation]:
    """Return everything that is wrong. The members' part of the history has been filled in."""
    violations = judge_history(history)
    violations += _search(history, probes)
    violations += [Violation("G5", failure) for failure in fleet.notebook.failures]
    violations += _left_behind(fleet, history.committed)
    for life in fleet.lock_lives():
        violations += [Violation("K0", f"{life.name}: {failure}") for failure in life.failures()]
    return violations


def _search(history: History, probes: Probes) -> list[Violation]:
    """C1 without zxids, part by part."""
    violations: list[Violation] = []
    parts = linearizability.parts(history)
    undecided = 0
    for where, calls in parts.items():
        is_small = _is_small(calls)
        found = linearizability.check_part(where, calls, BUDGET if is_small else _LARGE_BUDGET)
        if found is None:
            continue
        is_undecided = found.invariant == linearizability.UNDECIDED
        undecided += is_undecided
        if is_small or not is_undecided:
            violations.append(found)
    if parts and not undecided:
        probes.hit("a history was searched without zxids")
    return violations


def _is_small(part: linearizability.Part) -> bool:
    """Whether the search for an order must come to a verdict."""
    if len(part) > _SMALL_CALLS_MAX:
        return False
    moments = [(call.start_ns, 0, 1) for call in part]
    moments += [(call.end_ns, 1, -1) for call in part if call.end_ns is not None]
    open_calls = most = 0
    for _, _, step in sorted(moments):
        open_calls += step
        most = max(most, open_calls)
    return most <= _SMALL_OPEN_MAX


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

"""Judges the recorded history of a run: everything the checkers know, over the files in its directory.

Rule of this file: it reads files only, so a kept run can be judged again when a checker has changed.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from coordsvc.statemachine.commands import Set
from tests.checkers import judge as checkers
from tests.checkers import linearizability
from tests.checkers.history import CHANGED, OK, UNKNOWN, History, Violation
from tests.checkers.history_files import read_history

HISTORIES = "history"  # the folder of all files of a run


def read_run(directory: Path) -> History:
    """Read what all clients of a run recorded, and what the members were asked at its end."""
    return read_history(sorted((directory / HISTORIES).glob("*.jsonl")))


def judge(history: History) -> list[Violation]:
    return checkers.judge(history) + check_counters(history) + linearizability.check(history)


def check_counters(history: History) -> list[Violation]:
    """Each set of a counter was applied exactly once, or at most once if nobody knows (promise G5)."""
    applied: dict[str, Counter[bytes]] = {}
    for change in history.committed:
        if change.path.startswith("/counter-") and int(change.type) == CHANGED:
            applied.setdefault(change.path, Counter())[change.value] += 1
    violations = []
    for operation in history.operations:
        request = operation.request
        if not isinstance(request, Set) or not request.path.startswith("/counter-"):
            continue
        times = applied.get(request.path, Counter())[request.value]
        is_right = times == 1 if operation.outcome == OK else times <= (operation.outcome == UNKNOWN)
        if not is_right:
            told = f"the client was told {operation.outcome}"
            text = f"{request.path} was set to {request.value!r} {times} times; {told}"
            violations.append(Violation("G5", text, [operation]))
    return violations

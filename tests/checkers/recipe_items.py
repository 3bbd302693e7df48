"""Items that are handed on: nothing lost, nothing twice, in order.

Acts: `put` (value), `get` (value, token, if it got something), `acknowledge` (value).

Rule of this file: whoever was killed in the middle of a call may have had its effect; nobody else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from tests.checkers.recipe_history import Act

FINDINGS_MAX = 10


def check_taken_once(acts: Sequence[Act]) -> list[str]:
    """What was put has been got once. An item may be missing for each call that never ended."""
    findings = []
    began = {act.text("value") for act in acts if act.operation == "put"}
    certain = {act.text("value") for act in acts if act.operation == "put" and act.is_done}
    got = Counter(act.text("value") for act in acts if _is_get(act) and act.has("value"))
    findings += [f"{value} was got {times} times" for value, times in got.items() if times > 1]
    findings += [f"{value} was got, and never put" for value in got.keys() - began]
    missing = sorted(certain - got.keys())
    excuses = [act for act in acts if _is_get(act) and act.ended_s is None]
    if len(missing) > len(excuses):
        told = "; ".join(str(act) for act in excuses)
        findings.append(f"{len(missing)} items are lost: {missing}; calls that never ended: [{told}]")
    return findings[:FINDINGS_MAX]


def _is_get(act: Act) -> bool:
    return act.operation in ("get", "cancelled get")


def check_order(acts: Sequence[Act], line_of: Callable[[str], tuple[str, int]]) -> list[str]:
    """Items of one line, which somebody put one after the other, are got in that order.

    Args:
        line_of: Says of a value in which line it stood, and as which number.
    """
    findings = []
    newest: dict[str, int] = {}
    got = [act for act in acts if _is_get(act) and act.has("value")]
    for act in sorted(got, key=lambda act: act.integer("token")):
        line, number = line_of(act.text("value"))
        if number < newest.get(line, -1):
            findings.append(f"{act.text('value')} was got after number {newest[line]} of its line")
        newest[line] = number
    return findings[:FINDINGS_MAX]


def check_acknowledged_once(acts: Sequence[Act]) -> list[str]:
    """What was put has been acknowledged once, and claimed at least once; nothing is left."""
    findings = []
    puts = [act for act in acts if act.operation == "put"]
    began = {act.text("value") for act in puts}
    certain = {act.text("value") for act in puts if act.is_done}
    tried = [act for act in acts if act.operation == "acknowledge"]
    acknowledged = Counter(act.text("value") for act in tried if act.is_done)
    # It may have been acknowledged by a call that was killed, or lost its session, before it was told.
    unknown = {act.text("value") for act in tried if act.ended_s is None or act.error}
    findings += [
        f"{value} was acknowledged {times} times" for value, times in acknowledged.items() if times > 1
    ]
    findings += [f"{value} was acknowledged, and never put" for value in acknowledged.keys() - began]
    claimed = {act.text("value") for act in acts if act.operation == "claim" and act.has("value")}
    findings += [
        f"{value} was put, and never worked off" for value in sorted(certain - acknowledged.keys() - unknown)
    ]
    findings += [f"{value} was never claimed" for value in sorted(certain - claimed)]
    return findings[:FINDINGS_MAX]

"""Barriers: nobody passes early.

Rule of this file: a moment is compared only with what must have begun before it, so no clock has to be exact.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.checkers.recipe_history import Act

FINDINGS_MAX = 10


def check_barrier(acts: Sequence[Act]) -> list[str]:
    """Whoever waited at a barrier went on only after its lifting had begun.

    Acts: `lift` (round, lifting_s, once it has begun) and `wait` (round).
    """
    findings = []
    lifted = {act.integer("round"): act for act in acts if act.operation == "lift" and act.has("lifting_s")}
    for act in acts:
        if act.operation != "wait" or not act.is_done:
            continue
        lift = lifted.get(act.integer("round"))
        assert act.ended_s is not None
        if lift is None or act.ended_s < lift.seconds("lifting_s"):
            findings.append(f"passed before it was lifted:\n  {act}\n  {lift}")
    return findings[:FINDINGS_MAX]


def check_double_barrier(acts: Sequence[Act], parties: int) -> list[str]:
    """Nobody has entered before so many had come; nobody has left before those who entered were leaving.

    Acts: `enter` (round, once entered), then `leave` (round, and was_lost if its session had
    ended) of the same process.
    """
    findings = []
    rounds: dict[str, list[Act]] = {}
    for act in acts:
        if act.operation == "enter" and act.has("round"):
            rounds.setdefault(act.text("round"), []).append(act)
    # Of a call that was not told which round it was in: it may have been counted in any.
    untold = [act for act in acts if act.operation == "enter" and not act.has("round")]
    for name, entered in rounds.items():
        for act in entered:
            come = [other for other in entered if other.began_s <= (act.ended_s or act.began_s)]
            perhaps = [other for other in untold if other.began_s <= (act.ended_s or act.began_s)]
            if len(come) + len(perhaps) < parties:
                findings.append(f"round {name}: {act} entered when {len(come)} had come")
        findings += _check_leaving(name, entered, acts)
    return findings[:FINDINGS_MAX]


def _check_leaving(name: str, entered: Sequence[Act], acts: Sequence[Act]) -> list[str]:
    findings = []
    leaving = {act.process: act for act in acts if act.operation == "leave" and act.text("round") == name}
    for act in leaving.values():
        if not act.is_done:
            continue
        for other in entered:
            left = leaving.get(other.process)
            # Whose session has ended counts as having left.
            is_dead = left is None or left.ended_s is None or bool(left.error or left.details.get("was_lost"))
            if not is_dead and left is not None and left.began_s > (act.ended_s or 0.0):
                findings.append(f"round {name}: {act} left before {left} had begun")
    return findings

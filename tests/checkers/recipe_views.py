"""What is watched: a view goes forward only, and in the end it is what is there.

Rule of this file: a watcher may see less than every change, and never an older one after a newer one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tests.checkers.recipe_history import Act

FINDINGS_MAX = 10


def check_forward(acts: Sequence[Act], number: str, *, by: str = "") -> list[str]:
    """The numbers that a process saw grow; with `by`, for each value of that detail by itself."""
    findings = []
    seen: dict[tuple[str, str], list[Act]] = {}
    for act in acts:
        if act.operation == "seen" and act.details.get(number) is not None:
            seen.setdefault((act.process, str(act.details[by]) if by else ""), []).append(act)
    for views in seen.values():
        for earlier, later in pairwise(views):
            if earlier.integer(number) > later.integer(number):
                findings.append(f"it went backwards:\n  {earlier}\n  {later}")
    return findings[:FINDINGS_MAX]


def check_numbers_forward(acts: Sequence[Act]) -> list[str]:
    """What each member says of itself, a number, only grows in the views of each process."""
    findings = []
    newest: dict[tuple[str, str], int] = {}
    for act in acts:
        if act.operation != "seen":
            continue
        for member, text in act.table("members").items():
            key = (act.process, member)
            number = int(str(text))
            if number < newest.get(key, 0):
                findings.append(f"{act.process} saw {member} say {number} after {newest[key]}")
            newest[key] = number
    return findings[:FINDINGS_MAX]


def check_converged(acts: Sequence[Act], members: set[str]) -> list[str]:
    """In the end every watcher saw what a fresh look showed, and that is everybody who lives."""
    findings = []
    for act in (act for act in acts if act.operation == "final"):
        if not act.has("stored"):
            findings.append(f"{act} noted nothing")
        elif act.table("seen") != act.table("stored"):
            findings.append(f"what {act.process} watched is not what is there:\n  {act}")
        elif set(act.table("stored")) != members:
            findings.append(
                f"{sorted(members)} are there, and {act.process} saw {sorted(act.table('stored'))}"
            )
    return findings[:FINDINGS_MAX]


def check_copies(acts: Sequence[Act]) -> list[str]:
    """In the end every copy is equal to what it is a copy of."""
    return [
        f"{act.process}'s copy is not what is there:\n  {act}"
        for act in acts
        if act.operation == "final" and act.details.get("cached") != act.details.get("stored")
    ]

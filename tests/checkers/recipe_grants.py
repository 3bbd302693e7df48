"""Whoever holds something holds it within its limits: locks, leadership, permits, claims, partitions.

A `hold` is an act with the details `resource`, `token`, `granted_s`, and `believed_until_s`: until when its
process had reason to believe in it (what `valid_until` said, unless it gave the grant back or was told of
the loss before). `kind` and `weight` where they matter.

Rule of this file: beliefs are judged on the one clock that all processes share, whatever was done to them.
A pause excuses nobody, because `valid_until` goes by that clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

from tests.checkers.recipe_history import Act

FINDINGS_MAX = 10

Conflict = Callable[[Act, Act], bool]


def always(_: Act, __: Act) -> bool:
    """Of a lock, there is one holder."""
    return True


def unless_both_read(one: Act, other: Act) -> bool:
    """Of a read-write lock, a writer excludes everybody."""
    return "write" in (one.text("kind"), other.text("kind"))


def holds(acts: Iterable[Act]) -> dict[str, list[Act]]:
    """Return what was held, by resource, in the order in which it was granted."""
    found: dict[str, list[Act]] = {}
    for act in acts:
        if act.operation == "hold" and act.has("granted_s"):
            found.setdefault(act.text("resource"), []).append(act)
    for held in found.values():
        held.sort(key=lambda act: act.seconds("granted_s"))
    return found


def check_exclusion(acts: Sequence[Act], conflict: Conflict = always) -> list[str]:
    """No two that exclude each other believed at one time; tokens grow from each to the next.

    What was `converted` from another kind of hold may have that one's token.
    """
    findings = []
    for resource, held in holds(acts).items():
        for earlier, later in combinations(held, 2):
            if not conflict(earlier, later):
                continue
            if earlier.seconds("believed_until_s") > later.seconds("granted_s"):
                findings.append(f"{resource} was held by two at once:\n  {earlier}\n  {later}")
            may_be_equal = later.details.get("converted", False)
            if earlier.integer("token") >= later.integer("token") + bool(may_be_equal):
                findings.append(f"{resource}: the token did not grow:\n  {earlier}\n  {later}")
    return findings[:FINDINGS_MAX]


def check_permits(acts: Sequence[Act], permits: int) -> list[str]:
    """At no moment more was believed to be held than there is; tokens grow with the grants."""
    findings = []
    for resource, held in holds(acts).items():
        for act in held:
            moment = act.seconds("granted_s")
            present = [
                other
                for other in held
                if other.seconds("granted_s") <= moment < other.seconds("believed_until_s")
            ]
            if sum(other.integer("weight") for other in present) > permits:
                told = "\n  ".join(str(other) for other in present)
                findings.append(f"{resource} has {permits} permits, and more were held:\n  {told}")
        for earlier, later in combinations(held, 2):
            is_after = later.began_s > earlier.seconds("granted_s")
            if earlier.integer("token") == later.integer("token") or (
                is_after and earlier.integer("token") > later.integer("token")
            ):
                findings.append(f"{resource}: the token did not grow:\n  {earlier}\n  {later}")
    return findings[:FINDINGS_MAX]


def check_fencing(resource: str, writes: Sequence[tuple[str, int]]) -> list[str]:
    """What the service let in under guards: tokens only grow, and each is of one process.

    Args:
        writes: Process and token of each write that was applied, in the order of the transactions.
    """
    findings = []
    owners: dict[int, str] = {}
    newest = 0
    for place, (process, token) in enumerate(writes):
        owner = owners.setdefault(token, process)
        if owner != process:
            findings.append(f"{resource}: write {place} of {process} has token {token}, which is {owner}'s")
        if token < newest:
            findings.append(f"{resource}: write {place} of {process} with token {token} came after {newest}")
        newest = max(newest, token)
    return findings[:FINDINGS_MAX]


def check_observed(acts: Sequence[Act]) -> list[str]:
    """Whoever watches who leads sees tokens that only grow."""
    findings = []
    newest: dict[str, int] = {}
    for act in acts:
        if act.operation != "observed" or act.details["token"] is None:
            continue
        token = act.integer("token")
        if token < newest.get(act.process, 0):
            findings.append(f"{act.process} saw leader {token} after leader {newest[act.process]}")
        newest[act.process] = token
    return findings[:FINDINGS_MAX]

"""A counter: each change is applied once, and all of them form one chain.

Acts: `add` (delta > 0; before, after, zxid, if it was told). Only calls that were not told may or may not
have been applied.

Rule of this file: exact; whatever is not explained by a call that was not told is a finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tests.checkers.recipe_history import Act

FINDINGS_MAX = 10


def check_counter(acts: Sequence[Act], final: int, initial: int = 0) -> list[str]:
    """The final value is the sum of what was told, and perhaps of what was not; no two changes overlap."""
    adds = [act for act in acts if act.operation == "add"]
    told = sorted((act for act in adds if act.is_done), key=lambda act: act.integer("before"))
    unknown = [act for act in adds if not act.is_done]
    findings = [
        f"{act} changed it by another delta"
        for act in told
        if act.integer("after") - act.integer("before") != act.integer("delta")
    ]
    findings += [
        f"two changes overlap:\n  {earlier}\n  {later}"
        for earlier, later in pairwise(told)
        if earlier.integer("after") > later.integer("before")
    ]
    in_order = sorted(told, key=lambda act: act.integer("zxid"))
    findings += [
        f"the later transaction made the smaller value:\n  {earlier}\n  {later}"
        for earlier, later in pairwise(in_order)
        if earlier.integer("zxid") < later.integer("zxid")
        and earlier.integer("after") > later.integer("before")
    ]
    sums = _sums([act.integer("delta") for act in unknown])
    not_told = [str(act) for act in unknown]
    known = [
        initial,
        *(number for act in told for number in (act.integer("before"), act.integer("after"))),
        final,
    ]
    findings += [
        f"from {after} to {before} nobody was told of a change; not told: {not_told}"
        for after, before in zip(known[::2], known[1::2], strict=True)
        if before - after not in sums
    ]
    gap = final - initial - sum(act.integer("delta") for act in told)
    if gap not in sums:
        text = f"the final value {final} is {gap} off the sum of all adds that were told"
        findings.append(f"{text}; not told: {not_told}")
    return findings[:FINDINGS_MAX]


def _sums(parts: Sequence[int]) -> set[int]:
    """Return every sum of some of the parts."""
    sums = {0}
    for part in parts:
        sums |= {known + part for known in sums}
    return sums

"""What must hold of each recipe after a run, whatever the fault was.

Rule of this file: a judge returns findings, texts worth reading; the rules themselves are in tests/checkers.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.checkers.recipe_grants import check_exclusion, check_fencing, check_observed
from tests.recipes.stage import Evidence
from tests.recipes.workloads.place import ROOT

Judge = Callable[[Evidence], list[str]]

HOLDS_MIN = 10  # a run that shows less shows nothing


def fenced(evidence: Evidence, work: str) -> list[str]:
    """Judge what was written under guards at a path."""
    writes = []
    for value in evidence.values(work):
        process, token = value.decode().split()
        writes.append((process, int(token)))
    findings = check_fencing(work, writes)
    if len({process for process, _ in writes}) < 2:
        findings.append(f"{work}: {len(writes)} writes, and not of two processes: nothing was shown")
    return findings


def progress(evidence: Evidence, recipe: str, operation: str, result: str) -> list[str]:
    """Every survivor did it, with this result, and did it again when the fault was over."""
    findings = []
    done = [act for act in evidence.of(recipe) if act.operation == operation and act.is_done]
    done = [act for act in done if act.has(result)]
    if len(done) < HOLDS_MIN:
        findings.append(f"only {len(done)} of {recipe}'s {operation} succeeded in the whole run")
    afterwards = {act.process for act in done if (act.ended_s or 0.0) > evidence.healed_s}
    everybody = {act.process for act in evidence.acts} - set(evidence.killed)
    findings += [
        f"{process} got no {operation} of {recipe} done after the fault was over"
        for process in sorted(everybody - afterwards)
    ]
    return findings


def nothing_left(evidence: Evidence, path: str) -> list[str]:
    """No contender stays behind, dead or alive."""
    prefix = f"{path}/"
    return [f"{node} is left behind" for node in evidence.left if node.startswith(prefix)]


def lock(evidence: Evidence) -> list[str]:
    path = f"{ROOT}/lock"
    acts = evidence.of("lock")
    findings = check_exclusion(acts) + fenced(evidence, f"{path}-work") + nothing_left(evidence, path)
    return findings + progress(evidence, "lock", "hold", "granted_s")


def election(evidence: Evidence) -> list[str]:
    path = f"{ROOT}/election"
    acts = evidence.of("election")
    findings = check_exclusion(acts) + check_observed(acts) + fenced(evidence, f"{path}-work")
    findings += nothing_left(evidence, path)
    return findings + progress(evidence, "election", "hold", "granted_s")


JUDGES: dict[str, Judge] = {
    "lock": lock,
    "election": election,
}

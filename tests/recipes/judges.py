"""What must hold of each recipe after a run, whatever the fault was.

Rule of this file: a judge returns findings, texts worth reading; the rules themselves are in tests/checkers.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.checkers.recipe_barriers import check_barrier, check_double_barrier
from tests.checkers.recipe_counters import check_counter
from tests.checkers.recipe_decisions import check_decisions
from tests.checkers.recipe_grants import (
    check_exclusion,
    check_fencing,
    check_observed,
    check_permits,
    unless_both_read,
)
from tests.checkers.recipe_items import check_acknowledged_once, check_order, check_taken_once
from tests.checkers.recipe_views import check_converged, check_copies, check_forward, check_numbers_forward
from tests.recipes.stage import Evidence
from tests.recipes.workloads.barriers import PARTIES
from tests.recipes.workloads.commits import PARTICIPANTS
from tests.recipes.workloads.groups import ITEMS
from tests.recipes.workloads.locks import PERMITS
from tests.recipes.workloads.place import ROOT

Judge = Callable[[Evidence], list[str]]

ROUNDS_MIN = 3
DONE_MIN = 6  # a run that shows less shows nothing


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


def progress(
    evidence: Evidence, recipe: str, operation: str, result: str, *, by_each: bool = True
) -> list[str]:
    """Every survivor did it, with this result, and did it again when the fault was over.

    With `by_each=False` it is enough that somebody did.
    """
    findings = []
    done = [act for act in evidence.of(recipe) if act.operation == operation and act.is_done]
    done = [act for act in done if act.has(result)]
    if len(done) < DONE_MIN:
        findings.append(f"only {len(done)} of {recipe}'s {operation} succeeded in the whole run")
    afterwards = {act.process for act in done if (act.ended_s or 0.0) > evidence.healed_s}
    findings += [
        f"{process} got no {operation} of {recipe} done after the fault was over"
        for process in sorted(alive(evidence) - afterwards)
        if by_each or not afterwards
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


def read_write_lock(evidence: Evidence) -> list[str]:
    path = f"{ROOT}/read_write_lock"
    acts = evidence.of("read_write_lock")
    findings = check_exclusion(acts, unless_both_read) + fenced(evidence, f"{path}-work")
    findings += nothing_left(evidence, path)
    return findings + progress(evidence, "read_write_lock", "hold", "granted_s")


def semaphore(evidence: Evidence) -> list[str]:
    path = f"{ROOT}/semaphore"
    acts = evidence.of("semaphore")
    findings = check_permits(acts, PERMITS) + nothing_left(evidence, path)
    return findings + progress(evidence, "semaphore", "hold", "granted_s")


def partitioner(evidence: Evidence) -> list[str]:
    path = f"{ROOT}/partitioner"
    acts = evidence.of("partitioner")
    findings = check_exclusion(acts)
    for item in ITEMS:
        writes = [value.decode().split() for value in evidence.values(f"{path}-work/{item}")]
        findings += check_fencing(item, [(process, int(token)) for process, token in writes])
    owned: list[object] = []
    for act in acts:
        if act.operation == "final":
            owned += act.items("owned")
    if sorted(map(str, owned)) != sorted(ITEMS):
        findings.append(f"in the end each of {ITEMS} has one owner; owned are {sorted(map(str, owned))}")
    return findings


def config_value(evidence: Evidence) -> list[str]:
    acts = evidence.of("config_value")
    finals = {act.integer("value") for act in acts if act.operation == "final"}
    updates = [act for act in acts if act.operation == "update"]
    told = [act.integer("value") for act in updates if act.is_done]
    findings = check_forward(acts, "value")
    if len(set(told)) != len(told):
        findings.append(f"two updates made the same value: {sorted(told)}")
    if len(finals) != 1 or not len(told) <= max(finals) <= len(updates):
        findings.append(f"of {len(updates)} updates {len(told)} were told, and the end is {sorted(finals)}")
    return findings + progress(evidence, "config_value", "update", "value")


def tree_cache(evidence: Evidence) -> list[str]:
    acts = evidence.of("tree_cache")
    findings = check_forward(acts, "mzxid", by="path") + check_copies(acts)
    return findings + progress(evidence, "tree_cache", "change", "path")


def atomic_commit(evidence: Evidence) -> list[str]:
    acts = evidence.of("atomic_commit")
    findings = check_decisions(acts, PARTICIPANTS)
    for act in acts:
        if act.operation == "final" and act.items("open"):
            findings.append(f"{act.process} sees open proposals: {act.items('open')}")
    return findings + progress(evidence, "atomic_commit", "propose", "proposal")


def queue(evidence: Evidence) -> list[str]:
    acts = evidence.of("queue")
    findings = check_taken_once(acts) + check_order(acts, line_of)
    return findings + progress(evidence, "queue", "get", "value", by_each=False)


def line_of(value: str) -> tuple[str, int]:
    """Return who put it with which priority, and as which number."""
    process, priority, number = value.split()
    return f"{process} {priority}", int(number)


def work_queue(evidence: Evidence) -> list[str]:
    acts = evidence.of("work_queue")
    findings = check_acknowledged_once(acts) + check_exclusion(acts)
    return findings + progress(evidence, "work_queue", "acknowledge", "value", by_each=False)


def counter(evidence: Evidence) -> list[str]:
    acts = evidence.of("counter")
    finals = {act.integer("value") for act in acts if act.operation == "final"}
    findings = [] if len(finals) == 1 else [f"in the end it was read as {sorted(finals)}"]
    for final in finals:
        findings += check_counter(acts, final)
    return findings + progress(evidence, "counter", "add", "zxid")


def barrier(evidence: Evidence) -> list[str]:
    acts = evidence.of("barrier")
    lifted = [act for act in acts if act.operation == "lift" and act.is_done]
    waited = [act for act in acts if act.operation == "wait" and act.is_done]
    findings = check_barrier(acts)
    if len(lifted) < ROUNDS_MIN or len(waited) < ROUNDS_MIN:
        findings.append(
            f"{len(lifted)} barriers were lifted, and {len(waited)} waits ended: nothing was shown"
        )
    return findings


def double_barrier(evidence: Evidence) -> list[str]:
    acts = evidence.of("double_barrier")
    findings = check_double_barrier(acts, PARTIES)
    entered = [act for act in acts if act.operation == "enter" and act.is_done]
    if len(entered) < ROUNDS_MIN:
        findings.append(f"only {len(entered)} entered: nothing was shown")
    return findings


def group(evidence: Evidence) -> list[str]:
    acts = evidence.of("group")
    findings = check_forward(acts, "generation") + check_numbers_forward(acts)
    findings += check_converged(acts, alive(evidence))
    return findings + progress(evidence, "group", "update", "value")


def services(evidence: Evidence) -> list[str]:
    acts = evidence.of("services")
    findings = check_numbers_forward(acts) + check_converged(acts, alive(evidence))
    return findings + progress(evidence, "services", "update", "value")


def alive(evidence: Evidence) -> set[str]:
    return {act.process for act in evidence.acts} - set(evidence.killed)


JUDGES: dict[str, Judge] = {
    "atomic_commit": atomic_commit,
    "barrier": barrier,
    "config_value": config_value,
    "counter": counter,
    "double_barrier": double_barrier,
    "election": election,
    "group": group,
    "lock": lock,
    "partitioner": partitioner,
    "queue": queue,
    "read_write_lock": read_write_lock,
    "semaphore": semaphore,
    "services": services,
    "tree_cache": tree_cache,
    "work_queue": work_queue,
}

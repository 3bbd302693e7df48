"""Atomic commit: of each proposal all commit, or all abort.

Acts: `vote` (proposal, name, yes), `commit` and `abort` (proposal, name) of participants, `propose`
(proposal, committed) of coordinators.

Rule of this file: every proposal is judged by all that anybody was told of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.checkers.recipe_history import Act

FINDINGS_MAX = 10


def check_decisions(acts: Sequence[Act], participants: Iterable[str]) -> list[str]:
    """All decide alike; commit only if all had voted yes; whoever voted learns of the decision."""
    findings = []
    proposals: dict[str, list[Act]] = {}
    for act in acts:
        if act.has("proposal"):
            proposals.setdefault(act.text("proposal"), []).append(act)
    for proposal, about in proposals.items():
        committed = [
            act for act in about if act.operation == "commit" or act.details.get("committed") is True
        ]
        aborted = [act for act in about if act.operation == "abort" or act.details.get("committed") is False]
        if committed and aborted:
            findings.append(f"{proposal} was committed and aborted:\n  {committed[0]}\n  {aborted[0]}")
        votes = [act for act in about if act.operation == "vote"]
        in_favour = {act.text("name") for act in votes if act.details["yes"]}
        against = {act.text("name") for act in votes if not act.details["yes"]}
        missing = set(participants) - in_favour
        if committed and (missing or against):
            findings.append(f"{proposal} was committed without {sorted(missing | against)}: {committed[0]}")
        carried_out = {act.text("name") for act in about if act.operation in ("commit", "abort")}
        findings += [
            f"{name} voted on {proposal} and was never told of a decision"
            for name in sorted({act.text("name") for act in votes} - carried_out)
        ]
    return findings[:FINDINGS_MAX]

"""What stands in the tree for an atomic commit, and what follows from it.

    <root>/proposals/p-<id>                 who takes part, for how long, and what it is about
    <root>/proposals/p-<id>/vote-<name>     made once, never changed
    <root>/proposals/p-<id>/decision        the first to be made counts
    <root>/proposals/p-<id>/done-<name>     the participant has carried the decision out
    <root>/outcomes/<id>                    for a while after everything is done: what was decided
    <root>/participants/<name>              a lock: one process takes part under a name

Rule of this file: pure. A record only grows, so what follows from a part of it that was read is never
taken back by the rest: a decision is final, and a vote stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coordclient.errors import InvalidArgumentError, InvalidPathError
from coordclient.types import Node

NAME_CHARACTERS_MAX = 200
REASON_CHARACTERS_MAX = 500
_PREFIX = "p-"
_VOTE = "vote-"
_DONE = "done-"
_DECISION = "decision"


@dataclass(frozen=True, slots=True)
class Vote:
    """What a participant has promised. Having voted yes, it must be able to commit whatever happens."""

    is_yes: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Something that all participants commit, or none.

    Attributes:
        id: What tells it from every other, also of the same value.
        participants: Who votes on it.
        value: What it is about, as the coordinator put it.
        coordinator: The name of the client that proposed it.
        deadline_ms: When it aborts unless all have voted, in ms since the epoch, by the service's clock.
        votes: True for yes. Who is missing has not voted.
        committed: What was decided; None: nothing yet.
        reason: Why it was decided so.
        acknowledged: Who has carried the decision out.
    """

    id: str
    participants: tuple[str, ...]
    value: bytes = b""
    coordinator: str = ""
    deadline_ms: int = 0
    votes: Mapping[str, bool] = field(default_factory=dict)
    committed: bool | None = None
    reason: str = ""
    acknowledged: tuple[str, ...] = ()
    token: int = 0

    @property
    def is_finished(self) -> bool:
        """Return whether all have carried the decision out."""
        return self.committed is not None and set(self.participants) <= set(self.acknowledged)


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a proposal; it never changes.

    Attributes:
        committed: True: every participant commits. False: every participant aborts.
        reason: Why, if it was not committed.
        votes: Who voted what, as far as was known when it was decided.
    """

    id: str
    committed: bool
    reason: str = ""
    votes: Mapping[str, bool] = field(default_factory=dict)


class CommitLayout:
    """Where the parts of an atomic commit lie."""

    def __init__(self, root: str) -> None:
        if root == "/" or not root.startswith("/"):
            raise InvalidPathError('an atomic commit needs a path like "/commits/name"', path=root)
        self.root = root
        self.proposals = f"{root}/proposals"
        self.outcomes = f"{root}/outcomes"
        self.receipts = f"{root}/receipts"
        self.participants = f"{root}/participants"

    @property
    def containers(self) -> tuple[str, ...]:
        """Return what must be there before anything can be proposed, parents first."""
        return self.root, self.proposals, self.outcomes, self.receipts, self.participants

    def proposal(self, proposal_id: str) -> str:
        return f"{self.proposals}/{_PREFIX}{proposal_id}"

    def vote(self, proposal_id: str, name: str) -> str:
        return f"{self.proposal(proposal_id)}/{_VOTE}{name}"

    def done(self, proposal_id: str, name: str) -> str:
        return f"{self.proposal(proposal_id)}/{_DONE}{name}"

    def decision(self, proposal_id: str) -> str:
        return f"{self.proposal(proposal_id)}/{_DECISION}"

    def outcome(self, proposal_id: str) -> str:
        return f"{self.outcomes}/{proposal_id}"

    def id_in(self, path: str) -> str | None:
        """Return the proposal that a changed node belongs to; None if to none."""
        name = path[len(self.proposals) + 1 :].partition("/")[0]
        return proposal_id_of(name)


def proposal_id_of(name: str) -> str | None:
    """Return the id in a proposal's name; None for a node that is none."""
    return name[len(_PREFIX) :] if name.startswith(_PREFIX) else None


def check_participant(name: str, path: str) -> str:
    """Return a participant's name, or raise InvalidArgumentError if no node can be called that."""
    if not name or "/" in name or len(name) > NAME_CHARACTERS_MAX:
        raise InvalidArgumentError(
            f'{name!r} is no name for a participant: 1 to {NAME_CHARACTERS_MAX} characters, without "/"',
            path=path,
        )
    return name


def check_participants(names: Iterable[str], path: str) -> tuple[str, ...]:
    """Return the participants of a proposal, or raise InvalidArgumentError."""
    if isinstance(names, str):
        raise InvalidArgumentError("participants must be a list of names, not a text", path=path)
    participants = tuple(check_participant(name, path) for name in names)
    if not participants or len(set(participants)) != len(participants):
        raise InvalidArgumentError("a proposal needs participants, each named once", path=path)
    return participants


# ---------------------------------------------------------------------------------------------
# To and from nodes


def pack_proposal(participants: Sequence[str], value: bytes, timeout_ms: int, coordinator: str) -> bytes:
    header = {"participants": list(participants), "timeout_ms": timeout_ms, "coordinator": coordinator}
    return json.dumps(header).encode() + b"\n" + value


def pack_vote(vote: Vote) -> bytes:
    return json.dumps({"vote": "yes" if vote.is_yes else "no", "reason": vote.reason}).encode()


def pack_decision(decision: Decision) -> bytes:
    record = {"committed": decision.committed, "reason": decision.reason, "votes": dict(decision.votes)}
    return json.dumps(record).encode()


def unpack_decision(proposal_id: str, raw: bytes) -> Decision | None:
    """Return a decision; None if the node holds something else."""
    record = _load(raw)
    committed, votes = record.get("committed"), record.get("votes")
    if not isinstance(committed, bool):
        return None
    known = {str(name): bool(vote) for name, vote in votes.items()} if isinstance(votes, dict) else {}
    return Decision(proposal_id, committed, str(record.get("reason", "")), known)


def unpack_proposal(node: Node, children: Iterable[Node]) -> Proposal | None:
    """Return what a proposal's nodes say; None if this is no proposal of ours."""
    proposal_id = proposal_id_of(_name(node))
    line, _, value = node.value.partition(b"\n")
    header = _load(line)
    participants, timeout_ms = header.get("participants"), header.get("timeout_ms")
    if proposal_id is None or not isinstance(participants, list) or not isinstance(timeout_ms, int):
        return None
    votes: dict[str, bool] = {}
    acknowledged: list[str] = []
    decision: Decision | None = None
    for child in children:
        name = _name(child)
        if name.startswith(_VOTE):
            votes[name[len(_VOTE) :]] = _load(child.value).get("vote") == "yes"
        elif name.startswith(_DONE):
            acknowledged.append(name[len(_DONE) :])
        elif name == _DECISION:
            decision = unpack_decision(proposal_id, child.value)
    return Proposal(
        id=proposal_id,
        participants=tuple(str(name) for name in participants),
        value=value,
        coordinator=str(header.get("coordinator", "")),
        deadline_ms=node.stat.ctime + timeout_ms,
        votes=votes,
        committed=None if decision is None else decision.committed,
        reason="" if decision is None else decision.reason,
        acknowledged=tuple(acknowledged),
        token=node.stat.czxid,
    )


def _name(node: Node) -> str:
    return node.path.rpartition("/")[2]


def _load(raw: bytes) -> dict[str, Any]:  # JSON that others may have written
    try:
        record = json.loads(raw)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


# ---------------------------------------------------------------------------------------------
# What follows


def verdict(proposal: Proposal, now_ms: float) -> Decision | None:
    """Return what is to be decided; None: it is too early.

    Args:
        now_ms: The service's time, at least.
    """
    against = sorted(name for name in proposal.participants if proposal.votes.get(name) is False)
    missing = [name for name in proposal.participants if name not in proposal.votes]
    if against:
        return Decision(proposal.id, False, f"{', '.join(against)} voted no", proposal.votes)
    if not missing:
        return Decision(proposal.id, True, "", proposal.votes)
    if now_ms >= proposal.deadline_ms:
        return Decision(proposal.id, False, f"no vote in time from {', '.join(missing)}", proposal.votes)
    return None

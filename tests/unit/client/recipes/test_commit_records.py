"""The records of an atomic commit: what they hold, and what is to be decided from them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordclient import InvalidArgumentError, InvalidPathError, Node, Stat
from coordclient.recipes.commit_records import (
    CommitLayout,
    Decision,
    Proposal,
    Vote,
    check_participants,
    pack_decision,
    pack_proposal,
    pack_vote,
    unpack_decision,
    unpack_proposal,
    verdict,
)

OPEN = Proposal("1", ("a", "b"), deadline_ms=1000)
LAYOUT = CommitLayout("/c")


def node(path: str, value: bytes, *, ctime: int = 0) -> Node:
    return Node(path, value, Stat(7, 7, 7, ctime, ctime, 0, 0, 0, 0, len(value), 0))


@pytest.mark.parametrize("now_ms", [0, 5000])
def test_all_yes_is_commit_also_after_the_deadline(now_ms: int) -> None:
    decision = verdict(replace(OPEN, votes={"a": True, "b": True}), now_ms)

    assert decision == Decision("1", True, "", {"a": True, "b": True})


@pytest.mark.parametrize("votes", [{"a": False}, {"a": False, "b": True}])
def test_one_no_is_abort_at_once(votes: dict[str, bool]) -> None:
    decision = verdict(replace(OPEN, votes=votes), 0)

    assert decision is not None
    assert not decision.committed
    assert decision.reason == "a voted no"


@pytest.mark.parametrize("votes", [{}, {"a": True}])
def test_a_missing_vote_is_waited_for_until_the_deadline(votes: dict[str, bool]) -> None:
    proposal = replace(OPEN, votes=votes)
    decision = verdict(proposal, 1000)

    assert verdict(proposal, 999) is None
    assert decision is not None
    assert not decision.committed
    assert "b" in decision.reason


def test_votes_of_strangers_do_not_count() -> None:
    assert verdict(replace(OPEN, votes={"a": True, "x": True, "y": False}), 0) is None


def test_a_proposal_is_read_from_its_nodes() -> None:
    path = LAYOUT.proposal("1")
    decision = Decision("1", True, "why", {"a": True})
    children = [
        node(LAYOUT.vote("1", "a"), pack_vote(Vote(True))),
        node(LAYOUT.vote("1", "b"), pack_vote(Vote(False, "no room"))),
        node(LAYOUT.done("1", "a"), b""),
        node(LAYOUT.decision("1"), pack_decision(decision)),
        node(f"{path}/readme", b"foreign"),
    ]
    raw = pack_proposal(("a", "b"), b"two\nlines", 500, "me")

    assert unpack_proposal(node(path, raw, ctime=1000), children) == Proposal(
        id="1",
        participants=("a", "b"),
        value=b"two\nlines",
        coordinator="me",
        deadline_ms=1500,
        votes={"a": True, "b": False},
        committed=True,
        reason="why",
        acknowledged=("a",),
        token=7,
    )


def test_a_proposal_is_finished_when_all_have_carried_it_out() -> None:
    decided = replace(OPEN, committed=False)

    assert not replace(decided, acknowledged=("a",)).is_finished
    assert replace(decided, acknowledged=("b", "a")).is_finished
    assert not replace(OPEN, acknowledged=("a", "b")).is_finished


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[]", b'{"participants": 7}', b'{"participants": ["a"]}'])
def test_foreign_nodes_are_no_proposals(raw: bytes) -> None:
    assert unpack_proposal(node(LAYOUT.proposal("1"), raw), []) is None


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"committed": "yes"}'])
def test_foreign_nodes_are_no_decisions(raw: bytes) -> None:
    assert unpack_decision("1", raw) is None


def test_a_changed_node_names_its_proposal() -> None:
    assert LAYOUT.id_in(LAYOUT.vote("12", "a")) == "12"
    assert LAYOUT.id_in(LAYOUT.proposal("12")) == "12"
    assert LAYOUT.id_in(LAYOUT.proposals) is None


@pytest.mark.parametrize("names", [[], ["a", "a"], ["a/b"], [""], "ab", ["x" * 201]])
def test_senseless_participants_are_refused(names: list[str]) -> None:
    with pytest.raises(InvalidArgumentError):
        check_participants(names, "/c")


def test_the_root_is_no_place_for_proposals() -> None:
    with pytest.raises(InvalidPathError):
        CommitLayout("/")

"""The quorum arithmetic against brute force. Raft §5.3, §6."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from coordsvc.raft.quorum import UNBOUNDED, VoteResult, joint_index, joint_vote, majority_index, majority_vote
from coordsvc.raft.types import Index, NodeId

NAMES = ("a", "b", "c", "d", "e", "f", "g")
halves = st.lists(st.sampled_from(NAMES), unique=True, max_size=7)
matches = st.fixed_dictionaries({name: st.integers(0, 9) for name in NAMES})
ballots = st.dictionaries(st.sampled_from(NAMES), st.booleans())


def majorities(voters: list[NodeId]) -> list[set[NodeId]]:
    """Every set of voters that is more than half of them, written out."""
    return [
        set(group)
        for size in range(len(voters) + 1)
        if 2 * size > len(voters)
        for group in combinations(voters, size)
    ]


def slow_index(voters: list[NodeId], match: dict[NodeId, Index]) -> Index:
    """The largest index that all members of some majority have reached."""
    if not voters:
        return UNBOUNDED
    return max(min(match[name] for name in majority) for majority in majorities(voters))


def slow_vote(incoming: list[NodeId], outgoing: list[NodeId], votes: dict[NodeId, bool]) -> VoteResult:
    """Won if enough have said yes; lost if not even all who are silent could still make it enough."""

    def enough(yes: set[NodeId]) -> bool:
        return all(
            not voters or any(majority <= yes for majority in majorities(voters))
            for voters in (incoming, outgoing)
        )

    yes = {name for name in NAMES if votes.get(name)}
    silent = {name for name in NAMES if name not in votes}
    if enough(yes):
        return VoteResult.WON
    return VoteResult.PENDING if enough(yes | silent) else VoteResult.LOST


@settings(deadline=None)
@given(halves, matches)
def test_majority_index_is_what_some_majority_has_reached(
    voters: list[NodeId], match: dict[NodeId, Index]
) -> None:
    assert majority_index([match[name] for name in voters]) == slow_index(voters, match)


@settings(deadline=None)
@given(halves, halves, matches)
def test_joint_index_needs_both_halves(
    incoming: list[NodeId], outgoing: list[NodeId], match: dict[NodeId, Index]
) -> None:
    fast = joint_index([match[name] for name in incoming], [match[name] for name in outgoing])

    assert fast == min(slow_index(incoming, match), slow_index(outgoing, match))


@settings(deadline=None)
@given(halves, ballots)
def test_majority_vote_is_decided_when_the_silent_cannot_change_it(
    voters: list[NodeId], votes: dict[NodeId, bool]
) -> None:
    assert majority_vote(voters, votes) is slow_vote(voters, [], votes)


@settings(deadline=None)
@given(halves, halves, ballots)
def test_joint_vote_needs_both_halves(
    incoming: list[NodeId], outgoing: list[NodeId], votes: dict[NodeId, bool]
) -> None:
    assert joint_vote(incoming, outgoing, votes) is slow_vote(incoming, outgoing, votes)


def test_an_empty_half_holds_nothing_back() -> None:
    assert joint_index([4, 5, 6], []) == 5
    assert joint_vote(("a",), (), {"a": True}) is VoteResult.WON
    assert joint_vote(("a",), (), {"a": False}) is VoteResult.LOST

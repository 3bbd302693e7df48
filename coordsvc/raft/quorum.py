"""Majority and joint-majority arithmetic. Raft §5.2, §5.3, §6.

Rule of this file: pure functions over plain values; it knows no node, log or message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from coordsvc.raft.types import NodeId

# What an empty half agrees to: everything, so that it never holds back the other half.
UNBOUNDED: Final = (1 << 63) - 1


class VoteResult(Enum):
    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def majority_size(voter_count: int) -> int:
    """Return how many of `voter_count` voters make a majority."""
    return voter_count // 2 + 1


def majority_index(indexes: list[int]) -> int:
    """Return the largest index that a majority has reached, one index for each voter. Sorts `indexes`."""
    count = len(indexes)
    if count == 0:
        return UNBOUNDED
    indexes.sort()
    return indexes[count - (count // 2 + 1)]


def joint_index(incoming: list[int], outgoing: list[int]) -> int:
    """Return the largest index that a majority of each half has reached."""
    index = majority_index(incoming)
    if not outgoing:
        return index
    return min(index, majority_index(outgoing))


def majority_vote(voters: Sequence[NodeId], votes: Mapping[NodeId, bool]) -> VoteResult:
    """Tally `votes` (True is a yes; absent is not heard yet) of `voters`; no voters at all is a win."""
    if not voters:
        return VoteResult.WON
    yes = 0
    missing = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is None:
            missing += 1
        elif vote:
            yes += 1
    needed = majority_size(len(voters))
    if yes >= needed:
        return VoteResult.WON
    if yes + missing >= needed:
        return VoteResult.PENDING
    return VoteResult.LOST


def joint_vote(
    incoming: Sequence[NodeId], outgoing: Sequence[NodeId], votes: Mapping[NodeId, bool]
) -> VoteResult:
    """Tally a vote that both halves must win; one lost half loses it."""
    first = majority_vote(incoming, votes)
    second = majority_vote(outgoing, votes)
    if first is second:
        return first
    if VoteResult.LOST in (first, second):
        return VoteResult.LOST
    return VoteResult.PENDING

"""Roles and their transitions, by themselves. Raft Figure 4."""

from __future__ import annotations

import pytest

from coordsvc.raft.messages import MessageType
from coordsvc.raft.node import Role
from tests.unit.raft.bench import Bench


def test_a_new_term_clears_the_vote_and_the_same_term_keeps_it() -> None:
    state = Bench(term=3, vote="c").node.state
    state.become_follower(3, "b")
    assert (state.vote, state.leader) == ("c", "b")
    state.become_follower(4, None)
    assert (state.vote, state.leader) == (None, None)


def test_the_term_never_goes_back() -> None:
    state = Bench(term=3).node.state
    with pytest.raises(AssertionError, match="R1"):
        state.become_follower(2, None)


def test_only_a_candidate_becomes_leader() -> None:
    state = Bench().node.state
    with pytest.raises(AssertionError, match="only a candidate"):
        state.become_leader()


def test_a_leader_does_not_become_a_candidate() -> None:
    bench = Bench()
    bench.lead()
    with pytest.raises(AssertionError, match="does not campaign"):
        bench.node.state.become_candidate()
    with pytest.raises(AssertionError, match="does not campaign"):
        bench.node.state.become_pre_candidate()


def test_a_new_leader_knows_nothing_about_the_others_and_appends_an_empty_entry() -> None:
    bench = Bench()
    bench.lead()
    bench.propose(b"x")
    bench.hear()
    bench.append("b", term=5)
    bench.node.campaign()
    bench.hear()
    bench.say(MessageType.VOTE_RESPONSE, "b")

    followers = bench.node.status().followers

    assert bench.node.role is Role.LEADER
    assert {(f.match, f.next, f.recent_active) for f in followers.values()} == {(0, 3, False)}
    assert bench.log() == [(1, 1), (2, 1), (3, 6)]

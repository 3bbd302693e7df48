"""What a node tells operators."""

from __future__ import annotations

from coordsvc.raft.node import Role
from tests.unit.raft.bench import Bench


def test_the_status_tells_an_operator_what_is_going_on() -> None:
    bench = Bench(learners=("d",))
    bench.lead()
    bench.propose(b"0123456789")
    status = bench.node.status()
    assert (status.role, status.leader, status.first_index, status.last_index) == (Role.LEADER, "a", 1, 2)
    assert (status.stable_index, status.commit_index, status.applied_index) == (1, 1, 1)
    assert status.uncommitted_bytes == 10
    assert {name: follower.is_learner for name, follower in status.followers.items()} == {
        "b": False,
        "c": False,
        "d": True,
    }


def test_only_a_leader_speaks_of_followers() -> None:
    bench = Bench()
    bench.follow("b", term=3)
    status = bench.node.status()
    assert (status.node_id, status.role, status.term, status.leader) == ("a", Role.FOLLOWER, 3, "b")
    assert status.followers == {}


def test_a_node_prints_itself() -> None:
    bench = Bench()
    bench.lead()
    assert repr(bench.node) == "<a LEADER term=1 vote=a leader=a applied=1 commit=1 stable=1 last=1>"

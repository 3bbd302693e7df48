"""The face of a node: what goes in, what comes out, and that the parts work together."""

from __future__ import annotations

from tests.unit.raft.cluster import Cluster


def test_three_members_elect_replicate_and_apply() -> None:
    cluster = Cluster()
    cluster.elect("a")

    cluster.propose("a", b"one", b"two")
    cluster.settle()

    assert [member.applied_data() for member in cluster.members.values()] == [[b"one", b"two"]] * 3
    assert {member.node.leader for member in cluster.members.values()} == {"a"}


def test_a_single_member_is_a_cluster_of_one() -> None:
    cluster = Cluster(["a"])
    cluster.elect("a")

    cluster.propose("a", b"one")
    cluster.settle()

    assert cluster.members["a"].applied_data() == [b"one"]

"""The membership as clients see it."""

from __future__ import annotations

import pytest

from coordproto.v1 import coordination_pb2
from coordsvc.api.members import decode_change, describe_joined, describe_members
from coordsvc.replica.changes import (
    AddMember,
    Change,
    JoinMember,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
)
from tests.unit.replica.changing_cluster import ChangingCluster

Request = coordination_pb2.ChangeMembersRequest


@pytest.mark.parametrize(
    ("request_", "change"),
    [
        (Request(add=coordination_pb2.AddMember(name="d", peer_address="h:1")), AddMember("d", "h:1")),
        (Request(remove=coordination_pb2.RemoveMember(name="d")), RemoveMember("d")),
        (Request(promote=coordination_pb2.PromoteMember(name="d")), PromoteMember("d")),
        (Request(replace=coordination_pb2.ReplaceMember(name="a", by="d")), ReplaceMember("a", "d")),
        (Request(force=True), None),
    ],
)
def test_each_change_is_understood(request_: Request, change: Change | None) -> None:
    assert decode_change(request_) == change


def test_the_leader_describes_everybody() -> None:
    cluster = ChangingCluster("a", "b", "c")
    cluster.elect()
    cluster.tick(3)
    cluster.join("d")
    cluster.change(AddMember("e", "e:1"))
    leader = cluster.leader()
    described = describe_members(cluster.replica(leader))
    by_name = {member.name: member for member in described.members}
    assert [member.name for member in described.members] == ["a", "b", "c", "d", "e"]
    assert [name for name, member in by_name.items() if member.leader] == [leader]
    assert {name for name, member in by_name.items() if member.role == coordination_pb2.LEARNER} == {"d", "e"}
    assert {name for name, member in by_name.items() if not member.started} == {"e"}
    assert {name for name, member in by_name.items() if not member.reachable} == {"e"}
    assert by_name["d"].client_address == "d:7400"
    assert by_name["d"].match_index == described.last_index
    assert described.configuration_index > 0


def test_a_joiner_is_told_who_it_is_and_from_where_on_it_counts() -> None:
    cluster = ChangingCluster("a", "b", "c")
    cluster.elect()
    cluster.tick(3)
    request = cluster.change(JoinMember("", "h:1", "h:2", 77))
    told = describe_joined("cluster", request)
    log = cluster.replica(cluster.leader()).state.raft.state.log
    assert (told.cluster_id, told.name) == ("cluster", "coordsvc-1")
    assert [member.name for member in told.members] == ["a", "b", "c", "coordsvc-1"]
    assert told.configuration_index == cluster.replica(cluster.leader()).roster.applied.index
    assert told.configuration_term == log.term(told.configuration_index) > 0


def test_who_comes_and_who_goes_can_be_seen_in_the_middle_of_a_change() -> None:
    cluster = ChangingCluster("a", "b", "c")
    cluster.elect()
    cluster.tick(3)
    cluster.join("d")
    leader = cluster.leader()
    victim = next(name for name in "abc" if name != leader)
    cluster.replica(leader).change_membership(ReplaceMember(victim, "d"))
    roles = {member.name: member.role for member in describe_members(cluster.replica(leader)).members}
    assert roles[victim] == coordination_pb2.LEAVING_VOTER
    assert roles["d"] == coordination_pb2.JOINING_VOTER
    assert roles[leader] == coordination_pb2.VOTER

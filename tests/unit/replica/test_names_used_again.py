"""A name, and the disks that had it one after the other: removed, wiped, announced, joined. Decision 0012."""

from __future__ import annotations

import pytest

from coordproto.v1 import peer_pb2
from coordsvc.codec.cluster_configuration import at_index
from coordsvc.codec.entries import join_commands
from coordsvc.codec.peer_messages import raft_frame
from coordsvc.raft.messages import Message, MessageType
from coordsvc.replica.changes import AddMember, JoinMember, PromoteMember, RemoveMember, ReplaceMember
from coordsvc.statemachine.results import ErrorCode
from tests.unit.replica.changing_cluster import ChangingCluster
from tests.unit.replica.cluster import create, kinds


@pytest.fixture
def trio() -> ChangingCluster:
    cluster = ChangingCluster("a", "b", "c")
    cluster.elect()
    cluster.tick(3)
    return cluster


def let_lead(cluster: ChangingCluster, name: str) -> None:
    for _ in range(10):
        if cluster.leader() == name:
            return
        cluster.replica(cluster.leader()).state.raft.transfer_leader(name)
        cluster.tick(3)
    raise AssertionError(f"{name} does not lead")


def cut(cluster: ChangingCluster, ones: str, others: str) -> None:
    for one in ones:
        for other in others:
            cluster.cut |= {(one, other), (other, one)}
    cluster.linked -= cluster.cut


def leaders(cluster: ChangingCluster) -> list[str]:
    return [member.name for member in cluster.up() if member.replica.state.raft.is_leader]


class TestWiped:
    def test_an_empty_disk_under_an_old_name_gives_no_second_majority(self, trio: ChangingCluster) -> None:
        """b sleeps while d takes the place of c; then c, wiped, joins again, and meets nobody but b."""
        let_lead(trio, "a")
        trio.kill("b")
        assert trio.join("d").outcome is not None
        trio.tick(3)
        assert trio.change(ReplaceMember("c", "d")).outcome is not None
        trio.tick(5)
        del trio.members["c"]
        trio.ids["c"] = 777
        cut(trio, "ad", "bc")
        assert trio.join("c").outcome is not None
        client = trio.client("a")
        client.write(create("/acknowledged"))
        trio.tick(3)
        assert "w1" in kinds(client.take())
        trio.start("b")
        trio.tick(60)
        assert {("b", "c"), ("c", "b")} <= trio.linked
        assert leaders(trio) == ["a"]
        trio.heal()
        trio.tick(60)
        assert trio.stopped == {}
        assert len(trio.digests()) == 1
        assert trio.roles() == (("a", "b", "d"), ("c",))

    def test_a_voter_whose_id_was_never_recorded_is_not_joined_by_an_empty_disk(self) -> None:
        """It may be the one that voted, and forgot it."""
        cluster = ChangingCluster("a", "b", "c")
        cluster.kill("c")
        cluster.elect()
        cluster.tick(5)
        request = cluster.change(JoinMember("c", "c:7401", "c:7400", 777))
        assert request.failure is not None
        assert request.failure.code is ErrorCode.NODE_EXISTS
        assert "or, if it has lost its disk, remove it first" in request.failure.message

    def test_answers_of_another_disk_are_not_counted(self, trio: ChangingCluster) -> None:
        let_lead(trio, "a")
        replica = trio.replica("a")
        replica.peer_greeted("b", 4711, "b:7401", "b:7400", 1_000)
        assert replica.roster.doubted == {"b"}
        raft = replica.state.raft
        cut(trio, "a", "bc")
        last_index = raft.propose([join_commands(0, [])])
        for kind in (MessageType.APPEND_RESPONSE, MessageType.HEARTBEAT_RESPONSE, MessageType.VOTE_RESPONSE):
            trio.settle()
            said = Message(kind, "b", "a", term=raft.term, index=last_index)
            replica.receive("b", [peer_pb2.PeerFrame.FromString(raft_frame(said))])
        assert raft.commit_index < last_index
        replica.peer_greeted("b", trio.ids["b"], "b:7401", "b:7400", 1_000)
        assert replica.roster.doubted == set()
        said = Message(MessageType.APPEND_RESPONSE, "b", "a", term=raft.term, index=last_index)
        replica.receive("b", [peer_pb2.PeerFrame.FromString(raft_frame(said))])
        assert raft.commit_index == last_index

    def test_another_disk_may_lead_us_all_the_same(self, trio: ChangingCluster) -> None:
        """It may be that of a cluster that has changed completely since."""
        let_lead(trio, "a")
        replica = trio.replica("a")
        replica.peer_greeted("b", 4711, "b:7401", "b:7400", 1_000)
        said = Message(MessageType.HEARTBEAT, "b", "a", term=1_000)
        replica.receive("b", [peer_pb2.PeerFrame.FromString(raft_frame(said))])
        assert (replica.state.raft.leader, replica.state.raft.term) == ("b", 1_000)


class TestRemoved:
    def test_the_old_disk_is_not_told_that_it_was_lost(self, trio: ChangingCluster) -> None:
        """Its name belongs to another server, which must not be removed because of what it says."""
        let_lead(trio, "a")
        trio.kill("c")
        old_member, old_id = trio.members["c"], trio.ids["c"]
        assert trio.change(RemoveMember("c")).outcome is not None
        del trio.members["c"]
        trio.ids["c"] = 777
        assert trio.join("c").outcome is not None
        trio.tick(3)
        trio.kill("c")
        trio.members["c"], trio.ids["c"] = old_member, old_id
        del trio.joined["c"]
        trio.start("c")
        trio.tick(3)
        assert trio.causes("c") == {"REFUSAL_ANOTHER_DISK"}
        assert trio.stopped == {}
        assert "its name belongs to another server now" in trio.removed["c"]

    def test_it_stops_as_soon_as_its_log_gives_its_name_away(self, trio: ChangingCluster) -> None:
        """Committed or not: else it might vote where the other one votes."""
        let_lead(trio, "a")
        replica = trio.replica("c")
        trio.isolate("c")
        assert trio.change(RemoveMember("c")).outcome is not None
        joined = trio.change(JoinMember("c", "elsewhere:7401", "c:7400", 777))
        assert joined.outcome is not None
        log, last = trio.replica("a").state.raft.state.log, replica.state.raft.last_index
        append = Message(
            MessageType.APPEND,
            "a",
            "c",
            term=trio.replica("a").state.raft.term,
            index=last,
            log_term=log.term(last),
            entries=log.slice(last + 1, joined.proposed + 1, 1 << 20),
        )
        replica.receive("a", [peer_pb2.PeerFrame.FromString(raft_frame(append))])
        replica.take_ready()
        assert replica.state.raft.commit_index < joined.proposed
        assert "its name belongs to another server now" in replica.take_effects().removed

    def test_a_place_announced_for_a_new_server_is_not_taken_by_the_old_disk(
        self, trio: ChangingCluster
    ) -> None:
        let_lead(trio, "a")
        trio.kill("c")
        assert trio.change(RemoveMember("c")).outcome is not None
        assert trio.change(AddMember("c", "c:7401")).outcome is not None
        trio.start("c")
        trio.tick(20)
        assert list(trio.removed) == ["c"]
        del trio.members["c"]
        trio.ids["c"] = 777
        assert trio.join("c").outcome is not None
        assert trio.change(PromoteMember("c")).outcome is not None

    def test_who_was_announced_only_is_not_promoted(self, trio: ChangingCluster) -> None:
        trio.change(AddMember("d", "d:7401"))
        request = trio.change(PromoteMember("d"))
        assert request.failure is not None
        assert request.failure.code is ErrorCode.CATCHING_UP
        assert "start it with --join" in request.failure.message


class TestGuests:
    def test_a_guest_stays_linked_while_older_configurations_are_applied(self, trio: ChangingCluster) -> None:
        replica = trio.replica("b")
        replica.peer_greeted("x", 99, "x:7401", "x:7400", 1_000)
        assert "x" in (replica.take_effects().members or {})
        applied = replica.roster.applied
        replica.roster.configuration_applied(at_index(applied, applied.index + 1))
        members = replica.take_effects().members
        assert members is None or "x" in members
        replica.roster.configuration_applied(at_index(applied, 1_000))
        members = replica.take_effects().members
        assert members is not None
        assert "x" not in members, "now we know as much as it does"

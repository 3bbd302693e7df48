"""Changes of the membership, as operators and joining servers ask for them. Decision 0012."""

from __future__ import annotations

import pytest

from coordsvc.codec.cluster_configuration import MEMBERS_MAX, encode_cluster_configuration
from coordsvc.codec.entries import join_commands
from coordsvc.replica.changes import (
    AddMember,
    ChangeRequest,
    JoinMember,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
)
from coordsvc.statemachine.results import ErrorCode
from tests.unit.replica.changing_cluster import ChangingCluster
from tests.unit.replica.cluster import create, kinds


@pytest.fixture
def trio() -> ChangingCluster:
    cluster = ChangingCluster("a", "b", "c")
    cluster.elect()
    cluster.tick(3)
    return cluster


def refusal(request: ChangeRequest) -> tuple[ErrorCode, str]:
    assert request.failure is not None, f"refused, and not {request.outcome}"
    return request.failure.code, request.failure.message


def followers(cluster: ChangingCluster) -> list[str]:
    return [name for name in cluster.members if name != cluster.leader() and name not in cluster.down]


class TestRecords:
    def test_the_leader_records_who_and_where_the_founders_are(self, trio: ChangingCluster) -> None:
        for name in "abc":
            records = trio.replica(name).roster.applied.members
            assert [(record.name, record.member_id) for record in records] == [("a", 1), ("b", 2), ("c", 3)]
            assert [record.client_address for record in records] == ["a:7400", "b:7400", "c:7400"]

    def test_an_address_that_another_member_has_is_not_recorded(self, trio: ChangingCluster) -> None:
        """Two were restarted without their flags; whoever joins is to be told of three places, not of two."""
        first, second = (name for name in "abc" if name != trio.leader())
        trio.move(first, "127.0.0.1:7401")
        trio.tick(10)
        trio.move(second, "127.0.0.1:7401")
        trio.tick(10)
        applied = trio.replica(trio.leader()).roster.applied
        found = {record.name: record.peer_address for record in applied.members}
        assert found[first] == "127.0.0.1:7401"
        assert found[second] == f"{second}:7401"
        assert second in trio.replica(trio.leader()).state.raft.status().followers

    def test_what_is_recorded_is_not_recorded_again(self, trio: ChangingCluster) -> None:
        before = trio.replica("a").state.raft.last_index
        trio.tick(30)
        assert trio.replica("a").state.raft.last_index == before

    def test_a_member_that_moves_is_found_and_recorded(self, trio: ChangingCluster) -> None:
        moved = followers(trio)[0]
        trio.move(moved, "elsewhere:9")
        trio.tick(20)
        for name in "abc":
            record = trio.replica(name).roster.applied.record(moved)
            assert record is not None
            assert record.peer_address == "elsewhere:9"
        assert len(trio.linked) == 6

    def test_a_leader_that_moves_is_found_too(self, trio: ChangingCluster) -> None:
        moved = trio.leader()
        trio.move(moved, "elsewhere:9")
        trio.elect()
        trio.tick(20)
        record = trio.replica(trio.leader()).roster.applied.record(moved)
        assert record is not None
        assert record.peer_address == "elsewhere:9"

    def test_records_survive_a_restart_of_everybody(self, trio: ChangingCluster) -> None:
        before = trio.replica("a").roster.applied
        for name in "abc":
            trio.restart(name)
        assert trio.replica("a").roster.applied == before


class TestJoining:
    def test_a_joiner_learns_everything_and_votes_in_nothing(self, trio: ChangingCluster) -> None:
        client = trio.client(trio.leader())
        client.write(create("/before", b"x"))
        trio.settle()
        request = trio.join("d")
        assert request.outcome is not None
        assert trio.roles() == (("a", "b", "c"), ("d",))
        assert trio.replica("d").state.machine.zxid == trio.replica("a").state.machine.zxid
        assert len(trio.digests()) == 1

    def test_the_names_of_the_past_do_not_make_a_joiner_stop(self, trio: ChangingCluster) -> None:
        """Its log begins with configurations that did not name it yet."""
        trio.join("d")
        trio.tick(5)
        assert trio.removed == {}
        assert trio.replica("d").roster.applied.record("d") is not None

    def test_a_server_without_a_name_gets_one(self, trio: ChangingCluster) -> None:
        request = trio.change(joining(trio, "", "new:1", 77))
        assert request.name == "coordsvc-1"
        again = trio.change(joining(trio, "", "new:1", 77))
        assert again.name == "coordsvc-1", "it is the same server"

    def test_asking_again_changes_nobodys_place(self, trio: ChangingCluster) -> None:
        first = trio.join("d")
        again = trio.join("d")
        assert first.outcome is not None
        assert again.outcome is not None
        assert again.outcome.members == first.outcome.members
        assert (again.proposed_term, again.proposed) > (first.proposed_term, first.proposed), (
            "it is told of an entry whose term is known"
        )

    def test_another_server_of_the_same_name_is_refused(self, trio: ChangingCluster) -> None:
        trio.join("d")
        code, message = refusal(trio.change(joining(trio, "d", "other:1", 4711)))
        assert code is ErrorCode.NODE_EXISTS
        assert "a member named d exists already with another data directory" in message

    def test_a_disk_has_one_name(self, trio: ChangingCluster) -> None:
        trio.join("d")
        code, message = refusal(trio.change(joining(trio, "e", "other:1", trio.ids["d"])))
        assert code is ErrorCode.INVALID_ARGUMENT
        assert "is that of member d" in message

    def test_an_address_has_one_member(self, trio: ChangingCluster) -> None:
        code, message = refusal(trio.change(joining(trio, "d", "b:7401", 9)))
        assert (code, message) == (ErrorCode.NODE_EXISTS, "b:7401 is the address of member b")

    def test_a_place_can_be_prepared(self, trio: ChangingCluster) -> None:
        assert trio.change(AddMember("d", "d:7401")).outcome is not None
        assert trio.join("d").outcome is not None
        record = trio.replica(trio.leader()).roster.applied.record("d")
        assert record is not None
        assert record.member_id == trio.ids["d"]
        code, _ = refusal(trio.change(AddMember("d", "x:1")))
        assert code is ErrorCode.NODE_EXISTS

    @pytest.mark.parametrize(
        ("name", "address"),
        [
            *(("d/e", "d:1"), ("d", "d"), ("d", "d:99999"), ("d", "0.0.0.0:7401"), ("d", "10.0.0..4:7401")),
            *(("d", ".x:7401"), ("d", "[,=]:1"), ("d", "h" * 64 + ":7401"), ("d", "10.0.0.256:7401")),
        ],
    )
    def test_what_cannot_be_dialled_or_written_down_is_refused(
        self, trio: ChangingCluster, name: str, address: str
    ) -> None:
        code, _ = refusal(trio.change(AddMember(name, address)))
        assert code is ErrorCode.INVALID_ARGUMENT

    def test_where_clients_find_a_joiner_is_looked_at_too(self, trio: ChangingCluster) -> None:
        code, message = refusal(trio.change(JoinMember("d", "d:7401", "10.0.0..4:7400", 9)))
        assert code is ErrorCode.INVALID_ARGUMENT
        assert "'10.0.0..4:7400': the host is no host name" in message

    @pytest.mark.parametrize("address", ["127.0.0.1:7401", "[::1]:7401", "localhost:7401"])
    def test_a_joiner_that_only_its_own_machine_can_reach_is_refused(
        self, trio: ChangingCluster, address: str
    ) -> None:
        code, message = refusal(trio.change(joining(trio, "d", address, 9)))
        assert code is ErrorCode.INVALID_ARGUMENT
        assert f"member d at {address} can be reached on its own machine only" in message
        assert "start d with --advertise-peer" in message

    def test_a_cluster_that_only_its_own_machine_can_reach_takes_in_its_neighbours(self) -> None:
        alone = ChangingCluster("a")
        alone.founders["a"] = "127.0.0.1:7401"
        alone.move("a", "127.0.0.1:7401")
        alone.elect()
        alone.tick(3)
        _, message = refusal(alone.change(joining(alone, "d", "10.0.0.4:7401", 9)))
        assert "member a at 127.0.0.1:7401 can be reached on its own machine only" in message
        assert alone.change(joining(alone, "d", "127.0.0.1:7411", 9)).outcome is not None
        assert alone.change(joining(alone, "e", "[::1]:7411", 10)).outcome is not None

    def test_a_joiner_that_crashes_before_it_heard_anything_goes_on(self, trio: ChangingCluster) -> None:
        trio.drop = lambda _source, target, _frame: target == "d"
        trio.join("d")
        trio.restart("d")
        trio.drop = lambda _source, _target, _frame: False
        trio.tick(20)
        assert len(trio.digests()) == 1

    def test_clients_hear_of_the_new_member(self, trio: ChangingCluster) -> None:
        client = trio.client(trio.leader())
        client.take()
        trio.join("d")
        items = [item for item in client.take() if item.WhichOneof("item") == "endpoints"]
        assert list(items[-1].endpoints.endpoints) == ["a:7400", "b:7400", "c:7400", "d:7400"]
        later = trio.client(trio.leader())
        (attached,) = [item for item in later.take() if item.WhichOneof("item") == "attached"]
        assert list(attached.attached.endpoints) == ["a:7400", "b:7400", "c:7400", "d:7400"]


def joining(cluster: ChangingCluster, name: str, address: str, member_id: int) -> JoinMember:
    return JoinMember(name, address, "client:1", member_id)


class TestPromoting:
    def test_a_learner_that_has_caught_up_votes(self, trio: ChangingCluster) -> None:
        trio.join("d")
        assert trio.change(PromoteMember("d")).outcome is not None
        assert trio.roles() == (("a", "b", "c", "d"), ())

    def test_one_that_is_not_heard_from_does_not(self, trio: ChangingCluster) -> None:
        trio.join("d")
        trio.kill("d")
        trio.tick(20)
        code, message = refusal(trio.change(PromoteMember("d")))
        assert (code, message) == (
            ErrorCode.CATCHING_UP,
            "d has not caught up: it is not heard from; is it running?",
        )

    def test_only_learners_are_promoted(self, trio: ChangingCluster) -> None:
        assert refusal(trio.change(PromoteMember("a"))) == (
            ErrorCode.INVALID_ARGUMENT,
            "a is a voting member already",
        )
        code, message = refusal(trio.change(PromoteMember("z")))
        assert code is ErrorCode.INVALID_ARGUMENT
        assert "there is no member 'z', only a, b, c" in message


class TestRemoving:
    def test_a_learner_is_removed_and_hears_of_it(self, trio: ChangingCluster) -> None:
        trio.join("d")
        assert trio.change(RemoveMember("d")).outcome is not None
        assert trio.roles() == (("a", "b", "c"), ())
        trio.tick(20)
        assert "d" in trio.removed

    def test_a_removed_follower_stops_and_its_clients_move(self, trio: ChangingCluster) -> None:
        victim = followers(trio)[0]
        client = trio.client(victim)
        assert trio.change(RemoveMember(victim)).outcome is not None
        trio.tick(3)
        assert "removed from the cluster" in trio.removed[victim]
        assert "move" in kinds(client.take())
        assert victim not in trio.roles()[0]

    def test_a_leader_hands_over_before_it_goes(self, trio: ChangingCluster) -> None:
        old = trio.leader()
        request = trio.change(RemoveMember(old))
        code, _ = refusal(request)
        new = trio.elect()
        assert code is ErrorCode.NO_LEADER
        assert request.leader_hint == f"{new}:7400"
        assert new != old
        assert trio.change(RemoveMember(old)).outcome is not None
        trio.tick(3)
        assert list(trio.removed) == [old]

    def test_only_the_leader_changes_anything(self, trio: ChangingCluster) -> None:
        request = trio.change(RemoveMember("a"), at=followers(trio)[0])
        code, message = refusal(request)
        assert code is ErrorCode.NO_LEADER
        assert f"{trio.leader()} does" in message
        assert request.leader_hint == f"{trio.leader()}:7400"

    def test_a_member_that_was_down_when_it_was_removed_is_told_so_when_it_comes(
        self, trio: ChangingCluster
    ) -> None:
        victim = followers(trio)[0]
        trio.kill(victim)
        assert trio.change(RemoveMember(victim)).outcome is not None
        trio.start(victim)
        trio.tick(3)
        assert trio.causes(victim) == {"REFUSAL_NOT_A_MEMBER"}
        assert list(trio.removed) == [victim]

    def test_a_member_that_knows_that_it_was_removed_stops_again_when_it_is_started(
        self, trio: ChangingCluster
    ) -> None:
        victim = followers(trio)[0]
        trio.change(RemoveMember(victim))
        trio.tick(3)
        machine = trio.replica(victim).state.machine
        applied = trio.replica(trio.leader()).roster.applied
        machine.set_configuration(encode_cluster_configuration(applied))
        machine.commit()
        trio.start(victim)
        assert "removed from the cluster" in trio.replica(victim).take_effects().removed

    def test_a_change_that_would_cost_the_quorum_needs_force(self, trio: ChangingCluster) -> None:
        dead, live = followers(trio)
        trio.kill(dead)
        trio.tick(15)
        code, message = refusal(trio.change(RemoveMember(live)))
        assert code is ErrorCode.CHECK_FAILED
        assert f"of which 1 can be reached ({dead} not) and 2 are needed" in message
        assert trio.change(RemoveMember(dead)).outcome is not None, "this one costs nothing"

    def test_leadership_stays_where_it_is_if_the_removal_of_the_leader_is_refused(
        self, trio: ChangingCluster
    ) -> None:
        leader = trio.leader()
        trio.kill(followers(trio)[0])
        trio.tick(15)
        code, _ = refusal(trio.change(RemoveMember(leader)))
        assert code is ErrorCode.CHECK_FAILED
        trio.tick(10)
        assert trio.leader() == leader

    def test_a_member_whose_link_has_just_gone_down_counts_as_missing(self, trio: ChangingCluster) -> None:
        """No second passes between the crash and the request: accepted, it would stop the cluster."""
        dead, live = followers(trio)
        trio.kill(dead)
        trio.replica(trio.leader()).peer_down(dead)
        code, _ = refusal(trio.change(RemoveMember(live)))
        assert code is ErrorCode.CHECK_FAILED

    def test_with_force_it_is_tried(self, trio: ChangingCluster) -> None:
        dead, live = followers(trio)
        trio.kill(dead)
        trio.tick(15)
        request = trio.replica(trio.leader()).change_membership(RemoveMember(live), force=True)
        assert request.proposed, "it is in the log"

    def test_the_last_voter_stays(self) -> None:
        lone = ChangingCluster("a")
        lone.elect()
        lone.tick(3)
        code, message = refusal(lone.change(RemoveMember("a"), force=True))
        assert code is ErrorCode.INVALID_ARGUMENT
        assert "last voting member" in message

    def test_a_removed_name_may_join_again_with_a_new_disk(self, trio: ChangingCluster) -> None:
        victim = followers(trio)[0]
        trio.change(RemoveMember(victim))
        trio.tick(3)
        del trio.members[victim], trio.ids[victim]
        assert trio.join(victim, member_id=555).outcome is not None
        trio.tick(5)
        assert trio.stopped == {}
        assert list(trio.removed) == [victim], "that was the old one"
        assert trio.change(PromoteMember(victim)).outcome is not None


class TestReplacing:
    def test_a_voter_is_replaced_in_one_joint_step(self, trio: ChangingCluster) -> None:
        trio.join("d")
        victim = followers(trio)[0]
        assert trio.change(ReplaceMember(victim, "d")).outcome is not None
        trio.tick(3)
        assert trio.roles() == (tuple(sorted({"a", "b", "c", "d"} - {victim})), ())
        assert list(trio.removed) == [victim]
        assert any(note[2].get("outgoing") == "a,b,c" for note in trio.notes)

    def test_the_only_voter_can_be_replaced(self) -> None:
        cluster = ChangingCluster("a")
        cluster.elect()
        cluster.tick(3)
        cluster.join("b")
        assert cluster.change(ReplaceMember("a", "b")).outcome is not None
        cluster.tick(30)
        assert list(cluster.removed) == ["a"]
        assert cluster.roles() == (("b",), ())

    def test_a_new_leader_finishes_what_a_dead_one_began(self, trio: ChangingCluster) -> None:
        trio.join("d")
        old = trio.leader()
        victim = followers(trio)[0]
        trio.drop = lambda _source, target, _frame: target == old  # it never hears that it is committed
        assert trio.replica(old).change_membership(ReplaceMember(victim, "d")).proposed
        trio.settle()
        trio.kill(old)
        trio.drop = lambda _source, _target, _frame: False
        joint = trio.replica("d").state.raft.configuration
        assert joint.voters_outgoing == ("a", "b", "c")
        trio.tick(50)
        assert trio.roles() == (joint.voters, ())
        assert list(trio.removed) == [victim]


class TestOneAtATime:
    def test_a_second_change_is_refused(self, trio: ChangingCluster) -> None:
        trio.join("d")
        leader = trio.replica(trio.leader())
        first = leader.change_membership(PromoteMember("d"))
        code, message = refusal(leader.change_membership(AddMember("e", "e:1")))
        assert code is ErrorCode.LIMIT_EXCEEDED
        assert "another change of the membership is under way: promote d" in message
        trio.tick(3)
        assert first.outcome is not None
        assert trio.change(AddMember("e", "e:1")).outcome is not None

    def test_a_change_that_was_lost_with_its_leader_is_referred_to_the_new_one(
        self, trio: ChangingCluster
    ) -> None:
        old = trio.leader()
        trio.isolate(old)
        request = trio.replica(old).change_membership(AddMember("d", "d:1"))
        assert request.proposed
        trio.tick(40)
        trio.heal()
        trio.tick(20)
        code, _ = refusal(request)
        assert code is ErrorCode.NO_LEADER
        assert trio.roles() == (("a", "b", "c"), ())

    def test_a_change_that_was_lost_far_behind_others_is_referred_too(self, trio: ChangingCluster) -> None:
        """The log of the new leader may be shorter, and stay so."""
        old = trio.leader()
        trio.isolate(old)
        for _ in range(5):
            trio.replica(old).state.raft.propose([join_commands(0, [])])
        request = trio.replica(old).change_membership(AddMember("d", "d:1"))
        trio.tick(40)
        trio.heal()
        trio.tick(20)
        assert trio.replica(old).state.machine.applied_index < request.proposed
        assert refusal(request)[0] is ErrorCode.NO_LEADER

    def test_another_change_in_its_place_is_not_taken_for_it(self, trio: ChangingCluster) -> None:
        old = trio.leader()
        trio.isolate(old)
        before = trio.replica(old)
        before.state.raft.propose([b""])
        request = before.change_membership(AddMember("d", "d:1"))
        trio.tick(40)
        other = trio.change(AddMember("e", "e:1"))
        assert other.proposed == request.proposed
        trio.heal()
        trio.tick(20)
        assert refusal(request)[0] is ErrorCode.NO_LEADER
        assert trio.roles() == (("a", "b", "c"), ("e",))

    def test_a_change_that_survived_its_leader_is_settled_at_the_old_one(self, trio: ChangingCluster) -> None:
        old = trio.leader()
        trio.drop = lambda _source, target, _frame: target == old
        request = trio.replica(old).change_membership(AddMember("d", "d:1"))
        trio.tick(40)
        trio.drop = lambda _source, _target, _frame: False
        trio.tick(20)
        assert request.outcome is not None
        assert trio.roles() == (("a", "b", "c"), ("d",))


class TestLostDisks:
    def test_a_member_does_not_come_back_with_an_empty_disk(self, trio: ChangingCluster) -> None:
        victim = followers(trio)[0]
        trio.lose_disk(victim)
        trio.tick(3)
        assert trio.causes(victim) == {"REFUSAL_ANOTHER_DISK"}
        assert "it lost its disk" in trio.stopped[victim]
        assert f"coordctl member remove {victim}" in trio.stopped[victim]

    def test_also_if_its_disk_was_seen_and_not_recorded_yet(self) -> None:
        cluster = ChangingCluster("a", "b")
        cluster.tick()
        assert cluster.replica("a").roster.applied.record("b")
        refused = cluster.replica("a").check_greeting("b", 4711, 0)
        assert refused is not None
        assert "another data directory" in refused.reason


class TestStaleMembers:
    def test_a_stale_member_does_not_turn_a_new_one_away(self, trio: ChangingCluster) -> None:
        """It has not heard of it, but the new one knows a newer configuration."""
        stale = followers(trio)[0]
        trio.isolate(stale)
        trio.tick(5)
        trio.join("d")
        trio.replica("d").state.raft.tick()
        assert trio.replica(stale).check_greeting("d", trio.ids["d"], trio.joined["d"][1]) is None
        trio.heal()
        trio.tick(10)
        assert trio.removed == {}
        assert len(trio.digests()) == 1

    def test_a_stale_member_is_reached_by_members_that_are_all_new_to_it(self, trio: ChangingCluster) -> None:
        stale = followers(trio)[0]
        trio.kill(stale)
        for new in ("d", "e"):
            trio.join(new)
            trio.change(PromoteMember(new))
        for old in [name for name in ("a", "b", "c") if name != stale]:
            if refusal_code(trio.change(RemoveMember(old))) is ErrorCode.NO_LEADER:
                trio.elect()
                trio.change(RemoveMember(old))
            trio.tick(3)
        assert trio.roles()[0] == tuple(sorted((stale, "d", "e")))
        trio.start(stale)
        trio.tick(30)
        assert len(trio.digests()) == 1
        assert stale not in trio.removed

    def test_there_is_an_end_to_how_many_strangers_are_let_in(self, trio: ChangingCluster) -> None:
        replica = trio.replica("a")
        for number in range(MEMBERS_MAX):
            name = f"new-{number}"
            assert replica.check_greeting(name, number + 1, 999) is None
            replica.peer_greeted(name, number + 1, f"new:{number + 1}", "", 999)
        refused = replica.check_greeting("one-more", 1, 999)
        assert refused is not None
        assert refused.reason == "too many members that are new here"
        assert replica.check_greeting("new-0", 1, 999) is None, "this one is in already"

    def test_a_refusal_by_one_who_knows_less_is_ignored(self, trio: ChangingCluster) -> None:
        replica = trio.replica("a")
        replica.peer_refused(1, replica.roster.known_index)
        assert replica.take_effects().removed == ""
        replica.peer_refused(1, replica.roster.known_index + 1)
        assert replica.take_effects().removed


def refusal_code(request: ChangeRequest) -> ErrorCode | None:
    return request.failure.code if request.failure is not None else None


class TestLongJourneys:
    def test_from_three_to_five_to_one_and_back_to_three(self, trio: ChangingCluster) -> None:
        for new in ("d", "e"):
            trio.join(new)
            assert trio.change(PromoteMember(new)).outcome is not None
        for gone in ("a", "b", "c", "d"):
            if refusal_code(trio.change(RemoveMember(gone))) is ErrorCode.NO_LEADER:
                trio.elect()
                assert trio.change(RemoveMember(gone)).outcome is not None
            trio.tick(5)
        assert trio.roles() == (("e",), ())
        for new in ("f", "g"):
            trio.join(new)
            assert trio.change(PromoteMember(new)).outcome is not None
        client = trio.client(trio.leader())
        client.write(create("/after", b""))
        trio.tick(3)
        assert trio.roles() == (("e", "f", "g"), ())
        assert len(trio.digests()) == 1
        assert sorted(trio.removed) == ["a", "b", "c", "d"]

    def test_all_three_are_replaced_one_by_one_under_one_client(self, trio: ChangingCluster) -> None:
        for number, (old, new) in enumerate(zip("abc", "def", strict=True)):
            trio.join(new)
            client = trio.client(new)
            if refusal_code(trio.change(ReplaceMember(old, new))) is ErrorCode.NO_LEADER:
                trio.elect()
                assert trio.change(ReplaceMember(old, new)).outcome is not None
            client.write(create(f"/n{number}", b""))
            trio.tick(5)
            assert "w1" in kinds(client.take())
        assert trio.roles() == (("d", "e", "f"), ())
        assert sorted(trio.removed) == ["a", "b", "c"]
        assert len(trio.digests()) == 1

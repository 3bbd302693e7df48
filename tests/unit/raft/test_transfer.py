"""Leadership transfer. Thesis §3.10; after the list of etcd's TestLeaderTransfer tests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.node import ProposalDropped, RaftConfig, Role
from coordsvc.raft.types import NodeId
from tests.unit.raft.bench import DEFAULTS, Bench
from tests.unit.raft.cluster import Cluster

FULL = RaftConfig("a")
TICKS = FULL.election_ticks


def transfer(cluster: Cluster, target: NodeId, *, asked: NodeId = "a") -> None:
    cluster.act(asked, lambda node: node.transfer_leader(target))
    cluster.settle()


def leader() -> Bench:
    bench = Bench()
    bench.lead()
    return bench


@pytest.mark.parametrize("config", [DEFAULTS, FULL])
def test_to_a_member_that_is_up_to_date(config: RaftConfig) -> None:
    """Also with check-quorum: votes are not withheld from a candidate that the leader asked to stand."""
    cluster = Cluster(config=config)
    cluster.elect("a")

    transfer(cluster, "b")

    assert cluster.leader().state.node_id == "b"
    assert cluster["a"].leader == "b"
    assert cluster["b"].term == 2, "no pre-vote, no second attempt"


def test_a_follower_passes_the_wish_on() -> None:
    cluster = Cluster()
    cluster.elect("a")
    transfer(cluster, "c", asked="b")
    assert cluster.leader().state.node_id == "c"


def test_there_and_back_again() -> None:
    cluster = Cluster()
    cluster.elect("a")
    transfer(cluster, "b")
    transfer(cluster, "a", asked="b")
    assert cluster.leader().state.node_id == "a"


def test_to_a_slow_member_waits_until_it_has_everything() -> None:
    cluster = Cluster()
    cluster.elect("a")
    cluster.isolate("c")
    cluster.propose("a", b"x")
    cluster.settle()
    transfer(cluster, "c")
    assert cluster["a"].is_leader
    assert cluster["a"].transferee == "c"

    cluster.heal()
    cluster.tick_all(2)

    assert cluster.leader().state.node_id == "c"
    assert cluster.members["c"].applied_data() == [b"x"]


def test_to_a_member_that_needs_a_snapshot_first() -> None:
    cluster = Cluster(config=DEFAULTS)
    cluster.elect("a")
    cluster.isolate("c")
    for _ in range(5):
        cluster.propose("a", b"x")
        cluster.settle()
    cluster.members["a"].storage.compact(6)
    transfer(cluster, "c")
    cluster.heal()

    cluster.tick_all(3)

    assert cluster.leader().state.node_id == "c"


@pytest.mark.parametrize("target", ["a", "stranger", "d"])
def test_to_oneself_a_stranger_or_a_learner_does_nothing(target: NodeId) -> None:
    cluster = Cluster(learners=["d"])
    cluster.elect("a")
    transfer(cluster, target)
    assert cluster["a"].is_leader
    assert cluster["a"].transferee is None


def test_proposals_are_dropped_meanwhile_and_the_proposer_is_told() -> None:
    bench = leader()
    bench.node.transfer_leader("b")

    with pytest.raises(ProposalDropped) as dropped:
        bench.propose(b"x")

    assert dropped.value.reason == ProposalDropped.TRANSFERRING
    assert bench.node.last_index == 1


def test_it_times_out_by_itself() -> None:
    bench = leader()
    bench.node.transfer_leader("b")
    bench.tick(TICKS - 1)
    assert bench.node.transferee == "b"

    bench.tick()

    assert bench.node.status().transferee is None
    bench.propose(b"x")
    assert bench.node.last_index == 2


def test_another_target_replaces_the_first() -> None:
    bench = leader()
    bench.propose(b"x")
    bench.hear()
    bench.node.transfer_leader("b")
    bench.node.transfer_leader("c")
    assert bench.node.transferee == "c"

    bench.acknowledge("b")
    assert bench.hear(MessageType.TIMEOUT_NOW) == []
    bench.acknowledge("c")

    assert [m.target for m in bench.hear(MessageType.TIMEOUT_NOW)] == ["c"]


def test_taking_it_back_ends_it() -> None:
    bench = leader()
    bench.propose(b"x")
    bench.node.transfer_leader("b")
    bench.node.transfer_leader("a")
    assert bench.node.transferee is None


def test_it_has_a_whole_election_timeout() -> None:
    bench = leader()
    bench.tick(TICKS - 1)
    bench.node.transfer_leader("b")
    bench.tick(TICKS - 1)
    assert bench.node.transferee == "b"


def test_the_same_target_again_does_not_extend_the_time() -> None:
    bench = leader()
    bench.node.transfer_leader("b")
    bench.tick(TICKS - 1)
    bench.node.transfer_leader("b")
    bench.tick()
    assert bench.node.transferee is None


def test_a_later_term_ends_it() -> None:
    """etcd's TestLeaderTransferReceiveHigherTermVote."""
    bench = leader()
    bench.node.transfer_leader("b")
    bench.say(MessageType.VOTE, "c", term=2, index=9, log_term=1)
    assert (bench.node.role, bench.node.transferee) == (Role.FOLLOWER, None)


class TestTimeoutNow:
    def test_a_follower_stands_at_once_without_a_pre_vote(self) -> None:
        bench = Bench(config=FULL)
        bench.follow("b", term=1)
        bench.say(MessageType.TIMEOUT_NOW, "b")
        requests = bench.hear(MessageType.VOTE)
        assert [(m.target, m.term, m.transfer) for m in requests] == [("b", 2, True), ("c", 2, True)]

    def test_only_the_leader_may_ask(self) -> None:
        bench = Bench(config=FULL)
        bench.follow("b", term=1)
        bench.say(MessageType.TIMEOUT_NOW, "c")
        assert bench.node.role is Role.FOLLOWER

    def test_a_learner_does_not_stand(self) -> None:
        bench = Bench(("b", "c"), learners=("a",))
        bench.follow("b", term=1)
        bench.say(MessageType.TIMEOUT_NOW, "b")
        assert bench.node.role is Role.FOLLOWER

    def test_a_candidate_ignores_it(self) -> None:
        bench = Bench()
        bench.node.campaign()
        bench.hear()
        bench.say(MessageType.TIMEOUT_NOW, "b")
        assert bench.node.term == 1


def test_a_wish_that_arrives_at_a_follower_is_dropped() -> None:
    """Passing it on again could go round for ever; who asked looks again."""
    bench = Bench()
    bench.follow("b", term=1)
    bench.step(Message(MessageType.TRANSFER_LEADER, "c", "a"))
    assert bench.hear() == []


def test_it_fails_when_the_target_stays_silent_and_the_leader_goes_on() -> None:
    cluster = Cluster(config=replace(DEFAULTS, check_quorum=False))
    cluster.elect("a")
    cluster.isolate("b")
    transfer(cluster, "b")
    cluster.tick_all(TICKS)
    cluster.propose("a", b"x")
    cluster.settle()
    assert cluster.members["c"].applied_data() == [b"x"]

"""Linearizable reads: ReadIndex by counters, on the leader, forwarded, misdirected. Thesis §6.4."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.ready import ReadState
from tests.unit.raft.bench import DEFAULTS, Bench
from tests.unit.raft.cluster import Cluster, stored


def leader() -> Bench:
    bench = Bench()
    bench.lead()
    return bench


class TestLeader:
    def test_a_read_is_confirmed_by_a_heartbeat_round_after_it(self) -> None:
        bench = leader()
        assert bench.node.read_index(7)
        heartbeats = bench.hear(MessageType.HEARTBEAT)
        assert [(m.target, m.context) for m in heartbeats] == [("b", 1), ("c", 1)]
        assert bench.reads == []

        bench.say(MessageType.HEARTBEAT_RESPONSE, "b", context=1)

        bench.hear()
        assert bench.reads == [ReadState(7, 1)]

    def test_all_reads_since_the_last_ready_share_one_round(self) -> None:
        bench = leader()
        for context in (5, 6, 7):
            bench.node.read_index(context)
        heartbeats = bench.hear(MessageType.HEARTBEAT)
        assert [(m.target, m.context) for m in heartbeats] == [("b", 3), ("c", 3)]

        bench.say(MessageType.HEARTBEAT_RESPONSE, "c", context=3)

        bench.hear()
        assert [read.context for read in bench.reads] == [5, 6, 7]

    def test_an_answer_to_an_earlier_heartbeat_confirms_only_earlier_reads(self) -> None:
        bench = leader()
        bench.node.read_index(5)
        bench.hear()
        bench.node.read_index(6)
        bench.hear()

        bench.say(MessageType.HEARTBEAT_RESPONSE, "b", context=1)

        bench.hear()
        assert [read.context for read in bench.reads] == [5]

    def test_a_read_that_is_asked_again_is_a_new_read(self) -> None:
        """etcd's TestReadOnlyDuplicateRequest: the answer to the first must not confirm the second."""
        bench = leader()
        bench.node.read_index(5)
        bench.hear()
        bench.say(MessageType.HEARTBEAT_RESPONSE, "b", context=1)
        bench.hear()
        bench.reads.clear()

        bench.node.read_index(5)
        bench.hear()
        bench.say(MessageType.HEARTBEAT_RESPONSE, "b", context=1)
        bench.say(MessageType.HEARTBEAT_RESPONSE, "c", context=1)
        bench.hear()
        assert bench.reads == []

        bench.say(MessageType.HEARTBEAT_RESPONSE, "c", context=2)
        bench.hear()
        assert [read.context for read in bench.reads] == [5]

    def test_the_index_is_the_commit_index_at_the_time_of_asking(self) -> None:
        bench = leader()
        bench.node.read_index(5)
        bench.hear()
        bench.propose(b"x")
        bench.hear()
        bench.acknowledge("b")
        bench.node.read_index(6)
        bench.hear()

        bench.say(MessageType.HEARTBEAT_RESPONSE, "b", context=2)

        bench.hear()
        assert bench.reads == [ReadState(5, 1), ReadState(6, 2)]

    def test_a_heartbeat_that_was_lost_is_made_good_by_the_next_one(self) -> None:
        bench = leader()
        bench.node.read_index(5)
        bench.hear()

        bench.tick()

        assert {m.context for m in bench.hear(MessageType.HEARTBEAT)} == {1}

    @pytest.mark.parametrize("context", [0, 2, 99])
    def test_answers_to_heartbeats_that_were_never_sent_confirm_nothing(self, context: int) -> None:
        bench = leader()
        bench.node.read_index(5)
        bench.hear()
        bench.say(MessageType.HEARTBEAT_RESPONSE, "b", context=context)
        bench.hear()
        assert bench.reads == []

    def test_learners_and_strangers_confirm_nothing(self) -> None:
        """etcd's TestReadOnlyWithLearner."""
        bench = Bench(learners=("d",))
        bench.lead()
        bench.node.read_index(5)
        bench.hear()
        for source in ("d", "stranger"):
            bench.say(MessageType.HEARTBEAT_RESPONSE, source, context=1)
        bench.hear()
        assert bench.reads == []

    def test_both_halves_of_a_joint_configuration_confirm(self) -> None:
        bench = Bench(("a", "b", "c"), outgoing=("a", "d", "e"))
        bench.lead()
        bench.node.read_index(5)
        bench.hear()
        for source in ("b", "c"):
            bench.say(MessageType.HEARTBEAT_RESPONSE, source, context=1)
        bench.hear()
        assert bench.reads == []

        bench.say(MessageType.HEARTBEAT_RESPONSE, "e", context=1)

        bench.hear()
        assert [read.context for read in bench.reads] == [5]

    def test_a_leader_that_is_alone_outside_its_quorum_confirms_nothing(self) -> None:
        cluster = Cluster(config=DEFAULTS)
        cluster.elect("a")
        cluster.isolate("a")
        cluster.elect("b")
        cluster.act("a", lambda node: node.read_index(5))

        cluster.tick_all(3)

        assert cluster.members["a"].reads == []

    def test_confirmed_reads_are_forgotten(self) -> None:
        """etcd's TestRaftFreesReadOnlyMem."""
        bench = leader()
        for context in range(1, 20):
            bench.node.read_index(context)
            bench.hear()
            bench.say(MessageType.HEARTBEAT_RESPONSE, "b", context=context)
        assert bench.node.status().pending_reads == 0

    def test_too_many_reads_are_refused(self) -> None:
        bench = Bench(config=replace(DEFAULTS, pending_reads_max=2))
        bench.lead()
        assert [bench.node.read_index(context) for context in (1, 2, 3)] == [True, True, False]

    def test_losing_the_leadership_forgets_the_reads(self) -> None:
        bench = leader()
        bench.node.read_index(5)
        bench.hear()
        bench.append("b", term=2)
        bench.lead(acknowledged=True)
        bench.say(MessageType.HEARTBEAT_RESPONSE, "b", context=1)
        bench.hear()
        assert bench.reads == []


class TestFirstCommitOfATerm:
    def test_reads_wait_for_it(self) -> None:
        """Before it, an earlier leader may have acknowledged more than this one knows to be committed."""
        bench = Bench(log=stored(1, 1, 1))
        bench.lead(acknowledged=False)
        bench.node.read_index(5)
        bench.node.read_index(6)
        assert bench.hear(MessageType.HEARTBEAT) == []

        bench.acknowledge("b")
        assert {m.context for m in bench.hear(MessageType.HEARTBEAT)} == {2}
        bench.say(MessageType.HEARTBEAT_RESPONSE, "b", context=2)

        bench.hear()
        assert bench.reads == [ReadState(5, 4), ReadState(6, 4)]

    def test_also_a_sole_voter_waits_for_it(self) -> None:
        """Its stored commit index is not synced, and may be older than what was acknowledged."""
        bench = Bench(("a",), log=stored(1, 1, 1))
        bench.lead()
        fresh = Bench(("a",), log=bench.storage, commit=0, vote="a")
        fresh.node.campaign()
        fresh.hear(is_durable=False)
        fresh.finish_write()
        assert fresh.node.is_leader
        fresh.node.read_index(5)
        fresh.hear(is_durable=False)
        assert fresh.reads == []

        fresh.finish_write()
        fresh.hear()

        assert fresh.reads == [ReadState(5, fresh.node.commit_index)]
        assert fresh.node.commit_index == fresh.node.last_index

    def test_afterwards_a_sole_voter_answers_at_once(self) -> None:
        bench = Bench(("a",), learners=("b",))
        bench.lead()
        bench.node.read_index(5)
        bench.hear()
        assert bench.reads == [ReadState(5, 1)]


class TestForwarding:
    def test_a_follower_asks_the_leader_and_gets_the_answer(self) -> None:
        cluster = Cluster()
        cluster.elect("a")
        assert cluster.act("b", lambda node: node.read_index(5)) is True

        cluster.settle()

        assert cluster.members["b"].reads == [ReadState(5, 1)]
        assert cluster.members["a"].reads == []

    def test_a_learner_may_ask_too(self) -> None:
        cluster = Cluster(learners=["d"])
        cluster.elect("a")
        cluster.tick_all()
        cluster.act("d", lambda node: node.read_index(5))
        cluster.settle()
        assert cluster.members["d"].reads == [ReadState(5, 1)]

    def test_without_a_leader_the_asker_is_told(self) -> None:
        bench = Bench()
        assert not bench.node.read_index(5)
        assert bench.hear() == []

    def test_equal_contexts_of_two_askers_are_two_reads(self) -> None:
        cluster = Cluster()
        cluster.elect("a")
        for name in "abc":
            cluster.act(name, lambda node: node.read_index(5))
        cluster.settle()
        assert [member.reads for member in cluster.members.values()] == [[ReadState(5, 1)]] * 3

    def test_a_request_to_an_old_leader_is_passed_on(self) -> None:
        """etcd's TestNodeReadIndexToOldLeader."""
        cluster = Cluster(config=DEFAULTS)
        cluster.elect("a")
        cluster.elect("b")

        cluster.deliver(Message(MessageType.READ_INDEX, "c", "a", context=5))
        cluster.settle()

        assert cluster.members["c"].reads == [ReadState(5, 2)]

    def test_a_request_does_not_go_round_for_ever(self) -> None:
        """Two members that take each other for the leader: an old belief and a wrong one."""
        bench = Bench()
        bench.follow("b", term=1)
        hops = []
        message = Message(MessageType.READ_INDEX, "c", "a", context=5)
        while True:
            bench.step(message)
            forwarded = bench.hear(MessageType.READ_INDEX)
            if not forwarded:
                break
            hops.append(forwarded[0])
            message = replace(forwarded[0], target="a")
        assert len(hops) == 2
        assert {(hop.source, hop.target, hop.context) for hop in hops} == {("c", "b", 5)}

    def test_a_request_is_not_passed_back_to_its_asker(self) -> None:
        bench = Bench()
        bench.follow("b", term=1)
        bench.step(Message(MessageType.READ_INDEX, "b", "a", context=5))
        assert bench.hear() == []

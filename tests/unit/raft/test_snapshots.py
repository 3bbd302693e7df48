"""Snapshots: when a leader begins one, how its stream ends, and what a receiver does with it. Raft §7."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordsvc.raft.log import Compacted
from coordsvc.raft.messages import MessageType
from coordsvc.raft.node import RaftConfig, Role
from coordsvc.raft.progress import ProgressState
from coordsvc.raft.types import Configuration, Entry, Index, SnapshotMetadata
from tests.unit.raft.bench import DEFAULTS, Bench, snapshot_at
from tests.unit.raft.cluster import Cluster, log_of, stored


def leader_that_compacted() -> Bench:
    """A leader of three at index 11, compacted up to 10; `b` has everything, `c` was not heard of."""
    bench = Bench()
    bench.lead(acknowledged=False)
    bench.acknowledge("b")
    for _ in range(10):
        bench.propose(b"x")
        bench.hear()
        bench.acknowledge("b")
    bench.hear()
    bench.storage.compact(10)
    bench.node.log_trimmed()
    assert bench.node.applied_index == 11
    return bench


def send_snapshot_to_c(bench: Bench) -> None:
    bench.say(MessageType.APPEND_RESPONSE, "c", index=0, reject=True)
    (message,) = bench.hear(MessageType.SNAPSHOT)
    assert message.snapshot == SnapshotMetadata(11, 1, bench.node.configuration)


class TestSending:
    def test_a_follower_that_needs_compacted_entries_gets_a_snapshot(self) -> None:
        """etcd's TestProvideSnap."""
        bench = leader_that_compacted()
        send_snapshot_to_c(bench)

        follower = bench.node.status().followers["c"]
        assert (follower.state, follower.next) == (ProgressState.SNAPSHOT, 12)

    def test_entries_that_are_being_trimmed_while_they_are_to_be_sent_are_compacted_too(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A trim goes on beside the node, which hears of it at its end: till then the log seems whole."""
        bench = Bench(config=replace(DEFAULTS, cached_bytes_max=1))
        bench.lead(acknowledged=False)
        bench.acknowledge("b")
        for _ in range(10):
            bench.propose(b"x")
            bench.hear()
            bench.acknowledge("b")
        bench.hear()

        read = bench.storage.entries

        def gone(low: Index, high: Index, bytes_max: int) -> list[Entry]:
            if bytes_max == DEFAULTS.append_bytes_max:
                raise Compacted(low)
            return read(low, high, bytes_max)  # what checks the node looks into the log too

        monkeypatch.setattr(bench.storage, "entries", gone)
        send_snapshot_to_c(bench)

    def test_a_follower_that_is_not_heard_of_gets_none(self) -> None:
        """etcd's TestIgnoreProvidingSnap: a dead follower would cost a stream again and again."""
        bench = leader_that_compacted()
        bench.propose(b"x")
        assert [m.target for m in bench.hear(MessageType.SNAPSHOT, MessageType.APPEND)] == ["b"]

    def test_a_follower_that_fell_silent_gets_none(self) -> None:
        bench = Bench(config=RaftConfig("a", pre_vote=False))
        bench.lead()
        for _ in range(5):
            bench.propose(b"x")
            bench.hear()
            bench.acknowledge("b")
        for _ in range(2 * bench.node.state.config.election_ticks):
            bench.tick()
            bench.say(MessageType.HEARTBEAT_RESPONSE, "b")
        bench.hear()
        bench.storage.compact(bench.node.applied_index)
        bench.node.report_unreachable("c")

        bench.propose(b"x")

        assert bench.hear(MessageType.SNAPSHOT) == []

    def test_it_is_as_new_as_what_is_applied_and_no_newer(self) -> None:
        cluster = Cluster()
        cluster.elect("a")
        cluster.isolate("c")
        cluster.propose("a", b"one")
        cluster.settle()
        cluster.members["a"].slow_apply = True
        cluster.propose("a", b"two")
        cluster.settle()
        assert (cluster["a"].commit_index, cluster["a"].applied_index) == (3, 2)
        cluster.members["a"].storage.compact(2)
        cluster.heal()
        cluster.drop(MessageType.SNAPSHOT)

        cluster.tick_all(2)

        (message,) = [m for m in cluster.lost if m.type is MessageType.SNAPSHOT]
        assert message.snapshot == snapshot_at(2, 1)

    def test_nothing_else_is_sent_meanwhile(self) -> None:
        """etcd's TestPendingSnapshotPauseReplication."""
        bench = leader_that_compacted()
        send_snapshot_to_c(bench)
        bench.propose(b"x")
        bench.tick()
        bench.hear()
        bench.say(MessageType.HEARTBEAT_RESPONSE, "c")
        assert [m.target for m in bench.hear(MessageType.SNAPSHOT, MessageType.APPEND)] == []

    def test_a_slow_follower_whose_entries_vanish_while_its_window_is_full_gets_one(self) -> None:
        """raft#31."""
        bench = Bench()
        bench.lead()
        for _ in range(5):
            bench.propose(b"x")
            bench.hear()
            bench.acknowledge("b")
        bench.hear()
        bench.storage.compact(5)
        assert bench.node.status().followers["c"].state is ProgressState.REPLICATE

        bench.say(MessageType.APPEND_RESPONSE, "c", index=6, reject=True, hint=1, log_term=1)

        (message,) = bench.hear(MessageType.SNAPSHOT)
        assert message.target == "c"


class TestEndOfTheStream:
    def test_after_success_it_goes_on_behind_the_snapshot_when_the_follower_speaks(self) -> None:
        """etcd's TestSnapshotSucceed."""
        bench = leader_that_compacted()
        send_snapshot_to_c(bench)
        bench.propose(b"x")
        bench.hear()

        bench.node.report_snapshot("c", ok=True)

        assert bench.hear(MessageType.APPEND) == [], "it waits for the follower to speak"
        follower = bench.node.status().followers["c"]
        assert (follower.state, follower.next) == (ProgressState.PROBE, 12)
        bench.tick()
        bench.hear()
        bench.say(MessageType.HEARTBEAT_RESPONSE, "c")
        (append,) = bench.hear(MessageType.APPEND)
        assert (append.target, append.index) == ("c", 11)

    def test_after_failure_it_begins_again_when_the_follower_speaks(self) -> None:
        """etcd's TestSnapshotFailure."""
        bench = leader_that_compacted()
        send_snapshot_to_c(bench)

        bench.node.report_snapshot("c", ok=False)

        follower = bench.node.status().followers["c"]
        assert (follower.state, follower.next) == (ProgressState.PROBE, 1)
        assert bench.hear(MessageType.SNAPSHOT) == []
        bench.tick()
        bench.hear()
        bench.say(MessageType.HEARTBEAT_RESPONSE, "c")
        assert [m.target for m in bench.hear(MessageType.SNAPSHOT)] == ["c"]

    @pytest.mark.parametrize("index", [10, 11])
    def test_an_acknowledgement_that_reaches_the_log_ends_it_whichever_snapshot_it_was(
        self, index: Index
    ) -> None:
        """etcd's snapshot_succeed_via_app_resp, also with an older snapshot than was announced."""
        bench = leader_that_compacted()
        send_snapshot_to_c(bench)

        bench.acknowledge("c", index)

        follower = bench.node.status().followers["c"]
        assert (follower.state, follower.match, follower.next) == (ProgressState.REPLICATE, index, index + 1)

    def test_an_acknowledgement_that_does_not_reach_the_log_does_not_end_it(self) -> None:
        bench = leader_that_compacted()
        send_snapshot_to_c(bench)
        bench.acknowledge("c", 5)
        assert bench.node.status().followers["c"].state is ProgressState.SNAPSHOT

    def test_reports_about_anything_else_mean_nothing(self) -> None:
        bench = leader_that_compacted()
        for name in ("b", "a", "stranger"):
            bench.node.report_snapshot(name, ok=True)
        assert bench.node.status().followers["b"].state is ProgressState.REPLICATE

    def test_a_snapshot_at_the_very_end_of_the_log_leads_to_replicate(self) -> None:
        """etcd#10308: nothing follows the snapshot, and the follower must not stay in PROBE."""
        cluster = Cluster()
        cluster.elect("a")
        cluster.isolate("c")
        for _ in range(5):
            cluster.propose("a", b"x")
            cluster.settle()
        cluster.members["a"].storage.compact(6)
        cluster.heal()

        cluster.tick_all(3)

        follower = cluster["a"].status().followers["c"]
        assert (follower.state, follower.match) == (ProgressState.REPLICATE, 6)
        assert cluster.members["c"].applied_data() == [b"x"] * 5


class TestReceiving:
    def test_the_log_starts_behind_it_once_it_is_durable(self) -> None:
        """etcd's TestRestore."""
        bench = Bench(log=stored(1, 1, 1))
        bench.say(MessageType.SNAPSHOT, "b", term=3, snapshot=snapshot_at(10, 2))
        assert bench.hear(MessageType.APPEND_RESPONSE, is_durable=False) == []
        assert bench.writing is not None
        assert (bench.writing.snapshot, bench.writing.must_sync) == (snapshot_at(10, 2), True)
        assert bench.node.applied_index == 0

        bench.finish_write()

        (answer,) = bench.hear(MessageType.APPEND_RESPONSE)
        assert answer.index == 10
        assert (bench.node.commit_index, bench.node.applied_index, bench.node.last_index) == (10, 10, 10)
        assert (bench.storage.first_index(), bench.storage.hard_state.commit) == (11, 10)

    def test_entries_go_on_behind_it_in_the_same_batch(self) -> None:
        bench = Bench()
        bench.say(MessageType.SNAPSHOT, "b", term=3, snapshot=snapshot_at(10, 2))
        bench.append("b", Entry(11, 3, b"x"), after=(10, 2), commit=11, term=3)
        bench.hear()
        assert bench.batches[-1].entries == [Entry(11, 3, b"x")]
        assert bench.applied == [Entry(11, 3, b"x")]

    @pytest.mark.parametrize("index", [1, 2])
    def test_one_that_is_no_news_is_answered_with_the_commit_index(self, index: Index) -> None:
        """etcd's TestRestoreIgnoreSnapshot."""
        bench = Bench(log=stored(1, 1, 1), commit=2)
        bench.say(MessageType.SNAPSHOT, "b", term=3, snapshot=snapshot_at(index, 1))
        (answer,) = bench.hear(MessageType.APPEND_RESPONSE)
        assert (answer.index, answer.reject) == (2, False)
        assert bench.log() == [(1, 1), (2, 1), (3, 1)]

    def test_one_whose_entries_are_all_here_just_commits_them(self) -> None:
        bench = Bench(log=stored(1, 1, 1), commit=1)
        bench.say(MessageType.SNAPSHOT, "b", term=3, snapshot=snapshot_at(2, 1))
        (answer,) = bench.hear(MessageType.APPEND_RESPONSE)
        assert (answer.index, bench.node.commit_index) == (2, 2)
        assert bench.log() == [(1, 1), (2, 1), (3, 1)]
        assert all(batch.snapshot is None for batch in bench.batches)

    def test_one_that_does_not_name_this_node_is_taken_over(self) -> None:
        """The entry that adds this node may be a later one."""
        bench = Bench(())
        bench.say(MessageType.SNAPSHOT, "b", term=3, snapshot=snapshot_at(10, 2, "b", "c"))
        bench.hear()
        assert (bench.node.last_index, bench.configuration()) == (10, "b,c")

    def test_a_leader_and_a_stale_sender_are_not_listened_to(self) -> None:
        bench = Bench()
        bench.lead()
        bench.say(MessageType.SNAPSHOT, "b", term=1, snapshot=snapshot_at(10, 1))
        assert (bench.node.role, bench.node.last_index) == (Role.LEADER, 1)
        bench.append("b", term=5)
        bench.say(MessageType.SNAPSHOT, "c", term=4, snapshot=snapshot_at(10, 1))
        assert bench.node.last_index == 1

    def test_a_candidate_gives_way_to_its_sender(self) -> None:
        bench = Bench()
        bench.node.campaign()
        bench.hear()
        bench.say(MessageType.SNAPSHOT, "b", term=1, snapshot=snapshot_at(10, 1))
        assert (bench.node.role, bench.node.leader) == (Role.FOLLOWER, "b")

    def test_its_configuration_takes_over(self) -> None:
        """etcd's TestRestoreVoterToLearner: a voter may come back as a learner."""
        bench = Bench()
        new = Configuration(("b", "c", "d"), learners=("a",))
        bench.say(MessageType.SNAPSHOT, "b", term=3, snapshot=SnapshotMetadata(10, 2, new))
        bench.hear()
        assert bench.node.configuration == new
        bench.node.campaign()
        assert bench.node.role is Role.FOLLOWER

    def test_nobody_campaigns_while_one_is_being_written(self) -> None:
        """etcd's Promotable: with a pending snapshot, the log is not what it claims to be."""
        bench = Bench()
        bench.say(MessageType.SNAPSHOT, "b", term=3, snapshot=snapshot_at(10, 2))
        bench.hear(is_durable=False)
        bench.tick(50)
        assert bench.node.role is Role.FOLLOWER

        bench.finish_write()
        bench.tick(50)

        assert bench.node.status().role is Role.CANDIDATE

    def test_a_learner_is_restored_too(self) -> None:
        bench = Bench(("b", "c"), learners=("a",))
        bench.say(MessageType.SNAPSHOT, "b", term=3, snapshot=snapshot_at(10, 2, "b", "c", learners=("a",)))
        bench.hear()
        assert bench.node.applied_index == 10


def test_a_member_that_lost_everything_that_others_compacted_catches_up() -> None:
    """etcd's TestSlowNodeRestore."""
    cluster = Cluster()
    cluster.elect("a")
    cluster.isolate("c")
    for number in range(50):
        cluster.propose("a", b"%d" % number)
        cluster.settle()
    cluster.members["a"].storage.compact(40)
    cluster.members["b"].storage.compact(30)
    cluster.heal()
    cluster.tick_all(3)
    cluster.propose("a", b"after")
    cluster.settle()

    assert cluster.members["c"].applied_data() == [*(b"%d" % number for number in range(50)), b"after"]
    assert log_of(cluster["c"])[-1] == (52, 1)

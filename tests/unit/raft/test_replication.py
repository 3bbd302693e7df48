"""Replication: flow control, recovery of what got lost, hints, and the commit rule in motion."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.node import RaftConfig, Role
from coordsvc.raft.progress import ProgressState
from coordsvc.raft.types import Entry, Index, NodeId
from tests.unit.raft.bench import DEFAULTS, Bench
from tests.unit.raft.cluster import Cluster, log_of, stored
from tests.unit.raft.memory_log import MemoryLog

TEN_BYTES = b"0123456789"


def leader(config: RaftConfig = DEFAULTS, *, log: MemoryLog | None = None) -> Bench:
    """A leader of three whose followers have everything."""
    bench = Bench(config=config, log=log)
    bench.lead()
    return bench


def appends_to(bench: Bench, target: NodeId, messages: list[Message]) -> list[Message]:
    return [message for message in messages if message.target == target]


def state_of(bench: Bench, follower: NodeId) -> ProgressState:
    return bench.node.status().followers[follower].state


class TestBatching:
    def test_all_that_was_proposed_since_the_last_ready_leaves_as_one_message(self) -> None:
        bench = leader()
        bench.propose(b"one")
        bench.propose(b"two", b"three")

        to_b = appends_to(bench, "b", bench.hear(MessageType.APPEND))

        assert [[entry.data for entry in message.entries] for message in to_b] == [[b"one", b"two", b"three"]]

    def test_a_long_log_is_sent_in_pages(self) -> None:
        bench = leader(replace(DEFAULTS, append_bytes_max=20))
        bench.propose(*[TEN_BYTES] * 5)

        to_b = appends_to(bench, "b", bench.hear(MessageType.APPEND))

        assert [(m.index, len(m.entries)) for m in to_b] == [(1, 2), (3, 2), (5, 1)]

    def test_commit_travels_with_the_next_entries_and_not_twice(self) -> None:
        bench = leader()
        bench.propose(b"one")
        bench.hear()
        bench.acknowledge("b")
        bench.propose(b"two")

        to_b = appends_to(bench, "b", bench.hear(MessageType.APPEND))

        assert [(m.commit, len(m.entries)) for m in to_b] == [(2, 1)]

    def test_acknowledgements_that_wait_for_one_write_are_one_message(self) -> None:
        bench = Bench()
        bench.append("b", Entry(1, 1), term=1)
        bench.append("b", Entry(2, 1), after=(1, 1), term=1)
        bench.append("b", Entry(3, 1), after=(2, 1), term=1)

        assert [(m.index, m.reject) for m in bench.hear(MessageType.APPEND_RESPONSE)] == [(3, False)]


class TestNotices:
    """An append that only tells of a commit costs no answer, unless something is wrong."""

    def test_a_follower_that_has_everything_is_told_of_a_commit_by_a_notice(self) -> None:
        bench = leader()
        bench.propose(b"one")
        bench.hear()
        bench.acknowledge("b")

        to_b = appends_to(bench, "b", bench.hear(MessageType.APPEND))

        assert [(m.is_notice, m.commit, m.entries) for m in to_b] == [(True, 2, [])]

    def test_an_append_with_entries_and_a_probe_ask_for_an_answer(self) -> None:
        bench = leader()
        bench.propose(b"one")
        assert [m.is_notice for m in bench.hear(MessageType.APPEND)] == [False, False]
        bench.node.report_unreachable("b")
        bench.say(MessageType.HEARTBEAT_RESPONSE, "b")

        probe = appends_to(bench, "b", bench.hear(MessageType.APPEND))

        assert [m.is_notice for m in probe] == [False]

    def test_a_full_window_is_probed_and_not_noticed(self) -> None:
        bench = leader(replace(DEFAULTS, inflight_messages_max=1))
        bench.propose(b"one")
        bench.hear()
        bench.acknowledge("c")
        bench.say(MessageType.HEARTBEAT_RESPONSE, "b")

        assert [m.is_notice for m in appends_to(bench, "b", bench.hear(MessageType.APPEND))] == [False]

    def test_a_notice_is_taken_in_silence(self) -> None:
        bench = Bench()
        bench.append("b", Entry(1, 1), term=1)
        bench.hear()

        bench.say(MessageType.APPEND, "b", term=1, index=1, log_term=1, commit=1, is_notice=True)

        assert bench.hear(MessageType.APPEND_RESPONSE) == []
        assert bench.node.commit_index == 1

    def test_a_notice_that_finds_a_gap_is_rejected(self) -> None:
        bench = Bench()

        bench.say(MessageType.APPEND, "b", term=1, index=3, log_term=1, commit=3, is_notice=True)

        assert [m.reject for m in bench.hear(MessageType.APPEND_RESPONSE)] == [True]


class TestFlowControl:
    def test_a_probe_is_one_message_at_a_time(self) -> None:
        bench = Bench()
        bench.lead(acknowledged=False)
        for _ in range(3):
            bench.propose(b"x")
            assert appends_to(bench, "b", bench.hear(MessageType.APPEND)) == []

        bench.acknowledge("b", 1)

        (message,) = appends_to(bench, "b", bench.hear(MessageType.APPEND))
        assert (message.index, len(message.entries)) == (1, 3)
        assert state_of(bench, "b") is ProgressState.REPLICATE

    def test_a_full_window_stops_the_stream_and_an_answer_lets_it_go_on(self) -> None:
        """etcd's TestMsgAppFlowControlFull and MoveForward."""
        bench = leader(replace(DEFAULTS, inflight_messages_max=2))
        for _ in range(4):
            bench.propose(b"x")
            bench.hear()
        assert bench.node.status().followers["b"].next == 4

        bench.acknowledge("b", 2)

        to_b = appends_to(bench, "b", bench.hear(MessageType.APPEND))
        assert [len(m.entries) for m in to_b] == [2], "one message was freed, and it takes all that gathered"
        bench.acknowledge("b", 2)
        bench.propose(b"x")
        assert appends_to(bench, "b", bench.hear(MessageType.APPEND)) == [], "a repeated answer frees nothing"

    def test_the_window_is_bounded_by_bytes_too(self) -> None:
        bench = leader(replace(DEFAULTS, append_bytes_max=20, inflight_bytes_max=20))
        bench.propose(*[TEN_BYTES] * 6)
        assert [len(m.entries) for m in appends_to(bench, "b", bench.hear(MessageType.APPEND))] == [2]

    def test_one_follower_that_is_stuck_does_not_hold_back_the_other(self) -> None:
        bench = leader(replace(DEFAULTS, inflight_messages_max=1))
        for _ in range(3):
            bench.propose(b"x")
            bench.hear()
            bench.acknowledge("b")
        assert bench.node.commit_index == 4

    def test_all_that_was_in_flight_got_lost_and_an_empty_append_finds_out(self) -> None:
        """raft PR 14633 of etcd: without it, a window that is full of lost messages stays full."""
        bench = leader(replace(DEFAULTS, inflight_messages_max=2))
        for _ in range(3):
            bench.propose(b"x")
            bench.hear()  # all lost

        bench.tick()
        bench.hear()
        bench.say(MessageType.HEARTBEAT_RESPONSE, "b")
        (probe,) = appends_to(bench, "b", bench.hear(MessageType.APPEND))
        assert (probe.index, probe.entries) == (3, [])
        bench.say(MessageType.APPEND_RESPONSE, "b", index=3, reject=True, hint=1, log_term=1)

        (message,) = appends_to(bench, "b", bench.hear(MessageType.APPEND))
        assert (message.index, len(message.entries)) == (1, 3)
        assert state_of(bench, "b") is ProgressState.PROBE

    def test_reads_do_not_multiply_the_probes(self) -> None:
        """A read's heartbeats may be many; a follower that lags is asked once in each interval."""
        bench = leader(replace(DEFAULTS, inflight_messages_max=1))
        bench.propose(b"x")
        bench.propose(b"y")
        bench.hear()
        bench.say(MessageType.HEARTBEAT_RESPONSE, "b")
        bench.hear()

        for _ in range(5):
            bench.say(MessageType.HEARTBEAT_RESPONSE, "b")

        assert bench.hear(MessageType.APPEND) == []

    def test_a_cluster_recovers_after_every_append_was_lost(self) -> None:
        cluster = Cluster(config=replace(DEFAULTS, inflight_messages_max=2))
        cluster.elect("a")
        cluster.drop(MessageType.APPEND)
        for number in range(5):
            cluster.propose("a", b"%d" % number)
            cluster.settle()
        cluster.heal()

        cluster.tick_all(3)

        assert cluster.members["c"].applied_data() == [b"0", b"1", b"2", b"3", b"4"]


class TestUnreachable:
    def test_the_leader_stops_running_ahead(self) -> None:
        bench = leader()
        bench.propose(b"x")
        bench.hear()
        bench.node.report_unreachable("b")
        assert state_of(bench, "b") is ProgressState.PROBE
        assert bench.node.status().followers["b"].next == 2

    def test_a_peer_that_has_everything_gets_out_of_probe_by_a_heartbeat(self) -> None:
        """etcd's heartbeat_resp_recovers_from_probing."""
        bench = leader()
        bench.node.report_unreachable("b")
        bench.tick()
        bench.hear()

        bench.say(MessageType.HEARTBEAT_RESPONSE, "b")
        (probe,) = bench.hear(MessageType.APPEND)
        bench.acknowledge("b", probe.index)

        assert state_of(bench, "b") is ProgressState.REPLICATE

    def test_reports_about_strangers_oneself_or_by_followers_mean_nothing(self) -> None:
        bench = leader()
        bench.node.report_unreachable("stranger")
        bench.node.report_unreachable("a")
        own = bench.node.state.members.own
        assert own is not None
        assert own.state is ProgressState.REPLICATE
        follower = Bench()
        follower.node.report_unreachable("b")
        assert follower.node.role is Role.FOLLOWER


class TestRejections:
    @pytest.mark.parametrize(
        ("state", "rejected"),
        [(ProgressState.REPLICATE, 1), (ProgressState.PROBE, 3), (ProgressState.PROBE, 7)],
    )
    def test_stale_rejections_change_nothing(self, state: ProgressState, rejected: Index) -> None:
        bench = Bench(log=stored(1, 1, 1, 1, 1))
        bench.lead(acknowledged=False)
        bench.propose(b"x")
        bench.hear()
        if state is ProgressState.REPLICATE:
            bench.acknowledge("b")
            bench.hear()
        before = bench.node.status().followers["b"]

        bench.say(MessageType.APPEND_RESPONSE, "b", index=rejected, reject=True, hint=0)

        after = bench.node.status().followers["b"]
        assert (after.match, after.next, after.state) == (before.match, before.next, before.state)
        assert appends_to(bench, "b", bench.hear(MessageType.APPEND)) == []

    def test_a_long_divergent_tail_takes_one_probe_for_each_term(self) -> None:
        """Raft §5.3: "the protocol can be optimized to reduce the number of rejected AppendEntries RPCs"."""
        ours = (*[1] * 10, *[3] * 200, *[5] * 200)
        theirs = (*[1] * 10, *[2] * 200, *[4] * 300)
        cluster = Cluster(logs={"a": stored(*ours), "b": stored(*theirs, term=5), "c": stored(term=5)})
        rejections = 0
        cluster.campaign("a")
        for _ in range(100):
            for name in "abc":
                while cluster.pump(name):
                    pass
            messages = cluster.take()
            rejections += sum(
                m.reject for m in messages if m.type is MessageType.APPEND_RESPONSE and m.source == "b"
            )
            for message in messages:
                cluster.deliver(message)

        assert log_of(cluster["b"]) == log_of(cluster["a"])
        assert 1 <= rejections <= 3

    def test_a_rejection_hint_beyond_the_log_is_harmless(self) -> None:
        bench = Bench(log=stored(1, 1, 1))
        bench.lead(acknowledged=False)
        bench.say(MessageType.APPEND_RESPONSE, "b", index=3, reject=True, hint=1_000_000, log_term=99)
        (message,) = appends_to(bench, "b", bench.hear(MessageType.APPEND))
        assert message.index <= 3

    def test_an_acknowledgement_of_more_than_the_leader_has_is_refused(self) -> None:
        bench = leader()
        bench.acknowledge("b", 99)
        assert bench.node.status().refused_messages == 1
        assert bench.node.status().followers["b"].match == 1


class TestFollower:
    def test_an_append_behind_the_commit_index_is_answered_at_once(self) -> None:
        bench = Bench(log=stored(1, 1, 1), commit=3)
        bench.append("b", Entry(2, 9), after=(1, 9), term=9)

        (answer,) = bench.hear(MessageType.APPEND_RESPONSE)
        assert (answer.index, answer.reject) == (3, False)
        assert bench.log() == [(1, 1), (2, 1), (3, 1)]

    def test_an_acknowledgement_waits_for_the_disk(self) -> None:
        bench = Bench()
        bench.append("b", Entry(1, 1), term=1)
        assert bench.hear(is_durable=False) == []

        bench.finish_write()

        (answer,) = bench.hear()
        assert (answer.type, answer.index) == (MessageType.APPEND_RESPONSE, 1)

    def test_an_acknowledgement_of_the_known_waits_for_the_write_under_way(self) -> None:
        """An old append arrives again while its entries are still on their way to the disk."""
        bench = Bench()
        bench.append("b", Entry(1, 1), term=1)
        bench.hear(is_durable=False)
        bench.append("b", Entry(1, 1), term=1)
        assert bench.hear(is_durable=False) == []
        bench.finish_write()
        assert [m.index for m in bench.hear()] == [1, 1]

    def test_what_is_replaced_before_it_was_written_is_not_acknowledged(self) -> None:
        """R9. Two leaders' appends arrive before the disk gets the first: that one never becomes durable."""
        bench = Bench()
        bench.append("b", Entry(1, 1), Entry(2, 1), term=1)
        bench.append("c", Entry(1, 2), term=2)
        answers = bench.hear(MessageType.APPEND_RESPONSE)
        assert [(m.target, m.term, m.index) for m in answers] == [("c", 2, 1)]

    def test_commit_moves_only_up_to_what_the_message_covers(self) -> None:
        """Raft Figure 2, AppendEntries rule 5: what lies behind may be a dead leader's."""
        bench = Bench(log=stored(1, 1, 1))
        bench.append("b", after=(1, 1), commit=3, term=2)
        assert bench.node.commit_index == 1

    @pytest.mark.parametrize(("commit", "expected"), [(1, 2), (2, 2), (3, 3)])
    def test_a_heartbeat_moves_commit_forward_only(self, commit: Index, expected: Index) -> None:
        bench = Bench(log=stored(1, 1, 1), commit=2)
        bench.say(MessageType.HEARTBEAT, "b", term=1, commit=commit)
        assert bench.node.commit_index == expected

    def test_a_heartbeat_that_expects_more_than_is_here_commits_nothing(self) -> None:
        bench = Bench(log=stored(1, 1, 1), commit=2)
        bench.say(MessageType.HEARTBEAT, "b", term=1, commit=9)
        assert bench.node.commit_index == 2
        assert bench.node.status().refused_messages == 1

    def test_a_heartbeat_echoes_its_context(self) -> None:
        bench = Bench()
        bench.say(MessageType.HEARTBEAT, "b", term=1, context=77)
        (answer,) = bench.hear(MessageType.HEARTBEAT_RESPONSE)
        assert answer.context == 77

    def test_an_old_leader_learns_of_the_new_term(self) -> None:
        bench = Bench(config=RaftConfig("a"), term=5)
        bench.append("b", Entry(1, 3), term=3)
        (answer,) = bench.hear(MessageType.APPEND_RESPONSE)
        assert (answer.term, answer.target) == (5, "b")

    def test_the_answer_to_an_old_leader_harms_nothing_if_it_leads_again(self) -> None:
        """It reaches a leader of the very term that it speaks of: it acknowledges nothing."""
        bench = Bench(log=stored(1, 1, 1), term=4)
        bench.lead(acknowledged=False)
        before = bench.node.status().followers["b"]

        bench.say(MessageType.APPEND_RESPONSE, "b", reject=True)

        after = bench.node.status().followers["b"]
        assert (after.state, after.next) == (before.state, before.next)

    def test_messages_in_any_order_lead_to_the_same_log(self) -> None:
        """etcd's TestLogReplicationWithReorderedMessage."""
        cluster = Cluster()
        cluster.elect("a")
        for number in range(4):
            cluster.propose("a", b"%d" % number)
            cluster.pump("a")
        for message in reversed(cluster.take()):
            cluster.deliver(message)

        cluster.settle()
        cluster.tick_all(2)

        assert cluster.members["c"].applied_data() == [b"0", b"1", b"2", b"3"]


class TestCommit:
    def test_the_leader_counts_itself_only_once_its_own_disk_has_the_entry(self) -> None:
        bench = leader()
        bench.propose(b"x")
        bench.hear(is_durable=False)
        bench.acknowledge("b")
        assert bench.node.commit_index == 1

        bench.finish_write()

        assert bench.node.commit_index == 2

    def test_two_followers_can_commit_what_the_leader_has_not_written_yet(self) -> None:
        """Thesis §10.2.1; but the leader itself applies it only when its own disk has it."""
        bench = leader()
        bench.propose(b"x")
        bench.hear(is_durable=False)
        bench.acknowledge("b")
        bench.acknowledge("c")
        bench.hear(is_durable=False)
        assert (bench.node.commit_index, [entry.data for entry in bench.applied]) == (2, [b""])

        bench.finish_write()
        bench.hear()

        assert [entry.data for entry in bench.applied] == [b"", b"x"]

    def test_the_own_acknowledgement_of_an_earlier_term_commits_nothing(self) -> None:
        """etcd's TestLeaderMsgAppSelfAckAfterTermChange: a write is under way while leadership is lost."""
        bench = leader()
        bench.propose(b"mine")
        bench.hear(is_durable=False)
        bench.append("b", Entry(2, 2, b"theirs"), after=(1, 1), term=2)

        bench.finish_write()
        bench.hear()

        assert bench.node.commit_index == 1
        assert bench.storage.stored == [Entry(1, 1), Entry(2, 2, b"theirs")]

    def test_a_learner_gets_the_log_and_does_not_count(self) -> None:
        """etcd's TestLearnerLogReplication."""
        cluster = Cluster(["a", "b", "c"], learners=["d"], config=DEFAULTS)
        cluster.elect("a")
        cluster.isolate("b")
        cluster.isolate("c")
        cluster.propose("a", b"x")
        cluster.settle()
        assert cluster["d"].last_index == 2
        assert cluster["a"].commit_index == 1

        cluster.heal()
        cluster.tick_all(2)

        assert cluster.members["d"].applied_data() == [b"x"]

    def test_both_halves_of_a_joint_configuration_must_have_it(self) -> None:
        bench = Bench(("a", "b", "c"), outgoing=("a", "d", "e"))
        bench.lead()
        index = bench.propose(b"x")
        bench.hear()
        bench.acknowledge("b")
        bench.acknowledge("c")
        assert bench.node.commit_index == index - 1

        bench.acknowledge("d")

        assert bench.node.commit_index == index

    def test_a_follower_that_lags_behind_the_commit_index_is_told_at_once(self) -> None:
        """raft#138: one empty append, instead of a wait for the next heartbeat."""
        bench = leader()
        bench.propose(b"x")
        bench.hear()
        bench.acknowledge("b")
        bench.hear()

        bench.acknowledge("c")

        assert [(m.target, m.commit, m.entries) for m in bench.hear(MessageType.APPEND)] == []
        bench.propose(b"y")
        bench.hear()
        bench.acknowledge("c")
        told = bench.hear(MessageType.APPEND)
        assert {(m.target, m.commit) for m in told} == {("b", 3), ("c", 3)}


def test_a_leader_that_lost_its_place_gets_its_log_overwritten() -> None:
    cluster = Cluster()
    cluster.elect("a")
    cluster.isolate("a")
    cluster.propose("a", b"lost")
    cluster.settle()
    cluster.tick_all(3 * DEFAULTS.election_ticks)
    new = cluster.leader().state.node_id
    cluster.propose(new, b"kept")
    cluster.settle()
    cluster.heal()

    cluster.tick_all(3 * DEFAULTS.election_ticks)

    assert [member.applied_data() for member in cluster.members.values()] == [[b"kept"]] * 3

"""The face of a node: what goes in, what comes out, and the contract of `Ready`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordsvc.raft.messages import MessageType
from coordsvc.raft.node import LogStateError, ProposalDropped, RaftConfig, RaftNode, Role
from coordsvc.raft.types import Configuration, Entry, HardState
from tests.unit.raft.bench import DEFAULTS, Bench
from tests.unit.raft.cluster import Cluster, stored
from tests.unit.raft.memory_log import MemoryLog


class TestCluster:
    def test_three_members_elect_replicate_and_apply(self) -> None:
        cluster = Cluster()
        cluster.elect("a")

        cluster.propose("a", b"one", b"two")
        cluster.settle()

        assert [member.applied_data() for member in cluster.members.values()] == [[b"one", b"two"]] * 3
        assert {member.node.leader for member in cluster.members.values()} == {"a"}

    def test_a_single_member_is_a_cluster_of_one(self) -> None:
        cluster = Cluster(["a"])
        cluster.tick_all(2 * DEFAULTS.election_ticks)
        assert cluster["a"].is_leader

        cluster.propose("a", b"one")
        cluster.settle()

        assert cluster.members["a"].applied_data() == [b"one"]

    def test_all_restarted_at_once_have_everything_and_apply_nothing_twice(self) -> None:
        cluster = Cluster()
        cluster.elect("a")
        cluster.propose("a", b"one", b"two")
        cluster.settle()
        for name in "abc":
            cluster.restart(name, applied_lost=1)
        cluster.network.clear()

        cluster.tick_all(3 * DEFAULTS.election_ticks)

        assert [member.applied_data() for member in cluster.members.values()] == [[b"one", b"two"]] * 3

    def test_one_slow_disk_does_not_slow_the_cluster(self) -> None:
        cluster = Cluster()
        cluster.elect("a")
        cluster.members["c"].slow_disk = True

        for number in range(5):
            cluster.propose("a", b"%d" % number)
            cluster.settle()

        assert cluster.members["b"].applied_data() == [b"0", b"1", b"2", b"3", b"4"]
        assert cluster.members["c"].applied_data() == []
        cluster.members["c"].slow_disk = False
        cluster.finish_write("c")
        cluster.settle()
        assert cluster.members["c"].applied_data() == [b"0", b"1", b"2", b"3", b"4"]


class TestReady:
    def test_a_node_at_rest_has_nothing_to_say(self) -> None:
        """R14."""
        bench = Bench()
        bench.lead()
        assert not bench.node.has_ready()
        ready = bench.node.ready()
        assert (ready.messages, ready.persist, ready.committed, ready.reads) == ([], None, [], [])
        assert (ready.leader, ready.term) == ("a", 1)

    def test_a_change_of_leader_alone_is_news(self) -> None:
        bench = Bench(config=RaftConfig("a"))
        bench.follow("b", term=1)
        assert not bench.node.has_ready()
        bench.node.report_leader_lost("b")
        assert bench.node.has_ready()
        assert bench.node.ready().leader is None
        assert not bench.node.has_ready()

    def test_a_leader_sends_before_its_own_disk_has_the_entries(self) -> None:
        """Thesis §10.2.1."""
        bench = Bench()
        bench.lead()
        bench.propose(b"x")

        ready = bench.node.ready()

        assert [m.type for m in ready.messages] == [MessageType.APPEND] * 2
        assert ready.persist is not None
        assert (ready.persist.entries, ready.persist.must_sync) == ([Entry(2, 1, b"x")], True)

    def test_while_a_write_is_under_way_the_next_batch_gathers(self) -> None:
        bench = Bench()
        bench.lead()
        bench.propose(b"one")
        bench.hear(is_durable=False)
        bench.propose(b"two")
        bench.propose(b"three")
        assert bench.hear(MessageType.APPEND, is_durable=False) != []
        assert len(bench.batches[-1].entries) == 1

        bench.finish_write()
        bench.hear()

        assert [entry.data for entry in bench.batches[-1].entries] == [b"two", b"three"]

    def test_commit_alone_needs_no_sync_and_is_written_once_a_tick(self) -> None:
        bench = Bench()
        bench.lead()
        written = len(bench.batches)
        for _ in range(3):
            bench.propose(b"x")
            bench.hear()
            bench.acknowledge("b")
            bench.hear()
        assert len(bench.batches) == written + 3, "one batch for each proposal, none for its commit"

        bench.tick()
        bench.hear()

        last = bench.batches[-1]
        assert (last.hard_state, last.entries, last.must_sync) == (HardState(1, "a", 4), [], False)
        bench.tick()
        bench.hear()
        assert bench.batches[-1] is last

    def test_a_promise_does_not_wait_for_a_commit_that_is_written_alone(self) -> None:
        bench = Bench(log=stored(1, 1))
        bench.append("b", after=(2, 1), commit=2, term=1)
        bench.tick()
        ready = bench.node.ready()
        assert ready.persist is not None
        assert not ready.persist.must_sync
        assert [m.type for m in ready.messages] == [MessageType.APPEND_RESPONSE]

    def test_committed_entries_come_in_bounded_portions(self) -> None:
        bench = Bench(config=replace(DEFAULTS, committed_bytes_max=20))
        bench.append("b", *[Entry(index, 1, b"0123456789") for index in range(1, 6)], term=1, commit=5)
        portions = []
        while bench.node.has_ready():
            ready = bench.node.ready()
            if ready.persist is not None:
                bench.storage.adopt(ready.persist)
                bench.node.persisted(ready.persist)
            if ready.committed:
                portions.append([entry.index for entry in ready.committed])
                bench.node.applied(portions[-1][-1])
        assert portions == [[1, 2], [3, 4], [5]]

    def test_only_the_batch_that_is_outstanding_can_become_durable(self) -> None:
        bench = Bench()
        bench.lead()
        with pytest.raises(AssertionError, match="R9"):
            bench.node.persisted(bench.batches[0])

    def test_a_write_that_is_overtaken_by_a_new_leader_is_overwritten_by_the_next(self) -> None:
        """The append race of etcd's async_storage_writes_append_aba_race, in the node."""
        bench = Bench()
        bench.append("b", Entry(1, 1, b"old"), Entry(2, 1, b"old"), term=1)
        bench.hear(is_durable=False)
        bench.append("c", Entry(1, 2, b"new"), term=2)
        bench.hear(is_durable=False)

        bench.finish_write()

        answers = bench.hear(MessageType.APPEND_RESPONSE)
        assert [(m.target, m.term, m.index) for m in answers] == [("b", 1, 2), ("c", 2, 1)]
        assert bench.storage.stored == [Entry(1, 2, b"new")]
        assert bench.storage.hard_state.term == 2


class TestPropose:
    def test_only_a_leader_takes_proposals(self) -> None:
        bench = Bench()
        bench.follow("b", term=1)
        with pytest.raises(ProposalDropped) as dropped:
            bench.propose(b"x")
        assert dropped.value.reason == ProposalDropped.NOT_LEADER

    def test_it_tells_the_index_of_the_last(self) -> None:
        bench = Bench()
        bench.lead()
        assert [bench.propose(b"one", b"two"), bench.propose(b"three"), bench.propose()] == [3, 4, 4]

    def test_what_is_not_applied_is_bounded(self) -> None:
        """etcd's TestUncommittedEntryLimit: a leader cut off from its quorum does not grow for ever."""
        bench = Bench(config=replace(DEFAULTS, uncommitted_bytes_max=25))
        bench.lead()
        bench.propose(b"0123456789")
        bench.propose(b"0123456789")
        with pytest.raises(ProposalDropped) as dropped:
            bench.propose(b"0123456789")
        assert dropped.value.reason == ProposalDropped.TOO_MUCH_UNCOMMITTED
        bench.propose(b"")  # nothing is always small enough
        bench.hear()

        bench.acknowledge("b")
        bench.hear()

        assert bench.node.status().uncommitted_bytes == 0
        bench.propose(b"0123456789")

    def test_one_that_is_too_large_passes_when_nothing_else_waits(self) -> None:
        bench = Bench(config=replace(DEFAULTS, uncommitted_bytes_max=5))
        bench.lead()
        assert bench.propose(b"0123456789") == 2
        with pytest.raises(ProposalDropped):
            bench.propose(b"x")

    def test_losing_the_leadership_forgets_the_bound(self) -> None:
        bench = Bench()
        bench.lead()
        bench.propose(b"0123456789")
        bench.append("b", term=2)
        assert bench.node.status().uncommitted_bytes == 0


class TestRestart:
    def test_it_begins_as_follower_with_what_is_durable(self) -> None:
        bench = Bench(log=stored(1, 2, 2), term=4, vote="b", commit=2, applied=1)
        node = bench.node
        assert (node.role, node.term, node.vote, node.leader) == (Role.FOLLOWER, 4, "b", None)
        assert (node.commit_index, node.applied_index, node.last_index) == (2, 1, 3)
        bench.hear()
        assert [entry.index for entry in bench.applied] == [2]
        assert bench.batches == []

    def test_it_goes_on_behind_a_snapshot(self) -> None:
        """etcd's TestRestartFromSnapshot."""
        bench = Bench(log=MemoryLog([Entry(11, 2, b"x")], index=10, term=2), term=2, commit=11)
        bench.hear()
        assert [entry.index for entry in bench.applied] == [11]

    @pytest.mark.parametrize(
        ("hard_state", "applied"), [(HardState(1, None, 2), 0), (HardState(1, None, 0), 2), (HardState(0), 0)]
    )
    def test_what_does_not_fit_together_is_refused(self, hard_state: HardState, applied: int) -> None:
        with pytest.raises(LogStateError):
            RaftNode(DEFAULTS, stored(1), hard_state, Configuration(("a",)), applied, lambda sides: 0)

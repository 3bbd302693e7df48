"""Configurations that are proposed: when they are taken, and what holds from then on. Raft §6, thesis §4.

What commands do stands in test_node.py and test_replication.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordsvc.raft.membership import ConfigurationError
from coordsvc.raft.messages import MessageType
from coordsvc.raft.node import ProposalDropped, Role
from coordsvc.raft.progress import ProgressState
from coordsvc.raft.types import Entry, EntryKind
from tests.unit.raft.bench import DEFAULTS, Bench
from tests.unit.raft.cluster import stored


def leader(
    voters: tuple[str, ...] = ("a", "b", "c"),
    *,
    learners: tuple[str, ...] = (),
    outgoing: tuple[str, ...] = (),
) -> Bench:
    bench = Bench(voters, learners=learners, outgoing=outgoing)
    bench.lead()
    bench.hear()
    return bench


def why_dropped(bench: Bench, text: str) -> str:
    last = bench.node.last_index
    with pytest.raises(ProposalDropped) as raised:
        bench.change(text)
    assert bench.node.last_index == last, "nothing was appended"
    return raised.value.reason


class TestTaking:
    def test_it_becomes_an_entry_of_its_kind_and_is_in_force_at_once(self) -> None:
        bench = leader()
        assert bench.change("a,b,c;;d") == 2
        assert (bench.configuration(), bench.node.configuration_index) == ("a,b,c;;d", 2)
        assert not bench.node.is_configuration_committed
        appends = bench.hear(MessageType.APPEND)
        assert [message.target for message in appends] == ["b", "c", "d"]
        assert {entry.kind for message in appends for entry in message.entries} == {EntryKind.CONFIGURATION}
        assert bench.storage.stored[-1].kind is EntryKind.CONFIGURATION

    def test_commands_between_changes_are_entries_of_their_kind(self) -> None:
        bench = leader()
        bench.change("a,b,c;;d")
        bench.propose(b"x")
        bench.hear()
        kinds = [entry.kind for entry in bench.storage.stored]
        assert kinds == [EntryKind.NORMAL, EntryKind.CONFIGURATION, EntryKind.NORMAL]

    def test_what_changes_nobody_is_taken_too(self) -> None:
        """It may say where somebody is now."""
        bench = leader()
        assert bench.change("a,b,c") == 2

    def test_only_a_leader_takes_one(self) -> None:
        bench = Bench()
        bench.follow("b", term=1)
        assert why_dropped(bench, "a,b") == ProposalDropped.NOT_LEADER

    def test_none_is_taken_during_a_transfer(self) -> None:
        bench = leader()
        bench.node.transfer_leader("b")
        assert why_dropped(bench, "a,c") == ProposalDropped.TRANSFERRING

    def test_none_is_taken_when_too_much_is_uncommitted(self) -> None:
        bench = Bench(config=replace(DEFAULTS, uncommitted_bytes_max=10))
        bench.lead()
        bench.propose(b"0123456789")
        assert why_dropped(bench, "a,b") == ProposalDropped.TOO_MUCH_UNCOMMITTED

    def test_its_bytes_count_until_it_is_applied(self) -> None:
        bench = leader()
        bench.change("a,b")
        assert bench.node.status().uncommitted_bytes == 3
        bench.hear()
        bench.acknowledge("b")
        bench.hear()
        assert bench.node.status().uncommitted_bytes == 0

    def test_none_is_taken_before_the_last_one_is_committed(self) -> None:
        """Thesis §4.1: no server may propose while an earlier change is not committed."""
        bench = leader()
        bench.change("a,b")
        bench.hear()
        assert why_dropped(bench, "a,b,c") == ProposalDropped.CHANGE_PENDING
        bench.acknowledge("b")
        assert bench.change("a,b,c") == 3

    def test_none_is_taken_before_the_first_commit_of_the_term(self) -> None:
        """The bug in single-server changes of 2015."""
        bench = Bench(log=stored(1, 1), term=1)
        bench.lead(acknowledged=False)
        assert why_dropped(bench, "a,b") == ProposalDropped.CHANGE_PENDING
        bench.acknowledge("b")
        assert bench.change("a,b") == 4

    @pytest.mark.parametrize("text", ["a,d,e", "", "b,a", ";;;;;", "a,b;a,b"])
    def test_what_must_not_come_next_is_an_error(self, text: str) -> None:
        bench = leader()
        with pytest.raises(ConfigurationError):
            bench.change(text)
        assert (bench.node.last_index, bench.configuration()) == (1, "a,b,c")

    def test_joint_twice_and_other_ways_out_are_errors(self) -> None:
        bench = leader()
        bench.change("a,d;a,b,c;;b")
        bench.hear()
        for voter in "bd":
            bench.acknowledge(voter)
        assert bench.node.is_configuration_committed
        for text in ("a,e;a,d", "a,d;a,b,c;;b", "a,d", "a,b,c"):
            with pytest.raises(ConfigurationError):
                bench.change(text)
        bench.change("a,d;;b")


class TestProgress:
    def test_a_new_member_is_probed_with_the_entry_that_adds_it(self) -> None:
        bench = leader()
        bench.propose(b"x")
        bench.hear()
        bench.change("a,b,c;;d")
        (probe,) = (message for message in bench.hear(MessageType.APPEND) if message.target == "d")
        assert (probe.index, [entry.index for entry in probe.entries]) == (2, [3])
        assert bench.node.state.members.progress["d"].match == 0

    def test_what_is_known_of_the_others_stays_known(self) -> None:
        bench = leader()
        before = bench.node.state.members.progress["b"]
        bench.change("a,b,c;;d")
        after = bench.node.state.members.progress["b"]
        assert (after.match, after.state) == (1, ProgressState.REPLICATE)
        assert after is before

    def test_a_member_that_left_gets_nothing_more(self) -> None:
        bench = leader()
        bench.change("a,b")
        bench.propose(b"x")
        bench.tick(5)
        assert {message.target for message in bench.hear()} == {"b"}

    def test_a_member_that_left_does_not_count_any_more(self) -> None:
        bench = leader(("a", "b", "c", "d"))
        bench.change("a,b,c")
        bench.hear()
        bench.acknowledge("d")
        assert bench.node.commit_index == 1
        bench.acknowledge("b")
        assert bench.node.commit_index == 2

    def test_a_new_voter_counts_at_once(self) -> None:
        """Two of three are no majority of four."""
        bench = leader()
        bench.change("a,b,c,d")
        bench.hear()
        bench.acknowledge("b")
        assert bench.node.commit_index == 1
        bench.acknowledge("d")
        assert bench.node.commit_index == 2

    def test_learners_never_count(self) -> None:
        bench = leader(learners=("d", "e"))
        bench.propose(b"x")
        bench.hear()
        bench.acknowledge("d")
        bench.acknowledge("e")
        assert bench.node.commit_index == 1

    def test_one_that_is_promoted_counts_with_what_it_has(self) -> None:
        bench = leader(learners=("d",))
        bench.change("a,b,c,d")
        assert bench.node.state.members.progress["d"].match == 1
        assert not bench.node.state.members.progress["d"].is_learner


class TestQuorums:
    def test_removing_a_member_makes_the_commit_index_advance(self) -> None:
        """etcd's TestCommitAfterRemoveNode, and at once: what waits needs fewer members now."""
        bench = leader(("a", "b", "c", "d"))
        bench.propose(b"x")
        bench.hear()
        bench.acknowledge("b")
        assert bench.node.commit_index == 1
        bench.change("a,b,c")
        assert bench.node.commit_index == 2

    def test_removing_the_only_other_member_commits_with_the_own_disk(self) -> None:
        bench = leader(("a", "b"))
        bench.change("a")
        bench.hear(is_durable=False)
        assert bench.node.commit_index == 1
        bench.finish_write()
        assert bench.node.commit_index == 2

    def test_removing_a_member_confirms_reads_that_waited_for_it(self) -> None:
        bench = leader(("a", "b", "c", "d"))
        bench.node.read_index(7)
        (heartbeat, *_) = bench.hear(MessageType.HEARTBEAT)
        bench.say(MessageType.HEARTBEAT_RESPONSE, "b", context=heartbeat.context)
        bench.hear()
        assert not bench.reads
        bench.change("a,b,c")
        bench.hear()
        assert [read.context for read in bench.reads] == [7]

    def test_reads_that_nobody_else_can_confirm_any_more_are_confirmed(self) -> None:
        bench = leader(("a", "b"))
        bench.node.read_index(7)
        bench.hear()
        bench.change("a")
        bench.hear()
        assert [read.context for read in bench.reads] == [7]

    def test_a_read_in_a_joint_configuration_needs_both_halves(self) -> None:
        bench = leader()
        bench.change("a,d,e;a,b,c")
        bench.hear()
        for voter in "bd":
            bench.acknowledge(voter)
        bench.hear()
        bench.node.read_index(7)
        (heartbeat, *_) = bench.hear(MessageType.HEARTBEAT)
        for voter, confirmed in (("b", []), ("c", []), ("e", [7])):
            bench.say(MessageType.HEARTBEAT_RESPONSE, voter, context=heartbeat.context)
            bench.hear()
            assert [read.context for read in bench.reads] == confirmed

    @pytest.mark.parametrize(("silent", "remains"), [("c", True), ("bc", False), ("de", False), ("ce", True)])
    def test_a_leader_of_a_joint_configuration_needs_both_halves_to_listen(
        self, silent: str, remains: bool
    ) -> None:
        bench = Bench(("a", "d", "e"), outgoing=("a", "b", "c"), config=replace(DEFAULTS, check_quorum=True))
        bench.lead()
        bench.tick(10)
        for voter in "bcde":
            if voter not in silent:
                bench.say(MessageType.HEARTBEAT_RESPONSE, voter)
        bench.tick(10)
        assert bench.node.is_leader is remains

    def test_a_leader_that_adds_voters_gives_them_time_to_speak(self) -> None:
        """etcd: a new peer counts as active, else the leader would step down at once."""
        bench = Bench(("a",), config=replace(DEFAULTS, check_quorum=True))
        bench.lead()
        bench.hear()
        bench.tick(9)
        bench.change("a,b")
        bench.tick(1)
        assert bench.node.is_leader
        bench.tick(10)
        assert not bench.node.is_leader


class TestLearners:
    def test_a_learner_replicates_and_never_campaigns(self) -> None:
        bench = Bench(("b", "c"), learners=("a",))
        bench.tick(50)
        bench.node.campaign()
        assert bench.node.role is Role.FOLLOWER
        assert bench.hear(MessageType.VOTE, MessageType.PRE_VOTE) == []

    def test_one_that_is_promoted_campaigns(self) -> None:
        bench = Bench(("b", "c"), learners=("a",))
        bench.append("b", *stored_change("a,b,c"), term=1)
        bench.tick(50)
        bench.hear()
        assert bench.node.term > 1

    def test_one_that_is_no_member_yet_accepts_and_does_not_campaign(self) -> None:
        bench = Bench(())
        bench.append("b", *stored_change("b,c;;a"), term=1)
        assert bench.configuration() == "b,c;;a"
        bench.tick(50)
        assert (bench.node.role, bench.node.term) == (Role.FOLLOWER, 1)

    def test_one_that_is_no_member_votes(self) -> None:
        """Thesis §4.1: servers process requests from whoever is not in their configuration."""
        bench = Bench(())
        bench.say(MessageType.VOTE, "b", term=1)
        (answer,) = bench.hear(MessageType.VOTE_RESPONSE)
        assert not answer.reject

    def test_a_transfer_to_a_learner_or_to_one_that_left_is_not_begun(self) -> None:
        bench = leader(learners=("d",))
        bench.change("a,b;;d")
        for target in "cd":
            bench.node.transfer_leader(target)
            assert bench.node.transferee is None
        assert bench.hear(MessageType.TIMEOUT_NOW) == []


def stored_change(text: str) -> list[Entry]:
    return [Entry(1, 1), Entry(2, 1, text.encode(), EntryKind.CONFIGURATION)]

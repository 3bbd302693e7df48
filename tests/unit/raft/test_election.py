"""Elections: pre-vote, vote withholding, check-quorum, and what went wrong with them elsewhere.

Numbers like etcd#8334 name the issue where the case was found.
"""

from __future__ import annotations

import pytest

from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.node import RaftConfig, Role
from coordsvc.raft.types import Entry, NodeId
from tests.unit.raft.bench import Bench
from tests.unit.raft.cluster import Cluster, log_of, stored

FULL = RaftConfig("a")
PLAIN = RaftConfig("a", pre_vote=False, check_quorum=False)
ONLY_PRE_VOTE = RaftConfig("a", check_quorum=False)
ONLY_CHECK_QUORUM = RaftConfig("a", pre_vote=False)
TICKS = FULL.election_ticks


class TestVotesAndTheDisk:
    def test_a_candidate_counts_its_own_vote_only_once_it_is_durable(self) -> None:
        bench = Bench(("a",))
        bench.node.campaign()
        bench.hear(is_durable=False)
        assert bench.node.role is Role.CANDIDATE

        bench.finish_write()

        assert bench.node.is_leader
        assert bench.storage.hard_state.vote == "a"

    def test_a_candidate_asks_only_once_its_own_vote_and_its_log_are_durable(self) -> None:
        """Votes for a log that a crash can shorten would elect a node without what it claimed to have."""
        bench = Bench()
        bench.append("b", Entry(1, 1), term=1)
        bench.node.campaign()
        assert bench.hear(MessageType.VOTE, is_durable=False) == []

        bench.finish_write()

        assert [(m.target, m.index) for m in bench.hear(MessageType.VOTE)] == [("b", 1), ("c", 1)]

    def test_a_vote_leaves_only_once_it_is_durable(self) -> None:
        bench = Bench()
        bench.say(MessageType.VOTE, "b", term=1)
        assert bench.hear(is_durable=False) == []
        assert bench.writing is not None
        assert bench.writing.must_sync

        bench.finish_write()

        (answer,) = bench.hear(MessageType.VOTE_RESPONSE)
        assert not answer.reject
        assert bench.storage.hard_state.vote == "b"

    def test_a_vote_survives_a_restart(self) -> None:
        bench = Bench()
        bench.say(MessageType.VOTE, "b", term=1)
        bench.hear()
        again = Bench(log=bench.storage, vote=bench.storage.hard_state.vote)

        again.say(MessageType.VOTE, "c", term=1)

        (answer,) = again.hear(MessageType.VOTE_RESPONSE)
        assert answer.reject

    @pytest.mark.parametrize("config", [PLAIN, ONLY_PRE_VOTE])
    def test_the_own_vote_of_a_lost_election_is_ignored_when_it_comes_at_last(
        self, config: RaftConfig
    ) -> None:
        """etcd's TestCandidateSelfVoteAfterLostElection: the disk was slow, and another has won since."""
        bench = Bench(config=config)
        bench.node.campaign()
        bench.hear(is_durable=False)
        if config.pre_vote:
            bench.say(MessageType.PRE_VOTE_RESPONSE, "b", term=1)
            bench.hear(is_durable=False)
        assert bench.node.role is Role.CANDIDATE
        bench.append("b", term=2)

        bench.finish_write()
        bench.hear()

        assert (bench.node.role, bench.node.leader, bench.node.term) == (Role.FOLLOWER, "b", 2)


class TestPreVote:
    def test_asking_changes_neither_term_nor_vote_and_writes_nothing(self) -> None:
        bench = Bench(config=FULL, term=3, vote="c")
        bench.node.campaign()

        asked = bench.hear(MessageType.PRE_VOTE)

        assert [(m.target, m.term) for m in asked] == [("b", 4), ("c", 4)]
        assert (bench.node.role, bench.node.term, bench.node.vote) == (Role.PRE_CANDIDATE, 3, "c")
        assert bench.batches == []

    def test_giving_a_pre_vote_changes_nothing_and_several_may_get_one(self) -> None:
        bench = Bench(config=FULL, term=3, vote="c")

        bench.say(MessageType.PRE_VOTE, "b", term=4)
        bench.say(MessageType.PRE_VOTE, "c", term=4)

        answers = bench.hear(MessageType.PRE_VOTE_RESPONSE)
        assert [(m.target, m.term, m.reject) for m in answers] == [("b", 4, False), ("c", 4, False)]
        assert (bench.node.term, bench.node.vote, bench.batches) == (3, "c", [])

    def test_a_majority_of_pre_votes_starts_the_election(self) -> None:
        bench = Bench(config=FULL)
        bench.node.campaign()
        bench.hear()

        bench.say(MessageType.PRE_VOTE_RESPONSE, "b", term=1)

        assert (bench.node.role, bench.node.term) == (Role.CANDIDATE, 1)

    def test_a_lost_pre_vote_makes_a_follower_of_the_own_term(self) -> None:
        bench = Bench(config=FULL, term=3)
        bench.node.campaign()
        bench.hear()

        bench.say(MessageType.PRE_VOTE_RESPONSE, "b", term=3, reject=True)
        bench.say(MessageType.PRE_VOTE_RESPONSE, "c", term=3, reject=True)

        assert (bench.node.role, bench.node.term) == (Role.FOLLOWER, 3)

    def test_a_refusal_from_a_later_term_is_taken_to_heart(self) -> None:
        bench = Bench(config=FULL, term=3)
        bench.node.campaign()
        bench.hear()

        bench.say(MessageType.PRE_VOTE_RESPONSE, "b", term=8, reject=True)

        assert (bench.node.role, bench.node.term) == (Role.FOLLOWER, 8)

    def test_the_answer_to_an_earlier_pre_vote_does_not_count(self) -> None:
        bench = Bench(config=FULL, term=3)
        bench.node.campaign()
        bench.hear()

        bench.say(MessageType.PRE_VOTE_RESPONSE, "b", term=3)

        assert bench.node.role is Role.PRE_CANDIDATE

    def test_the_first_answer_of_a_voter_counts(self) -> None:
        bench = Bench(("a", "b", "c", "d", "e"), config=FULL)
        bench.node.campaign()
        bench.hear()

        for _ in range(4):
            bench.say(MessageType.PRE_VOTE_RESPONSE, "b", term=1)

        assert bench.node.role is Role.PRE_CANDIDATE

    def test_a_voter_cannot_take_its_answer_back(self) -> None:
        bench = Bench(("a", "b", "c", "d", "e"))
        bench.node.campaign()
        bench.hear()

        bench.say(MessageType.VOTE_RESPONSE, "b")
        bench.say(MessageType.VOTE_RESPONSE, "b", reject=True)
        bench.say(MessageType.VOTE_RESPONSE, "c")

        assert bench.node.is_leader

    def test_answers_from_outside_the_electorate_do_not_count(self) -> None:
        bench = Bench(config=PLAIN)
        bench.node.campaign()
        bench.hear()

        bench.say(MessageType.VOTE_RESPONSE, "stranger")

        assert bench.node.role is Role.CANDIDATE
        assert bench.node.state.votes == {"a": True}

    def test_a_pre_candidate_believes_in_no_leader(self) -> None:
        """etcd#8334, #9586, #10355: else two pre-candidates refuse each other for ever."""
        cluster = Cluster(config=ONLY_PRE_VOTE)
        cluster.elect("a")
        cluster.isolate("a")
        cluster.campaign("b")
        cluster.campaign("c")
        assert (cluster["b"].leader, cluster["c"].leader) == (None, None)

        cluster.tick_all(4 * TICKS)

        assert cluster.leader().state.node_id in ("b", "c")

    def test_an_old_term_gets_an_explicit_refusal(self) -> None:
        """etcd#8501: silence leaves a pre-candidate of an older term stuck for ever."""
        bench = Bench(config=FULL, term=5)

        bench.say(MessageType.PRE_VOTE, "b", term=3)

        (answer,) = bench.hear(MessageType.PRE_VOTE_RESPONSE)
        assert (answer.term, answer.reject) == (5, True)

    def test_a_node_with_a_higher_term_and_a_shorter_log_does_not_wedge_the_cluster(self) -> None:
        """etcd's TestPreVoteMigrationWithFreeStuckPreCandidate."""
        logs = {"a": stored(1, 1, 1), "b": stored(1, 1, 1), "c": stored(1, term=9)}
        cluster = Cluster(logs=logs)

        cluster.tick_all(8 * TICKS)

        assert cluster.leader().state.node_id in ("a", "b")
        assert {member.node.term for member in cluster.members.values()} == {cluster.leader().term}

    def test_a_node_back_from_isolation_disturbs_nobody(self) -> None:
        """Thesis §9.6: the pre-vote keeps its term from growing, and the others hear their leader."""
        cluster = Cluster()
        cluster.elect("a")
        term = cluster["a"].term
        cluster.isolate("c")
        cluster.tick_all(5 * TICKS)
        cluster.heal()

        cluster.tick_all(3 * TICKS)

        assert (cluster["a"].is_leader, cluster["a"].term) == (True, term)
        assert cluster["c"].leader == "a"

    @pytest.mark.parametrize(("candidate", "is_refused"), [("a", True), ("c", False)])
    def test_of_two_that_ask_at_the_same_moment_one_gives_way(
        self, candidate: NodeId, is_refused: bool
    ) -> None:
        """Else both win the pre-vote, split the vote, and wait for another timeout."""
        cluster = Cluster()
        cluster.campaign("b")

        cluster.deliver(Message(MessageType.PRE_VOTE, candidate, "b", term=1))
        cluster.pump("b")

        (answer,) = cluster.take(MessageType.PRE_VOTE_RESPONSE)
        assert answer.reject is is_refused

    def test_who_asked_a_while_ago_gives_way_to_anybody(self) -> None:
        """The tie-break must not keep off for ever the only member that can reach a majority."""
        cluster = Cluster()
        cluster.campaign("b")
        cluster.tick("b")

        cluster.deliver(Message(MessageType.PRE_VOTE, "a", "b", term=1))
        cluster.pump("b")

        (answer,) = cluster.take(MessageType.PRE_VOTE_RESPONSE)
        assert not answer.reject

    def test_a_split_pre_vote_ends(self) -> None:
        """etcd's TestPreVoteWithSplitVote."""
        cluster = Cluster()
        cluster.elect("a")
        cluster.isolate("a")
        cluster.act("b", lambda node: node.report_leader_lost("a"))
        cluster.act("c", lambda node: node.report_leader_lost("a"))
        cluster.campaign("b")
        cluster.campaign("c")
        cluster.settle()

        cluster.tick_all(5 * TICKS)

        assert cluster.leader().state.node_id in ("b", "c")


class TestVoteWithholding:
    @pytest.mark.parametrize("kind", [MessageType.VOTE, MessageType.PRE_VOTE])
    def test_who_hears_the_leader_ignores_a_candidate(self, kind: MessageType) -> None:
        bench = Bench(config=FULL)
        bench.follow("b", term=1)

        bench.say(kind, "c", term=2, index=9, log_term=1)

        assert bench.hear() == []
        assert (bench.node.term, bench.node.leader) == (1, "b")

    @pytest.mark.parametrize("kind", [MessageType.VOTE, MessageType.PRE_VOTE])
    def test_after_an_election_timeout_of_silence_it_listens_again(self, kind: MessageType) -> None:
        bench = Bench(config=FULL)
        bench.follow("b", term=1)
        bench.tick(TICKS)

        bench.say(kind, "c", term=2, index=9, log_term=1)

        (answer,) = bench.hear(MessageType.VOTE_RESPONSE, MessageType.PRE_VOTE_RESPONSE)
        assert not answer.reject

    def test_a_transfer_is_not_withheld(self) -> None:
        bench = Bench(config=FULL)
        bench.follow("b", term=1)

        bench.say(MessageType.VOTE, "c", term=2, transfer=True)

        (answer,) = bench.hear(MessageType.VOTE_RESPONSE)
        assert not answer.reject

    def test_a_leader_is_not_deposed_by_a_candidate(self) -> None:
        """etcd's TestLeaderSupersedingWithCheckQuorum, the leader's side."""
        bench = Bench(config=FULL)
        bench.lead()

        bench.say(MessageType.VOTE, "c", term=9, index=99, log_term=8)

        assert (bench.node.is_leader, bench.hear()) == (True, [])

    def test_a_candidate_stuck_in_a_later_term_is_freed(self) -> None:
        """etcd's TestFreeStuckCandidateWithCheckQuorum: its answer to a heartbeat brings the leader down."""
        cluster = Cluster(config=ONLY_CHECK_QUORUM)
        cluster.elect("a")
        cluster.isolate("c")
        cluster.campaign("c")
        cluster.settle()
        cluster.campaign("c")
        cluster.settle()
        cluster.heal()
        stuck_term = cluster["c"].term
        assert stuck_term > cluster["a"].term

        cluster.tick_all()
        assert (cluster["a"].role, cluster["a"].term) == (Role.FOLLOWER, stuck_term)
        cluster.elect("a")

        assert cluster["c"].leader == "a"

    def test_nobody_fires_while_a_peer_that_ticked_late_would_still_withhold(self) -> None:
        """etcd#10483: the deadline is never exactly the shortest timeout."""
        bench = Bench(config=FULL, roll=0)
        bench.follow("b", term=1)

        bench.tick(TICKS)

        assert bench.node.role is Role.FOLLOWER

    def test_the_voter_that_this_node_does_not_count_still_gets_an_answer(self) -> None:
        """etcd's TestNonPromotableVoterWithCheckQuorum: a node that may not campaign still votes."""
        bench = Bench(("b", "c"), learners=("a",), config=FULL)

        bench.tick(3 * TICKS)
        assert bench.node.role is Role.FOLLOWER
        bench.say(MessageType.VOTE, "b", term=2)

        (answer,) = bench.hear(MessageType.VOTE_RESPONSE)
        assert not answer.reject


class TestCheckQuorum:
    def test_a_leader_that_hears_a_quorum_stays(self) -> None:
        bench = Bench(config=FULL)
        bench.lead()
        for _ in range(5 * TICKS):
            bench.tick()
            bench.say(MessageType.HEARTBEAT_RESPONSE, "b")
        assert bench.node.is_leader

    def test_a_leader_that_hears_nobody_steps_down(self) -> None:
        bench = Bench(config=FULL)
        bench.lead()

        bench.tick(2 * TICKS)

        assert (bench.node.role, bench.node.term, bench.node.leader) == (Role.FOLLOWER, 1, None)

    def test_a_leader_that_hears_learners_only_steps_down(self) -> None:
        bench = Bench(config=FULL, learners=("d",))
        bench.lead()
        for _ in range(2 * TICKS):
            bench.tick()
            if bench.node.is_leader:
                bench.say(MessageType.HEARTBEAT_RESPONSE, "d")
        assert bench.node.role is Role.FOLLOWER

    def test_a_sole_voter_needs_to_hear_nobody(self) -> None:
        bench = Bench(("a",), learners=("b",), config=FULL)
        bench.lead()
        bench.tick(3 * TICKS)
        assert bench.node.is_leader

    def test_without_it_a_leader_stays_for_ever(self) -> None:
        bench = Bench(config=PLAIN)
        bench.lead()
        bench.tick(5 * TICKS)
        assert bench.node.is_leader


class TestCampaign:
    def test_a_leader_does_not_campaign(self) -> None:
        """etcd's TestCampaignWhileLeader."""
        bench = Bench()
        bench.lead()
        bench.node.campaign()
        assert (bench.node.is_leader, bench.node.term) == (True, 1)

    @pytest.mark.parametrize(("voters", "learners"), [(("b", "c"), ("a",)), (("b", "c"), ())])
    def test_only_a_voter_campaigns(self, voters: tuple[NodeId, ...], learners: tuple[NodeId, ...]) -> None:
        bench = Bench(voters, learners=learners)
        bench.tick(3 * TICKS)
        bench.node.campaign()
        assert (bench.node.role, bench.hear()) == (Role.FOLLOWER, [])

    def test_a_learner_votes(self) -> None:
        """etcd#10998: the candidate may know of a promotion that the learner has not heard of."""
        bench = Bench(("b", "c"), learners=("a",))
        bench.say(MessageType.VOTE, "b", term=1)
        (answer,) = bench.hear(MessageType.VOTE_RESPONSE)
        assert not answer.reject

    def test_both_halves_of_a_joint_configuration_are_asked_and_must_agree(self) -> None:
        bench = Bench(("a", "b", "c"), outgoing=("a", "d", "e"))
        bench.node.campaign()
        assert [m.target for m in bench.hear(MessageType.VOTE)] == ["b", "c", "d", "e"]

        bench.say(MessageType.VOTE_RESPONSE, "b")
        bench.say(MessageType.VOTE_RESPONSE, "c")
        assert bench.node.role is Role.CANDIDATE
        bench.say(MessageType.VOTE_RESPONSE, "d")

        assert bench.node.is_leader

    def test_a_winner_with_an_older_log_overwrites_what_was_never_committed(self) -> None:
        """etcd's TestLeaderElectionOverwriteNewerLogs: a later term alone makes no entry safe."""
        logs = {
            "a": stored(1, term=2),
            "b": stored(1, term=2),
            "c": stored(2),
            "d": stored(2),
            "e": stored(term=2),
        }
        cluster = Cluster("abcde", logs=logs, config=PLAIN)
        cluster.campaign("a")
        cluster.settle()
        assert cluster["a"].is_leader
        cluster.tick_all(2)

        assert {tuple(log_of(member.node)) for member in cluster.members.values()} == {((1, 1), (2, 3))}

    def test_duelling_candidates_come_to_one_leader(self) -> None:
        cluster = Cluster(config=PLAIN)
        cluster.cut("a", "c")
        cluster.campaign("a")
        cluster.campaign("c")
        cluster.settle()
        cluster.heal()

        cluster.tick_all(6 * TICKS)

        assert len({member.node.leader for member in cluster.members.values()}) == 1
        assert cluster.leader().is_leader

    def test_every_member_can_lead_in_turn(self) -> None:
        """etcd's TestLeaderCycle."""
        cluster = Cluster(config=PLAIN)
        for name in "abcab":
            cluster.elect(name)
        assert cluster["b"].term == 5

    @pytest.mark.parametrize("role", Role)
    def test_a_vote_request_of_a_later_term_is_answered_in_every_role(self, role: Role) -> None:
        """etcd's TestVoteFromAnyState."""
        bench = Bench(config=ONLY_PRE_VOTE if role is Role.PRE_CANDIDATE else PLAIN)
        if role is Role.LEADER:
            bench.lead()
        elif role is not Role.FOLLOWER:
            bench.node.campaign()
            bench.hear()
        assert bench.node.role is role

        bench.say(MessageType.VOTE, "b", term=5, index=9, log_term=4)

        (answer,) = bench.hear(MessageType.VOTE_RESPONSE)
        assert (answer.reject, bench.node.status().role, bench.node.vote) == (False, Role.FOLLOWER, "b")


class TestTimers:
    def test_timeouts_are_drawn_again_for_each_attempt(self) -> None:
        """Identical or frozen dice made election storms (raft#48, raft#50)."""
        bench = Bench(config=FULL, roll=8)
        bench.follow("b", term=1)
        bench.roll = 3
        bench.tick(2 * TICKS - 1)

        assert bench.node.role is Role.PRE_CANDIDATE
        assert bench.node.state.election_deadline == TICKS + 1 + 3

    def test_a_leader_that_is_heard_puts_the_election_off(self) -> None:
        bench = Bench(config=FULL)
        for _ in range(5):
            bench.say(MessageType.HEARTBEAT, "b", term=1)
            bench.tick(TICKS)
        assert bench.node.role is Role.FOLLOWER

    def test_a_vote_that_was_given_puts_the_election_off(self) -> None:
        bench = Bench(term=1)
        bench.tick(TICKS)
        bench.say(MessageType.VOTE, "b", term=1)
        bench.tick(TICKS)
        assert bench.node.role is Role.FOLLOWER

    def test_a_refused_candidate_does_not_put_the_election_off(self) -> None:
        bench = Bench(log=stored(1, 1))
        bench.tick(TICKS)
        bench.say(MessageType.VOTE, "b", term=1, index=1, log_term=1)
        bench.tick(1)
        assert bench.node.role is Role.CANDIDATE

"""The Raft paper on membership, sentence by sentence: section 6, and chapter 4 of the thesis.

Each docstring gives the sentence that the test is about. Names as in etcd_raft's tests where they exist.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordsvc.raft.membership import ConfigurationError
from coordsvc.raft.messages import MessageType
from coordsvc.raft.node import ProposalDropped, RaftConfig, Role
from coordsvc.raft.types import Entry, EntryKind, Index
from tests.unit.raft.bench import DEFAULTS, Bench
from tests.unit.raft.cluster import Cluster, stored
from tests.unit.raft.configuration_text import encode
from tests.unit.raft.memory_log import MemoryLog

PLAIN = RaftConfig("each", pre_vote=False, check_quorum=False)


def change_to(index: Index, text: str, term: int = 1) -> Entry:
    return Entry(index, term, text.encode(), EntryKind.CONFIGURATION)


def configurations(cluster: Cluster, names: str) -> list[str]:
    return [encode(cluster[name].configuration).decode() for name in names]


def grown(*newcomers: str, config: RaftConfig = PLAIN) -> Cluster:
    """A cluster of a, b, c that a leads, and newcomers that know nothing."""
    cluster = Cluster(config=config)
    for name in newcomers:
        cluster.join(name)
    cluster.elect("a")
    return cluster


# --- when a configuration is in force ------------------------------------------------------------


def test_each_server_uses_the_latest_configuration_in_its_log() -> None:
    """Once a given server adds the new configuration entry to its log, it uses that configuration for all
    future decisions (a server always uses the latest configuration in its log, regardless of whether the
    entry is committed).
    """
    cluster = grown("d")
    cluster.cut("a", "c")
    cluster.change("a", "a,b,c,d")
    assert configurations(cluster, "abcd") == ["a,b,c,d", "a,b,c", "a,b,c", ""]
    cluster.isolate("d")
    cluster.settle()
    assert configurations(cluster, "abcd") == ["a,b,c,d", "a,b,c,d", "a,b,c", ""]
    assert not cluster["b"].is_configuration_committed, "a and b are half of four"


def test_a_server_falls_back_to_an_earlier_configuration() -> None:
    """Unfortunately, this decision does imply that a log entry for a configuration change can be removed
    (if leadership changes); in this case, a server must be prepared to fall back to the previous
    configuration in its log. (Thesis 4.1)
    """
    cluster = grown("d")
    cluster.isolate("a")
    cluster.change("a", "a,b,c,d")
    cluster.settle()
    cluster.elect("b")
    cluster.heal()
    cluster.propose("b", b"x")
    cluster.tick_all(2)
    assert configurations(cluster, "abc") == ["a,b,c"] * 3
    assert cluster["a"].is_configuration_committed


def test_the_configuration_is_recovered_from_the_log_after_a_crash() -> None:
    cluster = grown("d")
    cluster.isolate("a")
    cluster.change("a", "a,b,c,d")
    cluster.settle()
    cluster.restart("a")
    assert configurations(cluster, "a") == ["a,b,c,d"]
    assert cluster["a"].configuration_index == 2


# --- one server at a time ------------------------------------------------------------------------


def test_only_one_server_is_added_or_removed_at_a_time() -> None:
    """When adding (or removing) just a single server, any majority of the old cluster overlaps with any
    majority of the new one; this overlap prevents the cluster from splitting. (Thesis 4.1)
    """
    cluster = grown("d", "e")
    with pytest.raises(ConfigurationError, match="more than one voter"):
        cluster.change("a", "a,b,c,d,e")
    cluster.change("a", "a,b,c,d")


def test_the_bug_in_single_server_changes_of_2015() -> None:
    """A leader must not append a configuration entry until it has committed an entry of its own term.

    Ongaro's example, raft-dev of 2015: of {a, b, c, d}, the leader a adds u and reaches u only; b leads
    then, removes a with the votes of c and d; a comes back with u's vote, and would commit without them.
    """
    cluster = Cluster("abcd", config=PLAIN)
    cluster.join("u")
    cluster.elect("a")
    for other in "bcd":
        cluster.cut("a", other)
        cluster.cut("u", other)
    cluster.change("a", "a,b,c,d,u")
    cluster.settle()
    assert configurations(cluster, "au") == ["a,b,c,d,u"] * 2

    cluster.drop(MessageType.APPEND)
    cluster.campaign("b")
    cluster.settle()
    assert cluster["b"].is_leader
    with pytest.raises(ProposalDropped) as raised:
        cluster.change("b", "b,c,d")
    assert raised.value.reason == ProposalDropped.CHANGE_PENDING


def test_the_next_change_may_begin_once_the_last_one_is_committed() -> None:
    """A leader may not begin another membership change until the previous one has committed. (Thesis 4.1)"""
    cluster = grown("d", "e")
    cluster.change("a", "a,b,c,d")
    with pytest.raises(ProposalDropped):
        cluster.change("a", "a,b,c,d,e")
    cluster.settle()
    cluster.change("a", "a,b,c,d,e")
    cluster.settle()
    assert configurations(cluster, "abcde") == ["a,b,c,d,e"] * 5


# --- catching up, and requests from strangers ------------------------------------------------------


def test_new_servers_catch_up_before_they_count() -> None:
    """The new servers join the cluster as non-voting members: the leader replicates log entries to them,
    but they are not considered for majorities.
    """
    cluster = grown("d")
    for number in range(20):
        cluster.propose("a", b"%d" % number)
    cluster.settle()
    cluster.change("a", "a,b,c;;d")
    cluster.settle()
    assert cluster.members["d"].applied_data() == [b"%d" % number for number in range(20)]
    for other in "bc":
        cluster.cut("a", other)
    commit = cluster["a"].commit_index
    cluster.propose("a", b"x")
    cluster.settle()
    assert cluster["a"].commit_index == commit, "a and a learner are no majority of three"


def test_new_servers_catch_up_by_a_snapshot_where_the_log_is_trimmed() -> None:
    """The snapshot is older than the entry that adds the newcomer, and does not name it."""
    cluster = grown("d")
    cluster.propose("a", *(b"%d" % number for number in range(20)))
    cluster.settle()
    cluster.members["a"].storage.compact(15)
    cluster.members["a"].slow_apply = True
    cluster.change("a", "a,b,c;;d")
    cluster.settle()
    assert cluster.members["d"].storage.snapshot_index == 21
    assert cluster.members["d"].storage.configuration == cluster.configuration
    assert configurations(cluster, "d") == ["a,b,c;;d"]


def test_a_snapshot_has_the_configuration_as_of_its_index_and_not_a_newer_one() -> None:
    """etcd: else the entries that follow it would be replayed on what they have already made."""
    bench = Bench()
    bench.lead()
    bench.propose(b"x")
    bench.hear()
    bench.acknowledge("b")
    bench.hear()
    bench.storage.compact(2)
    bench.change("a,b,c,d")
    bench.hear()
    bench.say(MessageType.APPEND_RESPONSE, "d", index=2, reject=True)
    (message,) = bench.hear(MessageType.SNAPSHOT)
    assert message.snapshot is not None
    assert encode(message.snapshot.configuration) == b"a,b,c"


def test_one_is_promoted_through_a_snapshot() -> None:
    cluster = grown("d")
    cluster.change("a", "a,b,c;;d")
    cluster.settle()
    cluster.isolate("d")
    cluster.change("a", "a,b,c,d")
    cluster.settle()
    cluster.propose("a", b"x")
    cluster.settle()
    for name in "abc":
        cluster.members[name].storage.compact(4)
    assert configurations(cluster, "d") == ["a,b,c;;d"]
    cluster.heal()
    cluster.tick_all(3)
    assert configurations(cluster, "d") == ["a,b,c,d"]
    cluster.elect("d")


def test_a_server_accepts_a_leader_that_is_not_in_its_configuration() -> None:
    """A server accepts AppendEntries requests from a leader that is not part of the server's latest
    configuration. Otherwise, a new server could never be added. (Thesis 4.1)
    """
    bench = Bench(("a", "b"))
    bench.append("z", Entry(1, 1), term=1)
    (answer,) = bench.hear(MessageType.APPEND_RESPONSE)
    assert (answer.reject, bench.node.leader) == (False, "z")


def test_a_server_votes_for_a_candidate_that_is_not_in_its_configuration() -> None:
    """A server also grants its vote to a candidate that is not part of its latest configuration. (4.1)"""
    bench = Bench(("a", "b"))
    bench.say(MessageType.VOTE, "z", term=1)
    (answer,) = bench.hear(MessageType.VOTE_RESPONSE)
    assert not answer.reject


def test_votes_of_strangers_and_learners_do_not_count() -> None:
    bench = Bench(learners=("d",))
    bench.node.campaign()
    bench.hear()
    bench.say(MessageType.VOTE_RESPONSE, "z")
    bench.say(MessageType.VOTE_RESPONSE, "d")
    assert bench.node.role is Role.CANDIDATE


def test_a_learner_that_does_not_know_of_its_promotion_votes() -> None:
    """etcd#10998: its vote may be needed for the quorum."""
    cluster = grown("d")
    cluster.change("a", "a,b,c;;d")
    cluster.settle()
    cluster.cut("a", "d")
    cluster.change("a", "a,b,c,d")
    cluster.settle()
    cluster.heal()
    cluster.isolate("a")
    assert configurations(cluster, "bcd") == ["a,b,c,d", "a,b,c,d", "a,b,c;;d"]
    cluster.campaign("b")
    cluster.settle()
    assert cluster["b"].is_leader, "with c and d: two of four would not be enough"


# --- removing, also the leader ---------------------------------------------------------------------


def test_a_leader_leads_until_it_has_committed_the_configuration_without_itself() -> None:
    """In this case, the leader steps down (returns to follower state) once it has committed the C_new log
    entry. This means that there will be a period of time (while it is committing C_new) when the leader is
    managing a cluster that does not include itself; it replicates log entries but does not count itself in
    majorities.
    """
    bench = Bench(("a", "b", "c", "d"))
    bench.lead()
    bench.change("b,c,d")
    bench.propose(b"x")
    bench.hear()
    bench.acknowledge("b", index=2)
    assert (bench.node.commit_index, bench.node.is_leader) == (1, True), "a does not count itself"
    bench.acknowledge("c", index=2)
    assert (bench.node.commit_index, bench.node.role) == (2, Role.FOLLOWER)
    assert bench.node.leader is None
    assert not any(bench.hear(MessageType.APPEND_RESPONSE))


def test_a_removed_leader_stays_when_only_what_came_before_is_committed() -> None:
    bench = Bench()
    bench.lead()
    bench.propose(b"x")
    bench.change("b,c")
    bench.hear()
    for voter in "bc":
        bench.acknowledge(voter, index=2)
    assert (bench.node.commit_index, bench.node.is_leader) == (2, True)


def test_a_learner_does_not_take_over() -> None:
    bench = Bench(learners=("aa",))
    bench.lead()
    bench.change("b,c;;aa")
    bench.hear()
    for name in ("aa", "b", "c"):
        bench.acknowledge(name)
    assert bench.node.role is Role.FOLLOWER
    assert [message.target for message in bench.hear(MessageType.TIMEOUT_NOW)] == ["b"]


def test_a_leader_that_joined_sends_no_snapshot_before_it_has_applied_who_counts() -> None:
    log = MemoryLog([Entry(1, 1), Entry(2, 1), change_to(3, "a,b")])
    bench = Bench((), log=log, term=1, applied=2)
    log.compact(2)
    bench.lead(acknowledged=False)
    bench.say(MessageType.APPEND_RESPONSE, "b", index=3, reject=True)
    assert bench.hear(MessageType.SNAPSHOT) == []


def test_a_leader_that_goes_says_so_and_one_that_has_everything_takes_over() -> None:
    cluster = grown()
    cluster.change("a", "b,c")
    cluster.settle()
    assert cluster["a"].role is Role.FOLLOWER
    leader = cluster.leader()
    assert (leader.state.node_id in "bc", leader.term) == (True, 2)
    assert [cluster[name].is_configuration_committed for name in "abc"] == [True] * 3


def test_a_leader_that_becomes_a_learner_steps_down_too() -> None:
    cluster = grown()
    cluster.change("a", "b,c;;a")
    cluster.settle()
    assert cluster["a"].role is Role.FOLLOWER
    cluster.propose(cluster.leader().state.node_id, b"x")
    cluster.settle()
    assert cluster.members["a"].applied_data() == [b"x"], "and goes on learning"


def test_a_leader_that_is_only_outgoing_leads_until_the_joint_configuration_is_left() -> None:
    cluster = grown("d")
    cluster.change("a", "b,c,d;a,b,c")
    cluster.settle()
    assert (cluster["a"].is_leader, cluster["a"].is_configuration_committed) == (True, True)
    cluster.change("a", "b,c,d")
    cluster.settle()
    assert (cluster["a"].role, cluster["a"].leader) == (Role.FOLLOWER, None)
    assert cluster.leader().state.node_id in "bcd"


def test_a_removed_leader_takes_proposals_while_it_leads() -> None:
    cluster = grown()
    cluster.change("a", "b,c")
    cluster.propose("a", b"x")
    cluster.settle()
    assert cluster.members["b"].applied_data() == [b"x"]


def test_a_leader_that_is_not_heard_by_those_who_stay_gives_up() -> None:
    """CheckQuorum does not count it either."""
    bench = Bench(("a", "b", "c"), config=replace(DEFAULTS, check_quorum=True))
    bench.lead()
    bench.change("b,c")
    bench.tick(10)
    bench.say(MessageType.HEARTBEAT_RESPONSE, "b")
    assert bench.node.is_leader
    bench.tick(10)
    assert not bench.node.is_leader


def test_a_server_that_is_not_in_its_newest_configuration_still_starts_elections() -> None:
    """A server that is not part of its own latest configuration should still start new elections, as it
    might still be needed until the C_new entry is committed. It does not count its own vote in elections
    unless it is part of its latest configuration. (Thesis 4.2.2)
    """
    cluster = Cluster("ab", config=PLAIN)
    cluster.elect("a")
    cluster.drop(MessageType.APPEND)
    cluster.change("a", "b")
    cluster.settle()
    cluster.restart("a")
    cluster.heal()
    cluster.campaign("b")
    cluster.settle()
    assert not cluster["b"].is_leader, "its log is shorter, and it needs the vote of a"

    cluster.campaign("a")
    cluster.pump("a")
    assert cluster["a"].role is Role.CANDIDATE, "its own vote does not count"
    cluster.settle()

    assert cluster.leader().state.node_id == "b"
    assert configurations(cluster, "ab") == ["b", "b"]
    assert cluster["a"].status().role is Role.FOLLOWER


def test_once_that_is_committed_it_starts_none() -> None:
    bench = Bench()
    bench.append("b", Entry(1, 1), change_to(2, "b,c"), commit=2, term=1)
    bench.tick(50)
    bench.node.campaign()
    assert (bench.node.role, bench.node.term) == (Role.FOLLOWER, 1)


def test_a_removed_server_still_answers_those_who_count_it() -> None:
    """etcd: removed locally, but others do not know yet, and need its vote."""
    bench = Bench()
    bench.append("b", Entry(1, 1), change_to(2, "b,c"), commit=2, term=1)
    bench.say(MessageType.VOTE, "c", term=2, index=2, log_term=1)
    (answer,) = bench.hear(MessageType.VOTE_RESPONSE)
    assert not answer.reject


def test_removed_servers_do_not_disturb_the_cluster() -> None:
    """If a server receives a RequestVote RPC within the minimum election timeout of hearing from a current
    leader, it does not update its term or grant its vote.
    """
    cluster = grown(config=replace(PLAIN, check_quorum=True))
    cluster.isolate("c")
    cluster.change("a", "a,b")
    cluster.settle()
    cluster.heal()
    for _ in range(60):
        cluster.tick_all()
    assert cluster["c"].term > 1, "it asks again and again"
    assert (cluster["a"].is_leader, cluster["a"].term, cluster["b"].term) == (True, 1, 1)


# --- joint consensus -------------------------------------------------------------------------------


def test_entries_go_to_all_servers_in_both_configurations() -> None:
    """Log entries are replicated to all servers in both configurations."""
    cluster = grown("d", "e")
    cluster.change("a", "a,d,e;a,b,c")
    cluster.settle()
    cluster.propose("a", b"x")
    cluster.settle()
    assert [cluster.members[name].applied_data() for name in "abcde"] == [[b"x"]] * 5


@pytest.mark.parametrize("leader", ["b", "d"])
def test_any_server_from_either_configuration_may_lead(leader: str) -> None:
    """Any server from either configuration may serve as leader."""
    cluster = grown("d", "e")
    cluster.change("a", "a,d,e;a,b,c")
    cluster.settle()
    cluster.elect(leader)


@pytest.mark.parametrize(("cut_off", "is_agreed"), [("c", True), ("bc", False), ("de", False), ("ce", True)])
def test_agreement_needs_majorities_of_both(cut_off: str, is_agreed: bool) -> None:
    """Agreement (for elections and entry commitment) requires separate majorities from both the old and
    new configurations.
    """
    cluster = grown("d", "e")
    cluster.change("a", "a,d,e;a,b,c")
    cluster.settle()
    for name in cut_off:
        cluster.isolate(name)
    commit = cluster["a"].commit_index
    cluster.propose("a", b"x")
    cluster.settle()
    assert (cluster["a"].commit_index > commit) is is_agreed

    cluster.campaign("a")
    cluster.restart("a")
    cluster.campaign("a")
    cluster.settle()
    assert cluster["a"].is_leader is is_agreed


def test_pre_votes_need_majorities_of_both() -> None:
    bench = Bench(("a", "d", "e"), outgoing=("a", "b", "c"), config=replace(DEFAULTS, pre_vote=True))
    bench.node.campaign()
    bench.hear()
    for voter, role in (("b", Role.PRE_CANDIDATE), ("c", Role.PRE_CANDIDATE), ("e", Role.CANDIDATE)):
        bench.say(MessageType.PRE_VOTE_RESPONSE, voter, term=1)
        assert bench.node.role is role


def test_a_new_leader_in_the_middle_of_a_joint_change_can_end_it() -> None:
    cluster = grown("d", "e")
    cluster.change("a", "a,d,e;a,b,c")
    cluster.settle()
    cluster.isolate("a")
    cluster.elect("d")
    cluster.change("d", "a,d,e")
    cluster.settle()
    assert configurations(cluster, "de") == ["a,d,e"] * 2
    assert cluster["d"].is_configuration_committed


def test_a_joint_configuration_that_is_not_committed_can_be_taken_back() -> None:
    """If the leader crashes, a new leader may be chosen under either C_old or C_old,new."""
    cluster = grown("d", "e")
    for other in "bc":
        cluster.cut("a", other)
    cluster.change("a", "a,d,e;a,b,c")
    cluster.settle()
    assert configurations(cluster, "abde") == ["a,d,e;a,b,c", "a,b,c", "a,d,e;a,b,c", "a,d,e;a,b,c"]
    cluster.isolate("a")
    cluster.elect("b")
    cluster.heal()
    cluster.propose("b", b"x")
    cluster.tick_all(2)
    assert configurations(cluster, "abc") == ["a,b,c"] * 3


def test_c_new_cannot_decide_alone_before_the_joint_configuration_is_committed() -> None:
    """C_old and C_new cannot make unilateral decisions at the same time."""
    cluster = grown("d", "e")
    for other in "bc":
        cluster.cut("a", other)
    cluster.change("a", "a,d,e;a,b,c")
    cluster.settle()
    assert not cluster["a"].is_configuration_committed
    with pytest.raises(ProposalDropped):
        cluster.change("a", "a,d,e")
    for old, new in (("b", "a"), ("b", "d"), ("b", "e"), ("c", "d"), ("c", "e")):
        cluster.cut(old, new)
    cluster.campaign("d")
    cluster.settle()
    assert not cluster["d"].is_leader


def test_a_voter_that_becomes_a_learner_votes_until_the_joint_configuration_is_left() -> None:
    """etcd: kept in the outgoing half and staged."""
    cluster = grown("d")
    cluster.change("a", "a,d;a,b,c;;b")
    cluster.settle()
    assert cluster["a"].state.members.is_voter("b")
    cluster.change("a", "a,d;;b")
    cluster.settle()
    assert not cluster["a"].state.members.is_voter("b")
    cluster.propose("a", b"x")
    cluster.settle()
    assert cluster.members["b"].applied_data() == [b"x"]


def test_the_last_of_a_group_that_is_replaced_by_another() -> None:
    """Every member goes and others come, in one step, with commands all the while."""
    cluster = grown("d", "e", "f")
    cluster.change("a", "d,e,f;a,b,c")
    cluster.propose("a", b"1")
    cluster.settle()
    cluster.change("a", "d,e,f")
    cluster.propose("a", b"2")
    cluster.settle()
    leader = cluster.leader().state.node_id
    cluster.propose(leader, b"3")
    cluster.settle()
    assert leader in "def"
    assert cluster.members["f"].applied_data() == [b"1", b"2", b"3"]


def test_a_leader_of_an_older_term_does_not_count_what_it_inherits() -> None:
    """Raft 5.4.2 holds for configuration entries too."""
    log = stored(1, 1)
    log.stored.append(change_to(3, "a,b"))
    bench = Bench(log=log, term=1)
    bench.lead(acknowledged=False)
    bench.acknowledge("b", index=3)
    assert not bench.node.is_configuration_committed
    bench.acknowledge("b", index=4)
    assert bench.node.is_configuration_committed

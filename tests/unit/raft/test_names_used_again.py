"""A name that is used again, for an empty disk: it must not stand in for the disk that had it before.

Consensus knows names only. A voter that was asleep may count on a vote by a name whose owner has left; the
vote of another disk under that name would make a majority that the rest of the cluster knows nothing of.
Decision 0012.
"""

from __future__ import annotations

import pytest

from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.node import RaftConfig
from coordsvc.raft.types import Entry, HardState, SnapshotMetadata, Term
from tests.unit.raft.cluster import Cluster
from tests.unit.raft.memory_log import MemoryLog

PLAIN = RaftConfig("each", pre_vote=False, check_quorum=False)
BOTH = pytest.mark.parametrize("config", [PLAIN, RaftConfig("each")], ids=["plain", "with pre-vote"])


def taken_in(cluster: Cluster, text: str) -> tuple[Term, int]:
    """Let a commit the configuration `text`; return the term and the index of its entry."""
    index = cluster.change("a", text)
    cluster.settle()
    assert cluster["a"].commit_index >= index
    return cluster["a"].term, index


def wiped_while_b_sleeps(config: RaftConfig = PLAIN) -> Cluster:
    """a, b and c; b sleeps; d has taken the place of c, and c, with an empty disk, is a learner.

    b wakes up cut off from a and d. Nothing but c tells it that there is anything new.
    """
    cluster = Cluster(config=config)
    cluster.join("d")
    cluster.elect("a")
    cluster.isolate("b")
    taken_in(cluster, "a,b,c;;d")
    taken_in(cluster, "a,b,d;a,b,c")
    taken_in(cluster, "a,b,d")
    del cluster.members["c"]
    joined = taken_in(cluster, "a,b,d;;c")
    cluster.heal()
    for one in "ad":
        for other in "bc":
            cluster.cut(one, other)
    cluster.network.clear()
    cluster.join("c", joined)
    return cluster


def wake(cluster: Cluster, name: str, ticks: int = 60) -> None:
    """Let time pass for those that a does not reach."""
    for _ in range(ticks):
        cluster.tick(name)
        cluster.tick("c")
        cluster.settle()


@BOTH
def test_it_does_not_vote_in_a_configuration_from_before_it_was_taken_in(config: RaftConfig) -> None:
    cluster = wiped_while_b_sleeps(config)
    assert cluster["b"].configuration.voters == ("a", "b", "c"), "b counts on c"
    wake(cluster, "b")
    cluster.campaign("b")
    cluster.settle()
    assert not cluster["b"].is_leader
    assert cluster["a"].is_leader
    cluster.propose("a", b"acknowledged")
    cluster.settle()
    cluster.heal()
    cluster.tick_all(80)
    assert all(b"acknowledged" in cluster.members[name].applied_data() for name in "abcd")


def test_it_does_not_ask_for_votes_with_half_a_log_that_still_names_the_other_disk() -> None:
    cluster = wiped_while_b_sleeps()
    log = cluster["a"].state.log
    half = [entry for entry in log.slice(1, log.last_index + 1, 1 << 20) if entry.index <= 2]
    append = Message(MessageType.APPEND, "a", "c", term=cluster["a"].term, commit=1, entries=half)
    cluster.act("c", lambda node: node.step(append))
    cluster.settle()
    assert cluster["c"].configuration.voters == ("a", "b", "c"), "it takes itself for a voter"
    cluster.campaign("c")
    wake(cluster, "c")
    assert not cluster["c"].is_leader
    assert cluster["c"].role.name == "FOLLOWER"


def test_it_does_not_ask_for_votes_with_a_snapshot_that_still_names_the_other_disk() -> None:
    cluster = wiped_while_b_sleeps()
    old = SnapshotMetadata(1, 1, cluster.configuration)
    term = cluster["a"].term
    snapshot = Message(MessageType.SNAPSHOT, "a", "c", term=term, index=1, log_term=1, snapshot=old)
    cluster.act("c", lambda node: node.step(snapshot))
    cluster.settle()
    assert cluster["c"].configuration.voters == ("a", "b", "c"), "it takes itself for a voter"
    cluster.campaign("c")
    wake(cluster, "c")
    assert cluster["c"].role.name == "FOLLOWER"


def test_it_acknowledges_nothing_to_a_leader_of_an_earlier_term() -> None:
    """The entry would be committed by a majority of which one half has forgotten everything."""
    cluster = Cluster(("a", "b", "c"), config=PLAIN)
    cluster.join("c", (7, 20))
    append = Message(MessageType.APPEND, "b", "c", term=6, entries=[Entry(1, 6)])
    cluster.act("c", lambda node: node.step(append))
    cluster.pump("c")
    answers = cluster.take(MessageType.APPEND_RESPONSE)
    assert [(answer.reject, answer.term) for answer in answers] == []
    assert cluster["c"].last_index == 0
    heartbeat = Message(MessageType.HEARTBEAT, "b", "c", term=6)
    cluster.act("c", lambda node: node.step(heartbeat))
    cluster.pump("c")
    assert cluster.take(MessageType.HEARTBEAT_RESPONSE) == []


def test_its_term_is_durable_and_a_vote_of_an_older_one_is_forgotten() -> None:
    cluster = Cluster(("a", "b"), config=PLAIN)
    storage = MemoryLog()
    storage.hard_state = HardState(3, "b", 0)
    cluster.joined["c"] = (7, 20)
    cluster.start("c", storage)
    assert (cluster["c"].term, cluster["c"].vote) == (7, None)
    cluster.pump("c")
    assert storage.hard_state.term == 7
    storage.hard_state = HardState(9, "b", 0)
    assert (cluster.start("c", storage).node.term, cluster["c"].vote) == (9, "b")


def test_two_names_of_five_that_are_used_again_make_no_majority_either() -> None:
    """Of a to e, b and e sleep; f and g have taken the places of c and d."""
    cluster = Cluster("abcde", config=PLAIN)
    for new in "fg":
        cluster.join(new)
    cluster.elect("a")
    cluster.isolate("b")
    taken_in(cluster, "a,b,c,d,e;;f,g")
    taken_in(cluster, "a,b,e,f,g;a,b,c,d,e")
    taken_in(cluster, "a,b,e,f,g")
    del cluster.members["c"], cluster.members["d"]
    cluster.isolate("e")
    first = taken_in(cluster, "a,b,e,f,g;;c")
    second = taken_in(cluster, "a,b,e,f,g;;c,d")
    cluster.heal()
    for one in "aefg":
        for other in "bcd":
            cluster.cut(one, other)
    cluster.network.clear()
    cluster.join("c", first)
    cluster.join("d", second)
    assert cluster["b"].configuration.voters == tuple("abcde")
    cluster.campaign("b")
    cluster.settle()
    assert not cluster["b"].is_leader


def test_it_votes_for_whoever_has_what_it_was_taken_in_with() -> None:
    """Also while its own log is far behind: its vote may be the one that is needed."""
    cluster = wiped_while_b_sleeps()
    cluster.heal()
    cluster.tick_all(2)
    cluster.change("a", "a,b,c,d")
    cluster.settle()
    cluster.isolate("a")
    at = cluster.joined["c"]
    cluster.join("c", at)  # as empty as in the moment in which it was promoted
    cluster.isolate("a")
    cluster.campaign("d")
    cluster.settle()
    assert cluster["d"].is_leader, "b and c vote for d"
    cluster.tick_all(2)
    assert cluster["c"].last_index == cluster["d"].last_index


def test_once_its_log_reaches_that_far_it_may_lead() -> None:
    cluster = wiped_while_b_sleeps()
    cluster.heal()
    cluster.tick_all(2)
    cluster.change("a", "a,b,c,d")
    cluster.settle()
    cluster.isolate("a")
    cluster.elect("c")

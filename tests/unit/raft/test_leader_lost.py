"""Evidence that the leader's process has ended: what follows from it, and what must not.

Evidence may be wrong: whatever stands between two hosts can close connections too.
"""

from __future__ import annotations

from itertools import permutations

import pytest

from coordsvc.raft.election import EVIDENCE_TICKS
from coordsvc.raft.messages import MessageType
from coordsvc.raft.node import RaftConfig, Role
from coordsvc.raft.types import NodeId
from tests.unit.raft.bench import Bench
from tests.unit.raft.cluster import Cluster

FULL = RaftConfig("a")
ONLY_CHECK_QUORUM = RaftConfig("a", pre_vote=False)
TICKS = FULL.election_ticks


def test_evidence_forgets_the_leader_and_asks_at_once_without_touching_the_term() -> None:
    bench = Bench(config=FULL)
    bench.follow("b", term=4)
    bench.hear()

    bench.node.report_leader_lost("b")

    assert (bench.node.leader, bench.node.term) == (None, 4)
    assert bench.node.role is Role.PRE_CANDIDATE
    assert [message.type for message in bench.hear()] == [MessageType.PRE_VOTE] * 2


def test_it_asks_again_for_a_few_ticks_and_then_waits_as_ever() -> None:
    """The others may get the evidence a little later, and then they would agree."""
    bench = Bench(config=FULL)
    bench.follow("b", term=4)
    bench.node.report_leader_lost("b")
    bench.hear()

    asked = []
    for _ in range(TICKS):
        bench.tick()
        asked.append(any(message.type is MessageType.PRE_VOTE for message in bench.hear()))

    assert asked == [True] * EVIDENCE_TICKS + [False] * (TICKS - EVIDENCE_TICKS)


def test_a_leader_that_is_heard_again_ends_the_hurry() -> None:
    bench = Bench(config=FULL)
    bench.follow("b", term=4)
    bench.node.report_leader_lost("b")
    bench.say(MessageType.HEARTBEAT, "b", term=4)

    bench.tick(EVIDENCE_TICKS)

    assert (bench.node.role, bench.node.leader) == (Role.FOLLOWER, "b")


@pytest.mark.parametrize("order", list(permutations("bcde")), ids="".join)
def test_in_whatever_order_the_evidence_comes_one_is_elected_without_a_tick(
    order: tuple[NodeId, ...],
) -> None:
    cluster = Cluster("abcde")
    cluster.elect("a")
    cluster.isolate("a")

    for name in order:
        cluster.act(name, lambda node: node.report_leader_lost("a"))
        cluster.settle()

    assert cluster.leader().state.node_id != "a"
    assert cluster.leader().term == cluster["a"].term + 1


def test_evidence_that_comes_to_all_at_once_elects_one_without_a_tick() -> None:
    cluster = Cluster()
    cluster.elect("a")
    cluster.isolate("a")

    for name in "bc":
        cluster.act(name, lambda node: node.report_leader_lost("a"))
    cluster.settle()

    assert cluster.leader().state.node_id in ("b", "c")


def test_a_link_that_flaps_deposes_nobody_whom_a_majority_hears() -> None:
    cluster = Cluster()
    cluster.elect("a")
    term = cluster["a"].term

    for _ in range(10 * TICKS):
        cluster.act("b", lambda node: node.report_leader_lost("a"))
        cluster.settle()
        cluster.tick_all()

    assert (cluster["a"].is_leader, cluster["c"].leader) == (True, "a")
    assert {node.term for node in (cluster[name] for name in "abc")} == {term}
    cluster.tick_all()
    assert cluster["b"].leader == "a", "it follows the leader again as soon as it hears it"


def test_who_still_hears_the_leader_keeps_it() -> None:
    cluster = Cluster()
    cluster.elect("a")
    cluster.cut("a", "b")
    cluster.act("b", lambda node: node.report_leader_lost("a"))

    cluster.tick_all(4)

    assert (cluster["a"].is_leader, cluster["c"].leader) == (True, "a")
    assert cluster["b"].term == cluster["a"].term


def test_evidence_about_somebody_else_means_nothing() -> None:
    bench = Bench(config=FULL)
    bench.follow("b", term=1)
    bench.node.report_leader_lost("c")
    assert bench.node.leader == "b"


def test_the_leader_itself_and_candidates_do_not_care() -> None:
    bench = Bench(config=FULL)
    bench.lead()
    bench.node.report_leader_lost("a")
    assert bench.node.is_leader


def test_without_pre_vote_nobody_is_deposed_by_evidence() -> None:
    bench = Bench(config=ONLY_CHECK_QUORUM)
    bench.follow("b", term=1)
    bench.node.report_leader_lost("b")
    bench.tick(3)
    assert (bench.node.role, bench.node.leader) == (Role.FOLLOWER, None)

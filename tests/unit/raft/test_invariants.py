"""The checks themselves: each is shown to fail on what it is there to find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from coordsvc.raft.invariants import (
    ClusterChecker,
    Observation,
    check_node,
    check_step,
    observe,
    quorums_meet,
)
from coordsvc.raft.node import Role
from coordsvc.raft.progress import ProgressState
from coordsvc.raft.state import NodeState
from coordsvc.raft.types import Configuration, Entry, EntryKind, Index
from tests.unit.raft.bench import Bench
from tests.unit.raft.cluster import Cluster, stored
from tests.unit.raft.configuration_text import decode


def leader() -> Bench:
    bench = Bench()
    bench.lead()
    bench.propose(b"x")
    bench.hear()
    bench.acknowledge("b")
    bench.hear()
    check_node(bench.node)
    return bench


def break_commit(state: NodeState) -> None:
    state.log.commit = 99


def break_applied(state: NodeState) -> None:
    state.log.applied = 99


def break_stable(state: NodeState) -> None:
    state.log.stable = 99


def break_terms(state: NodeState) -> None:
    state.log._window[-1] = Entry(2, 0, b"x")


def break_indexes(state: NodeState) -> None:
    state.log._window[-1] = Entry(7, 1, b"x")


def break_future(state: NodeState) -> None:
    state.log.last_term = 9


def break_leader(state: NodeState) -> None:
    state.leader = "b"


def break_own_match(state: NodeState) -> None:
    own = state.members.own
    assert own is not None
    own.match = 3


def break_next(state: NodeState) -> None:
    state.members.progress["b"].next = state.members.progress["b"].match


def break_match(state: NodeState) -> None:
    progress = state.members.progress["c"]
    progress.match, progress.next = 50, 51


def break_inflights(state: NodeState) -> None:
    state.members.progress["b"].inflights.messages_max = -1


def break_snapshot(state: NodeState) -> None:
    progress = state.members.progress["c"]
    progress.inflights.clear()
    progress.state, progress.pending_snapshot = ProgressState.SNAPSHOT, 50


def break_quorum(state: NodeState) -> None:
    state.members.progress["b"].match = 0
    state.members.progress["c"].match = 0


def break_membership(state: NodeState) -> None:
    state.members.switch(Configuration(("a", "b")), next_index=1)


def break_history(state: NodeState) -> None:
    state.configurations._history.append((2, state.members.configuration))


def break_own_membership(state: NodeState) -> None:
    state.members.own_counts = False


def break_transferee(state: NodeState) -> None:
    state.transferee = "z"


def break_deadline(state: NodeState) -> None:
    state.election_deadline = 1_000


@pytest.mark.parametrize(
    ("breakage", "name"),
    [
        (break_commit, "R3"),
        (break_applied, "R3"),
        (break_stable, "R3"),
        (break_terms, "R4"),
        (break_indexes, "R4"),
        (break_future, "R4"),
        (break_leader, "R7"),
        (break_own_match, "R8"),
        (break_next, "R7"),
        (break_match, "R7"),
        (break_inflights, "R13"),
        (break_snapshot, "R7"),
        (break_quorum, "R8"),
        (break_deadline, "R11"),
        (break_membership, "R12"),
        (break_history, "R12"),
        (break_own_membership, "R7"),
        (break_transferee, "R7"),
    ],
)
def test_a_broken_leader_is_noticed(breakage: Callable[[NodeState], None], name: str) -> None:
    bench = leader()
    breakage(bench.node.state)
    with pytest.raises(AssertionError, match=name):
        check_node(bench.node)


def test_a_follower_with_a_leaders_belongings_is_noticed() -> None:
    bench = Bench()
    bench.follow("b", term=1)
    bench.node.state.transferee = "c"
    with pytest.raises(AssertionError, match="hands over"):
        check_node(bench.node)


def test_a_candidate_that_voted_for_another_is_noticed() -> None:
    bench = Bench()
    bench.node.campaign()
    bench.node.state.vote = "b"
    with pytest.raises(AssertionError, match="R2"):
        check_node(bench.node)


@pytest.mark.parametrize(
    ("alter", "name"),
    [
        (lambda o: replace(o, term=o.term + 1), "R1"),
        (lambda o: replace(o, vote="b"), "R2"),
        (lambda o: replace(o, commit=o.commit + 1), "R3"),
        (lambda o: replace(o, applied=o.applied + 1), "R3"),
        (lambda o: replace(o, commit_term=9), "R6"),
        (lambda o: replace(o, last_index=o.last_index + 1), "R5"),
        (lambda o: replace(o, last_term=9), "R5"),
        (lambda o: replace(o, matches={"b": 9}), "R7"),
    ],
)
def test_a_forbidden_step_is_noticed(alter: Callable[[Observation], Observation], name: str) -> None:
    bench = leader()
    now = observe(bench.node)
    check_step(now, now, bench.node)
    with pytest.raises(AssertionError, match=name):
        check_step(alter(now), now, bench.node)


def test_a_leader_that_commits_an_entry_of_an_earlier_term_is_noticed() -> None:
    bench = leader()
    now = observe(bench.node)
    with pytest.raises(AssertionError, match="R8"):
        check_step(replace(now, commit=1, term=now.term), replace(now, commit_term=0), bench.node)


def change(index: Index, text: str) -> Entry:
    return Entry(index, 1, text.encode(), EntryKind.CONFIGURATION)


@pytest.mark.parametrize(
    ("first", "second", "meet"),
    [
        ("a,b,c", "a,b,c,d", True),
        ("a,b,c", "a,b,c,d,e", False),
        ("a", "b", False),
        ("a,b,c", "d;a,b,c", True),
        ("d;a,b,c", "d", True),
        ("d;a,b,c", "e;a,b,c", True),
        ("d;a,b,c", "e", False),
    ],
)
def test_whether_quorums_meet(first: str, second: str, meet: bool) -> None:
    assert quorums_meet(decode(first.encode()), decode(second.encode())) is meet
    assert quorums_meet(decode(second.encode()), decode(first.encode())) is meet


class TestCluster:
    def test_two_leaders_of_a_term_are_noticed(self) -> None:
        cluster = Cluster()
        cluster.elect("a")
        state = cluster["b"].state
        state.role, state.leader = Role.LEADER, "b"
        with pytest.raises(AssertionError, match="G1"):
            cluster.checker.check([cluster["b"]])

    def test_two_entries_of_one_name_are_noticed(self) -> None:
        checker = ClusterChecker()
        first, second = Bench(log=stored(1, 1)), Bench(log=stored(1, 1))
        second.storage.stored[1] = Entry(2, 1, b"other")
        checker.check([first.node])
        second.node.state.node_id = "b"
        with pytest.raises(AssertionError, match="G2"):
            checker.check([second.node])

    def test_a_leader_without_what_is_committed_is_noticed(self) -> None:
        cluster = Cluster()
        cluster.elect("a")
        cluster.propose("a", b"x")
        cluster.settle()
        usurper = Bench(term=5)
        usurper.node.state.node_id = "z"
        usurper.node.state.role = Role.LEADER
        with pytest.raises(AssertionError, match="G3"):
            cluster.checker.check([usurper.node])

    def test_two_commits_at_one_index_are_noticed(self) -> None:
        checker = ClusterChecker()
        first, second = Bench(log=stored(1), commit=1), Bench(log=stored(2), commit=1)
        second.node.state.node_id = "b"
        checker.check([first.node])
        with pytest.raises(AssertionError, match="G4"):
            checker.check([second.node])

    def test_two_changes_at_once_are_noticed_in_any_log(self) -> None:
        log = stored(1)
        log.stored += [change(2, "a,b,c,d"), change(3, "a,b,c,d,e")]
        with pytest.raises(AssertionError, match="R12"):
            ClusterChecker().check([Bench(log=log).node])
        ClusterChecker().check([Bench(log=log, commit=2).node])

    def test_two_changes_at_once_are_noticed_at_the_leader(self) -> None:
        bench = leader()
        bench.change("a,b,c,d")
        entry = change(bench.node.last_index + 1, "a,b,c,d,e")
        bench.node.state.log.extend([entry])
        bench.node.state.configurations.note_appended([entry])
        bench.node.state.switch_members(entry.index)
        with pytest.raises(AssertionError, match="R12"):
            check_node(bench.node)

    def test_two_configurations_whose_quorums_do_not_meet_are_noticed(self) -> None:
        log = stored(1)
        log.stored.append(change(2, "a,d,e"))
        with pytest.raises(AssertionError, match="G10"):
            ClusterChecker().check([Bench(log=log, commit=2).node])

    def test_a_configuration_among_commands_of_the_same_bytes_is_noticed(self) -> None:
        checker = ClusterChecker()
        first, second = Bench(log=stored(1)), Bench(log=stored(1))
        second.storage.stored[0] = change(1, "a,b,c,d")
        first.storage.stored[0] = Entry(1, 1, b"a,b,c,d")
        checker.check([first.node])
        second.node.state.node_id = "b"
        with pytest.raises(AssertionError, match="G2"):
            checker.check([second.node])

    def test_a_commit_that_is_on_one_disk_only_is_noticed(self) -> None:
        cluster = Cluster()
        cluster.elect("a")
        cluster.isolate("a")
        cluster.propose("a", b"x")
        cluster.settle()
        cluster["a"].state.log.commit = 2
        with pytest.raises(AssertionError, match="G5"):
            cluster.checker.check(
                [cluster["a"]], {name: member.storage for name, member in cluster.members.items()}
            )

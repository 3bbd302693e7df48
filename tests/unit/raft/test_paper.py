"""The Raft paper, sentence by sentence: sections 5.1 to 5.4 of the extended version.

After etcd's raft_paper_test.go. Each docstring gives the sentence that the test is about.
"""

from __future__ import annotations

import random

import pytest

from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.node import Role
from coordsvc.raft.types import Entry, Index, NodeId, Term
from tests.unit.raft.bench import DEFAULTS, Bench
from tests.unit.raft.cluster import Cluster, log_of, stored

THREE = ("a", "b", "c")
FIVE = ("a", "b", "c", "d", "e")

FIGURE_7_LEADER = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
FIGURE_7_FOLLOWERS = {
    "a": (1, 1, 1, 4, 4, 5, 5, 6, 6),
    "b": (1, 1, 1, 4),
    "c": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
    "d": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
    "e": (1, 1, 1, 4, 4, 4, 4),
    "f": (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
}


def in_role(role: Role) -> Bench:
    """A node of three in term 1, in `role`."""
    bench = Bench()
    if role is Role.FOLLOWER:
        bench.follow("b", term=1)
    elif role is Role.CANDIDATE:
        bench.node.campaign()
        bench.hear()
    else:
        bench.lead()
    assert (bench.node.role, bench.node.term) == (role, 1)
    return bench


# --- 5.1 -----------------------------------------------------------------------------------------

ROLES = (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER)


@pytest.mark.parametrize("role", ROLES)
def test_a_larger_term_is_taken_over_and_makes_a_follower(role: Role) -> None:
    """If one server's current term is smaller than the other's, then it updates its current term to the
    larger value. If a candidate or leader discovers that its term is out of date, it immediately reverts
    to follower state.
    """
    bench = in_role(role)

    bench.append("c", term=2)

    assert (bench.node.term, bench.node.role) == (2, Role.FOLLOWER)


@pytest.mark.parametrize("role", ROLES)
def test_a_request_with_a_stale_term_is_rejected(role: Role) -> None:
    """If a server receives a request with a stale term number, it rejects the request."""
    bench = in_role(role)
    bench.append("c", term=3, commit=0)
    log_before = bench.log()
    bench.hear()

    bench.append("b", Entry(1, 2), term=2)
    bench.say(MessageType.VOTE, "b", term=2, index=99, log_term=2)

    assert bench.log() == log_before
    assert (bench.node.term, bench.node.leader, bench.node.vote) == (3, "c", None)
    assert not bench.hear(MessageType.VOTE_RESPONSE)


# --- 5.2 -----------------------------------------------------------------------------------------


def test_a_server_starts_as_follower() -> None:
    """When servers start up, they begin as followers."""
    assert Bench().node.role is Role.FOLLOWER


def test_a_leader_sends_heartbeats_to_all_followers() -> None:
    """Leaders send periodic heartbeats to all followers in order to maintain their authority."""
    bench = in_role(Role.LEADER)

    bench.tick(DEFAULTS.heartbeat_ticks)

    heartbeats = bench.hear(MessageType.HEARTBEAT)
    assert [(message.target, message.term) for message in heartbeats] == [("b", 1), ("c", 1)]


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.CANDIDATE])
def test_an_election_starts_when_the_timeout_passes(role: Role) -> None:
    """If a follower receives no communication over a period of time called the election timeout, then it
    begins an election. To begin an election, a follower increments its current term and transitions to
    candidate state. It then votes for itself and issues RequestVote RPCs in parallel to each of the other
    servers. And for a candidate: each candidate will time out and start a new election by incrementing its
    term and initiating another round of RequestVote RPCs.
    """
    bench = in_role(role)

    bench.tick(2 * DEFAULTS.election_ticks)

    votes = bench.hear(MessageType.VOTE)
    assert (bench.node.role, bench.node.term, bench.node.vote) == (Role.CANDIDATE, 2, "a")
    assert bench.node.state.votes == {"a": True}
    assert [(message.target, message.term) for message in votes] == [("b", 2), ("c", 2)]


@pytest.mark.parametrize(
    ("size", "answers", "role"),
    [
        (1, {}, Role.LEADER),
        (3, {"b": True, "c": True}, Role.LEADER),
        (3, {"b": True}, Role.LEADER),
        (5, {"b": True, "c": True, "d": True, "e": True}, Role.LEADER),
        (5, {"b": True, "c": True, "d": True}, Role.LEADER),
        (5, {"b": True, "c": True}, Role.LEADER),
        (3, {"b": False, "c": False}, Role.FOLLOWER),
        (5, {"b": False, "c": False, "d": False, "e": False}, Role.FOLLOWER),
        (5, {"b": True, "c": False, "d": False, "e": False}, Role.FOLLOWER),
        (3, {}, Role.CANDIDATE),
        (5, {"b": True}, Role.CANDIDATE),
        (5, {"b": False, "c": False}, Role.CANDIDATE),
        (5, {}, Role.CANDIDATE),
    ],
)
def test_a_candidate_wins_with_the_votes_of_a_majority(
    size: int, answers: dict[NodeId, bool], role: Role
) -> None:
    """A candidate wins an election if it receives votes from a majority of the servers in the full cluster
    for the same term. Once a candidate wins an election, it becomes leader.
    """
    bench = Bench(FIVE[:size])
    bench.node.campaign()
    bench.hear()

    for voter, is_granted in answers.items():
        bench.say(MessageType.VOTE_RESPONSE, voter, term=1, reject=not is_granted)

    assert (bench.node.role, bench.node.term) == (role, 1)


@pytest.mark.parametrize(
    ("vote", "candidate", "is_granted"),
    [
        (None, "b", True),
        (None, "c", True),
        ("b", "b", True),
        ("c", "c", True),
        ("b", "c", False),
        ("c", "b", False),
    ],
)
def test_a_follower_votes_once_a_term_first_come_first_served(
    vote: NodeId | None, candidate: NodeId, is_granted: bool
) -> None:
    """Each server will vote for at most one candidate in a given term, on a first-come-first-served basis."""
    bench = Bench(term=1, vote=vote)

    bench.say(MessageType.VOTE, candidate, term=1)

    (answer,) = bench.hear(MessageType.VOTE_RESPONSE)
    assert (answer.target, answer.term, answer.reject) == (candidate, 1, not is_granted)


@pytest.mark.parametrize("term", [1, 2])
def test_a_candidate_gives_way_to_a_leader_of_its_term_or_later(term: Term) -> None:
    """While waiting for votes, a candidate may receive an AppendEntries RPC from another server claiming to
    be leader. If the leader's term is at least as large as the candidate's current term, then the
    candidate recognizes the leader as legitimate and returns to follower state.
    """
    bench = in_role(Role.CANDIDATE)

    bench.append("b", term=term)

    assert (bench.node.role, bench.node.term, bench.node.leader) == (Role.FOLLOWER, term, "b")


def test_a_candidate_does_not_give_way_to_a_leader_of_an_earlier_term() -> None:
    """If the term in the RPC is smaller than the candidate's current term, then the candidate rejects the RPC
    and continues in candidate state.
    """
    bench = Bench(term=5)
    bench.node.campaign()
    bench.hear()

    bench.append("b", term=5)

    assert (bench.node.role, bench.node.term) == (Role.CANDIDATE, 6)


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.CANDIDATE])
def test_election_timeouts_are_spread_over_an_interval(role: Role) -> None:
    """Raft uses randomized election timeouts chosen randomly from a fixed interval."""
    timeouts = set()
    for roll in range(DEFAULTS.election_ticks):
        bench = Bench(roll=roll)
        if role is Role.CANDIDATE:
            bench.node.campaign()
        bench.hear()
        term = bench.node.term
        ticks = 0
        while bench.node.term == term:
            bench.tick()
            ticks += 1
        timeouts.add(ticks)

    base = DEFAULTS.election_ticks
    assert timeouts == set(range(base + 1, 2 * base))


def test_conflicting_timeouts_are_rare() -> None:
    """Randomized timeouts make split votes rare: of five nodes, two seldom time out first together."""
    dice = random.Random(7)
    conflicts = 0
    rounds = 400
    for _ in range(rounds):
        benches = [Bench(FIVE, roll=dice.randrange(DEFAULTS.election_ticks - 1)) for _ in FIVE]
        fired: list[Bench] = []
        while not fired:
            for bench in benches:
                bench.node.tick()
            fired = [bench for bench in benches if bench.node.role is Role.CANDIDATE]
        conflicts += len(fired) > 1

    assert conflicts / rounds < 0.3
    assert conflicts > 0, "this test sees conflicts at all"


# --- 5.3 -----------------------------------------------------------------------------------------


def test_a_leader_appends_to_its_log_and_sends_to_all_in_parallel() -> None:
    """The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel to
    each of the other servers. the leader includes the index and term of the entry in its log that
    immediately precedes the new entries.
    """
    bench = in_role(Role.LEADER)

    bench.propose(b"x")

    appends = bench.hear(MessageType.APPEND, is_durable=False)
    assert [message.target for message in appends] == ["b", "c"]
    for message in appends:
        assert (message.index, message.log_term, message.commit) == (1, 1, 1)
        assert message.entries == [Entry(2, 1, b"x")]
    assert bench.log() == [(1, 1), (2, 1)]


def test_a_leader_commits_on_a_majority_and_tells_the_followers() -> None:
    """A log entry is committed once the leader that created the entry has replicated it on a majority of the
    servers. The leader keeps track of the highest index it knows to be committed, and it includes that
    index in future AppendEntries RPCs (including heartbeats).
    """
    bench = in_role(Role.LEADER)
    bench.propose(b"x")
    bench.hear()
    assert bench.node.commit_index == 1

    bench.acknowledge("b")

    appends = bench.hear(MessageType.APPEND)
    assert bench.node.commit_index == 2
    assert [entry.data for entry in bench.applied] == [b"", b"x"]
    assert {(message.target, message.commit) for message in appends} == {("b", 2), ("c", 2)}


@pytest.mark.parametrize(
    ("size", "acknowledging", "is_committed"),
    [
        (1, "", True),
        (3, "", False),
        (3, "b", True),
        (3, "bc", True),
        (5, "", False),
        (5, "b", False),
        (5, "bc", True),
        (5, "bcd", True),
        (5, "bcde", True),
    ],
)
def test_an_entry_is_committed_exactly_by_a_majority(
    size: int, acknowledging: str, is_committed: bool
) -> None:
    """An entry is committed once it is on a majority of the servers. The leader's own disk counts as one."""
    bench = Bench(FIVE[:size])
    bench.lead()
    index = bench.propose(b"x")
    bench.hear()

    for follower in acknowledging:
        bench.acknowledge(follower)

    assert (bench.node.commit_index >= index) is is_committed


@pytest.mark.parametrize("terms", [(), (2,), (1, 2), (1, 1, 2)])
def test_committing_also_commits_the_entries_of_earlier_leaders(terms: tuple[Term, ...]) -> None:
    """This also commits all preceding entries in the leader's log, including entries created by previous
    leaders.
    """
    bench = Bench(log=stored(*terms, term=2))
    bench.lead()
    bench.propose(b"x")
    bench.hear()

    bench.acknowledge("b")

    bench.hear()
    assert [(entry.index, entry.term) for entry in bench.applied] == [*enumerate((*terms, 3, 3), 1)]


@pytest.mark.parametrize("commit", [1, 2, 3])
def test_a_follower_applies_in_log_order_what_the_leader_says_is_committed(commit: Index) -> None:
    """Once a follower learns that a log entry is committed, it applies the entry to its local state machine
    (in log order).
    """
    bench = Bench()
    entries = [Entry(1, 1, b"one"), Entry(2, 1, b"two"), Entry(3, 1, b"three")]

    bench.append("b", *entries, term=1, commit=commit)
    bench.hear()

    assert bench.applied == entries[:commit]


@pytest.mark.parametrize(
    ("previous", "hint"),
    [
        ((0, 0), None),  # matches from the start
        ((1, 1), None),
        ((2, 2), None),
        ((1, 2), (1, 1)),  # another term there
        ((2, 1), (1, 1)),
        ((3, 3), (2, 2)),  # no entry there
    ],
)
def test_a_follower_refuses_entries_whose_predecessor_it_lacks(
    previous: tuple[Index, Term], hint: tuple[Index, Term] | None
) -> None:
    """If the follower does not find an entry in its log with the same index and term, then it refuses the new
    entries.
    """
    bench = Bench(log=stored(1, 2))

    bench.append("b", after=previous, term=3)

    (answer,) = bench.hear(MessageType.APPEND_RESPONSE)
    assert answer.index == previous[0]
    assert answer.reject is (hint is not None)
    if hint is not None:
        assert (answer.reject_hint, answer.log_term) == hint


@pytest.mark.parametrize(
    ("after", "terms", "expected"),
    [
        ((2, 2), (3,), (1, 2, 3)),  # extend
        ((1, 1), (3, 4), (1, 3, 4)),  # overwrite a conflict and go on
        ((0, 0), (1,), (1, 2)),  # an old message cuts nothing off
        ((0, 0), (3,), (3,)),  # overwrite all
    ],
)
def test_a_follower_makes_its_log_agree(
    after: tuple[Index, Term], terms: tuple[Term, ...], expected: tuple[Term, ...]
) -> None:
    """If an existing entry conflicts with a new one, the follower's log is overwritten: conflicting entries
    in follower logs will be overwritten with entries from the leader's log. Nothing else is deleted.
    """
    bench = Bench(log=stored(1, 2))

    bench.append("b", *(Entry(after[0] + 1 + n, term) for n, term in enumerate(terms)), after=after, term=4)
    bench.hear()

    assert bench.log() == list(enumerate(expected, 1))
    assert [entry.term for entry in bench.storage.stored] == list(expected)


@pytest.mark.parametrize("name", sorted(FIGURE_7_FOLLOWERS))
def test_a_leader_brings_every_follower_of_figure_7_into_line(name: str) -> None:
    """In Raft, the leader handles inconsistencies by forcing the followers' logs to duplicate its own."""
    cluster = Cluster(
        THREE,
        logs={"a": stored(*FIGURE_7_LEADER, term=7), "b": stored(*FIGURE_7_FOLLOWERS[name], term=7)},
    )
    cluster.elect("a")

    assert log_of(cluster["b"]) == log_of(cluster["a"]) == [*enumerate((*FIGURE_7_LEADER, 8), 1)]


# --- 5.4 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [(), (1,), (1, 2, 2)])
def test_a_vote_request_tells_how_long_the_log_is(terms: tuple[Term, ...]) -> None:
    """The RequestVote RPC includes information about the candidate's log. It goes to all others."""
    bench = Bench(FIVE, log=stored(*terms, term=2))

    bench.node.campaign()

    requests = bench.hear(MessageType.VOTE)
    assert [message.target for message in requests] == ["b", "c", "d", "e"]
    last_term = terms[-1] if terms else 0
    assert {(m.term, m.index, m.log_term) for m in requests} == {(3, len(terms), last_term)}


@pytest.mark.parametrize(
    ("own", "candidate", "is_granted"),
    [
        ((1,), (1, 1), True),  # same term, same length
        ((1,), (2, 1), True),  # same term, longer
        ((1, 1), (1, 1), False),  # same term, shorter
        ((1,), (1, 2), True),  # later term, same length
        ((1,), (2, 2), True),
        ((1, 1), (1, 2), True),  # later term, shorter
        ((2,), (1, 1), False),  # earlier term, same length
        ((2,), (2, 1), False),  # earlier term, longer
        ((2, 2), (1, 1), False),
        ((1, 1), (0, 0), False),
    ],
)
def test_a_voter_denies_its_vote_to_a_log_that_is_behind_its_own(
    own: tuple[Term, ...], candidate: tuple[Index, Term], is_granted: bool
) -> None:
    """The voter denies its vote if its own log is more up-to-date than that of the candidate. If the logs
    have last entries with different terms, then the log with the later term is more up-to-date. If the
    logs end with the same term, then whichever log is longer is more up-to-date. (5.4.1)
    """
    bench = Bench(log=stored(*own))

    bench.say(MessageType.VOTE, "b", term=3, index=candidate[0], log_term=candidate[1])

    (answer,) = bench.hear(MessageType.VOTE_RESPONSE)
    assert answer.reject is not is_granted


@pytest.mark.parametrize(("acknowledged", "commit"), [(1, 0), (2, 0), (3, 3), (4, 4)])
def test_only_entries_of_the_current_term_are_committed_by_counting(
    acknowledged: Index, commit: Index
) -> None:
    """Raft never commits log entries from previous terms by counting replicas. Only log entries from the
    leader's current term are committed by counting replicas. (5.4.2)
    """
    bench = Bench(log=stored(1, 2))
    bench.lead(acknowledged=False)
    bench.propose(b"x")
    bench.hear()
    assert bench.log() == [(1, 1), (2, 2), (3, 3), (4, 3)]

    bench.acknowledge("b", acknowledged)

    assert bench.node.commit_index == commit


def test_a_candidate_without_the_committed_entries_cannot_win() -> None:
    """The voting process prevents a candidate from winning unless its log contains all committed entries."""
    cluster = Cluster(FIVE)
    cluster.elect("a")
    cluster.isolate("e")
    cluster.propose("a", b"committed")
    cluster.settle()
    cluster.heal()
    cluster.isolate("a")
    cluster.tick_all(DEFAULTS.election_ticks)

    cluster.campaign("e")
    cluster.settle()

    assert cluster["e"].role is not Role.LEADER


def test_a_message_that_arrives_twice_does_no_harm() -> None:
    """Raft RPCs are idempotent, so this causes no harm. (5.5)"""
    bench = Bench()
    append = Message(MessageType.APPEND, "b", "a", term=1, entries=[Entry(1, 1, b"x")], commit=1)

    bench.step(append)
    bench.hear()
    bench.step(append)
    bench.hear()

    assert bench.log() == [(1, 1)]
    assert bench.applied == [Entry(1, 1, b"x")]

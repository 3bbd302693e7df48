"""Messages from outside: nonsense is refused and counted, never raised, and changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordsvc.raft.invariants import check_node, check_step, observe
from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.node import Role
from coordsvc.raft.types import Configuration, Entry, SnapshotMetadata
from tests.unit.raft.bench import DEFAULTS, Bench, snapshot_at
from tests.unit.raft.cluster import stored


def append(*entries: Entry, index: int = 0, log_term: int = 0, term: int = 3) -> Message:
    return Message(MessageType.APPEND, "b", "a", term, log_term, index, entries=list(entries))


NONSENSE = [
    Message(MessageType.HEARTBEAT, "b", "somebody else", term=1),
    Message(MessageType.HEARTBEAT, "", "a", term=1),
    Message(MessageType.HEARTBEAT, "a", "a", term=1),
    Message(MessageType.HEARTBEAT, "b", "a", term=0),
    Message(MessageType.HEARTBEAT, "b", "a", term=-1),
    Message(MessageType.HEARTBEAT, "b", "a", term=1, commit=-1),
    Message(MessageType.APPEND_RESPONSE, "b", "a", term=1, index=-1),
    Message(MessageType.APPEND_RESPONSE, "b", "a", term=1, reject=True, reject_hint=-1),
    Message(MessageType.VOTE, "b", "a", term=1, log_term=-1),
    Message(MessageType.READ_INDEX, "b", "a", term=1),
    Message(MessageType.READ_INDEX, "b", "a", index=-1),
    Message(MessageType.TRANSFER_LEADER, "b", "a", term=2),
    append(Entry(2, 1)),  # does not follow index 0
    append(Entry(1, 1), Entry(3, 1)),  # a gap
    append(Entry(1, 2), Entry(2, 1)),  # terms go down
    append(Entry(1, 4)),  # from the future
    append(Entry(1, 0)),  # of no term
    append(Entry(3, 1), index=2, log_term=2),  # before its predecessor
    append(index=2, log_term=4),  # predecessor from the future
    append(index=0, log_term=1),  # nothing has no term
    append(index=1, log_term=0),  # something has one
    Message(MessageType.SNAPSHOT, "b", "a", term=3),
    Message(MessageType.SNAPSHOT, "b", "a", term=3, snapshot=snapshot_at(0, 1)),
    Message(MessageType.SNAPSHOT, "b", "a", term=3, snapshot=snapshot_at(5, 0)),
    Message(MessageType.SNAPSHOT, "b", "a", term=3, snapshot=snapshot_at(5, 4)),
    Message(MessageType.SNAPSHOT, "b", "a", term=3, snapshot=SnapshotMetadata(5, 1, Configuration(()))),
    Message(MessageType.SNAPSHOT, "b", "a", term=3, snapshot=snapshot_at(5, 1, "b", "a")),
]


@pytest.mark.parametrize("message", NONSENSE, ids=str)
def test_nonsense_is_refused_and_counted(message: Message) -> None:
    bench = Bench(log=stored(1, 1))
    bench.step(message)
    assert bench.node.status().refused_messages == 1
    assert (bench.node.term, bench.log(), bench.hear()) == (1, [(1, 1), (2, 1)], [])


def test_a_second_leader_of_the_same_term_is_refused() -> None:
    """Election safety says that there is none: whoever claims to be one is broken or lies."""
    bench = Bench()
    bench.follow("b", term=1)
    bench.append("c", Entry(1, 1), term=1)
    assert (bench.node.leader, bench.log(), bench.node.status().refused_messages) == ("b", [], 1)


def test_a_leader_does_not_follow_another_of_its_term() -> None:
    bench = Bench()
    bench.lead()
    for kind in (MessageType.APPEND, MessageType.HEARTBEAT):
        bench.say(kind, "b")
    assert (bench.node.role, bench.node.status().refused_messages) == (Role.LEADER, 2)


def test_a_snapshot_that_contradicts_what_is_committed_changes_nothing() -> None:
    bench = Bench(log=stored(1, 1), commit=2)
    bench.say(MessageType.SNAPSHOT, "b", term=3, snapshot=snapshot_at(2, 3))
    bench.hear()
    assert bench.log() == [(1, 1), (2, 1)]


def test_answers_that_come_too_late_are_dropped_without_complaint() -> None:
    bench = Bench()
    bench.follow("b", term=1)
    for kind in (
        MessageType.APPEND_RESPONSE,
        MessageType.HEARTBEAT_RESPONSE,
        MessageType.VOTE_RESPONSE,
        MessageType.PRE_VOTE_RESPONSE,
    ):
        bench.say(kind, "b")
    assert (bench.hear(), bench.node.status().refused_messages) == ([], 0)


def test_answers_from_strangers_count_for_nothing_and_are_no_nonsense() -> None:
    """They may have been members a moment ago."""
    bench = Bench()
    bench.lead(acknowledged=False)
    bench.say(MessageType.APPEND_RESPONSE, "stranger", index=1)
    bench.say(MessageType.HEARTBEAT_RESPONSE, "stranger")
    assert bench.hear() == []
    assert (bench.node.commit_index, bench.node.status().refused_messages) == (0, 0)


numbers = st.integers(-1, 6)
names = st.sampled_from(["", "a", "b", "c", "d", "stranger"])
entry_lists = st.lists(st.builds(Entry, numbers, numbers, st.sampled_from([b"", b"x"])), max_size=3)
configurations = st.builds(
    Configuration,
    voters=st.lists(names, max_size=3).map(tuple),
    learners=st.lists(names, max_size=1).map(tuple),
)
messages = st.builds(
    Message,
    type=st.sampled_from(MessageType),
    source=names,
    target=st.just("a"),
    term=numbers,
    log_term=numbers,
    index=numbers,
    commit=numbers,
    entries=entry_lists,
    reject=st.booleans(),
    reject_hint=numbers,
    context=numbers,
    transfer=st.booleans(),
    snapshot=st.none() | st.builds(SnapshotMetadata, numbers, numbers, configurations),
)


@settings(deadline=None)
@given(st.sampled_from(Role), st.lists(messages, max_size=12))
def test_no_message_whatsoever_raises_or_breaks_an_invariant(role: Role, received: list[Message]) -> None:
    config = replace(DEFAULTS, pre_vote=role is Role.PRE_CANDIDATE)
    bench = Bench(learners=("d",), log=stored(1, 1, 2), config=config)
    if role is Role.LEADER:
        bench.lead()
    elif role is not Role.FOLLOWER:
        bench.node.campaign()
        bench.hear()

    assert bench.node.role is role
    for message in received:
        before = observe(bench.node)
        bench.node.step(message)
        check_node(bench.node)
        check_step(before, observe(bench.node), bench.node)
        bench.hear()

"""Consensus messages on the wire: nothing is lost, nothing malformed gets in."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from coordproto.v1 import peer_pb2
from coordsvc.codec.peer_messages import (
    MalformedFrame,
    decode_configuration,
    decode_raft_message,
    encode_configuration,
    encode_raft_message,
    raft_frame,
)
from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.types import Configuration, Entry, EntryKind, SnapshotMetadata

numbers = st.integers(0, 2**62)
terms = st.integers(1, 2**62)
names = st.text(min_size=1, max_size=10)
groups = st.lists(names, max_size=4, unique=True).map(lambda group: tuple(sorted(group)))
configurations = st.builds(
    Configuration, groups.filter(bool), groups, groups, groups, auto_leave=st.booleans()
)
snapshots = st.builds(SnapshotMetadata, terms, terms, configurations)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    kind = draw(st.sampled_from(MessageType))
    term = draw(terms)
    message = Message(
        kind,
        draw(names),
        draw(names),
        term=term,
        log_term=draw(st.integers(0, term)),
        index=draw(numbers),
        commit=draw(numbers),
        reject=draw(st.booleans()),
        reject_hint=draw(numbers),
        context=draw(st.integers(0, 2**64 - 1)),
        transfer=draw(st.booleans()),
        is_notice=draw(st.booleans()),
    )
    if kind is MessageType.SNAPSHOT:
        message.snapshot = draw(snapshots)
    if kind is MessageType.APPEND:
        entry_term = max(1, message.log_term)
        for place in range(draw(st.integers(0, 3))):
            entry_term = draw(st.integers(entry_term, term))
            data, entry_kind = draw(st.binary(max_size=20)), draw(st.sampled_from(EntryKind))
            message.entries.append(Entry(message.index + 1 + place, entry_term, data, entry_kind))
    return message


def an_append() -> peer_pb2.RaftMessage:
    """Entries 6 and 7 of term 2 and 3, from a leader of term 3."""
    entries = [Entry(6, 2, b"x"), Entry(7, 3, b"y")]
    return encode_raft_message(Message(MessageType.APPEND, "a", "b", 3, 2, 5, 4, entries))


def refuse(wire: peer_pb2.RaftMessage, why: str) -> None:
    with pytest.raises(MalformedFrame, match=why):
        decode_raft_message(wire)


@given(messages())
def test_every_message_survives_the_round_trip(message: Message) -> None:
    frame = peer_pb2.PeerFrame.FromString(raft_frame(message))

    assert frame.WhichOneof("body") == "raft"
    assert decode_raft_message(frame.raft) == message


@given(configurations)
def test_every_configuration_survives_the_round_trip(configuration: Configuration) -> None:
    assert decode_configuration(encode_configuration(configuration)) == configuration


@given(st.binary(max_size=60))
def test_random_bytes_are_refused_or_are_a_message_but_raise_nothing_else(data: bytes) -> None:
    wire = an_append()
    try:
        wire.MergeFromString(data)
    except DecodeError:
        return
    try:
        assert isinstance(decode_raft_message(wire), Message)
    except MalformedFrame:
        return


@pytest.mark.parametrize("kind", [0, 14, 4_000_000_000])
def test_an_unknown_type_is_refused(kind: int) -> None:
    wire = an_append()
    wire.type = kind

    refuse(wire, "unknown raft message type")


@pytest.mark.parametrize("field", ["from", "to"])
def test_a_message_without_sender_or_target_is_refused(field: str) -> None:
    wire = an_append()
    wire.ClearField(field)  # type: ignore[arg-type]  # the stub cannot name a field called `from`

    refuse(wire, "no sender or no target")


@pytest.mark.parametrize("field", ["term", "log_term", "index", "commit", "reject_hint"])
def test_a_negative_number_is_refused(field: str) -> None:
    wire = an_append()
    setattr(wire, field, -1)

    refuse(wire, "negative")


def test_only_messages_that_are_bound_to_no_term_may_lack_one() -> None:
    for kind in MessageType:
        wire = peer_pb2.RaftMessage(type=kind, to="b")
        setattr(wire, "from", "a")
        if kind in (MessageType.READ_INDEX, MessageType.READ_INDEX_RESPONSE, MessageType.TRANSFER_LEADER):
            assert decode_raft_message(wire).term == 0
        else:
            refuse(wire, "no term")


def test_a_member_that_never_saw_an_election_may_refuse_a_pre_vote() -> None:
    """Found by the random faults of `tests/unit/replica`: its refusal carries its own term, which is 0."""
    wire = peer_pb2.RaftMessage(type=MessageType.PRE_VOTE_RESPONSE, to="b", reject=True)
    setattr(wire, "from", "a")
    assert decode_raft_message(wire).reject


def test_entries_that_do_not_follow_one_another_are_refused() -> None:
    for place, field, value in (
        (0, "index", 5),
        (1, "index", 8),
        (1, "term", 1),
        (1, "term", 4),
        (0, "kind", 2),
    ):
        wire = an_append()
        setattr(wire.entries[place], field, value)

        refuse(wire, "was due")


def test_an_entry_without_a_term_is_refused() -> None:
    wire = an_append()
    wire.log_term = wire.index = 0
    del wire.entries[:]
    wire.entries.add(index=1)

    refuse(wire, "entry 1 of term 0")


def test_entries_belong_into_appends_only() -> None:
    wire = an_append()
    wire.type = MessageType.HEARTBEAT

    refuse(wire, "HEARTBEAT with entries")


def test_a_snapshot_belongs_into_snapshot_messages_only_and_has_to_be_there() -> None:
    wire = an_append()
    wire.snapshot.index = 1
    refuse(wire, "snapshot")

    wire = an_append()
    del wire.entries[:]
    wire.type = MessageType.SNAPSHOT
    refuse(wire, "snapshot")


@pytest.mark.parametrize(
    "configuration",
    [
        peer_pb2.RaftConfiguration(),
        peer_pb2.RaftConfiguration(voters=["b", "a"]),
        peer_pb2.RaftConfiguration(voters=["a", "a"]),
        peer_pb2.RaftConfiguration(voters=["", "a"]),
        peer_pb2.RaftConfiguration(voters=["a"], learners=["c", "b"]),
    ],
)
def test_a_configuration_that_no_member_makes_is_refused(configuration: peer_pb2.RaftConfiguration) -> None:
    wire = encode_raft_message(
        Message(MessageType.SNAPSHOT, "a", "b", 3, snapshot=SnapshotMetadata(9, 2, Configuration(("a",))))
    )
    wire.snapshot.configuration.CopyFrom(configuration)

    refuse(wire, "configuration")


@pytest.mark.parametrize(("index", "term"), [(0, 1), (1, 0), (-1, 1), (1, -1)])
def test_a_snapshot_of_nothing_is_refused(index: int, term: int) -> None:
    wire = encode_raft_message(
        Message(MessageType.SNAPSHOT, "a", "b", 3, snapshot=SnapshotMetadata(9, 2, Configuration(("a",))))
    )
    wire.snapshot.index, wire.snapshot.term = index, term

    refuse(wire, "a snapshot at index")

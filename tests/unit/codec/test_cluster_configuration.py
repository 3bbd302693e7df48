"""The configuration of the cluster with everybody's records, to bytes and back."""

from __future__ import annotations

import random

import pytest

from coordproto.v1 import peer_pb2
from coordsvc.codec.cluster_configuration import (
    MEMBERS_MAX,
    NOBODY,
    ClusterConfiguration,
    MemberRecord,
    at_index,
    decode_cluster_configuration,
    decode_raft_configuration,
    encode_cluster_configuration,
    founding_configuration,
    with_records,
)
from coordsvc.codec.peer_messages import MalformedFrame
from coordsvc.raft.types import Configuration

JOINT = with_records(
    Configuration(("b", "d"), ("a", "b"), ("e",), ("a",)),
    [MemberRecord(name, f"{name}:7401", f"{name}:7400", number) for number, name in enumerate("zedba", 1)],
)


def test_a_configuration_comes_back_as_it_was() -> None:
    there = at_index(JOINT, 77)
    assert decode_cluster_configuration(encode_cluster_configuration(there)) == there
    assert decode_raft_configuration(encode_cluster_configuration(there)) == JOINT.raft
    assert there.is_joint


def test_only_those_who_have_a_part_keep_a_record_in_order_of_names() -> None:
    assert [record.name for record in JOINT.members] == ["a", "b", "d", "e"]


def test_founders_vote_unless_they_learn_and_nobody_has_been_heard_from() -> None:
    founding = founding_configuration({"b": "b:1", "a": "a:1", "c": "c:1"}, learners=["c"])
    assert founding.raft == Configuration(("a", "b"), learners=("c",))
    assert founding.record("b") == MemberRecord("b", "b:1")
    assert founding.record("z") is None
    assert founding.index == NOBODY.index == 0


def test_the_same_configuration_has_the_same_bytes() -> None:
    """Members keep it in their trees, which must not differ."""
    again = decode_cluster_configuration(encode_cluster_configuration(JOINT))
    assert encode_cluster_configuration(again) == encode_cluster_configuration(JOINT)


def altered(**changes: object) -> bytes:
    wire = peer_pb2.ClusterConfiguration.FromString(encode_cluster_configuration(JOINT))
    for field, value in changes.items():
        if field == "index":
            wire.index = value  # type: ignore[assignment]  # an int
        elif field == "without":
            del wire.members[value]  # type: ignore[arg-type]  # a position
        else:
            setattr(wire.members[0], field, value)
    return wire.SerializeToString()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff", "not a configuration"),
        (b"", "without voters"),
        (altered(index=-1), "negative index"),
        (altered(without=1), "records are not those of its members"),
        (altered(name="z"), "records are not those of its members"),
        (altered(peer_address=""), "is not HOST:PORT"),
        (altered(client_address="nowhere"), "is not HOST:PORT"),
        (altered(peer_address="h" * 400 + ":1"), "an address of 402 characters"),
    ],
)
def test_what_no_member_makes_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedFrame, match=reason):
        decode_cluster_configuration(data)


def test_a_crowd_is_refused() -> None:
    crowd = founding_configuration({f"n{number:03}": f"h:{number + 1}" for number in range(MEMBERS_MAX + 1)})
    with pytest.raises(MalformedFrame, match="too many members"):
        decode_cluster_configuration(encode_cluster_configuration(crowd))


def test_random_bytes_are_refused_or_sound() -> None:
    dice = random.Random(12)
    good = encode_cluster_configuration(JOINT)
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            found = decode_cluster_configuration(bytes(data[: dice.randint(1, len(data))]))
        except MalformedFrame:
            continue
        assert isinstance(found, ClusterConfiguration)
        assert decode_cluster_configuration(encode_cluster_configuration(found)) == found

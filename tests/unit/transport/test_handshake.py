"""The greeting: who may be on a link, and what the others are told."""

from __future__ import annotations

import random
import re

import pytest

from coordproto.v1 import peer_pb2
from coordsvc.transport.handshake import (
    Greeted,
    Identity,
    RefusedByPeer,
    Unwelcome,
    printable,
    read_hello,
    refusal,
)

ME = Identity("cluster-1", "b", "10.0.0.2:7400")
PEER = Identity("cluster-1", "a", "10.0.0.1:7400")


def test_a_peers_greeting_says_who_it_is_and_where_clients_reach_it() -> None:
    assert read_hello(PEER.hello_to("b"), ME, {"a", "c"}) == Greeted("a", "10.0.0.1:7400")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (Identity("cluster-2", "a", "").hello_to("b"), "wrong cluster: 'cluster-2' instead of 'cluster-1'"),
        (PEER.hello_to("c"), "wrong address: member 'c' is meant, but this is 'b'"),
        (Identity("cluster-1", "z", "").hello_to("b"), "wrong member: 'z' is not expected by member 'b'"),
        (Identity("cluster-1", "b", "").hello_to("b"), "wrong member: 'b' is not expected by member 'b'"),
        (Identity("cluster-1", "", "").hello_to("b"), "wrong member"),
        (
            PEER.hello_to("b") + peer_pb2.PeerFrame(raft=peer_pb2.RaftMessage()).SerializeToString(),
            "protocol",
        ),
        (peer_pb2.PeerFrame().SerializeToString(), "not the protocol of members"),
        (b"GET / HTTP/1.1\r\n\r\n", "not the protocol of members"),
        (refusal(Unwelcome("go\naway")), "it refused this member, saying: go?away"),
    ],
)
def test_everybody_else_is_refused_with_the_reason(frame: bytes, reason: str) -> None:
    with pytest.raises(Unwelcome, match=re.escape(reason)):
        read_hello(frame, ME, {"a", "c"})


def test_a_greeting_says_which_disk_and_which_configuration_it_speaks_for() -> None:
    peer = Identity("cluster-1", "a", "10.0.0.1:7400", 77, "10.0.0.1:7401", lambda: 12)

    assert read_hello(peer.hello_to("b"), ME) == Greeted("a", "10.0.0.1:7400", 77, "10.0.0.1:7401", 12)


def test_a_refusal_says_why_to_programs_too() -> None:
    told = refusal(Unwelcome("gone", peer_pb2.REFUSAL_NOT_A_MEMBER, 40))

    with pytest.raises(RefusedByPeer, match="saying: gone") as refused:
        read_hello(told, ME)
    assert (refused.value.cause, refused.value.configuration_index) == (peer_pb2.REFUSAL_NOT_A_MEMBER, 40)


@pytest.mark.parametrize("address", ["nowhere", "h:99999", "10.0.0..4:7401", "[,=]:1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(Unwelcome, match="wrong address of member 'a'"):
        read_hello(Identity("cluster-1", "a", "", 1, address).hello_to("b"), ME)


def test_nobody_greets_himself() -> None:
    with pytest.raises(Unwelcome, match="wrong member"):
        read_hello(Identity("cluster-1", "b", "").hello_to("b"), ME)


def test_another_protocol_is_refused() -> None:
    frame = peer_pb2.PeerFrame.FromString(PEER.hello_to("b"))
    frame.hello.protocol = 2

    with pytest.raises(Unwelcome, match="wrong peer protocol: 2 instead of 1"):
        read_hello(frame.SerializeToString(), ME, {"a"})


def test_random_bytes_are_refused_and_raise_nothing_else() -> None:
    dice = random.Random(2)
    for _ in range(2000):
        with pytest.raises(Unwelcome):
            read_hello(dice.randbytes(dice.randint(0, 60)), ME, {"a"})


def test_what_a_stranger_says_fits_into_one_short_line() -> None:
    assert printable("evil\n\x1b[31mname") == "evil??[31mname"
    assert len(printable("x" * 5000)) < 250

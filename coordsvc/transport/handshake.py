"""The greeting of a link: who are you, and do you mean me? First frame, both ways.

Rule of this file: pure. A greeting that does not fit is answered with the reason in one line.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from coordproto.v1 import peer_pb2

PROTOCOL = 1
HELLO_BYTES_MAX = 4096


class Unwelcome(Exception):  # noqa: N818 - a verdict on the peer
    """The other side is not who may be on this link. The text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this member is, as it says in every greeting."""

    cluster_id: str
    name: str
    client_address: str

    def hello_to(self, peer: str) -> bytes:
        hello = peer_pb2.Hello(
            protocol=PROTOCOL, cluster_id=self.cluster_id, to=peer, client_address=self.client_address
        )
        setattr(hello, "from", self.name)
        return peer_pb2.PeerFrame(hello=hello).SerializeToString()


@dataclass(frozen=True, slots=True)
class Greeted:
    """The other side, once its greeting is found good."""

    name: str
    client_address: str


def refusal(reason: str) -> bytes:
    return peer_pb2.PeerFrame(refusal=peer_pb2.Refusal(reason=reason)).SerializeToString()


def read_hello(frame: bytes, me: Identity, expected: Container[str]) -> Greeted:
    """Check the first frame from the other side.

    Raises:
        Unwelcome: It is no greeting, or not from one of `expected` to this member of this cluster.
    """
    try:
        first = peer_pb2.PeerFrame.FromString(frame)
    except DecodeError as error:
        raise Unwelcome("not the protocol of members") from error
    if first.HasField("refusal"):
        raise Unwelcome(f"it refused this member, saying: {printable(first.refusal.reason)}")
    if not first.HasField("hello"):
        raise Unwelcome("not the protocol of members")
    hello = first.hello
    name = getattr(hello, "from")
    if hello.protocol != PROTOCOL:
        raise Unwelcome(f"wrong peer protocol: {hello.protocol} instead of {PROTOCOL}")
    if hello.cluster_id != me.cluster_id:
        raise Unwelcome(f"wrong cluster: '{printable(hello.cluster_id)}' instead of '{me.cluster_id}'")
    if hello.to != me.name:
        raise Unwelcome(f"wrong address: member '{printable(hello.to)}' is meant, but this is '{me.name}'")
    if name not in expected:
        raise Unwelcome(f"wrong member: '{printable(name)}' is not expected by member '{me.name}'")
    return Greeted(name, hello.client_address)


def printable(text: str) -> str:
    """Make what a stranger sent fit for one line of a log."""
    cut = text if len(text) <= 200 else text[:200] + "..."
    return "".join(letter if letter.isprintable() else "?" for letter in cut)

"""The greeting of a link: who are you, and do you mean me? First frame, both ways.

Rule of this file: pure. A greeting that does not fit is answered with the reason in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from coordproto.v1 import peer_pb2
from coordsvc.codec.addresses import AddressFormError, check_host_and_port

PROTOCOL = 1
HELLO_BYTES_MAX = 4096


class Unwelcome(Exception):  # noqa: N818 - a verdict on the peer
    """The other side is not who may be on this link. The text says why, in one line.

    `cause` and `configuration_index` are those of `peer_pb2.Refusal`, for programs.
    """

    def __init__(
        self, reason: str, cause: int = peer_pb2.REFUSAL_OTHER, configuration_index: int = 0
    ) -> None:
        super().__init__(reason)
        self.cause = cause
        self.configuration_index = configuration_index


class RefusedByPeer(Unwelcome):
    """It is the other side that does not want us."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this member is, as it says in every greeting."""

    cluster_id: str
    name: str
    client_address: str
    member_id: int = 0
    peer_address: str = ""
    configuration_index: Callable[[], int] = int  # of the newest configuration it knows to be committed

    def hello_to(self, peer: str) -> bytes:
        hello = peer_pb2.Hello(
            protocol=PROTOCOL,
            cluster_id=self.cluster_id,
            to=peer,
            client_address=self.client_address,
            member_id=self.member_id,
            peer_address=self.peer_address,
            configuration_index=self.configuration_index(),
        )
        setattr(hello, "from", self.name)
        return peer_pb2.PeerFrame(hello=hello).SerializeToString()


@dataclass(frozen=True, slots=True)
class Greeted:
    """The other side, once its greeting is found good."""

    name: str
    client_address: str
    member_id: int = 0
    peer_address: str = ""
    configuration_index: int = 0


Admit = Callable[[Greeted], Unwelcome | None]
"""Whether a member that greeted well may be linked to us; if not, what it is told."""


def admit_named(names: Container[str], me: str) -> Admit:
    """Admit members by their names alone."""

    def admit(greeted: Greeted) -> Unwelcome | None:
        if greeted.name in names:
            return None
        return Unwelcome(f"wrong member: '{printable(greeted.name)}' is not expected by member '{me}'")

    return admit


def refusal(unwelcome: Unwelcome) -> bytes:
    wire = peer_pb2.Refusal(reason=str(unwelcome), configuration_index=unwelcome.configuration_index)
    wire.cause = unwelcome.cause  # type: ignore[assignment]  # the numbers are the same by contract
    return peer_pb2.PeerFrame(refusal=wire).SerializeToString()


def read_hello(frame: bytes, me: Identity, expected: Container[str] | None = None) -> Greeted:
    """Check the first frame from the other side.

    Raises:
        Unwelcome: It is no greeting, or not from one of `expected` to this member of this cluster.
        RefusedByPeer: The other side does not want us.
    """
    try:
        first = peer_pb2.PeerFrame.FromString(frame)
    except DecodeError as error:
        raise Unwelcome("not the protocol of members") from error
    if first.HasField("refusal"):
        told = first.refusal
        raise RefusedByPeer(
            f"it refused this member, saying: {printable(told.reason)}", told.cause, told.configuration_index
        )
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
    if not name or name == me.name or (expected is not None and name not in expected):
        raise Unwelcome(f"wrong member: '{printable(name)}' is not expected by member '{me.name}'")
    try:
        for address in (hello.peer_address, hello.client_address):
            if address:
                check_host_and_port(address)
    except AddressFormError as error:
        raise Unwelcome(f"wrong address of member '{printable(name)}': {printable(str(error))}") from error
    return Greeted(name, hello.client_address, hello.member_id, hello.peer_address, hello.configuration_index)


def printable(text: str) -> str:
    """Make what a stranger sent fit for one line of a log."""
    cut = text if len(text) <= 200 else text[:200] + "..."
    return "".join(letter if letter.isprintable() else "?" for letter in cut)

"""The configuration of the cluster with everybody's addresses: to and from log entries and the tree.

Rule of this file: what decodes is sound: everyone whom the consensus configuration names has exactly one
record, in order of names, with addresses that can be dialled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from google.protobuf.message import DecodeError

from coordproto.v1 import peer_pb2
from coordsvc.codec.addresses import AddressFormError, split_host_and_port
from coordsvc.codec.peer_messages import MalformedFrame, decode_configuration, encode_configuration
from coordsvc.raft.types import Configuration, Index, NodeId

ADDRESS_LENGTH_MAX = 300
MEMBERS_MAX = 64

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """Where a member is, and which data directory is its. `member_id` 0: not heard from yet."""

    name: NodeId
    peer_address: str
    client_address: str = ""
    member_id: int = 0


@dataclass(frozen=True, slots=True)
class ClusterConfiguration:
    """Who is in the cluster. `index` is that of its log entry; 0 while it is on its way, and at the start."""

    raft: Configuration = field(default_factory=lambda: Configuration(()))
    members: tuple[MemberRecord, ...] = ()
    index: Index = 0

    def record(self, name: NodeId) -> MemberRecord | None:
        for member in self.members:
            if member.name == name:
                return member
        return None

    @property
    def is_joint(self) -> bool:
        return bool(self.raft.voters_outgoing)


NOBODY = ClusterConfiguration()
"""What a member knows that has not learnt of any configuration yet."""


def named_by(configuration: Configuration) -> tuple[NodeId, ...]:
    """Everyone who has a part in it, sorted."""
    return tuple(sorted({*configuration.voters, *configuration.voters_outgoing, *configuration.learners}))


def is_valid_name(name: str) -> bool:
    """Whether a member may be called so."""
    return _NAME.fullmatch(name) is not None


def founding_configuration(
    peer_addresses: Mapping[NodeId, str], learners: Iterable[NodeId] = ()
) -> ClusterConfiguration:
    """Make the first configuration of a cluster: all others vote, and nobody has been heard from."""
    names = sorted(peer_addresses)
    learning = tuple(sorted(learners))
    return ClusterConfiguration(
        Configuration(tuple(name for name in names if name not in learning), learners=learning),
        tuple(MemberRecord(name, peer_addresses[name]) for name in names),
    )


def with_records(configuration: Configuration, records: Iterable[MemberRecord]) -> ClusterConfiguration:
    """Join a consensus configuration with the records of those whom it names."""
    by_name = {record.name: record for record in records}
    return ClusterConfiguration(configuration, tuple(by_name[name] for name in named_by(configuration)))


def encode_cluster_configuration(configuration: ClusterConfiguration) -> bytes:
    return peer_pb2.ClusterConfiguration(
        raft=encode_configuration(configuration.raft),
        members=[
            peer_pb2.MemberRecord(
                name=record.name,
                peer_address=record.peer_address,
                client_address=record.client_address,
                member_id=record.member_id,
            )
            for record in configuration.members
        ],
        index=configuration.index,
    ).SerializeToString()


def decode_cluster_configuration(data: bytes) -> ClusterConfiguration:
    """Decode and validate.

    Raises:
        MalformedFrame: Not a configuration that a member of this version makes.
    """
    try:
        wire = peer_pb2.ClusterConfiguration.FromString(data)
    except DecodeError as error:
        raise MalformedFrame("an entry that is not a configuration of the cluster") from error
    raft = decode_configuration(wire.raft)
    if wire.index < 0 or len(wire.members) > MEMBERS_MAX:
        raise MalformedFrame("a configuration of the cluster with a negative index or too many members")
    if tuple(record.name for record in wire.members) != named_by(raft):
        raise MalformedFrame("a configuration of the cluster whose records are not those of its members")
    return ClusterConfiguration(raft, tuple(_decode_record(record) for record in wire.members), wire.index)


def decode_raft_configuration(data: bytes) -> Configuration:
    """What the consensus core needs of a configuration entry. Raises as `decode_cluster_configuration`."""
    return decode_cluster_configuration(data).raft


def at_index(configuration: ClusterConfiguration, index: Index) -> ClusterConfiguration:
    """The configuration of an entry, once the entry is applied."""
    return replace(configuration, index=index)


def explain_bad_record(record: MemberRecord) -> str:
    """Return what is wrong with a name or an address that somebody gave, or the empty string."""
    if not is_valid_name(record.name):
        return (
            f"name {record.name[:100]!r}: use 1 to 64 letters, digits, '.', '_', '-'; "
            "the first a letter or digit"
        )
    for address in (record.peer_address, record.client_address):
        if len(address) > ADDRESS_LENGTH_MAX:
            return f"an address of {len(address)} characters; the limit is {ADDRESS_LENGTH_MAX}"
    try:
        split_host_and_port(record.peer_address)
        if record.client_address:
            split_host_and_port(record.client_address)
    except AddressFormError as error:
        return f"member {record.name}: {error}"
    return ""


def _decode_record(wire: peer_pb2.MemberRecord) -> MemberRecord:
    record = MemberRecord(wire.name, wire.peer_address, wire.client_address, wire.member_id)
    problem = explain_bad_record(record)
    if problem:
        raise MalformedFrame(f"a record in a configuration of the cluster is not sound: {problem}")
    return record

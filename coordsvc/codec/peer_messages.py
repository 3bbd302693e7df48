"""Consensus messages to and from the wire (`coordproto.v1.RaftMessage`).

Rule of this file: what comes from a peer is validated here, once: a message that decodes cannot trip an
assertion of the core by its form.
"""

from __future__ import annotations

from coordproto.v1 import peer_pb2
from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.types import Configuration, Entry, EntryKind, SnapshotMetadata

_NORMAL = EntryKind.NORMAL
_TYPES = {int(kind): kind for kind in MessageType}
_KINDS = {int(kind): kind for kind in EntryKind}
_TERMLESS = (MessageType.READ_INDEX, MessageType.READ_INDEX_RESPONSE, MessageType.TRANSFER_LEADER)


class MalformedFrame(ValueError):  # noqa: N818 - says what came, as `Compacted` does
    """A peer sent something that no member of this version sends."""


def raft_frame(message: Message) -> bytes:
    """Encode a whole PeerFrame that carries `message`."""
    return peer_pb2.PeerFrame(raft=encode_raft_message(message)).SerializeToString()


def encode_raft_message(message: Message) -> peer_pb2.RaftMessage:
    wire = peer_pb2.RaftMessage(
        type=message.type,
        to=message.target,
        term=message.term,
        log_term=message.log_term,
        index=message.index,
        commit=message.commit,
        reject=message.reject,
        reject_hint=message.reject_hint,
        context=message.context,
        transfer=message.transfer,
        is_notice=message.is_notice,
    )
    setattr(wire, "from", message.source)
    add = wire.entries.add
    for entry in message.entries:
        add(index=entry.index, term=entry.term, kind=entry.kind, data=entry.data)
    if message.snapshot is not None:
        wire.snapshot.CopyFrom(encode_snapshot_metadata(message.snapshot))
    return wire


def decode_raft_message(wire: peer_pb2.RaftMessage) -> Message:
    """Decode and validate.

    Raises:
        MalformedFrame: An unknown type, a missing or negative field, entries that do not follow one another.
    """
    kind = _TYPES.get(wire.type)
    if kind is None:
        raise MalformedFrame(f"unknown raft message type {wire.type}")
    source = getattr(wire, "from")
    if not source or not wire.to:
        raise MalformedFrame(f"{kind.name} names no sender or no target")
    if min(wire.term, wire.log_term, wire.index, wire.commit, wire.reject_hint) < 0:
        raise MalformedFrame(f"{kind.name} from {source} has a negative number in it")
    if (
        wire.term == 0
        and kind not in _TERMLESS
        and not (kind is MessageType.PRE_VOTE_RESPONSE and wire.reject)
    ):
        raise MalformedFrame(f"{kind.name} from {source} has no term")
    if wire.HasField("snapshot") != (kind is MessageType.SNAPSHOT):
        raise MalformedFrame(f"{kind.name} from {source} has a snapshot where none belongs, or lacks one")
    return Message(
        type=kind,
        source=source,
        target=wire.to,
        term=wire.term,
        log_term=wire.log_term,
        index=wire.index,
        commit=wire.commit,
        entries=_decode_entries(wire, kind) if wire.entries else [],
        reject=wire.reject,
        reject_hint=wire.reject_hint,
        context=wire.context,
        transfer=wire.transfer,
        snapshot=decode_snapshot_metadata(wire.snapshot) if kind is MessageType.SNAPSHOT else None,
        is_notice=wire.is_notice,
    )


def encode_snapshot_metadata(snapshot: SnapshotMetadata) -> peer_pb2.SnapshotMetadata:
    return peer_pb2.SnapshotMetadata(
        index=snapshot.index,
        term=snapshot.term,
        configuration=encode_configuration(snapshot.configuration),
    )


def decode_snapshot_metadata(wire: peer_pb2.SnapshotMetadata) -> SnapshotMetadata:
    """Decode and validate. A snapshot names an applied entry, so its index and term are positive."""
    if wire.index <= 0 or wire.term <= 0:
        raise MalformedFrame(f"a snapshot at index {wire.index}, term {wire.term}")
    return SnapshotMetadata(wire.index, wire.term, decode_configuration(wire.configuration))


def encode_configuration(configuration: Configuration) -> peer_pb2.RaftConfiguration:
    return peer_pb2.RaftConfiguration(
        voters=configuration.voters,
        voters_outgoing=configuration.voters_outgoing,
        learners=configuration.learners,
        learners_next=configuration.learners_next,
        auto_leave=configuration.auto_leave,
    )


def decode_configuration(wire: peer_pb2.RaftConfiguration) -> Configuration:
    """Decode and validate: somebody votes, and every list is sorted and names nobody twice."""
    if not wire.voters:
        raise MalformedFrame("a configuration without voters")
    groups = []
    for names in (wire.voters, wire.voters_outgoing, wire.learners, wire.learners_next):
        group = tuple(names)
        if "" in group or group != tuple(sorted(set(group))):
            raise MalformedFrame("a configuration with unsorted, repeated or empty names")
        groups.append(group)
    voters, voters_outgoing, learners, learners_next = groups
    return Configuration(voters, voters_outgoing, learners, learners_next, wire.auto_leave)


def _decode_entries(wire: peer_pb2.RaftMessage, kind: MessageType) -> list[Entry]:
    if kind is not MessageType.APPEND:
        raise MalformedFrame(f"{kind.name} with entries")
    index, term, term_max = wire.index, wire.log_term, wire.term
    entries = []
    for item in wire.entries:
        index += 1
        entry_kind = _NORMAL if item.kind == 0 else _KINDS.get(item.kind)
        if item.index != index or not term <= item.term <= term_max or item.term == 0 or entry_kind is None:
            raise MalformedFrame(
                f"entry {item.index} of term {item.term} and kind {item.kind} where entry {index} of a term "
                f"from {term} to {term_max} was due"
            )
        term = item.term
        entries.append(Entry(index, term, item.data, entry_kind))
    return entries

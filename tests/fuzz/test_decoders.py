"""Every decoder against bytes that nobody wrote: a value, or the documented error. Issue 3, item 7."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError

from coordproto.v1 import peer_pb2
from coordsvc.codec import peer_messages
from coordsvc.codec.cluster_configuration import (
    ClusterConfiguration,
    MemberRecord,
    decode_cluster_configuration,
    encode_cluster_configuration,
    founding_configuration,
)
from coordsvc.codec.entries import check_command, join_commands, open_session, session_writes, split_entry
from coordsvc.codec.operations import decode_writes
from coordsvc.codec.peer_messages import MalformedFrame
from coordsvc.raft.messages import MessageType
from coordsvc.raft.types import Configuration, Entry, EntryKind, HardState, SnapshotMetadata
from coordsvc.statemachine import records, result_records
from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.results import Created, ErrorCode, Failure, WriteResult
from coordsvc.statemachine.types import Stat
from coordsvc.statemachine.znodes import Znode, decode_znode, encode_znode
from coordsvc.storage import log_records
from coordsvc.storage.data_directory import FORMAT_VERSION, read_identity
from coordsvc.storage.errors import CorruptDataError, ForeignDataError, SnapshotRefused
from coordsvc.storage.files import read_record, replace_record
from coordsvc.storage.log_records import BrokenRecord
from coordsvc.storage.sync_mark import decode_number, encode_number
from coordsvc.storage.tree_chunks import ChunkReader, encode_chunks
from coordsvc.transport.framing import FrameReader, FrameTooLarge, join_frames
from coordsvc.transport.handshake import Identity, Unwelcome, read_hello
from tests.fuzz.hostile_bytes import absurd_message, mutated, rounds

ROUNDS = 1_500
STAT = Stat(1, 2, 3, 4, 5, 6, 7, 8, 0, 3, 1)
ME = Identity("cluster", "a", "a:7400")
RAFT_CONFIGURATIONS = (
    Configuration(("a", "b", "c")),
    Configuration(("a", "b"), ("a", "c"), (), ("c",), auto_leave=True),
    Configuration(("a",), learners=("b",)),
)
IDENTITY: dict[str, int | str] = {
    "format": FORMAT_VERSION,
    "cluster": "cluster",
    "member": "a",
    "member_id": 5,
    "members": "a=a:7400",
    "joined_index": 0,
    "joined_term": 0,
}


@dataclass(frozen=True)
class Decoder:
    """`valid`: what it is meant for. `refusals`: the only errors that it may raise."""

    name: str
    decode: Callable[[bytes], object]
    valid: tuple[bytes, ...]
    refusals: tuple[type[Exception], ...]


def with_checksum(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(4, "big") + body


def raft_message(data: bytes) -> object:
    frame = peer_pb2.PeerFrame.FromString(data)
    return peer_messages.decode_raft_message(frame.raft)


def valid_raft_frames() -> tuple[bytes, ...]:
    """A plausible message of every type, and of types that there are not."""
    frames = []
    for kind in range(16):
        message = peer_pb2.RaftMessage(type=kind, to="a", term=3, log_term=2, index=7, commit=7)
        setattr(message, "from", "b")
        if kind == MessageType.APPEND:
            message.entries.add(index=8, term=2, data=b"x")
            message.entries.add(index=9, term=3, data=b"y")
        if kind == MessageType.SNAPSHOT:
            message.snapshot.index = message.snapshot.term = 3
            message.snapshot.configuration.voters.extend("abc")
        frames.append(peer_pb2.PeerFrame(raft=message).SerializeToString())
    return tuple(frames)


def chunk(data: bytes) -> object:
    return ChunkReader(1 << 20).read(0, data, zlib.crc32(data))


def last_chunk(data: bytes) -> object:
    """What the receiver makes of the metadata of a snapshot's last chunk."""
    frame = peer_pb2.PeerFrame.FromString(data)
    return peer_messages.decode_snapshot_metadata(frame.snapshot_chunk.metadata)


def valid_last_chunks() -> tuple[bytes, ...]:
    frames = []
    for configuration in RAFT_CONFIGURATIONS:
        metadata = peer_messages.encode_snapshot_metadata(SnapshotMetadata(7, 3, configuration))
        piece = peer_pb2.SnapshotChunk(index=7, term=3, number=2, last=True, metadata=metadata, raft_term=4)
        frames.append(peer_pb2.PeerFrame(snapshot_chunk=piece).SerializeToString())
    return tuple(frames)


def configuration_entry(data: bytes) -> object:
    """Whatever is taken is sound: it names each member once, and is written as it was read."""
    configuration = decode_cluster_configuration(data)
    assert decode_cluster_configuration(encode_cluster_configuration(configuration)) == configuration
    return configuration


def valid_configurations() -> tuple[bytes, ...]:
    a, b, c = (MemberRecord(name, f"{name}:7400", f"{name}:7500", 5) for name in "abc")
    joint, learning = RAFT_CONFIGURATIONS[1:]
    configurations = (
        founding_configuration({"a": "a:7400", "b": "[::1]:7400", "c": "c:7400"}),
        ClusterConfiguration(joint, (a, b, c), 9),
        ClusterConfiguration(learning, (a, b), 12),
    )
    return tuple(map(encode_cluster_configuration, configurations))


def valid_results() -> tuple[bytes, ...]:
    written: list[WriteResult] = [Created("/a", STAT), Failure(ErrorCode.NO_NODE, "no /a")]
    singles = [result_records.encode_result(number, result) for number, result in enumerate(written)]
    return tuple(singles)


def hello(data: bytes) -> object:
    return read_hello(data, ME, {"b"})


def valid_hello() -> tuple[bytes, ...]:
    return (Identity("cluster", "b", "b:7400").hello_to("a"),)


WRITES = b"\x0a\x08\x0a\x06\x0a\x02/a\x12\x00"
ENTRY = Entry(5, 2, b"data", EntryKind.NORMAL)
DECODERS = [
    Decoder("framing", FrameReader(1 << 16).feed, (join_frames([b"a", b"bc"]),), (FrameTooLarge,)),
    Decoder("greeting", hello, valid_hello(), (Unwelcome,)),
    Decoder("raft message", raft_message, valid_raft_frames(), (DecodeError, MalformedFrame)),
    Decoder("last chunk of a snapshot", last_chunk, valid_last_chunks(), (DecodeError, MalformedFrame)),
    Decoder("configuration", configuration_entry, valid_configurations(), (MalformedFrame,)),
    Decoder(
        "forwarded command",
        check_command,
        (session_writes("a", 1, 2, 3, 4, WRITES), open_session("a", 1, b"s", 5, "me")),
        (MalformedFrame,),
    ),
    Decoder(
        "entry",
        split_entry,
        (join_commands(5, [session_writes("a", 1, 2, 3, 4, WRITES)]),),
        (CorruptStateError,),
    ),
    Decoder("writes", decode_writes, (WRITES,), (CorruptStateError,)),
    Decoder(
        "log entry",
        lambda data: log_records.decode_entry(5, data, 77),
        (log_records.encode_entry(ENTRY, 77)[0],),
        (BrokenRecord,),
    ),
    Decoder(
        "hard state",
        log_records.decode_hard_state,
        (log_records.encode_hard_state(HardState(3, "bcd", 9)),),
        (BrokenRecord,),
    ),
    Decoder(
        "hard state with a good checksum",
        lambda data: log_records.decode_hard_state(with_checksum(data)),
        (log_records.encode_hard_state(HardState(3, "bcd", 9))[4:],),
        (BrokenRecord,),
    ),
    Decoder(
        "start of the log with a good checksum",
        lambda data: log_records.decode_start(with_checksum(data)),
        (log_records.encode_start(log_records.start_after(5, 2))[4:],),
        (BrokenRecord,),
    ),
    Decoder("key of an entry", log_records.index_of, (log_records.entry_key(5),), (BrokenRecord,)),
    Decoder("checksum of an entry", log_records.checksum_of, (b"x" * 13,), (BrokenRecord,)),
    Decoder("sync mark", decode_number, (encode_number(5),), ()),
    Decoder(
        "chunk of a snapshot",
        chunk,
        tuple(piece.data for piece in encode_chunks([(b"a", b"1"), (b"b", b"2")], 4)),
        (SnapshotRefused,),
    ),
    Decoder(
        "znode",
        lambda data: decode_znode("/a", data),
        (encode_znode(Znode(b"abc", STAT)), encode_znode(Znode(b"abc", STAT, 0, 50))),
        (CorruptStateError,),
    ),
    Decoder(
        "session",
        lambda data: records.decode_session("s", data),
        (records.encode_session(records.Session(5, b"secret", 9, "name", 1)),),
        (CorruptStateError,),
    ),
    Decoder("counters", records.decode_meta, (records.encode_meta(records.Meta()),), (CorruptStateError,)),
    Decoder("result", partial(result_records.decode_result, "r"), valid_results(), (CorruptStateError,)),
    Decoder(
        "results",
        partial(result_records.decode_results, "r"),
        (result_records.encode_results(list(valid_results())),),
        (CorruptStateError,),
    ),
    Decoder(
        "change",
        lambda data: records.decode_change("c", 5, data),
        (records.encode_change(Change(ChangeType.CREATED, "/a", 5, b"abc", STAT)),),
        (CorruptStateError,),
    ),
]


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_a_decoder_gives_a_value_or_refuses(decoder: Decoder) -> None:
    refused = 0
    for dice in rounds(3, ROUNDS):
        data = mutated(dice, dice.choice(decoder.valid), decoder.valid)
        if dice.random() < 0.05:
            data = dice.randbytes(dice.randrange(200))
        try:
            decoder.decode(data)
        except decoder.refusals:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{decoder.name}: {data!r} raised {error!r}") from error
    assert refused or not decoder.refusals, "nothing was refused: the bytes are not hostile"


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_a_decoder_takes_what_it_is_meant_for(decoder: Decoder) -> None:
    """Else the mutations above would not get past its first check."""
    taken = 0
    for data in decoder.valid:
        try:
            decoder.decode(data)
        except decoder.refusals:
            continue
        taken += 1
    assert taken


def test_absurd_peer_frames_decode_or_are_refused() -> None:
    for dice in rounds(4, ROUNDS):
        frame = absurd_message(dice, peer_pb2.PeerFrame)
        assert isinstance(frame, peer_pb2.PeerFrame)
        with suppress(MalformedFrame):
            peer_messages.decode_raft_message(frame.raft)
        with suppress(MalformedFrame):
            peer_messages.decode_snapshot_metadata(frame.snapshot_chunk.metadata)


def test_absurd_configurations_decode_or_are_refused() -> None:
    for dice in rounds(6, ROUNDS):
        configuration = absurd_message(dice, peer_pb2.ClusterConfiguration)
        with suppress(MalformedFrame):
            configuration_entry(configuration.SerializeToString())


def test_small_files_are_read_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "record"
    replace_record(path, {"number": 5, "text": "five"})
    original = path.read_bytes()
    for dice in rounds(5, ROUNDS):
        path.write_bytes(data := mutated(dice, original))
        try:
            assert read_record(path) == {"number": 5, "text": "five"}
            assert data == original
        except CorruptDataError:
            assert data != original


def test_the_identity_of_a_directory_is_read_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    replace_record(path, IDENTITY)
    original, identity = path.read_bytes(), read_identity(tmp_path)
    assert identity is not None
    for dice in rounds(7, ROUNDS):
        path.write_bytes(data := mutated(dice, original))
        try:
            assert read_identity(tmp_path) == identity
            assert data == original
        except CorruptDataError:
            assert data != original


def test_an_identity_with_a_good_checksum_is_read_or_refused(tmp_path: Path) -> None:
    """Another program's, or one that somebody wrote by hand: fields are missing, or of another type."""
    outcomes = set()
    for dice in rounds(8, 300):
        record = dict(IDENTITY)
        name = dice.choice(list(record))
        if dice.random() < 0.4:
            del record[name]
        else:
            record[name] = dice.choice((0, -1, 1 << 70, "", "x", "\ufeff", FORMAT_VERSION))
        replace_record(tmp_path / "identity", record)
        try:
            identity = read_identity(tmp_path)
            assert identity is not None
            assert set(record) == set(IDENTITY), "a field that is not there is not made up"
            outcomes.add("read")
        except (CorruptDataError, ForeignDataError) as refused:
            outcomes.add(type(refused).__name__)
    assert outcomes == {"read", "CorruptDataError", "ForeignDataError"}


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"record":' * 200_000, b"", b"null", b'{"record":[]}'])
def test_a_small_file_with_something_else_in_it_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "identity").write_bytes(content)
    with pytest.raises(CorruptDataError):
        read_identity(tmp_path)


def test_the_same_dice_make_the_same_bytes() -> None:
    made = [mutated(random.Random(number), b"some bytes that are long enough") for number in range(50)]
    again = [mutated(random.Random(number), b"some bytes that are long enough") for number in range(50)]
    assert made == again
    assert len(set(made)) > 40

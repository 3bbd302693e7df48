"""A tree in chunks: read back whole, or refused."""

from __future__ import annotations

import zlib

import pytest

from coordsvc.storage.errors import SnapshotRefused
from coordsvc.storage.tree_chunks import ChunkReader, TreeChunk, encode_chunks

RECORDS = [(b"k%03d" % number, b"v" * (number * 7 % 40)) for number in range(100)]


def chunks(bytes_max: int = 200) -> list[TreeChunk]:
    return list(encode_chunks(RECORDS, bytes_max))


def read(received: list[TreeChunk]) -> list[tuple[bytes, bytes]]:
    reader = ChunkReader(1 << 20)
    records: list[tuple[bytes, bytes]] = []
    for chunk in received:
        records += reader.read(chunk.number, chunk.data, chunk.checksum)
    assert reader.complete
    return records


def forged(number: int, data: bytes) -> TreeChunk:
    return TreeChunk(number, data, zlib.crc32(data), last=False)


def test_chunks_hold_all_records_within_the_size_and_only_the_end_is_last() -> None:
    pieces = chunks()

    assert read(pieces) == RECORDS
    assert all(len(piece.data) <= 201 for piece in pieces)
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_a_record_larger_than_a_chunk_travels_alone() -> None:
    records = [(b"a", b"1"), (b"b", b"x" * 1000), (b"c", b"3")]

    pieces = list(encode_chunks(records, 100))

    assert [len(piece.data) > 1000 for piece in pieces] == [False, True, False, False]
    assert read(pieces) == records


def test_a_missing_a_repeated_and_a_swapped_chunk_are_refused() -> None:
    pieces = chunks()
    for wrong in (
        pieces[1:],
        pieces[:3] + pieces[4:],
        pieces[:3] + pieces[2:],
        [pieces[1], pieces[0], *pieces[2:]],
    ):
        with pytest.raises(SnapshotRefused, match="was due"):
            read(wrong)


def test_every_flipped_bit_is_refused() -> None:
    first = chunks()[0]
    for offset in range(len(first.data)):
        flipped = bytearray(first.data)
        flipped[offset] ^= 0x10
        with pytest.raises(SnapshotRefused, match="checksum"):
            ChunkReader(1000).read(0, bytes(flipped), first.checksum)


def test_more_bytes_than_allowed_are_refused() -> None:
    first, second = chunks()[:2]
    reader = ChunkReader(len(first.data) + 10)
    reader.read(0, first.data, first.checksum)

    with pytest.raises(SnapshotRefused, match="larger than"):
        reader.read(1, second.data, second.checksum)


def test_chunks_of_two_snapshots_cannot_be_mixed() -> None:
    others = list(encode_chunks([(key, b"w" * len(value)) for key, value in RECORDS], 300))
    pieces = chunks(300)
    assert len(others) == len(pieces)

    with pytest.raises(SnapshotRefused):
        read([*pieces[:2], *others[2:]])
    with pytest.raises(SnapshotRefused, match="does not fit what came before"):
        read([*pieces[:-1], others[-1]])


@pytest.mark.parametrize(
    "data", [b"", b"\x07", b"\x01\x00", b"\x01" + b"\x00\x00\x00\x05" + b"\x00\x00\x00\x05" + b"abc"]
)
def test_a_chunk_that_is_not_one_is_refused_although_its_checksum_fits(data: bytes) -> None:
    with pytest.raises(SnapshotRefused):
        read([forged(0, data)])


def test_records_out_of_order_are_refused() -> None:
    (backwards, _) = encode_chunks([(b"b", b""), (b"a", b"")], 1000)

    with pytest.raises(SnapshotRefused, match="out of order"):
        read([backwards])


def test_nothing_may_follow_the_end() -> None:
    reader = ChunkReader(1 << 20)
    (end,) = encode_chunks([], 10)
    reader.read(0, end.data, end.checksum)

    with pytest.raises(SnapshotRefused, match="after the last one"):
        reader.read(1, end.data, end.checksum)

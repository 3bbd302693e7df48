"""The log's records: every bit counts, and every entry hangs on its predecessor."""

from __future__ import annotations

import zlib

import pytest

from coordsvc.raft.types import Entry, EntryKind, HardState
from coordsvc.storage.log_records import (
    BrokenRecord,
    decode_entry,
    decode_hard_state,
    decode_start,
    encode_entry,
    encode_hard_state,
    encode_start,
    entry_key,
    index_of,
    start_after,
)

ENTRY = Entry(7, 3, b"some data", EntryKind.CONFIGURATION)


def flips(record: bytes) -> list[bytes]:
    """Return every variant of `record` with one bit flipped, and every shorter one."""
    variants = [record[:length] for length in range(len(record))]
    for offset in range(len(record)):
        for bit in range(8):
            flipped = bytearray(record)
            flipped[offset] ^= 1 << bit
            variants.append(bytes(flipped))
    return variants


def test_an_entry_survives_the_round_trip() -> None:
    record, checksum = encode_entry(ENTRY, 99)

    assert decode_entry(7, record, 99) == (ENTRY, checksum)


def test_an_entry_is_refused_with_any_bit_wrong() -> None:
    record, _ = encode_entry(ENTRY, 99)

    for variant in flips(record):
        with pytest.raises(BrokenRecord):
            decode_entry(7, variant, 99)


def test_an_entry_is_refused_at_another_index_or_after_another_predecessor() -> None:
    record, _ = encode_entry(ENTRY, 99)

    with pytest.raises(BrokenRecord):
        decode_entry(8, record, 99)
    with pytest.raises(BrokenRecord):
        decode_entry(7, record, 98)


@pytest.mark.parametrize(
    "hard_state", [HardState(), HardState(5, "b", 12), HardState(5, "", 12), HardState(2**40, None, 2**41)]
)
def test_the_hard_state_survives_the_round_trip_and_no_damage(hard_state: HardState) -> None:
    record = encode_hard_state(hard_state)

    assert decode_hard_state(record) == hard_state
    for variant in flips(record):
        with pytest.raises(BrokenRecord):
            decode_hard_state(variant)


def test_the_start_survives_the_round_trip_and_no_damage() -> None:
    record = encode_start(start_after(1000, 4))

    assert decode_start(record) == start_after(1000, 4)
    for variant in flips(record):
        with pytest.raises(BrokenRecord):
            decode_start(variant)


def test_keys_sort_like_indexes() -> None:
    indexes = [1, 9, 10, 255, 256, 2**32, 2**60]

    assert sorted(entry_key(index) for index in indexes) == [entry_key(index) for index in indexes]
    assert [index_of(entry_key(index)) for index in indexes] == indexes
    with pytest.raises(BrokenRecord):
        index_of(b"e12")


def test_a_vote_that_is_no_name_is_refused_although_the_checksum_is_right() -> None:
    body = encode_hard_state(HardState(3, "b", 9))[4:-1] + b"\xff"
    with pytest.raises(BrokenRecord, match="is no name"):
        decode_hard_state(zlib.crc32(body).to_bytes(4, "big") + body)

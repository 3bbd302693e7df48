"""The records of the log database, byte by byte.

| key | value |
|---|---|
| `b"e"` + index (8 bytes, big-endian) | an entry |
| `b"h"` | the hard state |
| `b"n"` | how many synced writes there were; see `sync_mark.py` |
| `b"s"` | the start: index and term of the last entry that was trimmed away or covered by a snapshot |

Rule of this file: every record carries a CRC-32, and an entry's is chained to its predecessor's, so
that a hole, a swap, a left-over or rot breaks the chain.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from coordsvc.raft.types import Entry, EntryKind, HardState, Index, Term

HARD_STATE_KEY = b"h"
START_KEY = b"s"
SYNCED_WRITES_KEY = b"n"
ENTRIES_BEGIN = b"e"
ENTRIES_END = b"f"

_INDEX = struct.Struct(">Q")
_ENTRY = struct.Struct(">IQB")  # chained checksum, term, kind; the data follows
_LINK = struct.Struct(">IQQB")  # what the checksum covers before the data: predecessor's, index, term, kind
_HARD_STATE = struct.Struct(">IQQB")  # checksum, term, commit, has a vote; its name follows
_START = struct.Struct(">IQQI")  # checksum, index, term, chained checksum of that entry

ENTRY_HEADER_BYTES = _ENTRY.size


class BrokenRecord(Exception):  # noqa: N818 - internal: the caller knows the file and raises a StorageError
    """These bytes are not what was written."""


@dataclass(frozen=True, slots=True)
class LogStart:
    """Where the log begins: just after `index`. `checksum` is what the first entry's chains to."""

    index: Index
    term: Term
    checksum: int


def start_after(index: Index, term: Term) -> LogStart:
    """Make the start of a log whose earlier entries are known by a snapshot only."""
    return LogStart(index, term, zlib.crc32(struct.pack(">QQ", index, term)))


def entry_key(index: Index) -> bytes:
    return b"e" + _INDEX.pack(index)


def index_of(key: bytes) -> Index:
    if len(key) != 1 + _INDEX.size:
        raise BrokenRecord(f"a strange key of {len(key)} bytes")
    return int(_INDEX.unpack_from(key, 1)[0])


def encode_entry(entry: Entry, previous_checksum: int) -> tuple[bytes, int]:
    """Returns the record, and its checksum for the next one to chain to."""
    link = _LINK.pack(previous_checksum, entry.index, entry.term, entry.kind)
    checksum = zlib.crc32(entry.data, zlib.crc32(link))
    return _ENTRY.pack(checksum, entry.term, entry.kind) + entry.data, checksum


def decode_entry(index: Index, record: bytes, previous_checksum: int) -> tuple[Entry, int]:
    """Undo `encode_entry`, checking the chain."""
    if len(record) < _ENTRY.size:
        raise BrokenRecord(f"entry {index} is cut short")
    checksum, term, kind = _ENTRY.unpack_from(record)
    data = record[_ENTRY.size :]
    link = _LINK.pack(previous_checksum, index, term, kind)
    if zlib.crc32(data, zlib.crc32(link)) != checksum:
        raise BrokenRecord(f"the checksum of entry {index} does not fit it and its predecessor")
    if kind > EntryKind.CONFIGURATION:
        raise BrokenRecord(f"entry {index} is of unknown kind {kind}; a newer version may have written it")
    return Entry(index, term, data, EntryKind(kind)), checksum


def checksum_of(record: bytes) -> int:
    """Returns the chained checksum inside an entry's record."""
    if len(record) < _ENTRY.size:
        raise BrokenRecord("an entry is cut short")
    return int(_ENTRY.unpack_from(record)[0])


def encode_hard_state(hard_state: HardState) -> bytes:
    vote = (hard_state.vote or "").encode()
    has_vote = hard_state.vote is not None
    body = _HARD_STATE.pack(0, hard_state.term, hard_state.commit, has_vote)[4:] + vote
    return zlib.crc32(body).to_bytes(4, "big") + body


def decode_hard_state(record: bytes | None) -> HardState:
    if record is None:
        raise BrokenRecord("the hard state (term and vote) is missing")
    if len(record) < _HARD_STATE.size or zlib.crc32(record[4:]) != int.from_bytes(record[:4], "big"):
        raise BrokenRecord("the checksum of the hard state (term and vote) does not fit")
    _, term, commit, has_vote = _HARD_STATE.unpack_from(record)
    try:
        vote = record[_HARD_STATE.size :].decode() if has_vote else None
    except UnicodeDecodeError as error:
        raise BrokenRecord("the vote in the hard state is no name") from error
    return HardState(term, vote, commit)


def encode_start(start: LogStart) -> bytes:
    body = _START.pack(0, start.index, start.term, start.checksum)[4:]
    return zlib.crc32(body).to_bytes(4, "big") + body


def decode_start(record: bytes | None) -> LogStart:
    if record is None:
        raise BrokenRecord("the record of where the log starts is missing")
    if len(record) != _START.size or zlib.crc32(record[4:]) != int.from_bytes(record[:4], "big"):
        raise BrokenRecord("the checksum of where the log starts does not fit")
    _, index, term, checksum = _START.unpack(record)
    return LogStart(index, term, checksum)

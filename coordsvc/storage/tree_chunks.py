"""How a whole tree travels: numbered chunks of records, each with its own checksum.

A chunk is a tag byte and then either records (two 4-byte lengths, key, value) or, in the last chunk,
the end: how many records there were (8 bytes) and a CRC-32 over all chunks before. So a stream that
lost, repeated or mixed a chunk cannot be taken for whole.

Rule of this file: bytes and records only; no database, no files.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from coordsvc.storage.errors import SnapshotRefused

_RECORDS = 1
_END = 2
_LENGTHS = struct.Struct(">II")
_TOTALS = struct.Struct(">QI")


@dataclass(slots=True)
class TreeChunk:
    """One piece. `checksum` is the CRC-32 of `data`; numbers count from 0 without a gap."""

    number: int
    data: bytes
    checksum: int
    last: bool


def encode_chunks(records: Iterable[tuple[bytes, bytes]], bytes_max: int) -> Iterator[TreeChunk]:
    """Cut records into chunks of about `bytes_max`; a record is never cut, so one alone may exceed it."""
    pack = _LENGTHS.pack
    parts = [bytes([_RECORDS])]
    size = number = count = total_checksum = 0
    for key, value in records:
        record_bytes = _LENGTHS.size + len(key) + len(value)
        if size and size + record_bytes > bytes_max:
            data = b"".join(parts)
            total_checksum = zlib.crc32(data, total_checksum)
            yield TreeChunk(number, data, zlib.crc32(data), last=False)
            number += 1
            parts = [bytes([_RECORDS])]
            size = 0
        parts += (pack(len(key), len(value)), key, value)
        size += record_bytes
        count += 1
    if size:
        data = b"".join(parts)
        total_checksum = zlib.crc32(data, total_checksum)
        yield TreeChunk(number, data, zlib.crc32(data), last=False)
        number += 1
    data = bytes([_END]) + _TOTALS.pack(count, total_checksum)
    yield TreeChunk(number, data, zlib.crc32(data), last=True)


class ChunkReader:
    """Takes the chunks of one tree in order and refuses anything else."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._checksum = 0
        self._records = 0
        self._last_key: bytes | None = None
        self.next_number = 0
        self.complete = False

    def read(self, number: int, data: bytes, checksum: int) -> list[tuple[bytes, bytes]]:
        """Return the chunk's records.

        Raises:
            SnapshotRefused: Out of order, damaged, past the end, or more than may come.
        """
        if self.complete:
            raise SnapshotRefused(f"chunk {number} came after the last one")
        if number != self.next_number:
            raise SnapshotRefused(f"chunk {number} came where chunk {self.next_number} was due")
        if zlib.crc32(data) != checksum:
            raise SnapshotRefused(f"the checksum of chunk {number} does not fit")
        self._bytes += len(data)
        if self._bytes > self._bytes_max:
            raise SnapshotRefused(f"the snapshot is larger than {self._bytes_max} bytes")
        self.next_number += 1
        if data[:1] == bytes([_END]):
            self._finish(data)
            return []
        self._checksum = zlib.crc32(data, self._checksum)
        records = self._decode(number, data)
        self._records += len(records)
        return records

    def _finish(self, data: bytes) -> None:
        if len(data) != 1 + _TOTALS.size or _TOTALS.unpack_from(data, 1) != (self._records, self._checksum):
            raise SnapshotRefused("the end of the snapshot does not fit what came before")
        self.complete = True

    def _decode(self, number: int, data: bytes) -> list[tuple[bytes, bytes]]:
        if data[:1] != bytes([_RECORDS]):
            raise SnapshotRefused(f"chunk {number} is of an unknown kind")
        records = []
        last_key = self._last_key
        position, end = 1, len(data)
        while position < end:
            if position + _LENGTHS.size > end:
                raise SnapshotRefused(f"chunk {number} is cut short")
            key_bytes, value_bytes = _LENGTHS.unpack_from(data, position)
            position += _LENGTHS.size
            value_at = position + key_bytes
            if value_at + value_bytes > end:
                raise SnapshotRefused(f"chunk {number} is cut short")
            key = data[position:value_at]
            if last_key is not None and key <= last_key:
                raise SnapshotRefused(f"chunk {number} holds records out of order")
            last_key = key
            position = value_at + value_bytes
            records.append((key, data[value_at:position]))
        self._last_key = last_key
        return records

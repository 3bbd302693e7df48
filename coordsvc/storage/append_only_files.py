"""A closer look at the end of LevelDB's append-only files (`*.log`, `MANIFEST-*`) before it opens them.

LevelDB takes a last record that claims to be longer than the file for a write that a crash cut short,
and drops it without a word, even with paranoid checks. That is right for a torn write and wrong for a
rotten length field, which would silently lose acknowledged records. The two can be told apart: behind a
rotten length the whole record is still there and its checksum fits a shorter length.

Rule of this file: it reads, it never repairs. Format: LevelDB, doc/log_format.md.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from coordsvc.storage.errors import damaged

_BLOCK_BYTES = 32 * 1024
_HEADER = struct.Struct("<IHB")  # masked CRC-32C of type and payload, length, type
_TYPES = range(1, 5)
_MASK_DELTA = 0xA282EAD8


def check_append_only_files(directory: Path) -> None:
    """Raise CorruptDataError if the end of one of LevelDB's append-only files is rotten, not just torn."""
    for path in sorted(directory.iterdir()):
        if path.suffix == ".log" or path.name.startswith("MANIFEST-"):
            _check_end(path)


def _check_end(path: Path) -> None:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        # Only the last, incomplete block: LevelDB itself refuses a bad length in any earlier one.
        file.seek(size - size % _BLOCK_BYTES)
        block = file.read()
    offset = 0
    while offset + _HEADER.size <= len(block):
        checksum, length, _ = _HEADER.unpack_from(block, offset)
        following = offset + _HEADER.size + length
        if following > len(block):
            if _holds_whole_record(block, offset, checksum):
                raise damaged(path, "the length of one of its last records does not fit the record")
            return
        offset = following


def _holds_whole_record(block: bytes, offset: int, masked_checksum: int) -> bool:
    """Tell whether the record at `offset` is complete at some length that its checksum confirms."""
    rotated = (masked_checksum - _MASK_DELTA) & 0xFFFFFFFF
    target = ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF ^ 0xFFFFFFFF
    table = _TABLE
    crc = 0xFFFFFFFF
    for position in range(offset + _HEADER.size - 1, len(block)):
        crc = table[(crc ^ block[position]) & 0xFF] ^ (crc >> 8)
        if crc == target and _record_may_end_at(block, position + 1):
            return True
    return False


def _record_may_end_at(block: bytes, end: int) -> bool:
    # A torn record could hit the checksum by chance; that a record also begins there, hardly.
    if end == len(block):
        return True
    if end + _HEADER.size > len(block):
        return False
    _, _, kind = _HEADER.unpack_from(block, end)
    return kind in _TYPES


def _crc32c_table() -> list[int]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = (number >> 1) ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return table


_TABLE = _crc32c_table()

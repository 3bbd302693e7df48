"""How many synced writes the log has seen, kept beside it: so a log that has lost its end is noticed.

LevelDB takes a file that ends early, at whatever place, for one that a crash cut short, and drops the rest
without a word. For a log that may be a vote or an acknowledged entry. So every synced write carries the next
number within its batch, and when its sync has returned the number is put into a small file beside the log.
That file is not synced itself (it would double the price of a write), yet it never runs ahead of what is
durable: a log that is behind it has lost what was promised.

Rule of this file: the mark only grows, and only says what a sync has confirmed.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Self

from coordsvc.storage.errors import damaged, storage_error
from coordsvc.storage.files import sync_path

_NUMBER = struct.Struct(">Q")
_CHECKSUM_BYTES = 4
_RECORD_BYTES = _NUMBER.size + _CHECKSUM_BYTES


def encode_number(number: int) -> bytes:
    body = _NUMBER.pack(number)
    return body + zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "big")


def decode_number(record: bytes | None) -> int | None:
    """Undo `encode_number`; None if it is not what was written."""
    if record is None or len(record) != _RECORD_BYTES:
        return None
    if zlib.crc32(record[: _NUMBER.size]) != int.from_bytes(record[_NUMBER.size :], "big"):
        return None
    return int(_NUMBER.unpack_from(record)[0])


def mark_path(log_path: Path) -> Path:
    return log_path.with_name(f"{log_path.name}-mark")


class SyncMark:
    """The file beside the log. `number`: how many synced writes it knows of."""

    def __init__(self, path: Path, descriptor: int, number: int) -> None:
        self.path = path
        self.number = number
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: Path) -> None:
        """Make a mark that knows of nothing, durable on return."""
        try:
            path.write_bytes(encode_number(0))
            sync_path(path)
            sync_path(path.parent)
        except OSError as error:
            raise storage_error(error, path, "create") from error

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing mark.

        Raises:
            CorruptDataError: It is missing, or not what was written.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise damaged(path, "it is missing") from error
        except OSError as error:
            raise storage_error(error, path, "open") from error
        try:
            number = decode_number(os.pread(descriptor, _RECORD_BYTES + 1, 0))
        except OSError as error:
            os.close(descriptor)
            raise storage_error(error, path, "read") from error
        if number is None:
            os.close(descriptor)
            raise damaged(path, "its checksum does not fit its content")
        return cls(path, descriptor, number)

    def close(self) -> None:
        """Let go of the file. May be called more than once."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def advance(self, number: int) -> None:
        """Remember that so many synced writes are durable. Storage thread."""
        try:
            os.pwrite(self._descriptor, encode_number(number), 0)
        except OSError as error:
            raise storage_error(error, self.path, "write") from error
        self.number = number

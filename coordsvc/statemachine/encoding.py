"""The bricks of all records: lengths, numbers, texts, stats, and one way to say that a record is damaged.

Rule of this file: texts may come from outside and hold anything, surrogates too, so they are encoded with
`surrogatepass`; bytes that are no record of ours end in `CorruptStateError`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from struct import Struct
from typing import TypeVar

from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.types import Stat
from coordsvc.statemachine.znodes import STAT_BYTES, unpack_stat

T = TypeVar("T")

FORMAT = 1
"""The first byte of every record but those of the indexes, which are empty."""

_LENGTH = Struct(">I")
_NUMBER = Struct(">q")


class Reader:
    """Takes one record apart, front to back."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes, offset: int) -> None:
        self._data = data
        self._offset = offset

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes. Raises IndexError if there are fewer."""
        value = self._data[self._offset : self._offset + size]
        if len(value) != size:
            raise IndexError(f"{size} bytes announced, {len(value)} there")
        self._offset += size
        return value

    def flag(self) -> bool:
        return self.take(1) == b"\1"

    def number(self) -> int:
        value: int = _NUMBER.unpack_from(self._data, self._offset)[0]
        self._offset += _NUMBER.size
        return value

    def optional(self) -> int | None:
        return self.number() if self.flag() else None

    def count(self) -> int:
        value: int = _LENGTH.unpack_from(self._data, self._offset)[0]
        self._offset += _LENGTH.size
        return value

    def blob(self) -> bytes:
        return self.take(self.count())

    def text(self) -> str:
        return self.blob().decode("utf-8", "surrogatepass")

    def stat(self) -> Stat:
        value = unpack_stat(self._data, self._offset)
        self._offset += STAT_BYTES
        return value

    def is_at_end(self) -> bool:
        return self._offset == len(self._data)

    def end(self) -> None:
        if self._offset != len(self._data):
            raise IndexError(f"{len(self._data) - self._offset} bytes too many")


def blob(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def text(value: str) -> bytes:
    return blob(value.encode("utf-8", "surrogatepass"))


def length(count: int) -> bytes:
    return _LENGTH.pack(count)


def number(value: int) -> bytes:
    return _NUMBER.pack(value)


def optional(value: int | None) -> bytes:
    return b"\0" if value is None else b"\1" + _NUMBER.pack(value)


def expect_format(version: int) -> None:
    if version != FORMAT:
        raise ValueError(f"unknown format {version}")


def decode(where: str, record: bytes, read: Callable[[bytes], T]) -> T:
    """Read a record, and turn every way in which it can be wrong into one error."""
    try:
        return read(record)
    except (struct.error, IndexError, KeyError, ValueError) as error:
        raise CorruptStateError(f"the record of {where} is damaged: {error}") from error

"""The bricks of records: what was written is read back, and anything else is called damaged."""

from __future__ import annotations

import pytest

from coordsvc.statemachine.encoding import Reader, blob, decode, expect_format, number, optional, text
from coordsvc.statemachine.errors import CorruptStateError


def test_bricks_come_back_in_order() -> None:
    data = text("\U0001f512 \ud800") + blob(b"\0\1") + optional(None) + optional(-(1 << 63)) + number(5)
    reader = Reader(data, 0)
    assert reader.text() == "\U0001f512 \ud800"
    assert reader.blob() == b"\0\1"
    assert reader.optional() is None
    assert reader.optional() == -(1 << 63)
    assert reader.number() == 5
    reader.end()


def test_what_is_cut_off_or_left_over_is_damaged() -> None:
    def read(record: bytes) -> bytes:
        reader = Reader(record, 0)
        value = reader.blob()
        reader.end()
        return value

    assert decode("this", blob(b"value"), read) == b"value"
    for damaged in (blob(b"value")[:-1], blob(b"value") + b"!", b"\0\0"):
        with pytest.raises(CorruptStateError, match="the record of this is damaged"):
            decode("this", damaged, read)


def test_another_format_is_refused() -> None:
    expect_format(1)
    with pytest.raises(ValueError, match="unknown format 2"):
        expect_format(2)

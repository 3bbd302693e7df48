"""The records of changes, sessions and counters."""

from __future__ import annotations

import pytest

from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.records import (
    Meta,
    Session,
    decode_change,
    decode_meta,
    decode_session,
    encode_change,
    encode_meta,
    encode_session,
)
from coordsvc.statemachine.types import Stat

STAT = Stat(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)


@pytest.mark.parametrize("kind", list(ChangeType))
def test_a_change_comes_back_as_it_was(kind: ChangeType) -> None:
    change = Change(kind, "/a/\U0001f512", 77, b"\0value", STAT)
    assert decode_change("it", 77, encode_change(change)) == change


def test_a_session_comes_back_without_what_has_its_own_records() -> None:
    for owner in (None, ("member-b", 12)):
        session = Session(5, b"\0secret", 9000, "a \U0001f512", 1234, 8, 6, owner=owner)
        assert decode_session("it", encode_session(session)) == session


def test_the_counters_come_back() -> None:
    meta = Meta(1, 2, 3, 4, (1 << 64) - 1, 6, 7, 8, 9, 10)
    assert decode_meta(encode_meta(meta)) == meta


def test_every_truncation_is_refused() -> None:
    change = encode_change(Change(ChangeType.DELETED, "/a/b", 77, b"", STAT))
    session = encode_session(Session(5, b"secret", 9000, "name", 1234, owner=("member", 1)))
    meta = encode_meta(Meta())
    for record, read in (
        (change, lambda data: decode_change("it", 77, data)),
        (session, lambda data: decode_session("it", data)),
        (meta, decode_meta),
    ):
        for length in range(len(record)):
            with pytest.raises(CorruptStateError, match="damaged"):
                read(record[:length])


def test_other_formats_and_unknown_kinds_are_refused() -> None:
    change = encode_change(Change(ChangeType.CREATED, "/a", 77, b"", STAT))
    with pytest.raises(CorruptStateError, match="unknown format 9"):
        decode_change("it", 77, b"\x09" + change[1:])
    with pytest.raises(CorruptStateError, match="damaged"):
        decode_change("it", 77, change[:1] + b"\x09" + change[2:])


def test_negative_numbers_are_refused() -> None:
    """No key could be made of them; a tree that a peer streams may hold anything."""
    with pytest.raises(CorruptStateError, match="a negative number: -5"):
        decode_session("it", encode_session(Session(-5, b"secret", 9000, "me", 1234)))
    with pytest.raises(CorruptStateError, match="a negative number: -3"):
        decode_meta(encode_meta(Meta(zxid=-3)))

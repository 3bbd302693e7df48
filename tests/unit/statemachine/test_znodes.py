"""The record of a znode, its deadline and its share of the digest."""

from __future__ import annotations

import pytest

from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.types import Stat
from coordsvc.statemachine.znodes import (
    CONTAINER,
    EPHEMERAL,
    PERSISTENT,
    TTL,
    Znode,
    creations,
    deadline_ms,
    decode_znode,
    encode_znode,
    fingerprint,
)


def stat(
    *, mtime: int = 1000, cversion: int = 0, num_children: int = 0, data_length: int = 0, owner: int = 0
) -> Stat:
    return Stat(1, 2, 3, 900, mtime, 4, cversion, 0, owner, data_length, num_children)


@pytest.mark.parametrize(
    "node",
    [
        Znode(b"", stat()),
        Znode(b"\0\xff" * 500, stat(data_length=1000, cversion=7, num_children=3)),
        Znode(b"x", stat(data_length=1, owner=(1 << 63) - 1), EPHEMERAL),
        Znode(b"x", stat(data_length=1), CONTAINER),
        Znode(b"x", stat(data_length=1), TTL, 0xFF_FFFF_FFFF),
    ],
)
def test_a_znode_comes_back_as_it_was(node: Znode) -> None:
    assert decode_znode("/a", encode_znode(node)) == node


def test_every_truncation_of_a_record_is_refused() -> None:
    record = encode_znode(Znode(b"value", stat(data_length=5), TTL, 60_000))
    for length in range(len(record)):
        with pytest.raises(CorruptStateError, match="/a"):
            decode_znode("/a", record[:length])
    with pytest.raises(CorruptStateError, match="should hold 5 bytes and holds 6"):
        decode_znode("/a", record + b"!")


def test_a_record_of_another_format_is_refused() -> None:
    record = encode_znode(Znode(b"", stat()))
    for position in (0, 1):
        damaged = record[:position] + b"\x09" + record[position + 1 :]
        with pytest.raises(CorruptStateError, match="unknown format"):
            decode_znode("/a", damaged)


def test_creations_are_the_half_of_cversion_that_numbers_names() -> None:
    """ZooKeeper: wire cversion = 2 * creations - num_children."""
    assert creations(stat(cversion=0, num_children=0)) == 0
    assert creations(stat(cversion=5, num_children=3)) == 4
    assert creations(stat(cversion=8, num_children=0)) == 4


def test_deadlines_follow_the_kind_of_the_node() -> None:
    assert deadline_ms(Znode(b"", stat())) is None
    assert deadline_ms(Znode(b"", stat(owner=1), EPHEMERAL)) is None
    assert deadline_ms(Znode(b"", stat(mtime=1000), TTL, 500)) == 1500
    assert deadline_ms(Znode(b"", stat(cversion=1, num_children=1), TTL, 500)) is None
    assert deadline_ms(Znode(b"", stat(mtime=1000), CONTAINER)) == 301_000
    assert deadline_ms(Znode(b"", stat(cversion=1, num_children=1), CONTAINER)) is None
    assert deadline_ms(Znode(b"", stat(cversion=2), CONTAINER)) == 0


def test_the_fingerprint_covers_place_and_content() -> None:
    plain = fingerprint(b"key", b"record")
    assert plain == fingerprint(b"key", b"record")
    assert 0 <= plain < 1 << 64
    assert len({plain, fingerprint(b"kez", b"record"), fingerprint(b"key", b"recorE")}) == 3


def test_persistent_is_the_plain_kind() -> None:
    assert Znode(b"", stat()).kind == PERSISTENT

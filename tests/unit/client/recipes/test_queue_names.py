"""The names of a queue's nodes: their order, what is foreign, and what an item's node holds."""

from __future__ import annotations

from typing import Any

import pytest

from coordclient import InvalidArgumentError, InvalidPathError
from coordclient.recipes.queue_names import (
    DELAY_MS_MAX,
    Envelope,
    check_priority,
    check_root,
    dead_order,
    delay_ms_in,
    delay_ms_of,
    delayed_prefix,
    in_order,
    pack,
    priority_of,
    put_back_name,
    ready_prefix,
    sequence_of_delayed,
    unpack,
)


def test_items_stand_by_priority_and_then_by_number() -> None:
    names = ["e-100-0000000002", "e-007-0000000009", "e-100-0000000001", "e-999-0000000000"]

    assert in_order(names) == [
        "e-007-0000000009",
        "e-100-0000000001",
        "e-100-0000000002",
        "e-999-0000000000",
    ]


def test_numbers_are_compared_as_numbers() -> None:
    assert in_order(["e-100-10000000000", "e-100-9999999999"]) == ["e-100-9999999999", "e-100-10000000000"]


def test_an_item_that_is_put_back_stands_where_it_stood() -> None:
    back = put_back_name("e-100-0000000005")

    assert in_order([back, "e-100-0000000006", "e-100-0000000004"])[1] == back
    assert put_back_name(back).startswith("e-100-0000000005r")
    assert len(put_back_name(back)) == len(back)


@pytest.mark.parametrize(
    "name", ["readme", "e-100-", "e-1000-0000000001", "e-10-0000000001", "x-100-0000000001"]
)
def test_foreign_names_are_no_items(name: str) -> None:
    assert in_order([name]) == []


def test_a_delayed_item_says_when_it_is_due() -> None:
    name = delayed_prefix(7, 2500) + "0000000012"

    assert delay_ms_in(name) == 2500
    assert priority_of(name) == 7
    assert sequence_of_delayed(name) == 12
    assert in_order([name]) == []
    assert delay_ms_in("w-7-2500-0000000012") is None


def test_the_prefix_of_an_item_holds_its_priority() -> None:
    assert priority_of(ready_prefix(7) + "0000000000") == 7


def test_dead_letters_are_numbered() -> None:
    assert dead_order("d-0000000012") == 12
    assert dead_order("d-x") is None


@pytest.mark.parametrize(
    "envelope",
    [
        Envelope("id-1", b""),
        Envelope("id-1", b"two\nlines\n", priority=3),
        Envelope("id-1", bytes(range(256)), attempts=4, reason="näh"),
    ],
)
def test_an_item_comes_out_as_it_went_in(envelope: Envelope) -> None:
    assert unpack("e-100-0000000001", pack(envelope)) == envelope


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"plain",
        b"plain\nlines",
        b'{"id": broken\nx',
        b'{"id": 7}\nx',
        b'{"id": "a"}\nx',
        b'{"id": "a", "priority": 2000}\nx',
        b'{"id": "a", "priority": 1, "attempts": "many"}\nx',
    ],
)
def test_what_is_not_ours_is_somebodys_raw_value(raw: bytes) -> None:
    assert unpack("e-042-0000000001", raw) == Envelope("e-042-0000000001", raw, priority=42)


def test_delays_are_rounded_up() -> None:
    assert delay_ms_of(0.0, "/q") == 0
    assert delay_ms_of(0.0001, "/q") == 1
    assert delay_ms_of(1.5, "/q") == 1500
    assert delay_ms_of(2, "/q") == 2000


@pytest.mark.parametrize("delay", [-1.0, float("nan"), float("inf"), DELAY_MS_MAX])
def test_senseless_delays_are_refused(delay: float) -> None:
    with pytest.raises(InvalidArgumentError):
        delay_ms_of(delay, "/q")


@pytest.mark.parametrize("priority", [-1, 1000, 1.5, True, "1", None])
def test_senseless_priorities_are_refused(priority: Any) -> None:
    """An item of priority 1.5 would get a name that is no item's, and nobody would ever take it."""
    with pytest.raises(InvalidArgumentError):
        check_priority(priority, "/q")


@pytest.mark.parametrize("path", ["/", "queue", ""])
def test_a_queue_needs_a_path(path: str) -> None:
    with pytest.raises(InvalidPathError):
        check_root(path)

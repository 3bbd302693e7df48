"""The plan of a partitioner: the same everywhere, with few moves, and made in the end."""

from __future__ import annotations

import pytest

from coordclient import InvalidArgumentError
from coordclient.recipes.partition_plan import (
    SETTLE_TIMES_MAX,
    Settling,
    checked_items,
    fingerprint_of,
    fingerprints,
    node_name,
    owner_of,
    payload_of,
    share_of,
)

ITEMS = [f"item-{number}" for number in range(1000)]
MEMBERS = [f"member-{number}" for number in range(10)]


def owners(members: list[str]) -> dict[str, str | None]:
    return {item: owner_of(item, members) for item in ITEMS}


def test_every_item_has_one_owner_whatever_the_order_of_the_members() -> None:
    assert owners(MEMBERS) == owners(MEMBERS[::-1])
    shares = [share_of(member, ITEMS, MEMBERS) for member in MEMBERS]

    assert sum(len(share) for share in shares) == len(ITEMS)
    assert frozenset().union(*shares) == frozenset(ITEMS)


def test_a_plan_is_the_same_in_every_process_and_version() -> None:
    """If this fails, members of different versions would not agree: the hash must not change."""
    assert [owner_of(item, ["a", "b", "c"]) for item in "123456789"] == list("abbaaaabc")


def test_a_member_that_comes_takes_its_part_and_nothing_else_moves() -> None:
    before, after = owners(MEMBERS), owners([*MEMBERS, "newcomer"])
    moved = [item for item in ITEMS if before[item] != after[item]]

    assert all(after[item] == "newcomer" for item in moved)
    assert 0.5 * len(ITEMS) / 11 < len(moved) < 1.5 * len(ITEMS) / 11


def test_what_a_member_had_that_goes_is_spread_over_the_others_and_nothing_else_moves() -> None:
    before, after = owners(MEMBERS), owners(MEMBERS[1:])
    moved = [item for item in ITEMS if before[item] != after[item]]

    assert {before[item] for item in moved} == {MEMBERS[0]}
    assert {after[item] for item in moved} == set(MEMBERS[1:])


def test_nobody_owns_anything_where_nobody_is() -> None:
    assert owner_of("a", []) is None
    assert share_of("stranger", ITEMS, MEMBERS) == frozenset()


def test_items_are_sorted_each_once() -> None:
    assert checked_items(["b", "a", "b"], "/p") == ("a", "b")


@pytest.mark.parametrize("items", [[], [""], "abc", [b"bytes"]])
def test_items_that_make_no_sense_are_refused(items: list[str]) -> None:
    with pytest.raises(InvalidArgumentError):
        checked_items(items, "/p")


def test_other_items_have_another_fingerprint_and_their_order_does_not_matter() -> None:
    assert fingerprint_of(["a", "b"]) == fingerprint_of(["b", "a"])
    assert fingerprint_of(["a", "b"]) != fingerprint_of(["ab"])
    assert fingerprint_of(["a,b"]) != fingerprint_of(["a", "b"])


def test_members_without_a_fingerprint_are_left_out() -> None:
    members = {"a": payload_of("x"), "b": b"\xff", "c": b"[]", "d": b'{"items": 1}'}

    assert fingerprints(members) == {"a": "x"}


def test_every_item_has_a_node_of_its_own() -> None:
    items = ["a", "a/b", "a%2Fb", ".", "..", "%2E", "ä", " ", "a b", "...", "a."]
    names = [node_name(item) for item in items]

    assert len(set(names)) == len(items)
    assert not [name for name in names if "/" in name or name in (".", "..")]


# ---------------------------------------------------------------------------------------------
# Settling


def test_a_change_is_acted_upon_once_the_group_has_been_quiet() -> None:
    settling = Settling(2.0)
    assert settling.due is None
    settling.note(10.0)
    settling.note(11.0)
    assert not settling.take(12.9)
    assert settling.take(13.0)
    assert not settling.take(20.0)


def test_a_group_that_is_never_quiet_is_not_waited_for_for_ever() -> None:
    settling = Settling(2.0)
    now = 0.0
    while not settling.take(now):
        settling.note(now)
        now += 1.0

    assert now <= 2.0 * SETTLE_TIMES_MAX
    settling.note(100.0)
    assert settling.due == 102.0  # The next one begins anew.

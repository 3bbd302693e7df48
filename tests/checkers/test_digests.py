"""The digest check refuses members that have applied the same and hold something else."""

from __future__ import annotations

from coordsvc.statemachine.commands import Create
from tests.checkers.digests import check
from tests.checkers.history import History, MemberDigest
from tests.checkers.honest_service import HonestService


def history_of(*digests: MemberDigest) -> History:
    service = HonestService()
    service.do("ann", Create("/a"))
    service.do("ann", Create("/b"))
    service.history.digests = list(digests)
    return service.history


def test_equal_members_are_accepted() -> None:
    assert check(history_of(MemberDigest("a", 9, 2, 0xAB), MemberDigest("b", 9, 2, 0xAB))) == []


def test_a_member_that_is_behind_is_another_matter() -> None:
    assert check(history_of(MemberDigest("a", 9, 2, 0xAB), MemberDigest("b", 7, 1, 0xCD))) == []


def test_an_entry_that_changed_nothing_leaves_the_digest() -> None:
    assert check(history_of(MemberDigest("a", 9, 2, 0xAB), MemberDigest("b", 8, 2, 0xAB))) == []


def test_another_digest_at_the_same_index_is_refused() -> None:
    (violation,) = check(history_of(MemberDigest("a", 9, 2, 0xAB), MemberDigest("b", 9, 2, 0xCD)))

    assert str(violation) == "G9: a and b differ at zxid 2: digests 0xab and 0xcd"


def test_another_digest_at_the_same_zxid_is_refused() -> None:
    (violation,) = check(history_of(MemberDigest("a", 9, 2, 0xAB), MemberDigest("b", 8, 2, 0xCD)))

    assert violation.invariant == "G9"


def test_another_zxid_at_the_same_index_is_refused() -> None:
    (violation,) = check(history_of(MemberDigest("a", 9, 2, 0xAB), MemberDigest("b", 9, 1, 0xAB)))

    assert "a and b have both applied entry 9, and are at the zxids 2 and 1" in str(violation)


def test_a_third_member_is_compared_too() -> None:
    members = [MemberDigest("a", 9, 2, 1), MemberDigest("b", 9, 2, 1), MemberDigest("c", 9, 2, 3)]

    assert [violation.records[1] for violation in check(history_of(*members))] == [members[2]]


def test_a_member_beyond_what_was_committed_is_refused() -> None:
    (violation,) = check(history_of(MemberDigest("a", 12, 5, 1)))

    assert "a is at zxid 5; only 2 transactions were committed" in str(violation)

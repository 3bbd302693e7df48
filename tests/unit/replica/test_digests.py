"""Who is the odd one out."""

from __future__ import annotations

from coordsvc.replica.digests import DigestBoard

VOTERS = ("a", "b", "c")


def board(**digests: int) -> DigestBoard:
    board = DigestBoard("a")
    for member, digest in digests.items():
        board.report(member, 256, digest)
    return board


def test_agreement_is_fine() -> None:
    assert board(a=1, b=1, c=1).verdict(256, VOTERS) == ""


def test_two_that_agree_against_us_say_that_we_are_wrong() -> None:
    assert "index 256" in board(a=1, b=2, c=2).verdict(256, VOTERS)


def test_one_that_differs_from_us_proves_nothing() -> None:
    assert board(a=1, b=2).verdict(256, VOTERS) == ""


def test_another_odd_one_is_not_our_business() -> None:
    assert board(a=1, b=1, c=2).verdict(256, VOTERS) == ""


def test_old_reports_are_forgotten() -> None:
    odd = board(a=1, b=2, c=2)
    for index in range(257, 400):
        odd.report("a", index, 0)
    assert odd.verdict(256, VOTERS) == ""

"""When a member that says nothing is asked, and when it is left."""

from __future__ import annotations

import math

import pytest

from coordclient.silence import SLOWEST_BYTES_PER_SECOND, Silence

TIMEOUT_S = 10.0


@pytest.fixture
def silence() -> Silence:
    """Nothing has been heard since 100."""
    silence = Silence()
    silence.heard(100.0)
    return silence


def knock(silence: Silence, now: float) -> None:
    silence.ask()
    silence.knocked(now)


@pytest.mark.parametrize(("timeout_s", "after_s"), [(1.0, 0.1), (4.0, 0.4), (10.0, 0.5), (600.0, 0.5)])
def test_it_is_asked_after_a_fraction_of_the_timeout(
    silence: Silence, timeout_s: float, after_s: float
) -> None:
    assert silence.knock_at(timeout_s) == pytest.approx(100 + after_s)


def test_it_is_asked_once(silence: Silence) -> None:
    due = [silence.is_knock_due]
    silence.ask()
    due.append(silence.is_knock_due)
    assert silence.knock_at(TIMEOUT_S) == math.inf
    silence.knocked(100.5)
    due.append(silence.is_knock_due)
    assert silence.knock_at(TIMEOUT_S) == math.inf
    assert due == [False, True, False]


@pytest.mark.parametrize(("timeout_s", "after_s"), [(1.0, 0.2), (10.0, 0.5), (600.0, 1.0)])
def test_it_is_left_some_time_after_it_was_asked(silence: Silence, timeout_s: float, after_s: float) -> None:
    assert silence.leave_at(timeout_s) == math.inf
    knock(silence, 101.0)
    assert silence.leave_at(timeout_s) == pytest.approx(101 + after_s)


def test_whatever_is_heard_ends_the_doubt(silence: Silence) -> None:
    knock(silence, 100.5)
    silence.heard(100.9)

    assert silence.leave_at(TIMEOUT_S) == math.inf
    assert silence.knock_at(TIMEOUT_S) == pytest.approx(101.4)


def test_a_new_connection_begins_without_doubt(silence: Silence) -> None:
    knock(silence, 100.5)
    silence.detached()

    assert silence.leave_at(TIMEOUT_S) == math.inf


def test_time_in_which_nothing_is_owed_does_not_count(silence: Silence) -> None:
    silence.nothing_owed(200.0)
    assert silence.knock_at(TIMEOUT_S) == 200.5


def test_what_was_sent_and_may_still_be_on_its_way_is_waited_for(silence: Silence) -> None:
    """Eight megabytes take their time on a slow line, and the question stands behind them."""
    silence.sent(8 * SLOWEST_BYTES_PER_SECOND)
    knock(silence, 100.5)
    assert silence.leave_at(TIMEOUT_S) == pytest.approx(101 + 8)

    silence.heard(103.0)
    knock(silence, 103.5)
    assert silence.leave_at(TIMEOUT_S) == pytest.approx(104)


def test_who_left_without_getting_anywhere_is_more_patient_each_time(silence: Silence) -> None:
    """Else one large answer on a slow line could never arrive."""
    waits = []
    for _ in range(4):
        knock(silence, 100.0)
        waits.append(silence.leave_at(TIMEOUT_S) - 100)
        silence.left()
        silence.detached()
    assert waits == pytest.approx([0.5, 1.0, 2.0, 4.0])

    silence.answered()
    knock(silence, 100.0)
    assert silence.leave_at(TIMEOUT_S) == pytest.approx(100.5)


def test_who_was_held_up_itself_gives_the_member_the_time_again(silence: Silence) -> None:
    knock(silence, 100.5)
    answers = [silence.is_over(now, TIMEOUT_S) for now in (100.9, 102.0, 102.4, 102.6)]

    assert answers == [False, False, False, True]

"""Until when the session is certainly alive: always counted from the moment of sending."""

from __future__ import annotations

import pytest

from coordclient.renewal import Renewal


@pytest.fixture
def renewal() -> Renewal:
    """Ten seconds of timeout, attach sent at 100 and answered at 101."""
    renewal = Renewal(10.0)
    renewal.attach_sent(100.0)
    renewal.attached(10.0, 101.0)
    return renewal


def test_attaching_counts_from_its_sending(renewal: Renewal) -> None:
    assert renewal.valid_until == 109.0


def test_the_negotiated_timeout_counts() -> None:
    renewal = Renewal(10.0)
    renewal.attach_sent(100.0)
    renewal.attached(20.0, 101.0)

    assert renewal.valid_until == 118.0


def test_a_pong_counts_from_the_sending_of_its_ping(renewal: Renewal) -> None:
    number = renewal.ping_sent(104.0)
    renewal.ponged(number)

    assert renewal.valid_until == 113.0


def test_a_late_pong_of_an_earlier_ping_takes_nothing_back(renewal: Renewal) -> None:
    first, second = renewal.ping_sent(103.0), renewal.ping_sent(106.0)
    renewal.ponged(second)
    renewal.ponged(first)

    assert renewal.valid_until == 115.0


def test_a_pong_that_nobody_asked_for_counts_for_nothing(renewal: Renewal) -> None:
    renewal.ponged(99)

    assert renewal.valid_until == 109.0


def test_pings_of_a_lost_connection_count_for_nothing(renewal: Renewal) -> None:
    number = renewal.ping_sent(104.0)
    renewal.detached()
    renewal.ponged(number)

    assert renewal.valid_until == 109.0


def test_a_ping_is_due_a_third_of_the_timeout_after_the_last(renewal: Renewal) -> None:
    due = []
    for now in (104.0, 104.4):
        renewal.tick(now)
        due.append(renewal.is_due)
    renewal.ponged(renewal.ping_sent(104.5))

    assert (due, renewal.is_due) == ([False, True], False)
    assert renewal.next_wakeup() == pytest.approx(104.5 + 10 / 3)


def test_a_connection_is_silent_when_a_ping_is_not_answered(renewal: Renewal) -> None:
    renewal.ping_sent(104.0)

    assert not renewal.is_silent(106.4)
    assert renewal.is_silent(106.5)


def test_a_connection_is_silent_when_a_ping_cannot_even_be_sent(renewal: Renewal) -> None:
    renewal.tick(104.4)

    assert not renewal.is_silent(106.8)
    assert renewal.is_silent(107.0)


def test_a_short_timeout_leaves_time_for_an_election() -> None:
    renewal = Renewal(5.0)
    renewal.attach_sent(100.0)
    renewal.attached(5.0, 100.0)
    renewal.ping_sent(101.0)

    assert not renewal.is_silent(102.9)
    assert renewal.is_silent(103.0)


def test_silence_while_answers_are_owed_is_asked_about_once(renewal: Renewal) -> None:
    renewal.worry(103.0)
    due = [renewal.is_due]
    number = renewal.ping_sent(103.0)
    renewal.worry(103.5)
    due.append(renewal.is_due)
    renewal.ponged(number)
    renewal.worry(104.0)
    due.append(renewal.is_due)
    assert due == [True, False, True]

"""When a command is told to end, and when it is killed: decided without a clock, a process or a service."""

from __future__ import annotations

import math
import signal

import pytest

from coordclient.cli.supervision import Course, Order, Step, grace_for, margin_for


def looked(course: Course, now: float, *, valid_until: float = math.inf, is_lost: bool = False) -> Step:
    return course.look(now, valid_until=valid_until, is_lost=is_lost)


def test_a_command_runs_as_long_as_there_is_time_to_stop_it() -> None:
    course = Course(grace_s=5.0, margin_s=0.5)

    assert looked(course, 100.0, valid_until=118.0) == Step(Order.NOTHING, 112.5)
    assert looked(course, 112.4, valid_until=118.0).order is Order.NOTHING
    assert not course.is_stopping


def test_a_renewal_in_time_gives_it_more() -> None:
    course = Course(grace_s=5.0, margin_s=0.5)
    looked(course, 100.0, valid_until=118.0)

    assert looked(course, 112.6, valid_until=125.0) == Step(Order.NOTHING, 119.5)


def test_without_a_renewal_it_is_dead_before_anybody_else_can_hold_the_grant() -> None:
    course = Course(grace_s=5.0, margin_s=0.5)

    first = looked(course, 112.5, valid_until=118.0)
    waiting = looked(course, 114.0, valid_until=118.0)
    last = looked(course, first.wake_at, valid_until=118.0)

    assert first == Step(Order.TERMINATE, 117.5)
    assert waiting == Step(Order.NOTHING, 117.5)
    assert last.order is Order.KILL
    assert first.wake_at < 118.0


def test_who_looks_late_leaves_less_time_and_never_too_much() -> None:
    late = Course(grace_s=5.0, margin_s=0.5)
    too_late = Course(grace_s=5.0, margin_s=0.5)

    assert looked(late, 116.0, valid_until=118.0).wake_at == 117.5
    assert looked(too_late, 120.0, valid_until=118.0) == Step(Order.TERMINATE, 120.0)
    assert looked(too_late, 120.0, valid_until=118.0).order is Order.KILL


def test_when_it_is_lost_it_has_the_time_of_grace() -> None:
    course = Course(grace_s=5.0, margin_s=0.5)

    assert looked(course, 100.0, valid_until=-math.inf, is_lost=True) == Step(Order.TERMINATE, 105.0)
    assert looked(course, 105.0, valid_until=-math.inf, is_lost=True).order is Order.KILL


def test_it_is_terminated_once_and_killed_once() -> None:
    course = Course(grace_s=1.0)

    orders = [looked(course, now, is_lost=True).order for now in (10.0, 10.5, 11.0, 11.5, 99.0)]

    assert orders == [Order.TERMINATE, Order.NOTHING, Order.KILL, Order.NOTHING, Order.NOTHING]


def test_a_renewal_that_comes_too_late_does_not_take_the_order_back() -> None:
    course = Course(grace_s=5.0, margin_s=0.5)
    looked(course, 113.0, valid_until=118.0)

    assert looked(course, 117.5, valid_until=140.0).order is Order.KILL


def test_somebody_who_asks_for_the_grant_stops_it_while_it_is_held() -> None:
    course = Course(grace_s=5.0, margin_s=0.5)

    step = course.look(100.0, valid_until=118.0, is_lost=False, must_stop=True)

    assert step == Step(Order.TERMINATE, 105.0)


def test_what_cannot_be_lost_is_never_stopped() -> None:
    assert looked(Course(grace_s=0.0), 1e9) == Step(Order.NOTHING, math.inf)


@pytest.mark.parametrize("session_timeout_s", [0.5, 1.0, 4.0, 20.0, 120.0])
def test_by_default_there_is_time_to_stop_and_to_ride_out_a_lost_connection(session_timeout_s: float) -> None:
    needed = grace_for(session_timeout_s) + margin_for(session_timeout_s)

    # After a renewal nine tenths of the session timeout are certain, and there are three renewals in it.
    assert 0 < needed < session_timeout_s * (0.9 - 1 / 3)


# ---------------------------------------------------------------------------------------------
# Draining


def test_the_first_signal_that_asks_for_the_end_is_kept_back_while_it_drains() -> None:
    course = Course(grace_s=0.0, drain_s=10.0)

    assert course.received(signal.SIGUSR1, now=1.0)
    assert not course.received(signal.SIGTERM, now=2.0)
    assert course.is_draining
    assert looked(course, 5.0) == Step(Order.NOTHING, 12.0)
    assert looked(course, 12.0).passed_on is signal.SIGTERM
    assert looked(course, 12.1).passed_on is None


def test_a_second_signal_does_not_wait() -> None:
    course = Course(grace_s=0.0, drain_s=10.0)
    course.received(signal.SIGTERM, now=2.0)

    assert course.received(signal.SIGINT, now=3.0)
    assert looked(course, 12.0).passed_on is None, "the command has been asked already"


def test_without_draining_signals_are_passed_on_at_once() -> None:
    assert Course(grace_s=0.0).received(signal.SIGTERM, now=1.0)

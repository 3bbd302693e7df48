"""Deadlines of sessions, as the leader keeps them. Invariants S2 and S3."""

from __future__ import annotations

from coordsvc.replica.session_clock import SessionClock


def clock_with(**timeouts_ms: int) -> SessionClock:
    clock = SessionClock()
    clock.restart({int(name[1:]): timeout for name, timeout in timeouts_ms.items()}, now_ms=0)
    return clock


def test_a_session_expires_after_its_timeout_and_not_before() -> None:
    clock = clock_with(s1=1000, s2=2000)
    assert clock.expired(999) == []
    assert clock.expired(1000) == [1]
    assert clock.expired(1999) == []
    assert clock.expired(2000) == [1, 2], "the first is due again: its end was not applied yet"


def test_a_touch_gives_the_full_timeout_again() -> None:
    clock = clock_with(s1=1000)
    clock.touch(1, 900)
    assert clock.expired(1899) == []
    assert clock.expired(1900) == [1]


def test_an_ended_session_does_not_come_up_again() -> None:
    clock = clock_with(s1=1000)
    clock.end_session(1)
    clock.touch(1, 500)
    assert clock.expired(10_000) == []


def test_a_session_that_starts_later_is_kept_too() -> None:
    clock = clock_with()
    clock.start_session(7, 1000, now_ms=500)
    assert clock.expired(1499) == []
    assert clock.expired(1500) == [7]


def test_time_asleep_is_given_back() -> None:
    clock = clock_with(s1=1000)
    clock.extend_all(5000)
    assert clock.expired(5999) == []
    assert clock.expired(6000) == [1]


def test_who_leads_no_longer_expires_nobody() -> None:
    clock = clock_with(s1=1000)
    clock.stop()
    assert clock.expired(10_000) == []

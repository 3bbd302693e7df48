"""Complaints are seldom, and count what they leave out."""

from __future__ import annotations

import pytest

from coordsvc.transport.complaints import INTERVAL_S, Complaints


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_the_same_complaint_comes_once_an_interval_and_counts_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    complaints = Complaints(clock)
    for _ in range(5):
        complaints.warn("a", "a is refused")
    complaints.warn("b", "b is refused")
    clock.now_s += INTERVAL_S
    complaints.warn("a", "a is refused")

    assert caplog.messages == [
        "a is refused",
        "b is refused",
        "a is refused (4 more of these since the last line)",
    ]


def test_what_was_forgotten_is_news_again(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(Clock())
    complaints.warn("a", "first outage")
    complaints.forget("a")
    complaints.warn("a", "second outage")

    assert caplog.messages == ["first outage", "second outage"]


def test_any_number_of_strangers_costs_bounded_memory() -> None:
    complaints = Complaints(Clock())
    for number in range(5000):
        complaints.warn(f"host {number}", "refused")

    assert len(complaints._said) <= 1000

"""What the fail-over scenario reads out of the lines of its drivers."""

from __future__ import annotations

import math
import sys

import pytest

from bench.measuring import BenchError
from bench.scenarios.fail_over import Interruption, Writers, first_by_writer, measurement_of

LINES = (
    "0 100 110\n",
    "1 105 115\n",
    "0 118 130\n",  # begun before the leader died at 120
    "1 125 300\n",
    "2 121 310\n",
    "1 126 320\n",
    "3 150",  # half written
)


def test_a_write_that_was_under_way_when_the_leader_died_does_not_count() -> None:
    assert first_by_writer(LINES, 120) == {1: 300, 2: 310}


def test_acknowledgements_that_came_in_another_order_than_they_were_written_count_all_the_same() -> None:
    assert first_by_writer(["1 125 320\n", "2 121 310\n", "1 126 315\n"], 120) == {1: 315, 2: 310}


def test_before_anything_is_acknowledged_nobody_got_on() -> None:
    assert first_by_writer(LINES, 400) == {}


def test_the_median_and_the_longest_interruption_are_told_of_both() -> None:
    seen = [Interruption(30, 90), Interruption(50, 60), Interruption(40, 70)]

    measurement = measurement_of("coordsvc", "sdk", "fail-over-kill", seen)

    assert (measurement.operations, measurement.p50_ms) == (3, 40)
    assert math.isnan(measurement.per_second)  # nothing was to be done as often as possible
    assert measurement.extra == {"max_ms": 50, "client_p50_ms": 70, "client_max_ms": 90}


def test_a_driver_that_ends_is_an_error() -> None:
    with Writers([sys.executable, "-c", ""]) as writers, pytest.raises(BenchError, match="has ended"):
        writers.wait_for(0, lambda _: False)


def test_lines_are_taken_while_the_driver_goes_on() -> None:
    program = "import time; print('2 5 9', flush=True); time.sleep(3600)"
    with Writers([sys.executable, "-c", program]) as writers:
        assert writers.wait_for(1, lambda found: 2 in found) == {2: 9}

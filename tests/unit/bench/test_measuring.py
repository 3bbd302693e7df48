"""Percentiles by nearest rank, and what a measurement says of itself."""

from __future__ import annotations

import math

import pytest

from bench.measuring import BenchError, Measurement, latency_measurement, percentile


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.505, 51), (0.99, 99), (1.0, 100)]
)
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    fraction: float, expected: int
) -> None:
    assert percentile(range(1, 101), fraction) == expected


def test_of_a_single_value_every_percentile_is_that_value() -> None:
    assert [percentile([7.0], fraction) for fraction in (0.0, 0.5, 0.99)] == [7.0, 7.0, 7.0]


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(BenchError, match="nothing was measured"):
        percentile([], 0.5)


def test_latencies_are_sorted_before_they_are_ranked() -> None:
    found = latency_measurement("coordsvc", "sdk", "write-1", [0.003, 0.001, 0.002], seconds=1.5)

    assert (found.p50_ms, found.p99_ms) == (2.0, 3.0)
    assert (found.operations, found.per_second) == (3, 2.0)


def test_a_scenario_that_counts_nothing_has_no_throughput() -> None:
    assert math.isnan(Measurement("etcd", "native", "idle-sessions").per_second)
    assert math.isnan(Measurement("etcd", "native", "idle-sessions", operations=3).per_second)

"""What work costs, counted: messages, fsyncs, entries, batches and bytes. Nothing here depends on time.

A change that makes members talk more, or write more often, is seen here before any benchmark is run.
"""

from __future__ import annotations

import pytest

from tests.counts.recording import differences, recorded
from tests.counts.workloads import WORKLOADS, Workload

MEANT = "if it is meant: `make counts`, and commit tests/counts/recorded.toml with the reason"


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_work_costs_what_is_recorded(workload: Workload) -> None:
    found = workload.count()

    different = differences(found, recorded().get(workload.name, {}), workload.operations)

    assert not different, "\n".join(["", *different, MEANT])


def test_nothing_is_recorded_that_is_not_counted() -> None:
    assert list(recorded()) == [workload.name for workload in WORKLOADS]


def test_counting_again_gives_the_same() -> None:
    workload = next(workload for workload in WORKLOADS if workload.name == "writes-on-64-connections")

    assert workload.count() == workload.count()


# ---------------------------------------------------------------------------------------------
# The comparison itself


def test_what_is_as_recorded_is_not_told() -> None:
    assert differences({"fsyncs": 3, "bytes": 100}, {"fsyncs": 3, "bytes": 100}, 1) == []


def test_more_and_fewer_are_told_for_all_and_for_each() -> None:
    assert differences({"fsyncs": 600, "entries": 50}, {"fsyncs": 300, "entries": 100}, 100) == [
        "entries: 50 instead of 100, 0.5 instead of 1 each: fewer",
        "fsyncs: 600 instead of 300, 6 instead of 3 each: more",
    ]


def test_what_was_never_seen_before_and_what_is_not_seen_any_more_are_told() -> None:
    found = differences({"messages: new": 1}, {"messages: old": 1}, 1)

    assert [line.partition(" instead")[0] for line in found] == ["messages: new: 1", "messages: old: 0"]


def test_bytes_may_differ_by_a_little() -> None:
    assert differences({"bytes of clients": 1020}, {"bytes of clients": 1000}, 1) == []
    assert len(differences({"bytes of clients": 1021}, {"bytes of clients": 1000}, 1)) == 1

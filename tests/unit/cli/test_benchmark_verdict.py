"""`coordctl bench`: from figures to PASS, or FAIL with reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordclient.cli.benchmark_verdict import (
    Figures,
    KindFigures,
    Latencies,
    Limits,
    MemberFigures,
    judge,
    milliseconds,
)

QUICK = Latencies(count=1000, p50_ms=1.0, p99_ms=5.0, max_ms=20.0)
KIND = KindFigures(offered=1000, latencies=QUICK, seconds=10.0)
WELL = Figures(
    asked_seconds=10.0,
    kinds={"writes": KIND, "reads": KIND},
    members=[MemberFigures(name, "follower", QUICK, QUICK) for name in "abc"],
    leaders=[(3, "a")],
)
LIMITS = Limits()


def with_writes(found: KindFigures) -> Figures:
    return replace(WELL, kinds={"writes": found, "reads": KIND})


def reasons(figures: Figures, limits: Limits = LIMITS) -> tuple[str, ...]:
    verdict = judge(figures, limits)
    assert verdict.has_passed == (not verdict.reasons)
    return verdict.reasons


def test_a_cluster_that_keeps_the_limits_passes_without_a_word() -> None:
    verdict = judge(WELL, LIMITS)

    assert verdict.has_passed
    assert (verdict.reasons, verdict.notes) == ((), ())


def test_what_is_just_within_the_limits_passes() -> None:
    edge = Latencies(count=900, p50_ms=1.0, p99_ms=100.0, max_ms=500.0)

    assert reasons(with_writes(replace(KIND, latencies=edge))) == ()


def test_a_slow_p99_fails_and_names_the_slowest_member() -> None:
    slow = replace(QUICK, p99_ms=210.0, max_ms=300.0)
    figures = replace(
        with_writes(replace(KIND, latencies=slow)),
        members=[*WELL.members[:2], MemberFigures("c", "follower", slow, QUICK)],
    )

    assert reasons(figures) == ("the p99 of writes is 210 ms (at most 100 ms); slowest member: c",)


def test_a_lone_member_is_not_called_the_slowest() -> None:
    slow = replace(QUICK, p99_ms=210.0, max_ms=300.0)
    figures = replace(
        with_writes(replace(KIND, latencies=slow)), members=[MemberFigures("a", "leader", slow, QUICK)]
    )

    assert reasons(figures) == ("the p99 of writes is 210 ms (at most 100 ms)",)


def test_a_single_slow_operation_fails() -> None:
    slow = replace(QUICK, max_ms=1234.0)

    assert reasons(with_writes(replace(KIND, latencies=slow))) == (
        "the slowest of the writes took 1,234 ms (at most 500 ms)",
    )


def test_less_than_was_offered_fails() -> None:
    """Also if every answer came in the end, but long after it was due."""
    assert reasons(with_writes(replace(KIND, seconds=20.0))) == (
        "50 writes/s of the 100/s that were offered (50 %, at least 90 %)",
    )


def test_failed_operations_fail_it_and_the_most_frequent_failure_comes_first() -> None:
    failed = replace(KIND, latencies=replace(QUICK, count=997), errors=3)
    failures = {"ConnectionLostError": 1, "RequestTimeoutError": 2}

    assert reasons(replace(with_writes(failed), failures=failures)) == (
        "3 operations failed (at most 0): 2 x RequestTimeoutError, 1 x ConnectionLostError",
    )
    assert reasons(replace(with_writes(failed), failures=failures), Limits(errors=3)) == ()


def test_a_change_of_the_leader_fails_and_tells_its_course() -> None:
    assert reasons(replace(WELL, leaders=[(3, "a"), (5, "b")])) == (
        "the leader changed once (at most 0): a in term 3, then b in term 5",
    )
    assert reasons(replace(WELL, leaders=[(3, "a"), (5, "b")]), Limits(leader_changes=1)) == ()


def test_a_member_that_did_not_answer_fails_it_however_quick_the_others_are() -> None:
    silent = MemberFigures("c", "", problem="unreachable")

    assert reasons(replace(WELL, members=[*WELL.members[:2], silent])) == (
        "member c does not answer: unreachable",
    )


def test_every_reason_is_told() -> None:
    bad = KindFigures(1000, Latencies(100, 600.0, 700.0, 800.0), seconds=10.0, errors=900)
    figures = replace(
        WELL,
        kinds={"writes": bad, "reads": bad},
        failures={"RequestTimeoutError": 1800},
        leaders=[(1, "a"), (2, "b"), (3, "a")],
    )

    assert len(reasons(figures)) == 2 + 2 * 3


def test_a_run_in_which_nothing_was_answered_fails() -> None:
    nothing = KindFigures(offered=1000, latencies=Latencies(), seconds=10.0, errors=1000)
    figures = Figures(
        10.0, {"writes": nothing, "reads": nothing}, [], [(1, "a")], {"RequestTimeoutError": 2000}
    )

    assert figures.slowest_member is None
    assert len(reasons(figures)) == 3


def test_a_member_that_stands_out_is_worth_a_note_not_a_failure() -> None:
    slow = replace(QUICK, p99_ms=50.0, max_ms=60.0)
    figures = replace(WELL, members=[*WELL.members[:2], MemberFigures("c", "follower", QUICK, slow)])

    verdict = judge(figures, LIMITS)

    assert verdict.has_passed
    assert verdict.notes == (
        "member c is 10.0 times as slow as the others: look at its disk, its processor and its network",
    )


def test_a_machine_that_cannot_send_the_load_in_time_is_told_so() -> None:
    (note,) = judge(replace(WELL, late_p99_ms=40.0), LIMITS).notes

    assert note.startswith("this machine sent the load up to 40.0 ms late")


def test_percentiles_are_of_the_times_that_were_seen() -> None:
    found = Latencies.of([number / 1000 for number in range(100, 0, -1)])

    assert (found.count, found.p50_ms, found.p99_ms, found.max_ms) == (100, 50.0, 99.0, 100.0)
    assert Latencies.of([0.007]) == Latencies(1, 7.0, 7.0, 7.0)
    assert Latencies.of([]) == Latencies()


@pytest.mark.parametrize(("value", "text"), [(0.1234, "0.12 ms"), (12.34, "12.3 ms"), (1234.5, "1,234 ms")])
def test_times_for_people(value: float, text: str) -> None:
    assert milliseconds(value) == text

"""Plans are drawn from the seed, and hold every kind of fault that was asked for."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.chaos.plan import ALL_FAULTS, LANES, chosen_faults, draw_plan


def test_the_same_seed_draws_the_same_plan() -> None:
    assert draw_plan(7, 100.0) == draw_plan(7, 100.0)
    assert draw_plan(7, 100.0) != draw_plan(8, 100.0)


def test_a_long_plan_has_every_fault_and_faults_of_a_lane_follow_each_other() -> None:
    plan = draw_plan(3, 600.0)

    assert {fault.kind for lane in plan for fault in lane} == set(ALL_FAULTS)
    for lane, kinds in zip(plan, LANES, strict=True):
        assert all(fault.kind in kinds for fault in lane)
        for fault, after in pairwise(lane):
            assert fault.at_s + fault.lasts_s < after.at_s
        assert lane[-1].at_s + lane[-1].lasts_s <= 600.0


def test_only_what_was_asked_for_is_planned() -> None:
    chosen = chosen_faults("kill-one, halves")

    assert {fault.kind for lane in draw_plan(1, 60.0, chosen) for fault in lane} == {"kill-one", "halves"}


@pytest.mark.parametrize("names", ["earthquake", "kill-one,earthquake", ""])
def test_a_fault_that_does_not_exist_is_refused(names: str) -> None:
    with pytest.raises(ValueError, match="no fault"):
        chosen_faults(names)

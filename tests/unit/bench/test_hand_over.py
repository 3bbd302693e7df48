"""Hand-overs out of what two processes noted, each for itself."""

from __future__ import annotations

import json

import pytest

from bench.measuring import BenchError
from bench.scenarios.hand_over import hand_overs_s, in_order


def test_only_a_turn_after_one_of_the_other_process_is_a_hand_over() -> None:
    one = json.dumps([(0.0, 1.0), (2.5, 3.0), (3.25, 4.0)])
    other = json.dumps([(1.5, 2.0), (5.0, 6.0)])
    assert hand_overs_s(in_order([one, other])) == [0.5, 0.5, 1.0]


def test_a_lock_that_two_held_has_measured_nothing() -> None:
    with pytest.raises(BenchError, match="at the same time"):
        in_order([json.dumps([(0.0, 1.0)]), json.dumps([(0.9, 2.0)])])

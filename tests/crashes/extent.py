"""How much of a sweep is run: a sample by default, all of it with `CRASH_SWEEP=whole` (`make crash-sweep`).

Rule of this file: a sample is the same in every run, and spread over the whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

IS_WHOLE = os.environ.get("CRASH_SWEEP") == "whole"


def sample(cases: Sequence[T], count: int) -> list[T]:
    """Choose `count` of the cases, or all when the whole sweep was asked for."""
    if IS_WHOLE or count >= len(cases):
        return list(cases)
    return [cases[number * len(cases) // count] for number in range(count)]

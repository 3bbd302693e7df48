"""The arithmetic of a counter: what its node holds, and what a batch of calls makes of it.

Rule of this file: pure. A call that is refused changes nothing for the calls beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from coordclient.errors import CompareFailedError, CounterRangeError, InvalidValueError, RecipeError

DIGITS_MAX = 1000
_INTEGER = re.compile(rb"-?[0-9]{1,%d}\Z" % DIGITS_MAX)
_LIMIT = 10**DIGITS_MAX


@dataclass(frozen=True, slots=True)
class CounterChange:
    """What a call did to a counter.

    Attributes:
        before: The value just before; nobody else's change lies between the two.
        after: The value just after.
        zxid: The transaction that did it; pass it on as another client's `min_zxid=`.
    """

    before: int
    after: int
    zxid: int


@dataclass(frozen=True, slots=True)
class Step:
    """One call: add `delta`, or if `target` is given set to that.

    Attributes:
        expected: Only if this is the value; None: whatever it is.
    """

    delta: int = 0
    target: int | None = None
    expected: int | None = None
    minimum: int | None = None
    maximum: int | None = None

    def after(self, before: int, path: str) -> int:
        """Return the new value.

        Raises:
            CounterRangeError: It would leave the range.
            CompareFailedError: The value is not the expected one.
        """
        if self.expected is not None and before != self.expected:
            raise CompareFailedError(f"{path} holds {before} and not {self.expected}", path=path)
        after = before + self.delta if self.target is None else self.target
        if self.is_out_of_range(after):
            lowest = "..." if self.minimum is None else _shown(self.minimum)
            highest = "..." if self.maximum is None else _shown(self.maximum)
            raise CounterRangeError(
                f"{path} holds {_shown(before)} and would become {_shown(after)}, which is outside of"
                f" {lowest} to {highest}; nothing was changed",
                path=path,
            )
        return after

    def is_out_of_range(self, value: int) -> bool:
        """Return whether the counter must not have this value."""
        lowest = -_LIMIT + 1 if self.minimum is None else self.minimum
        highest = _LIMIT - 1 if self.maximum is None else self.maximum
        return abs(value) >= _LIMIT or not lowest <= value <= highest


Outcome = tuple[int, int] | RecipeError | CompareFailedError


def run_steps(value: int, steps: Iterable[Step], path: str) -> tuple[int, list[Outcome]]:
    """Carry steps out one after the other; return the last value and (before, after) or an error for each."""
    outcomes: list[Outcome] = []
    for step in steps:
        try:
            after = step.after(value, path)
        except (CounterRangeError, CompareFailedError) as error:
            outcomes.append(error)
        else:
            outcomes.append((value, after))
            value = after
    return value, outcomes


def parse_counter(value: bytes, path: str) -> int:
    """Return the integer that a counter's node holds; InvalidValueError if it holds anything else."""
    if not _INTEGER.match(value):
        raise InvalidValueError(
            f"{path} holds {value[:40]!r}, which is no decimal integer: set it, or count at another path",
            path=path,
        )
    return int(value)


def format_counter(value: int) -> bytes:
    """Return what a counter's node holds."""
    return b"%d" % value


def _shown(value: int) -> str:
    return str(value) if abs(value) < 10**40 else "a number of more than 40 digits"

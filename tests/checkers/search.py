"""A search for a legal order: the algorithm of Wing and Gong, with the cache of Lowe.

Calls and returns stand in a doubly linked list, in the order of time. A call that the model allows at the
present state is lifted out of the list with its return, and the search begins anew at the head; when it comes
to a return whose call was not lifted, the newest choice is taken back. A pair of (calls chosen, state) that
was met before leads nowhere new. Calls without an answer never return: they may be chosen at any time after
their call, or be left out; they are tried last, just where nothing else goes on.

Rule of this file: it knows nothing of trees. States are hashable, a step is a pure function, and each step
costs one unit of the budget; when that is used up the answer is UNKNOWN, which is no pass.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

BUDGET = 2_000_000

_What = TypeVar("_What")


class Verdict(Enum):
    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Call(Generic[_What]):
    """One call.

    Attributes:
        end_ns: When it returned; None: never, so it may be left out.
        lane: Calls of one lane take effect in the order of their places in the list; None: in any order.
        one_of: Of the calls with the same value here at most one takes effect; None: any of them.
        follows: It takes effect after the calls of its lane before it, but may also do so after later ones.
    """

    what: _What
    start_ns: int
    end_ns: int | None
    lane: Hashable = None
    follows: bool = False
    one_of: Hashable = None


@dataclass(slots=True)
class Outcome(Generic[_What]):
    """`stuck`: for a NO, the calls that could not be ordered at the deepest place that was reached."""

    verdict: Verdict
    steps: int
    stuck: list[Call[_What]]


class _Entries:
    """The linked list of what was answered. Entry i is call i, entry count + i its return, last the head."""

    def __init__(self, calls: Sequence[Call[_What]]) -> None:
        count = len(calls)
        order = []
        for place, call in enumerate(calls):
            if call.end_ns is not None:
                order += [(call.start_ns, 0, place), (call.end_ns, 1, count + place)]
        order.sort()  # Closed intervals: at the same moment calls come before returns.
        self.head = 2 * count
        self.next = [-1] * (2 * count + 1)
        self.previous = [-1] * (2 * count + 1)
        self._count = count
        last = self.head
        for _, _, entry in order:
            self.next[last] = entry
            self.previous[entry] = last
            last = entry

    def lift(self, call: int) -> None:
        for entry in (call, call + self._count):
            before, after = self.previous[entry], self.next[entry]
            self.next[before] = after
            if after >= 0:
                self.previous[after] = before

    def unlift(self, call: int) -> None:
        for entry in (call + self._count, call):
            before, after = self.previous[entry], self.next[entry]
            self.next[before] = entry
            if after >= 0:
                self.previous[after] = entry

    def first_return(self) -> int:
        """Return the call that returns first of those in the list."""
        entry = self.next[self.head]
        while entry < self._count:
            entry = self.next[entry]
        return entry - self._count


class _Search(Generic[_What]):
    """The state of one search. `bits` are the calls chosen, `state` the number of the state they led to."""

    def __init__(
        self,
        calls: Sequence[Call[_What]],
        initial: Hashable,
        step: Callable[[Hashable, _What], Hashable | None],
        spare_in_a_row: int,
    ) -> None:
        self.calls = calls
        self.entries = _Entries(calls)
        self.bits = self.state = 0
        self.missing = 0
        self.chosen: list[tuple[int, int, int, int]] = []  # call, the state and the row before, the cursor
        # Calls without an answer come last: they are tried where nothing else goes on.
        self.spare = [place for place, call in enumerate(calls) if call.end_ns is None]
        self.spare.sort(key=lambda place: -calls[place].start_ns)
        self._row_max = spare_in_a_row
        self._row = 0  # how many of those were chosen since the newest answered one
        self._step = step
        self._needed, self._barred = _lanes(calls)
        self._states: dict[Hashable, int] = {initial: 0}  # numbered: the cache need not hash them again
        self._numbered: list[Hashable] = [initial]
        self._steps: dict[tuple[int, int], int] = {}  # (state, call): the state after, or -1
        self._met: dict[tuple[int, int], list[tuple[int, int]]] = {}  # (answered, state): (others, row)
        self._answered_bits = 0
        for place, call in enumerate(calls):
            if call.end_ns is not None:
                self._answered_bits |= 1 << place
                self.missing += 1

    def after(self, call: int) -> int:
        """Return the state to which a call leads from here, or -1."""
        bits = self.bits
        if bits & self._needed[call] != self._needed[call] or bits & self._barred[call]:
            return -1
        key = (self.state, call)
        known = self._steps.get(key)
        if known is None:
            found = self._step(self._numbered[self.state], self.calls[call].what)
            known = -1 if found is None else self._states.setdefault(found, len(self._numbered))
            if known == len(self._numbered):
                self._numbered.append(found)
            self._steps[key] = known
        return known

    def is_new(self, call: int, state: int) -> bool:
        """Whether nobody was where this leads with as many calls to spare. More to spare is never worse."""
        bits = self.bits | 1 << call
        others = bits & ~self._answered_bits
        row = self._row + 1 if self.calls[call].end_ns is None else 0
        if row > self._row_max:
            return False
        met = self._met.setdefault((bits & self._answered_bits, state), [])
        if any(before & others == before and before_row <= row for before, before_row in met):
            return False
        met.append((others, row))
        return True

    def choose(self, call: int, state: int, cursor: int) -> None:
        self.chosen.append((call, self.state, self._row, cursor))
        self.bits |= 1 << call
        self.state = state
        self._row += 1
        if self.calls[call].end_ns is not None:
            self._row = 0
            self.entries.lift(call)
            self.missing -= 1

    def take_back(self) -> int:
        """Undo the newest choice; return the cursor after it."""
        call, self.state, self._row, cursor = self.chosen.pop()
        self.bits ^= 1 << call
        if self.calls[call].end_ns is not None:
            self.entries.unlift(call)
            self.missing += 1
            return self.entries.next[call]
        return cursor - 1


def search(
    calls: Sequence[Call[_What]],
    initial: Hashable,
    step: Callable[[Hashable, _What], Hashable | None],
    budget: int = BUDGET,
) -> Outcome[_What]:
    """Look for an order. `step` returns the state after a call, or None where the answer cannot be right.

    First with at most one, then two unanswered calls in a row, which is all that most histories need; only a
    search that allows any number can say NO.
    """
    has_spare = any(call.end_ns is None for call in calls)
    cost = 0
    for row_max in (1, 2, len(calls)) if has_spare else (len(calls),):
        run = _Search(calls, initial, step, row_max)
        outcome = _go(run, budget if row_max == len(calls) else budget // 4)
        cost += outcome.steps
        if outcome.verdict is Verdict.YES or (outcome.verdict is Verdict.NO and row_max == len(calls)):
            return Outcome(outcome.verdict, cost, outcome.stuck)
    return Outcome(Verdict.UNKNOWN, cost, [])


def _go(run: _Search[_What], budget: int) -> Outcome[_What]:
    calls, entries, spare = run.calls, run.entries, run.spare
    count = len(calls)
    cost, deepest, stuck = 0, run.missing + 1, 0
    limit_ns = -1
    cursor = entries.next[entries.head]  # an entry, or below -1 a place among the spare calls
    while run.missing:
        cost += 1
        if cost > budget:
            return Outcome(Verdict.UNKNOWN, cost, [])
        if cursor >= count:
            cursor = -2  # A return: nothing more that was answered can be next.
        if cursor >= 0:
            call = cursor
        else:
            if -2 - cursor >= len(spare):
                if run.missing < deepest:
                    deepest, stuck = run.missing, run.bits
                if not run.chosen:
                    return Outcome(Verdict.NO, cost, _stuck(calls, stuck))
                cursor = run.take_back()
                continue
            call = spare[-2 - cursor]
            limit_ns = calls[entries.first_return()].end_ns or 0
        is_open = not run.bits >> call & 1 and (cursor >= 0 or calls[call].start_ns <= limit_ns)
        after = run.after(call) if is_open else -1
        # A call that may be left out, and would change nothing, is left out.
        if after >= 0 and (cursor >= 0 or after != run.state) and run.is_new(call, after):
            run.choose(call, after, cursor)
            cursor = entries.next[entries.head]
            continue
        cursor = entries.next[call] if cursor >= 0 else cursor - 1
    return Outcome(Verdict.YES, cost, [])


def _lanes(calls: Sequence[Call[_What]]) -> tuple[list[int], list[int]]:
    """Return by call which others must have been chosen before it, and which must not have been."""
    needed, barred = [0] * len(calls), [0] * len(calls)
    answered: dict[Hashable, int] = {}
    for place, call in enumerate(calls):
        if call.lane is not None:
            needed[place] = answered.get(call.lane, 0)
            if call.end_ns is not None and not call.follows:
                answered[call.lane] = needed[place] | 1 << place
    others: dict[Hashable, int] = {}
    for place, call in enumerate(calls):
        if call.one_of is not None:
            others[call.one_of] = others.get(call.one_of, 0) | 1 << place
    later: dict[Hashable, int] = {}
    for place in range(len(calls) - 1, -1, -1):
        lane = calls[place].lane
        if lane is not None and not calls[place].follows:
            barred[place] = later.get(lane, 0)
            later[lane] = barred[place] | 1 << place
    for place, call in enumerate(calls):
        if call.one_of is not None:
            barred[place] |= others[call.one_of] & ~(1 << place)
    return needed, barred


def _stuck(calls: Sequence[Call[_What]], chosen: int) -> list[Call[_What]]:
    """Return the calls among which there was no next one: those begun when the first of them returned."""
    left = [call for place, call in enumerate(calls) if not chosen >> place & 1]
    ends = [call.end_ns for call in left if call.end_ns is not None]
    return [call for call in left if call.start_ns <= min(ends)] if ends else left

"""The search agrees with brute force, on thousands of small histories of a register with conditional sets."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import combinations, permutations
from random import Random

from tests.checkers.search import Call, Verdict, search

What = tuple[str, int, int | bool | None]  # kind, argument, what was told (None: nothing)


def step(state: Hashable, what: What) -> Hashable | None:
    """A register: "read", "write" a value, or "bump" it if it has the value given. 0 at first."""
    kind, argument, told = what
    if kind == "read":
        return state if told == state else None
    if kind == "write":
        return argument
    if told is None:
        return argument + 10 if state == argument else None
    if told != (state == argument):
        return None
    return argument + 10 if told else state


def orders(calls: list[Call[What]]) -> Iterator[list[Call[What]]]:
    """Every order of what was answered, with every choice of what was not."""
    answered = [call for call in calls if call.end_ns is not None]
    others = [call for call in calls if call.end_ns is None]
    for count in range(len(others) + 1):
        for chosen in combinations(others, count):
            yield from map(list, permutations([*answered, *chosen]))


def is_legal(calls: list[Call[What]], order: list[Call[What]]) -> bool:
    places = {id(call): place for place, call in enumerate(calls)}
    for place, call in enumerate(order):
        for later in order[place + 1 :]:
            if later.end_ns is not None and later.end_ns < call.start_ns:
                return False
            if call.one_of is not None and call.one_of == later.one_of:
                return False
            is_lane = call.lane is not None and call.lane == later.lane
            may_swap = later.follows or (call.follows and later.end_ns is None)
            if is_lane and places[id(later)] < places[id(call)] and not may_swap:
                return False
    state: Hashable = 0
    for call in order:
        after = step(state, call.what)
        if after is None:
            return False
        state = after
    return True


def brute_force(calls: list[Call[What]]) -> Verdict:
    return Verdict.YES if any(is_legal(calls, order) for order in orders(calls)) else Verdict.NO


def random_calls(dice: Random) -> list[Call[What]]:
    calls: list[Call[What]] = []
    for _ in range(dice.choice([2, 3, 4, 4, 5, 5, 5, 6])):
        kind = dice.choice(["read", "read", "write", "bump"])
        is_answered = kind == "read" or dice.random() < 0.75
        start_ns = dice.randrange(12)
        end_ns = start_ns + dice.randrange(6) if is_answered else None
        told: int | bool | None = None
        if is_answered:
            told = dice.choice([0, 1, 2, 11]) if kind == "read" else dice.random() < 0.5
        lane = dice.choice([None, None, "a", "b"])
        call: Call[What] = Call((kind, dice.choice([1, 2]), told), start_ns, end_ns, lane)
        call.follows = dice.random() < 0.3
        call.one_of = dice.choice([None, 1]) if end_ns is None else None
        calls.append(call)
    return calls


def test_the_search_agrees_with_brute_force() -> None:
    dice = Random(7)
    found = {Verdict.YES: 0, Verdict.NO: 0}
    for _ in range(2500):
        calls = random_calls(dice)
        expected = brute_force(calls)

        assert search(calls, 0, step).verdict is expected, calls

        found[expected] += 1
    assert min(found.values()) > 300, found


def test_an_empty_history_has_an_order() -> None:
    assert search([], 0, step).verdict is Verdict.YES


def test_a_search_that_runs_out_of_its_budget_is_no_pass() -> None:
    calls: list[Call[What]] = [Call(("write", number, True), 0, 100) for number in range(12)]
    calls.append(Call(("read", 0, 99), 0, 100))

    assert search(calls, 0, step, budget=1000).verdict is Verdict.UNKNOWN
    assert search(calls[:6] + calls[12:], 0, step).verdict is Verdict.NO


def test_moments_that_touch_count_as_overlapping() -> None:
    write: Call[What] = Call(("write", 1, True), 5, 9)
    read: Call[What] = Call(("read", 0, 1), 1, 5)
    assert search([write, read], 0, step).verdict is Verdict.YES

    read.end_ns = 4

    assert search([write, read], 0, step).verdict is Verdict.NO


def test_a_refusal_names_the_calls_that_could_not_be_next() -> None:
    calls: list[Call[What]] = [
        Call(("write", 1, True), 0, 1),
        Call(("read", 0, 2), 2, 3),
        Call(("write", 2, True), 8, 9),
    ]

    outcome = search(calls, 0, step)

    assert outcome.verdict is Verdict.NO
    assert outcome.stuck == [calls[1]]


def test_a_lane_keeps_its_order() -> None:
    calls: list[Call[What]] = [
        Call(("write", 1, True), 0, 9, "a"),
        Call(("write", 2, True), 0, 9, "a"),
        Call(("read", 0, 1), 20, 21),
    ]
    assert search(calls, 0, step).verdict is Verdict.NO

    calls[1].lane = "b"

    assert search(calls, 0, step).verdict is Verdict.YES


def test_two_hundred_writers_with_lost_answers_are_ordered_quickly() -> None:
    calls: list[Call[What]] = []
    for number in range(200):
        start_ns = number * 10
        calls.append(Call(("write", number, True), start_ns, start_ns + 25))
        calls.append(Call(("write", 1000 + number, None), start_ns, None))
        if number % 20 == 19:
            calls.append(Call(("read", 0, 1000 + number), start_ns + 30, start_ns + 35))

    outcome = search(calls, 0, step)

    assert outcome.verdict is Verdict.YES
    assert outcome.steps < 50_000

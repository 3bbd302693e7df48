"""The checks of recipes accept what may happen, and refuse lost items, double grants and early birds."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest

from tests.checkers.recipe_barriers import check_barrier, check_double_barrier
from tests.checkers.recipe_counters import check_counter
from tests.checkers.recipe_decisions import check_decisions
from tests.checkers.recipe_grants import (
    check_exclusion,
    check_fencing,
    check_observed,
    check_permits,
    unless_both_read,
)
from tests.checkers.recipe_history import Act, Notebook, read_acts
from tests.checkers.recipe_items import check_acknowledged_once, check_order, check_taken_once
from tests.checkers.recipe_views import (
    check_converged,
    check_copies,
    check_forward,
    check_numbers_forward,
)

Lie = Callable[[list[Act]], None]
Check = Callable[[list[Act]], list[str]]


def act(process: str, operation: str, began_s: float, ended_s: float | None, **details: object) -> Act:
    return Act(process, "recipe", round(began_s * 1000), operation, began_s, ended_s, "", dict(details))


def hold(process: str, token: int, from_s: float, until_s: float, **details: object) -> Act:
    return act(
        process,
        "hold",
        from_s - 0.5,
        until_s,
        resource="/it",
        token=token,
        granted_s=from_s,
        believed_until_s=until_s,
        **details,
    )


def find(acts: list[Act], operation: str, number: int = 0) -> Act:
    return [found for found in acts if found.operation == operation][number]


# ---------------------------------------------------------------------------------------------
# Good stories, and lies about them

LOCK = [hold("ann", 3, 1, 2), hold("bob", 5, 2.1, 3), hold("ann", 8, 3.5, 4)]
READERS = [
    hold("ann", 3, 1, 4, kind="read"),
    hold("bob", 4, 2, 3, kind="read"),
    hold("cid", 6, 5, 6, kind="write"),
    hold("cid", 6, 6, 7, kind="read", converted=True),
]
PERMITS = [
    hold("ann", 3, 1, 5, weight=1),
    hold("bob", 6, 2, 3, weight=1),
    hold("cid", 5, 2, 4.5, weight=1),
    hold("bob", 9, 5.5, 6, weight=3),
]
ITEMS = [
    act("ann", "put", 1, 2, value="ann 1"),
    act("ann", "put", 2, 3, value="ann 2"),
    act("ann", "put", 3, None, value="ann 3"),
    act("bob", "get", 4, 5, value="ann 1", token=11),
    act("bob", "get", 5, 6, value="ann 2", token=12),
    act("bob", "get", 6, 7),
]
WORK = [
    act("ann", "put", 1, 2, value="one"),
    act("ann", "put", 2, 3, value="two"),
    act("bob", "claim", 3, 4, value="one"),
    act("bob", "acknowledge", 4, 5, value="one"),
    act("cid", "claim", 3, 4, value="two"),
    act("cid", "acknowledge", 4, None, value="two"),
]
ADDS = [
    act("ann", "add", 1, 2, delta=2, before=0, after=2, zxid=10),
    act("bob", "add", 1, 3, delta=1, before=2, after=3, zxid=11),
    act("cid", "add", 3, None, delta=3),
    act("bob", "add", 4, 5, delta=1, before=6, after=7, zxid=13),
]
BARRIER = [
    act("ann", "lift", 1, 3, round=1, lifting_s=2.5),
    act("bob", "wait", 1, 2.8, round=1),
    act("cid", "wait", 1, None, round=1),
]
MEETING = [
    act("ann", "enter", 1, 2, round="7"),
    act("bob", "enter", 1.5, 2.1, round="7"),
    act("ann", "leave", 2.5, 3, round="7"),
    act("bob", "leave", 2.8, 3.1, round="7"),
]
SEEN = [
    act("ann", "seen", 1, 1, generation=4, members={"ann": "1"}),
    act("ann", "seen", 2, 2, generation=9, members={"ann": "3", "bob": "0"}),
    act("ann", "final", 3, 4, seen={"ann": "3", "bob": "0"}, stored={"ann": "3", "bob": "0"}),
]
COPIES = [act("ann", "final", 1, 2, cached={"/a": "1"}, stored={"/a": "1"})]
LEADERS = [act("ann", "observed", at, at, token=token) for at, token in ((1, 4), (2, None), (3, 9))]
COMMITS = [
    act("ann", "propose", 1, 4, proposal="p", committed=True),
    act("ann", "vote", 2, 2, proposal="p", name="ann", yes=True),
    act("bob", "vote", 2, 2, proposal="p", name="bob", yes=True),
    act("ann", "commit", 5, 5, proposal="p", name="ann"),
    act("bob", "commit", 5, 5, proposal="p", name="bob"),
    act("bob", "commit", 6, 6, proposal="p", name="bob"),
    act("ann", "propose", 7, 9, proposal="q", committed=False),
    act("ann", "vote", 8, 8, proposal="q", name="ann", yes=False),
    act("ann", "abort", 9, 9, proposal="q", name="ann"),
]


def line_of(value: str) -> tuple[str, int]:
    process, number = value.split()
    return process, int(number)


CHECKS: dict[str, tuple[list[Act], Check]] = {
    "exclusion": (LOCK, check_exclusion),
    "readers": (READERS, lambda acts: check_exclusion(acts, unless_both_read)),
    "permits": (PERMITS, lambda acts: check_permits(acts, 3)),
    "items": (ITEMS, check_taken_once),
    "order": (ITEMS, lambda acts: check_order(acts, line_of)),
    "work": (WORK, check_acknowledged_once),
    "counter": (ADDS, lambda acts: check_counter(acts, 7)),
    "barrier": (BARRIER, check_barrier),
    "double barrier": (MEETING, lambda acts: check_double_barrier(acts, 2)),
    "forward": (SEEN, lambda acts: check_forward(acts, "generation")),
    "numbers": (SEEN, check_numbers_forward),
    "converged": (SEEN, lambda acts: check_converged(acts, {"ann", "bob"})),
    "copies": (COPIES, check_copies),
    "observed": (LEADERS, check_observed),
    "decisions": (COMMITS, lambda acts: check_decisions(acts, ("ann", "bob"))),
}


def change(operation: str, number: int = 0, **details: object) -> Lie:
    """A lie: one act had other details."""

    def lie(acts: list[Act]) -> None:
        find(acts, operation, number).details.update(details)

    return lie


def forget(operation: str, number: int = 0) -> Lie:
    """A lie: one act did not happen."""
    return lambda acts: acts.remove(find(acts, operation, number))


def add(*more: Act) -> Lie:
    """A lie: something else happened, too."""
    return lambda acts: acts.extend(more)


def at(operation: str, number: int, began_s: float, ended_s: float) -> Lie:
    """A lie: it was at another time."""

    def lie(acts: list[Act]) -> None:
        found = find(acts, operation, number)
        found.began_s, found.ended_s = began_s, ended_s

    return lie


LIES: list[tuple[str, str, Lie]] = [
    ("exclusion", "believed too long", change("hold", 0, believed_until_s=2.2)),
    ("exclusion", "granted too early", change("hold", 2, granted_s=2.9)),
    ("exclusion", "one token for two", change("hold", 1, token=3)),
    ("exclusion", "a smaller token", change("hold", 2, token=4)),
    ("readers", "a reader with a writer", change("hold", 0, believed_until_s=5.5)),
    ("readers", "a writer with a smaller token", change("hold", 2, token=2)),
    ("permits", "one more than there are", change("hold", 0, weight=2)),
    ("permits", "one token for two", change("hold", 1, token=5)),
    ("permits", "a later grant with a smaller token", change("hold", 3, token=4)),
    ("items", "got twice", add(act("cid", "get", 8, 9, value="ann 1", token=20))),
    ("items", "lost", forget("get", 1)),
    ("items", "never put", change("get", 2, value="ann 9", token=30)),
    ("order", "overtaken", change("get", 0, token=13)),
    ("work", "acknowledged twice", add(act("cid", "acknowledge", 8, 9, value="one"))),
    ("work", "never worked off", forget("acknowledge", 0)),
    ("work", "never claimed", forget("claim", 0)),
    ("work", "acknowledged, and never put", change("acknowledge", 0, value="three")),
    ("counter", "counted twice", change("add", 3, before=7, after=8)),
    ("counter", "told and not applied", add(act("dan", "add", 8, 9, delta=5, before=7, after=12, zxid=20))),
    ("counter", "two changes from one value", change("add", 1, before=1, after=2)),
    ("counter", "another delta", change("add", 0, delta=1)),
    ("counter", "a later transaction with a smaller value", change("add", 3, zxid=9)),
    ("barrier", "nobody had lifted it", forget("lift")),
    ("barrier", "passed early", change("lift", lifting_s=2.9)),
    ("double barrier", "entered alone", change("enter", 1, round="8")),
    ("double barrier", "entered too early", at("enter", 1, 2.05, 2.1)),
    ("double barrier", "left while another was in", at("leave", 1, 3.05, 3.1)),
    ("forward", "back to an older one", change("seen", 1, generation=3)),
    ("numbers", "back to an older value", change("seen", 0, members={"ann": "4"})),
    ("converged", "not what is there", change("final", seen={"ann": "3"})),
    ("converged", "somebody is missing", change("final", seen={"ann": "3"}, stored={"ann": "3"})),
    ("copies", "another value", change("final", cached={"/a": "0"})),
    ("observed", "an older leader", change("observed", 2, token=3)),
    ("decisions", "one aborts", add(act("cid", "abort", 6, 6, proposal="p", name="cid"))),
    ("decisions", "committed against a vote", change("vote", 1, yes=False)),
    ("decisions", "committed without a vote", forget("vote", 1)),
    ("decisions", "the coordinator was told otherwise", change("propose", 0, committed=False)),
    ("decisions", "never told", forget("abort")),
]


@pytest.mark.parametrize("name", list(CHECKS))
def test_a_good_story_is_accepted(name: str) -> None:
    story, check = CHECKS[name]

    assert check(deepcopy(story)) == []


@pytest.mark.parametrize(("name", "what", "lie"), LIES, ids=[f"{name}: {what}" for name, what, _ in LIES])
def test_a_lie_is_refused(name: str, what: str, lie: Lie) -> None:
    story, check = CHECKS[name]
    acts = deepcopy(story)

    lie(acts)

    assert check(acts) != []


def test_an_item_may_go_with_a_consumer_that_was_killed() -> None:
    acts = deepcopy(ITEMS)
    taken = find(acts, "get", 1)
    taken.ended_s = None
    taken.details.clear()

    assert check_taken_once(acts) == []


def test_guarded_writes_have_tokens_that_grow() -> None:
    assert check_fencing("/it", [("ann", 3), ("ann", 3), ("bob", 5)]) == []
    assert check_fencing("/it", [("ann", 3), ("bob", 5), ("ann", 3)]) != []
    assert check_fencing("/it", [("ann", 3), ("bob", 3)]) != []


# ---------------------------------------------------------------------------------------------
# The notebook


def test_what_is_noted_is_read_back(tmp_path: Path) -> None:
    ticks = iter(range(100))
    path = tmp_path / "ann.acts"
    with path.open("w") as file:
        notebook = Notebook("ann", file, now=lambda: float(next(ticks)))
        with notebook.begin("lock", "hold", resource="/it") as holding:
            holding.note(token=3)
        with pytest.raises(TimeoutError), notebook.begin("lock", "hold"):
            raise TimeoutError
        notebook.begin("lock", "hold")
        file.write('{"process":"ann","n":3,"end":9.')  # It was killed in the middle of a line.

    done, failed, unfinished = read_acts([path])

    assert done == Act("ann", "lock", 1, "hold", 0.0, 1.0, "", {"resource": "/it", "token": 3})
    assert done.is_done
    assert (failed.error, failed.is_done) == ("TimeoutError", False)
    assert unfinished.ended_s is None

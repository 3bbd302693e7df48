"""The watch check accepts what the real registry fires, and refuses every way to miss, invent or misplace."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest

from coordsvc.statemachine.commands import Create, Delete, Get, Set, Transaction
from tests.checkers.history import (
    CHANGED,
    CHILDREN,
    DELETED,
    ONCE_CHILDREN,
    ONCE_DATA,
    ONCE_EXISTS,
    RESYNC,
    STREAM,
    STREAM_RECURSIVE,
    History,
    WatchEvent,
    WatchRecord,
)
from tests.checkers.honest_service import HonestService
from tests.checkers.random_history import PATHS, RandomHistory
from tests.checkers.watches import check


def invariants(history: History) -> list[str]:
    return [violation.invariant for violation in check(history)]


STORY_STREAM, STORY_TREE, STORY_ONCE, STORY_CHILDREN = range(4)


def story() -> HonestService:
    """Ann watches what Bob does; in the end she looks herself."""
    service = HonestService()
    service.open("ann")
    service.open("bob")
    service.do("bob", Create("/a", b"one"))  # zxid 1
    service.watch("ann", "/a", STREAM)
    service.watch("ann", "/a", STREAM_RECURSIVE)
    service.watch("ann", "/a", ONCE_DATA)
    service.watch("ann", "/a", ONCE_CHILDREN)
    service.do("bob", Set("/a", b"two"))  # zxid 2
    service.do("bob", Transaction([], [Create("/a/x", b"x"), Create("/a/y", b"y")]))  # zxid 3
    service.do("bob", Set("/a/x", b"xx"))  # zxid 4
    service.do("bob", Set("/a", b"three"))  # zxid 5
    service.do("ann", Get("/a"))
    return service


def told(watch: WatchRecord) -> list[tuple[int, str, int]]:
    return [(event.type, event.path, event.zxid) for event in watch.events]


def test_the_story_is_what_it_should_be() -> None:
    service = story()
    stream, tree, once, children = service.history.watches

    assert told(stream) == [(CHANGED, "/a", 2), (CHILDREN, "/a", 3), (CHANGED, "/a", 5)]
    assert [zxid for _, _, zxid in told(tree)] == [2, 3, 3, 4, 5]
    assert told(once) == [(CHANGED, "/a", 2)]
    assert told(children) == [(CHILDREN, "/a", 3)]
    assert check(service.history) == []


@pytest.mark.parametrize("seed", range(12))
def test_what_the_real_registry_fires_is_accepted(seed: int) -> None:
    story = RandomHistory(seed)
    for _ in range(60):
        kind, path = story.dice.randrange(5), story.dice.choice([*PATHS, "/"])
        watch = story.service.watch("ann", path, kind, with_values=story.dice.random() < 0.5)
        for _ in range(6):
            story.step()
        if story.dice.random() < 0.3:
            story.service.cancel(watch)
    assert sum(len(watch.events) for watch in story.service.history.watches) > 50

    assert check(story.service.history) == []


def events(history: History, place: int) -> list[WatchEvent]:
    return history.watches[place].events


def missed_in_the_middle(history: History) -> None:
    del events(history, STORY_STREAM)[1]


def missed_at_the_end(history: History) -> None:
    del events(history, STORY_STREAM)[-1]


def missed_all(history: History) -> None:
    events(history, STORY_TREE).clear()


def half_a_transaction(history: History) -> None:
    del events(history, STORY_TREE)[2]


def missed_one_shot(history: History) -> None:
    events(history, STORY_ONCE).clear()


def wrong_one_shot(history: History) -> None:
    """The second change was told instead of the first."""
    events(history, STORY_ONCE)[0] = replace(events(history, STORY_STREAM)[2])


def fired_twice(history: History) -> None:
    events(history, STORY_ONCE).append(replace(events(history, STORY_STREAM)[2]))


def told_twice(history: History) -> None:
    events(history, STORY_STREAM).insert(1, replace(events(history, STORY_STREAM)[0]))


def replayed_twice(history: History) -> None:
    """After a reconnect the watch began too early."""
    events(history, STORY_TREE)[4:4] = [replace(event) for event in events(history, STORY_TREE)[3:4]]


def out_of_order(history: History) -> None:
    stream = events(history, STORY_STREAM)
    stream[0], stream[1] = stream[1], stream[0]


def out_of_order_in_a_transaction(history: History) -> None:
    tree = events(history, STORY_TREE)
    tree[1], tree[2] = tree[2], tree[1]


def invented(history: History) -> None:
    last = events(history, STORY_STREAM)[-1]
    events(history, STORY_STREAM).append(replace(last, zxid=6))


def of_another_path(history: History) -> None:
    events(history, STORY_STREAM).insert(2, replace(events(history, STORY_TREE)[3]))


def of_another_kind(history: History) -> None:
    events(history, STORY_STREAM)[0].type = DELETED


def wrong_value(history: History) -> None:
    events(history, STORY_STREAM)[0].value = b"three"


def wrong_stat(history: History) -> None:
    stat = events(history, STORY_STREAM)[0].stat
    assert stat is not None
    events(history, STORY_STREAM)[0].stat = replace(stat, version=9)


def value_nobody_asked_for(history: History) -> None:
    history.watches[STORY_STREAM].with_values = False


def before_the_watch(history: History) -> None:
    """The watch was set at zxid 2, and is told of 2."""
    history.watches[STORY_STREAM].set_zxid = 2


def after_its_removal(history: History) -> None:
    history.watches[STORY_STREAM].cancelled_ns = events(history, STORY_STREAM)[1].arrived_ns


def answer_before_event(history: History) -> None:
    """Ann's own read showed zxid 5 before she was told of it."""
    history.operations[-1].order = 1


def answer_before_event_by_time(history: History) -> None:
    read = history.operations[-1]
    read.order = 0
    read.completed_ns = events(history, STORY_STREAM)[-1].arrived_ns - 1
    del events(history, STORY_TREE)[:]


def needless_resync(history: History) -> None:
    stream = events(history, STORY_STREAM)
    stream[1] = WatchEvent(RESYNC, "/a", 3, stream[1].arrived_ns)


def resync_for_what_was_seen(history: History) -> None:
    stream = events(history, STORY_STREAM)
    history.facts.oldest_zxid = 5
    stream.insert(2, WatchEvent(RESYNC, "/a", 1, stream[1].arrived_ns))


def missed_after_a_resync(history: History) -> None:
    stream = events(history, STORY_STREAM)
    history.facts.oldest_zxid = 4
    stream[:] = [WatchEvent(RESYNC, "/a", 3, stream[1].arrived_ns)]


LIES: list[tuple[Callable[[History], None], str]] = [
    (missed_in_the_middle, "W7"),
    (missed_at_the_end, "W7"),
    (missed_all, "W7"),
    (half_a_transaction, "W7"),
    (missed_one_shot, "W2"),
    (wrong_one_shot, "W2"),
    (fired_twice, "W1"),
    (told_twice, "W8"),
    (replayed_twice, "W8"),
    (out_of_order, "W4"),
    (out_of_order_in_a_transaction, "W7"),
    (invented, "W5"),
    (of_another_path, "W5"),
    (of_another_kind, "W5"),
    (wrong_value, "W5"),
    (wrong_stat, "W5"),
    (value_nobody_asked_for, "W5"),
    (before_the_watch, "W5"),
    (after_its_removal, "W6"),
    (answer_before_event, "W3"),
    (answer_before_event_by_time, "W3"),
    (needless_resync, "W8"),
    (resync_for_what_was_seen, "W8"),
    (missed_after_a_resync, "W7"),
]


@pytest.mark.parametrize(("lie", "invariant"), LIES, ids=lambda part: getattr(part, "__name__", part))
def test_a_lie_is_refused(lie: Callable[[History], None], invariant: str) -> None:
    history = deepcopy(story().history)

    lie(history)

    assert invariant in invariants(history)


def test_a_violation_names_the_watch_and_the_event() -> None:
    history = story().history
    missed_in_the_middle(history)

    (violation,) = check(history)

    assert violation.records == [history.watches[STORY_STREAM]]
    assert str(violation) == (
        "W7: ann's stream watch 1 at /a missed CHILDREN /a at zxid 3, and was told CHANGED /a at zxid 5"
    )


def test_what_nothing_has_shown_yet_need_not_have_arrived() -> None:
    history = story().history
    missed_at_the_end(history)
    history.operations.pop()

    assert check(history) == []


def test_the_recorder_can_vouch_for_completeness() -> None:
    history = story().history
    missed_at_the_end(history)
    history.operations.pop()
    history.watches[STORY_STREAM].is_immediate = False
    history.watches[STORY_STREAM].complete_to = 5

    assert invariants(history) == ["W7"]


def test_a_reader_that_takes_events_when_it_likes_may_see_answers_first() -> None:
    history = story().history
    answer_before_event(history)
    for watch in history.watches:
        watch.is_immediate = False

    assert check(history) == []


def test_a_watch_begins_where_it_was_asked_to_begin() -> None:
    history = story().history
    stream = history.watches[STORY_STREAM]
    stream.since, stream.set_zxid = 2, 4
    del stream.events[0]
    assert check(history) == []

    stream.since = 1

    assert invariants(history) == ["W7"]


def test_an_honest_resync_excuses_what_is_gone() -> None:
    history = story().history
    stream = history.watches[STORY_STREAM]
    stream.events[:2] = [WatchEvent(RESYNC, "/a", 3, stream.events[1].arrived_ns)]
    history.facts.oldest_zxid = 4

    assert check(history) == []


def test_a_resync_may_name_the_newest_transaction_told_for_its_rest_may_be_missing() -> None:
    history = story().history
    stream = history.watches[STORY_STREAM]
    stream.events.insert(1, WatchEvent(RESYNC, "/a", 2, stream.events[0].arrived_ns))
    history.facts.oldest_zxid = 5

    assert check(history) == []


def test_a_change_of_the_root_is_told_once() -> None:
    service = HonestService()
    service.open("ann")
    watch = service.watch("ann", "/", STREAM)
    service.do("ann", Set("/", b"x"))
    service.do("ann", Create("/a"))

    assert told(watch) == [(CHANGED, "/", 1), (CHILDREN, "/", 2)]
    assert check(service.history) == []


def test_a_one_shot_watch_may_end_with_a_resync() -> None:
    history = story().history
    once = history.watches[STORY_ONCE]
    once.events = [WatchEvent(RESYNC, "/a", 3, once.events[0].arrived_ns)]
    history.facts.oldest_zxid = 4

    assert check(history) == []


def test_a_one_shot_watch_for_existence_fires_on_the_creation() -> None:
    service = HonestService()
    service.open("ann")
    watch = service.watch("ann", "/a", ONCE_EXISTS)
    service.do("ann", Create("/a"))
    service.do("ann", Delete("/a"))
    assert len(watch.events) == 1
    assert check(service.history) == []

    watch.events.clear()

    assert invariants(service.history) == ["W2"]


def test_a_watch_that_was_never_confirmed_has_no_gaps_from_its_first_event_on() -> None:
    history = story().history
    stream = history.watches[STORY_STREAM]
    stream.set_ns = stream.set_zxid = None
    del stream.events[0]
    assert check(history) == []

    stream.events[0].value = b"wrong"

    assert invariants(history) == ["W5"]


def test_a_watch_without_events_that_was_never_confirmed_proves_nothing() -> None:
    history = story().history
    stream = history.watches[STORY_STREAM]
    stream.set_ns = stream.set_zxid = None
    stream.events.clear()

    assert check(history) == []

"""Which watches a change fires. ZooKeeper's table (what fires), plus streams."""

from __future__ import annotations

import pytest

from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.types import Stat
from coordsvc.watch.registry import Watch, WatchKind, WatchRegistry

CREATED, CHANGED, DELETED, CHILDREN = 0, 1, 2, 3
STAT = Stat(1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0)


def change(kind: ChangeType, path: str, zxid: int = 1) -> Change:
    return Change(kind, path, zxid, b"", STAT)


def registry_with(*watches: tuple[WatchKind, str]) -> WatchRegistry:
    registry = WatchRegistry()
    for number, (kind, path) in enumerate(watches, start=1):
        registry.add(Watch(1, number, path, kind, with_values=False))
    return registry


def fired(registry: WatchRegistry, *changes: Change) -> list[tuple[int, int, str]]:
    """(watch id, event type, path) of each firing."""
    return [
        (watch.watch_id, firing.event_type, firing.path)
        for firing in registry.match(changes)
        for watch in firing.audience.watches
    ]


@pytest.mark.parametrize(
    ("kind", "on_created", "on_changed", "on_deleted"),
    [
        (WatchKind.STREAM, [CREATED], [CHANGED], [DELETED]),
        (WatchKind.STREAM_RECURSIVE, [CREATED], [CHANGED], [DELETED]),
        (WatchKind.ONCE_DATA, [], [CHANGED], [DELETED]),
        (WatchKind.ONCE_EXISTS, [CREATED], [CHANGED], [DELETED]),
        (WatchKind.ONCE_CHILDREN, [], [], [DELETED]),
    ],
)
def test_what_fires_at_the_path_itself(
    kind: WatchKind, on_created: list[int], on_changed: list[int], on_deleted: list[int]
) -> None:
    expected = dict(zip(ChangeType, (on_created, on_changed, on_deleted), strict=True))
    for change_type, events in expected.items():
        registry = registry_with((kind, "/a/b"))
        assert fired(registry, change(change_type, "/a/b")) == [(1, event, "/a/b") for event in events]


@pytest.mark.parametrize("change_type", [ChangeType.CREATED, ChangeType.DELETED])
def test_the_parent_hears_of_children_that_come_and_go(change_type: ChangeType) -> None:
    registry = registry_with((WatchKind.STREAM, "/a"), (WatchKind.ONCE_CHILDREN, "/a"))
    assert fired(registry, change(change_type, "/a/b")) == [(1, CHILDREN, "/a"), (2, CHILDREN, "/a")]


def test_the_parent_hears_nothing_of_a_childs_value() -> None:
    registry = registry_with((WatchKind.STREAM, "/a"), (WatchKind.ONCE_CHILDREN, "/a"))
    assert fired(registry, change(ChangeType.CHANGED, "/a/b")) == []


def test_the_grandparent_hears_nothing_but_for_a_recursive_watch() -> None:
    registry = registry_with((WatchKind.STREAM, "/"), (WatchKind.STREAM_RECURSIVE, "/"))
    assert fired(registry, change(ChangeType.CREATED, "/a/b")) == [(2, CREATED, "/a/b")]


def test_a_recursive_watch_does_not_reach_beside_its_path() -> None:
    registry = registry_with((WatchKind.STREAM_RECURSIVE, "/a"))
    assert fired(registry, change(ChangeType.CREATED, "/ab"), change(ChangeType.CREATED, "/b/a")) == []


def test_children_of_the_root_are_told_at_the_root() -> None:
    registry = registry_with((WatchKind.ONCE_CHILDREN, "/"))
    assert fired(registry, change(ChangeType.CREATED, "/a")) == [(1, CHILDREN, "/")]


def test_one_transaction_tells_of_the_children_once_and_the_next_one_again() -> None:
    registry = registry_with((WatchKind.STREAM, "/a"))
    changes = [
        change(ChangeType.CREATED, "/a/b"),
        change(ChangeType.CREATED, "/a/c"),
        change(ChangeType.DELETED, "/a/b", zxid=2),
    ]
    assert fired(registry, *changes) == [(1, CHILDREN, "/a")] * 2


def test_one_shots_are_spent_by_their_first_event() -> None:
    registry = registry_with((WatchKind.ONCE_EXISTS, "/a"))
    assert len(fired(registry, change(ChangeType.CREATED, "/a"), change(ChangeType.CHANGED, "/a"))) == 1
    assert registry.count == 0


def test_removed_watches_are_silent_and_leave_nothing() -> None:
    registry = WatchRegistry()
    watch = Watch(1, 1, "/a", WatchKind.STREAM, with_values=False)
    registry.add(watch)
    registry.remove(watch)
    registry.remove(watch)
    assert fired(registry, change(ChangeType.CREATED, "/a")) == []
    assert (registry.count, registry.watches()) == (0, [])


def test_the_watches_of_a_connection_are_told_together() -> None:
    registry = WatchRegistry()
    for number in (1, 2, 3):
        registry.add(Watch(7, number, "/a", WatchKind.STREAM, with_values=True))
    registry.add(Watch(8, 1, "/a", WatchKind.STREAM, with_values=True))
    registry.add(Watch(8, 2, "/a", WatchKind.STREAM, with_values=False))

    firings = registry.match([change(ChangeType.CHANGED, "/a")])

    assert [
        (firing.audience.connection, [watch.watch_id for watch in firing.audience.watches])
        for firing in firings
    ] == [(7, [1, 2, 3]), (8, [1]), (8, [2])]


def test_an_audience_stays_the_same_while_no_watch_comes_or_goes() -> None:
    registry = registry_with((WatchKind.STREAM, "/a"))
    (first,) = registry.match([change(ChangeType.CHANGED, "/a", 1)])
    (second,) = registry.match([change(ChangeType.CHANGED, "/a", 2)])
    assert second.audience is first.audience

    late = Watch(1, 9, "/a", WatchKind.STREAM, with_values=False)
    registry.add(late)
    assert fired(registry, change(ChangeType.CHANGED, "/a", 3)) == [(1, CHANGED, "/a"), (9, CHANGED, "/a")]
    registry.remove(late)
    assert fired(registry, change(ChangeType.CHANGED, "/a", 4)) == [(1, CHANGED, "/a")]

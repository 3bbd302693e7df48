"""Where a watch resumes, and which replayed events are no news."""

from __future__ import annotations

from coordclient.types import Event, EventType
from coordclient.watch_records import ONCE_DATA, STREAM, WatchRecord, WatchTable
from coordproto.v1 import data_pb2


def event(zxid: int, kind: EventType = EventType.CHANGED) -> Event:
    return Event(kind, "/a", zxid)


def record(*, since: int | None = None, is_set: bool = True) -> WatchRecord:
    return WatchRecord("/a", STREAM, lambda event: None, since=since, is_set=is_set)


def test_a_watch_resumes_from_what_was_answered() -> None:
    watch = record(since=3)
    watch.settle(10)

    assert watch.since == 10


def test_what_was_answered_says_nothing_about_a_watch_that_was_not_set() -> None:
    watch = record(since=3, is_set=False)
    watch.settle(10)

    assert watch.since == 3


def test_a_watch_from_now_on_that_was_not_set_still_begins_with_now() -> None:
    watch = record(is_set=False)
    watch.settle(10)

    assert watch.since is None


def test_the_latest_transaction_may_be_incomplete() -> None:
    watch = record(since=3)
    assert all(watch.accept(event(7)) for _ in range(2))
    watch.settle(0)

    assert watch.since == 6
    assert [watch.accept(event(7)) for _ in range(4)] == [False, False, True, True]


def test_a_replay_that_breaks_off_does_not_forget_what_came_before() -> None:
    watch = record(since=3)
    assert all(watch.accept(event(7)) for _ in range(3))
    watch.settle(0)
    assert not watch.accept(event(7))
    watch.settle(0)

    assert [watch.accept(event(7)) for _ in range(4)] == [False, False, False, True]


def test_a_later_transaction_completes_the_one_before() -> None:
    watch = record(since=3)
    watch.accept(event(7))
    watch.accept(event(9))
    watch.settle(0)

    assert watch.since == 8
    assert not watch.accept(event(7))


def test_a_resync_is_a_new_beginning() -> None:
    watch = record(since=3)
    assert watch.accept(event(50, EventType.RESYNC))
    watch.settle(0)

    assert watch.since == 50
    assert not watch.accept(event(50))
    assert watch.accept(event(51))


def test_ids_are_never_used_twice() -> None:
    table = WatchTable()
    first, second = record(), record()
    table.add(first)
    table.cancel(first, 0)
    table.add(second)
    table.add(first)

    assert len({first.watch_id, second.watch_id, 0}) == 3


def test_a_one_shot_watch_is_gone_after_its_event() -> None:
    table = WatchTable()
    watch = WatchRecord("/a", ONCE_DATA, lambda event: None)
    table.add(watch)
    table.answered(watch, 3)
    delivery = data_pb2.Delivery(
        watch_ids=[watch.watch_id], event=data_pb2.Event(type=data_pb2.CHANGED, path="/a", zxid=4)
    )

    assert table.deliver(delivery)[1] == [watch]
    assert table.deliver(delivery)[1] == []
    assert len(table) == 0


def test_a_watch_set_after_its_cancellation_is_cancelled_again() -> None:
    table = WatchTable()
    delivery = data_pb2.Delivery(watch_ids=[9], event=data_pb2.Event(path="/a", zxid=4))
    table.deliver(delivery)

    assert table.take_cancelled() == [9]
    assert table.take_cancelled() == []

"""Watches that come back get what they missed: no gap, nothing twice, in order. Promise G6."""

from __future__ import annotations

from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.types import Stat
from coordsvc.watch.catchup import CatchUp
from coordsvc.watch.registry import RESYNC_EVENT, Firing, Watch, WatchKind

STAT = Stat(1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0)


def changes(*zxids: int) -> list[Change]:
    return [Change(ChangeType.CHANGED, "/a", zxid, b"", STAT) for zxid in zxids]


def watch(watch_id: int, since: int, kind: WatchKind = WatchKind.STREAM) -> Watch:
    return Watch(1, watch_id, "/a", kind, with_values=False, since=since)


def told(firings: list[Firing]) -> list[tuple[int, int]]:
    return [(watch.watch_id, firing.zxid) for firing in firings for watch in firing.audience.watches]


def test_each_watch_gets_what_came_after_its_own_zxid() -> None:
    catch_up = CatchUp(cursor=1)
    for watch_id, since in ((1, 1), (2, 3)):
        catch_up.add(watch(watch_id, since))
    assert told(catch_up.replay(changes(2, 3, 4))) == [(1, 2), (1, 3), (1, 4), (2, 4)]


def test_the_cursor_moves_so_that_the_next_slice_follows() -> None:
    catch_up = CatchUp(cursor=0)
    catch_up.add(watch(1, 0))
    catch_up.replay(changes(1, 2))
    assert catch_up.cursor == 2
    assert told(catch_up.replay(changes(3))) == [(1, 3)]


def test_going_back_for_a_newcomer_tells_the_others_nothing_twice() -> None:
    catch_up = CatchUp(cursor=0)
    catch_up.add(watch(1, 0))
    catch_up.replay(changes(1, 2, 3))
    catch_up.rewind(1)
    catch_up.add(watch(2, 1))
    assert told(catch_up.replay(changes(2, 3, 4))) == [(2, 2), (2, 3), (2, 4), (1, 4)]


def test_lost_history_is_said_once_to_those_who_needed_it() -> None:
    catch_up = CatchUp(cursor=1)
    catch_up.add(watch(1, 1))
    catch_up.add(watch(2, 8))
    firings = catch_up.skip_to(5)
    assert told(firings) == [(1, catch_up.cursor)]
    assert [firing.event_type for firing in firings] == [RESYNC_EVENT]
    assert told(catch_up.replay(changes(6, 9))) == [(1, 6), (1, 9), (2, 9)]


def test_a_one_shot_that_is_told_to_resync_is_spent() -> None:
    catch_up = CatchUp(cursor=1)
    catch_up.add(watch(1, 1, WatchKind.ONCE_DATA))
    assert len(catch_up.skip_to(5)) == 1
    assert catch_up.watches() == []


def test_a_one_shot_fires_once_in_a_replay() -> None:
    catch_up = CatchUp(cursor=0)
    catch_up.add(watch(1, 0, WatchKind.ONCE_DATA))
    assert told(catch_up.replay(changes(1, 2, 3))) == [(1, 1)]
    assert catch_up.watches() == []

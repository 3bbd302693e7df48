"""The session core and its watches: resumed without a gap or a repeat, over connections and sessions."""

from __future__ import annotations

import pytest

from coordclient.pipeline import Operation
from coordproto.v1 import coordination_pb2, data_pb2
from tests.unit.client.core_driver import FAR, TIMEOUT_S, CoreDriver


@pytest.fixture
def attached() -> CoreDriver:
    service = CoreDriver()
    service.attach()
    service.states()
    return service


def test_a_watch_is_resumed_from_what_its_session_has_seen(attached: CoreDriver) -> None:
    record = attached.watch(zxid=5)
    attached.submit_get()
    attached.answer_get(attached.sent().reads[0].id, zxid=30)

    (resumed,) = attached.reconnect().watches

    assert (resumed.watch_id, resumed.path, resumed.since) == (record.watch_id, "/a", 30)


def test_a_watch_that_was_not_confirmed_is_set_anew(attached: CoreDriver) -> None:
    record = attached.watch(zxid=5)
    attached.core.cancel_watch(record)
    attached.core.watches.add(record)
    attached.core.submit(Operation(FAR, read=coordination_pb2.Read(watch=record.message()), watch=record))
    attached.sent()

    asked = attached.reconnect()

    assert list(asked.watches) == []
    assert [read.watch.watch_id for read in attached.sent().reads] == [record.watch_id]


def test_the_rest_of_a_transaction_is_not_lost_and_its_beginning_not_repeated(attached: CoreDriver) -> None:
    """Four changes of one transaction; the connection breaks after two of them."""
    record = attached.watch(zxid=5)
    attached.event(record, 9, "/a/1")
    attached.event(record, 9, "/a/2")
    (resumed,) = attached.reconnect().watches
    assert resumed.since == 8

    for name in "1234":
        attached.event(record, 9, f"/a/{name}")

    assert attached.events() == [("/a/1", 9), ("/a/2", 9), ("/a/3", 9), ("/a/4", 9)]


def test_cancelled_watches_are_taken_off_the_service(attached: CoreDriver) -> None:
    record = attached.watch(zxid=5)
    attached.core.cancel_watch(record)

    assert list(attached.sent().cancelled_watches) == [record.watch_id]
    attached.event(record, 9)
    assert attached.events() == []


def test_streams_live_on_in_the_next_session(attached: CoreDriver) -> None:
    record = attached.watch(zxid=5)
    attached.core.connection_lost()
    attached.pass_time(20)
    (resumed,) = attached.attach(session_id=8).watches

    assert resumed.since == 5
    attached.event(record, 6)
    assert attached.events() == [("/a", 6)]


def test_an_idle_watcher_asks_how_far_it_is_with_its_ping(attached: CoreDriver) -> None:
    """Else its place would fall out of the history that is kept, although it has missed nothing."""
    attached.watch(zxid=5)
    attached.pass_time(TIMEOUT_S / 3)
    attached.sent()
    attached.say(pong=1)
    attached.pass_time(TIMEOUT_S / 3)
    (read,) = attached.sent().reads
    attached.say(read=data_pb2.ReadResult(id=read.id, zxid=1000, absent=True))

    (resumed,) = attached.reconnect().watches
    assert resumed.since == 1000


def test_what_comes_over_a_connection_that_is_given_up_is_told_once(attached: CoreDriver) -> None:
    """The session is lost while it is being attached; the answer, with a replay behind it, comes too late."""
    record = attached.watch(zxid=5)
    attached.event(record, 9)
    attached.core.connection_lost()
    attached.begin_attach()
    attached.pass_time(20)
    attached.accept(session_id=7)
    attached.event(record, 9)
    attached.event(record, 10)
    attached.core.attach_failed()

    (resumed,) = attached.attach(session_id=8).watches
    for zxid in (9, 10, 11):
        if resumed.since < zxid:
            attached.event(record, zxid)

    assert attached.events() == [("/a", 9), ("/a", 10), ("/a", 11)]

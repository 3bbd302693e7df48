"""The session core: numbering, re-sending, exactly once, resuming, and when the session is lost."""

from __future__ import annotations

import pytest

from coordclient.errors import ClientClosedError, RequestTimeoutError, SessionExpiredError
from coordclient.pipeline import IN_FLIGHT_MAX, Operation
from coordclient.states import State
from coordproto.v1 import coordination_pb2, data_pb2
from tests.unit.client.core_driver import FAR, TIMEOUT_S, CoreDriver, values


@pytest.fixture
def service() -> CoreDriver:
    return CoreDriver()


@pytest.fixture
def attached(service: CoreDriver) -> CoreDriver:
    service.attach()
    service.states()
    return service


# ---------------------------------------------------------------------------------------------
# Sending


def test_first_attach_asks_for_a_new_session(service: CoreDriver) -> None:
    asked = service.attach()

    assert asked.session_id == 0
    assert asked.timeout_ms == 10_000
    assert service.core.session_id == 7
    assert service.core.endpoints == ("a:1", "b:1")
    assert service.states() == [State.CONNECTED]


def test_nothing_is_sent_before_the_session_is_attached(service: CoreDriver) -> None:
    service.submit_set(b"1")

    assert service.sends_nothing()

    service.attach()
    assert values(service.sent()) == [b"1"]


def test_everything_that_waits_leaves_in_one_frame(attached: CoreDriver) -> None:
    for number in range(100):
        attached.submit_set(b"%d" % number)
    attached.submit_get()

    frame = attached.sent()

    assert len(frame.writes.writes) == 100
    assert len(frame.reads) == 1
    assert attached.sends_nothing()


def test_writes_are_numbered_without_gaps(attached: CoreDriver) -> None:
    attached.submit_set(b"1")
    attached.submit_set(b"2")
    first = attached.sent()
    attached.submit_set(b"3")
    second = attached.sent()

    assert (first.first_sequence, len(first.writes.writes)) == (1, 2)
    assert second.first_sequence == 3


def test_a_read_stands_after_the_writes_sent_before_it(attached: CoreDriver) -> None:
    attached.submit_get()
    attached.submit_set(b"1")
    attached.submit_get()

    before, after = attached.sent().reads

    assert (before.after_sequence, after.after_sequence) == (0, 1)
    assert 0 != before.id != after.id


def test_answers_reach_the_operations_that_they_belong_to(attached: CoreDriver) -> None:
    write = attached.submit_set(b"1")
    read = attached.submit_get()
    number = attached.sent().reads[0].id

    attached.answer_get(number, zxid=3)
    attached.answer_write(1, zxid=4)

    (first, _), (second, _) = attached.outcomes()
    assert (first, second) == (read, write)
    assert attached.core.last_zxid == 4


def test_answered_writes_are_acknowledged(attached: CoreDriver) -> None:
    for number in range(3):
        attached.submit_set(b"%d" % number)
    attached.sent()
    attached.answer_write(1)
    attached.answer_write(2)
    attached.submit_get()

    assert attached.sent().acknowledged_sequence == 2

    attached.answer_write(3)
    attached.submit_get()
    assert attached.sent().acknowledged_sequence == 3


def test_large_answers_are_acknowledged_even_if_nothing_else_is_to_be_sent(attached: CoreDriver) -> None:
    """The service keeps them for repeats, and takes no more writes when it keeps too much."""
    for _ in range(3):
        attached.submit_set(b"1")
    attached.sent()
    node = data_pb2.OpResult(node=data_pb2.Node(value=b"x" * 600_000))
    for sequence in (1, 2):
        assert attached.sends_nothing()
        transaction = data_pb2.TransactionResult(results=[node])
        attached.say(write=data_pb2.WriteResult(sequence=sequence, transaction=transaction))

    assert attached.sent().acknowledged_sequence == 2
    assert attached.sends_nothing()


def test_no_more_than_the_limit_is_in_flight(attached: CoreDriver) -> None:
    for number in range(IN_FLIGHT_MAX + 5):
        attached.submit_set(b"%d" % number)

    assert sum(attached.frames_sent()) == IN_FLIGHT_MAX

    attached.answer_write(1)
    attached.answer_write(2)
    assert values(attached.sent()) == [b"%d" % number for number in (IN_FLIGHT_MAX, IN_FLIGHT_MAX + 1)]


def test_frames_stay_below_the_limit_of_the_service(attached: CoreDriver) -> None:
    for _ in range(10):
        attached.submit_set(b"x" * 900_000)

    sizes = []
    while (frame := attached.core.take_frame(attached.now)) is not None:
        sizes.append(len(frame))

    assert sum(sizes) > 9_000_000
    assert max(sizes) < 4 << 20


def test_what_is_sent_again_keeps_to_the_limit_too(attached: CoreDriver) -> None:
    for number in range(IN_FLIGHT_MAX):
        attached.submit_set(b"%d" % number)
    attached.frames_sent()
    attached.core.frame_refused("too much")
    attached.reconnect()

    assert sum(attached.frames_sent()) == IN_FLIGHT_MAX // 2
    attached.answer_write(1)
    assert values(attached.sent()) == [b"%d" % (IN_FLIGHT_MAX // 2)]


def test_a_refused_frame_is_followed_by_smaller_ones(attached: CoreDriver) -> None:
    """A service may be configured with lower limits than ours."""
    for number in range(100):
        attached.submit_set(b"%d" % number)
    sent = attached.frames_sent()
    while max(sent) > 3:
        attached.say(error=data_pb2.Error(code=data_pb2.LIMIT_EXCEEDED, message="too many"))
        assert attached.core.broken == "too many"
        attached.reconnect()
        sent = attached.frames_sent()

    assert attached.core.session_id == 7
    attached.answer_write(1)


def test_a_session_whose_frames_are_never_taken_is_given_up(attached: CoreDriver) -> None:
    """Else one operation that the service cannot take would stop all others for ever."""
    attached.submit_set(b"poison")
    while attached.core.session_id:
        attached.sent()
        attached.say(error=data_pb2.Error(code=data_pb2.MALFORMED, message="no"))
        if attached.core.session_id:
            attached.reconnect()

    ((_, error),) = attached.outcomes()
    assert isinstance(error, SessionExpiredError)


def test_bytes_in_flight_are_bounded(attached: CoreDriver) -> None:
    for _ in range(40):
        attached.submit_set(b"x" * 1_000_000)

    sent = 0
    while (frame := attached.core.take_frame(attached.now)) is not None:
        sent += len(frame)

    assert sent < 20 << 20


# ---------------------------------------------------------------------------------------------
# Reconnecting


def test_unanswered_writes_are_sent_again_with_their_old_numbers(attached: CoreDriver) -> None:
    for number in range(4):
        attached.submit_set(b"%d" % number)
    attached.sent()
    attached.answer_write(1)

    asked = attached.reconnect()
    frame = attached.sent()

    assert asked.session_id == 7
    assert asked.secret == b"secret"
    assert (frame.first_sequence, values(frame)) == (2, [b"1", b"2", b"3"])


def test_a_repeated_answer_is_ignored(attached: CoreDriver) -> None:
    first = attached.submit_set(b"1")
    attached.sent()
    attached.answer_write(1)
    attached.answer_write(1)
    second = attached.submit_set(b"2")
    attached.sent()
    attached.answer_write(1)
    attached.answer_write(2)

    assert [operation for operation, _ in attached.outcomes()] == [first, second]


def test_operations_of_both_kinds_are_sent_again_in_their_old_order(attached: CoreDriver) -> None:
    attached.submit_get("/before")
    attached.submit_set(b"1")
    attached.submit_get("/after")
    attached.sent()
    waiting = attached.submit_set(b"2")

    attached.reconnect()
    frame = attached.sent()

    assert [(read.get.path, read.after_sequence) for read in frame.reads] == [("/before", 0), ("/after", 1)]
    assert (frame.first_sequence, values(frame)) == (1, [b"1", b"2"])
    assert waiting.sequence == 2


def test_the_new_member_is_told_how_much_was_seen(attached: CoreDriver) -> None:
    attached.submit_set(b"1")
    attached.sent()
    attached.answer_write(1, zxid=42)

    assert attached.reconnect().last_zxid == 42


def test_a_write_that_timed_out_is_still_sent_again(attached: CoreDriver) -> None:
    """Its number is taken: without it the writes after it could never be applied."""
    attached.submit_set(b"late", deadline=attached.now + 1)
    attached.sent()
    attached.pass_time(1.5)
    attached.submit_set(b"next")

    attached.reconnect()

    assert values(attached.sent()) == [b"late", b"next"]


def test_a_refusal_in_passing_sends_the_write_again_over_a_new_connection(attached: CoreDriver) -> None:
    operation = attached.submit_set(b"1")
    attached.sent()
    error = data_pb2.Error(code=data_pb2.SEQUENCE_GAP, message="gap")
    attached.say(write=data_pb2.WriteResult(sequence=1, error=error))

    assert attached.core.broken == "gap"
    assert attached.outcomes() == []

    attached.reconnect()
    assert values(attached.sent()) == [b"1"]
    attached.answer_write(1)
    assert [done for done, _ in attached.outcomes()] == [operation]
    assert attached.states() == [], "nobody need know"


def test_a_read_that_was_refused_in_passing_is_tried_again(attached: CoreDriver) -> None:
    attached.submit_get()
    number = attached.sent().reads[0].id
    error = data_pb2.Error(code=data_pb2.NO_LEADER, message="no leader")
    attached.say(read=data_pb2.ReadResult(id=number, error=error))

    assert attached.sends_nothing()
    attached.pass_time(0.2)

    assert [read.id for read in attached.sent().reads] == [number]


def test_an_answer_out_of_order_ends_the_connection(attached: CoreDriver) -> None:
    attached.submit_set(b"1")
    attached.submit_set(b"2")
    attached.sent()
    attached.answer_write(2)

    assert "before write 1" in attached.core.broken
    assert attached.outcomes() == []


# ---------------------------------------------------------------------------------------------
# States


def test_a_lost_connection_suspends_and_a_new_one_connects(attached: CoreDriver) -> None:
    attached.reconnect()

    assert attached.states() == [State.SUSPENDED, State.CONNECTED]


def test_moving_is_not_announced_when_it_succeeds(attached: CoreDriver) -> None:
    attached.say(move=coordination_pb2.Move(reason="stopping"))
    assert "stopping" in attached.core.broken

    attached.reconnect()

    assert attached.states() == []
    assert attached.core.broken == ""


def test_moving_is_announced_when_it_fails(attached: CoreDriver) -> None:
    attached.say(move=coordination_pb2.Move(reason="stopping"))
    attached.core.connection_lost()
    attached.begin_attach()
    attached.core.attach_failed()

    assert attached.states() == [State.SUSPENDED]


def test_being_attached_elsewhere_ends_the_connection_and_not_the_session(attached: CoreDriver) -> None:
    attached.say(error=data_pb2.Error(code=data_pb2.SESSION_MOVED, message="moved"))
    attached.reconnect()

    assert attached.core.session_id == 7
    assert attached.states() == []


def test_the_session_is_lost_locally_when_it_was_not_renewed_in_time(attached: CoreDriver) -> None:
    pending = attached.submit_set(b"1")
    attached.sent()
    attached.core.connection_lost()
    assert attached.core.valid_until == 100 + 0.9 * TIMEOUT_S

    attached.pass_time(0.9 * TIMEOUT_S - 0.01)
    assert attached.states() == [State.SUSPENDED]
    attached.pass_time(0.02)

    assert attached.states() == [State.LOST]
    ((operation, error),) = attached.outcomes()
    assert operation is pending
    assert isinstance(error, SessionExpiredError)
    assert error.may_have_been_applied


def test_lost_is_said_once_and_before_the_new_session(attached: CoreDriver) -> None:
    attached.core.connection_lost()
    attached.pass_time(20)
    attached.pass_time(20)
    assert attached.core.session_id == 0
    asked = attached.attach(session_id=8)

    assert asked.session_id == 0
    assert attached.states() == [State.SUSPENDED, State.LOST, State.CONNECTED]
    assert attached.core.session_id == 8


def test_the_service_says_that_the_session_has_expired(attached: CoreDriver) -> None:
    attached.core.connection_lost()
    attached.begin_attach()
    attached.say(error=data_pb2.Error(code=data_pb2.SESSION_EXPIRED, message="unknown session"))

    assert attached.states() == [State.SUSPENDED, State.LOST]
    assert attached.core.broken == "unknown session"


def test_an_attach_answered_after_the_loss_does_not_bring_the_session_back(attached: CoreDriver) -> None:
    attached.core.connection_lost()
    attached.begin_attach()
    attached.pass_time(20)
    attached.accept(session_id=7)

    assert not attached.core.is_attached
    assert attached.core.session_id == 0
    assert attached.states() == [State.SUSPENDED, State.LOST]


def test_writes_begin_at_one_in_a_new_session(attached: CoreDriver) -> None:
    attached.submit_set(b"old")
    attached.sent()
    attached.core.connection_lost()
    attached.pass_time(20)
    attached.submit_set(b"submitted after the loss")
    attached.attach(session_id=8)

    frame = attached.sent()
    assert (frame.first_sequence, values(frame)) == (1, [b"submitted after the loss"])


def test_what_was_not_sent_fails_with_the_session_and_was_certainly_not_applied(attached: CoreDriver) -> None:
    attached.core.connection_lost()
    attached.submit_set(b"waiting")
    attached.pass_time(20)

    ((_, error),) = attached.outcomes()
    assert isinstance(error, SessionExpiredError)
    assert not error.may_have_been_applied


def test_closing_comes_after_everything_that_was_submitted(attached: CoreDriver) -> None:
    attached.submit_set(b"1")
    attached.core.close()
    frame = attached.sent()
    assert (values(frame), frame.close) == ([b"1"], True)

    attached.answer_write(1)
    attached.say(closed=True)

    assert len(attached.outcomes()) == 1
    assert attached.states() == [State.CLOSED]


def test_giving_up_fails_what_is_pending(attached: CoreDriver) -> None:
    attached.submit_get()
    attached.core.give_up()

    ((_, error),) = attached.outcomes()
    assert isinstance(error, ClientClosedError)
    assert attached.states() == [State.CLOSED]


# ---------------------------------------------------------------------------------------------
# Pings


def test_a_ping_leaves_every_third_of_the_timeout(attached: CoreDriver) -> None:
    assert attached.sends_nothing()
    attached.pass_time(TIMEOUT_S / 3)

    assert attached.sent().ping == 1
    assert attached.sends_nothing()


def test_a_pong_extends_from_the_moment_the_ping_was_sent(attached: CoreDriver) -> None:
    attached.pass_time(TIMEOUT_S / 3)
    sent_at = attached.now
    attached.sent()
    attached.now += 3
    attached.say(pong=1)

    assert attached.core.valid_until == sent_at + 0.9 * TIMEOUT_S


def test_a_member_that_does_not_answer_pings_is_left(attached: CoreDriver) -> None:
    attached.pass_time(TIMEOUT_S / 3)
    attached.sent()
    attached.pass_time(0.41 * TIMEOUT_S)

    assert "did not answer a ping" in attached.core.broken
    assert attached.core.session_id == 7, "the session lives on elsewhere"


def test_a_member_that_owes_answers_and_says_nothing_is_asked_early(attached: CoreDriver) -> None:
    attached.pass_time(2)
    attached.submit_get()
    assert attached.sent().ping == 0
    attached.pass_time(0.9)
    assert attached.sends_nothing()
    attached.pass_time(0.2)

    assert attached.sent().ping == 1


def test_the_core_says_when_it_must_be_woken(attached: CoreDriver) -> None:
    assert attached.core.next_wakeup() == 100 + TIMEOUT_S / 3

    attached.submit_get(deadline=101.5)
    assert attached.core.next_wakeup() == 101.5


# ---------------------------------------------------------------------------------------------
# Deadlines


def test_a_read_that_is_not_answered_in_time_fails(attached: CoreDriver) -> None:
    operation = attached.submit_get(deadline=attached.now + 1)
    attached.sent()
    attached.pass_time(0.9)
    assert attached.outcomes() == []
    attached.pass_time(0.2)

    ((timed_out, error),) = attached.outcomes()
    assert timed_out is operation
    assert isinstance(error, RequestTimeoutError)
    assert not error.may_have_been_applied


def test_a_write_that_times_out_says_whether_it_was_sent(service: CoreDriver) -> None:
    service.submit_set(b"1", deadline=service.now + 1)
    service.pass_time(2)
    ((_, unsent),) = service.outcomes()
    service.attach()
    service.submit_set(b"2", deadline=service.now + 1)
    service.sent()
    service.pass_time(2)
    ((_, sent),) = service.outcomes()

    assert isinstance(unsent, RequestTimeoutError)
    assert isinstance(sent, RequestTimeoutError)
    assert (unsent.may_have_been_applied, sent.may_have_been_applied) == (False, True)


def test_a_timeout_names_the_last_refusal(attached: CoreDriver) -> None:
    attached.submit_get(deadline=attached.now + 1)
    number = attached.sent().reads[0].id
    error = data_pb2.Error(code=data_pb2.NO_LEADER, message="no leader is known")
    attached.say(read=data_pb2.ReadResult(id=number, error=error))
    attached.pass_time(2)

    ((_, outcome),) = attached.outcomes()
    assert "no leader is known" in str(outcome)


def test_an_operation_that_was_abandoned_before_it_was_sent_uses_no_number(attached: CoreDriver) -> None:
    abandoned = attached.submit_set(b"1")
    attached.core.abandon(abandoned)
    attached.submit_set(b"2")
    frame = attached.sent()

    assert (frame.first_sequence, values(frame)) == (1, [b"2"])


def test_abandoned_reads_stay_in_flight_until_they_are_answered(attached: CoreDriver) -> None:
    """The service counts them against the session's limit."""
    for operation in [attached.submit_get() for _ in range(IN_FLIGHT_MAX)]:
        attached.core.abandon(operation)
    reads = [attached.submit_get() for _ in range(IN_FLIGHT_MAX)]
    attached.frames_sent()
    for operation in reads:
        attached.core.abandon(operation)
    attached.submit_get()
    assert attached.sends_nothing()

    attached.answer_get(reads[0].sequence)
    assert len(attached.sent().reads) == 1


def test_operations_that_time_out_unsent_leave_nothing_behind(service: CoreDriver) -> None:
    for _ in range(100):
        service.submit_set(b"1", deadline=service.now + 1)
    service.pass_time(2)

    assert service.core.pipeline.pending_count == 0


# ---------------------------------------------------------------------------------------------
# Watches


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

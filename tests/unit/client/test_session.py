"""The session core: numbering, re-sending, exactly once, resuming, and when the session is lost."""

from __future__ import annotations

import pytest

from coordclient.errors import ClientClosedError, SessionExpiredError
from coordclient.pipeline import IN_FLIGHT_MAX
from coordclient.states import State
from coordproto.v1 import coordination_pb2, data_pb2
from tests.unit.client.core_driver import TIMEOUT_S, CoreDriver, values


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


def test_the_newest_word_on_where_the_members_are_counts(attached: CoreDriver) -> None:
    attached.say(endpoints=coordination_pb2.Endpoints(endpoints=["b:1", "c:1"]))
    assert attached.core.endpoints == ("b:1", "c:1")

    attached.say(endpoints=coordination_pb2.Endpoints())
    assert attached.core.endpoints == ("b:1", "c:1"), "no word is no news"


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


def test_a_close_that_is_cut_off_is_said_again(attached: CoreDriver) -> None:
    attached.core.close()
    assert attached.sent().close
    attached.reconnect()
    assert attached.sent().close


def test_a_session_that_ends_while_it_is_closed_is_followed_by_none(attached: CoreDriver) -> None:
    """Else a new one would be opened, and left behind until it expires."""
    attached.core.close()
    attached.sent()
    error = data_pb2.Error(code=data_pb2.SESSION_EXPIRED, message="it has ended")
    attached.say(error=error)
    assert attached.core.state is State.CLOSED
    assert attached.core.transitions[-2:] == [State.LOST, State.CLOSED]


def test_giving_up_fails_what_is_pending(attached: CoreDriver) -> None:
    attached.submit_get()
    attached.core.give_up()

    ((_, error),) = attached.outcomes()
    assert isinstance(error, ClientClosedError)
    assert attached.states() == [State.CLOSED]

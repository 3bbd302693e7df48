"""The session core and the clock: pings, silence, deadlines."""

from __future__ import annotations

import pytest

from coordclient.errors import RequestTimeoutError
from coordclient.pipeline import IN_FLIGHT_MAX
from coordclient.states import State
from coordproto.v1 import data_pb2
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
    attached.pass_time(0.4)
    assert attached.sends_nothing()
    attached.pass_time(0.2)

    frame = attached.sent()
    assert frame.ping == 1, "the leader, for the session"
    (probe,) = frame.reads
    assert (probe.consistency, probe.exists.path) == (data_pb2.STALE, "/"), "and the member, for itself"
    assert attached.sends_nothing()


def test_a_member_that_says_nothing_at_all_is_left_soon(attached: CoreDriver) -> None:
    """A stopped process keeps its connections open; who waited for the pong would wait for seconds."""
    attached.submit_get()
    attached.sent()
    attached.pass_time(0.6)
    attached.sent()
    attached.pass_time(0.4)
    assert not attached.core.broken
    attached.pass_time(0.2)

    assert "says nothing" in attached.core.broken


def test_the_only_member_is_not_left(service: CoreDriver) -> None:
    """It is busy, and would have to attach everybody again besides."""
    service.begin_attach()
    service.accept(endpoints=["a:1"])
    service.submit_get()
    service.sent()
    for _ in range(3):
        service.pass_time(0.6)

    assert service.sends_nothing()
    assert not service.core.broken


def test_a_client_that_was_held_up_itself_reads_first(attached: CoreDriver) -> None:
    """The answer came while its process was stopped or its loop was busy, and was not taken in yet."""
    attached.submit_get()
    attached.sent()
    attached.pass_time(0.6)
    (probe,) = attached.sent().reads
    attached.pass_time(2)
    assert not attached.core.broken
    attached.answer_get(probe.id)
    attached.pass_time(0.4)

    assert not attached.core.broken


def test_a_member_that_answers_for_itself_is_kept_while_there_is_no_leader(attached: CoreDriver) -> None:
    attached.submit_set(b"1")
    attached.sent()
    for _ in range(3):
        attached.pass_time(0.6)
        (probe,) = attached.sent().reads
        attached.pass_time(0.4)
        attached.answer_get(probe.id)

    assert not attached.core.broken


def test_a_member_that_owes_nothing_may_be_silent(attached: CoreDriver) -> None:
    attached.pass_time(TIMEOUT_S / 3 - 0.1)

    assert attached.sends_nothing()
    assert not attached.core.broken


def test_a_client_that_closes_asks_nothing_more(attached: CoreDriver) -> None:
    """Closing has a limit of its own; on another connection the session might be over already."""
    attached.submit_get()
    attached.core.close()
    attached.sent()
    attached.pass_time(0.6)

    assert attached.sends_nothing()


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


def test_a_session_whose_time_is_over_cannot_be_renewed_any_more(attached: CoreDriver) -> None:
    """Timers stand still while the machine sleeps, so an answer may come before anybody asks for the time.

    Who holds something has seen by the clock that it is lost; it must not come to life again.
    """
    attached.pass_time(TIMEOUT_S / 3)
    attached.now += TIMEOUT_S
    attached.sent()
    attached.say(pong=1)

    assert attached.states() == [State.LOST]
    assert attached.core.session_id == 0


def test_nor_can_it_be_by_attaching_again(attached: CoreDriver) -> None:
    attached.core.connection_lost()
    attached.now += TIMEOUT_S
    attached.begin_attach()
    attached.accept()

    assert attached.states() == [State.SUSPENDED, State.LOST]

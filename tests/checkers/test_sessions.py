"""The session check accepts honest sessions, and refuses the disordered, the short-lived and the immortal."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest

from coordsvc.statemachine.changes import ChangeType
from coordsvc.statemachine.commands import Create, Delete, Get, Set
from tests.checkers.history import SESSION, STALE, UNKNOWN, History, SessionEnd
from tests.checkers.honest_service import TIMEOUT_MS, HonestService
from tests.checkers.random_history import RandomHistory
from tests.checkers.sessions import check

SECOND_NS = 1_000_000_000


def invariants(history: History) -> list[str]:
    return [violation.invariant for violation in check(history)]


def story() -> HonestService:
    """Ann's session expires, with her ephemerals; Bob sees it."""
    service = HonestService()
    service.open("ann")
    service.open("bob")
    service.do("ann", Create("/a", b"one"))  # zxid 1
    service.do("ann", Set("/a", b"two"))  # zxid 2
    service.do("ann", Get("/a"), consistency=SESSION)
    service.do("ann", Create("/a/e", mode=1))  # zxid 3
    service.do("ann", Create("/a/f", mode=1))  # zxid 4
    service.history.facts.healed_ns = service.now_ns
    service.expire("ann")  # zxid 5
    service.do("bob", Get("/a"))
    service.now_ns += 20 * SECOND_NS
    service.do("bob", Set("/a", b"three"))  # zxid 6
    service.history.facts.finished_ns = service.now_ns
    return service


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("ends_are_known", [True, False])
def test_honest_sessions_are_accepted(seed: int, *, ends_are_known: bool) -> None:
    history = RandomHistory(seed).make(400)
    history.facts.healed_ns = 0
    history.facts.finished_ns = history.sessions[-1].renewed_ns
    assert history.session_ends
    if not ends_are_known:
        history.session_ends.clear()

    assert check(history) == []


def swapped_sequences(history: History) -> None:
    first, second = history.operations[0], history.operations[1]
    first.sequence, second.sequence = second.sequence, first.sequence


def one_sequence_twice(history: History) -> None:
    history.operations[1].sequence = 1


def swapped_effects(history: History) -> None:
    first, second = history.operations[0], history.operations[1]
    first.zxid, second.zxid = second.zxid, first.zxid


def two_answers_one_effect(history: History) -> None:
    history.operations[1].zxid = 1


def own_write_not_read(history: History) -> None:
    history.operations[2].zxid = 1


def pipelined_own_write_not_read(history: History) -> None:
    """Also a read that was sent before the write was answered comes after it."""
    history.operations[2].zxid = 1
    history.operations[2].invoked_ns = history.operations[1].invoked_ns + 1


def time_went_back(history: History) -> None:
    """Bob reads the state at zxid 5, then (by another member) the one at 4."""
    first = history.operations[5]
    second = replace(first, number=first.number, zxid=4, consistency=SESSION)
    assert first.completed_ns is not None
    second.invoked_ns = first.completed_ns + 1
    second.completed_ns = second.invoked_ns + 1
    history.operations.insert(6, second)


def id_used_again(history: History) -> None:
    history.sessions[1].session = history.sessions[0].session


def ended_twice(history: History) -> None:
    history.session_ends.append(SessionEnd(history.sessions[0].session, 6))


def write_after_the_end(history: History) -> None:
    history.operations[6].session = history.sessions[0].session


def write_after_the_close(history: History) -> None:
    history.sessions[1].closed_ns = history.operations[6].invoked_ns - 1


def one_ephemeral_stays(history: History) -> None:
    del history.committed[-2]


def ephemeral_after_the_end(history: History) -> None:
    again = replace(history.committed[2], zxid=7)
    history.committed.append(again)


def expired_early(history: History) -> None:
    history.sessions[0].renewed_ns += TIMEOUT_MS * 1_000_000
    history.sessions[0].valid_until_ns = 0


def expired_while_believed_valid(history: History) -> None:
    record = history.sessions[0]
    record.renewed_ns = 0
    record.lost_ns = None
    record.valid_until_ns += 60 * SECOND_NS


def closed_unasked(history: History) -> None:
    history.session_ends[0].was_closed = True


def never_expired(history: History) -> None:
    """The last word of the committed changes is that the ephemerals live."""
    history.committed = [change for change in history.committed if change.type is not ChangeType.DELETED]
    history.session_ends.clear()


def expired_late(history: History) -> None:
    """Bob still sees the ephemerals long after they should be gone."""
    history.operations[6].zxid = 4


LIES: list[tuple[Callable[[History], None], str]] = [
    (swapped_sequences, "S4"),
    (one_sequence_twice, "S4"),
    (swapped_effects, "S4"),
    (two_answers_one_effect, "S4"),
    (own_write_not_read, "S5"),
    (pipelined_own_write_not_read, "S5"),
    (time_went_back, "S5"),
    (id_used_again, "S6"),
    (ended_twice, "S6"),
    (write_after_the_end, "S1"),
    (write_after_the_close, "S1"),
    (one_ephemeral_stays, "Z8"),
    (ephemeral_after_the_end, "S1"),
    (expired_early, "S2"),
    (expired_while_believed_valid, "S7"),
    (closed_unasked, "S2"),
    (never_expired, "S3"),
    (expired_late, "S3"),
]


@pytest.mark.parametrize(("lie", "invariant"), LIES, ids=lambda part: getattr(part, "__name__", part))
def test_a_lie_is_refused(lie: Callable[[History], None], invariant: str) -> None:
    history = deepcopy(story().history)
    assert check(history) == []

    lie(history)

    assert invariant in invariants(history)


@pytest.mark.parametrize("lie", [expired_early, expired_while_believed_valid, ephemeral_after_the_end])
def test_the_end_of_a_session_is_seen_in_the_changes_too(lie: Callable[[History], None]) -> None:
    history = deepcopy(story().history)
    history.session_ends.clear()
    assert check(history) == []

    lie(history)

    assert invariants(history) != []


def test_a_violation_names_the_session_and_the_operations() -> None:
    history = story().history
    own_write_not_read(history)

    (violation,) = check(history)

    assert violation.records == [history.operations[1], history.operations[2]]
    assert str(violation).startswith("S5: a read at zxid 1 does not see the session's own write before it")
    assert "ann #3 (session 1) Get(path='/a') -> ok at zxid 1" in str(violation)


def test_stale_reads_promise_nothing_about_time() -> None:
    history = story().history
    own_write_not_read(history)
    history.operations[2].consistency = STALE

    assert check(history) == []


def test_a_closed_session_may_end_at_once() -> None:
    service = HonestService()
    service.open("ann")
    service.open("bob")
    service.do("ann", Create("/e", mode=1))
    service.close("ann")
    service.do("bob", Create("/a"))

    assert check(service.history) == []


def test_a_lost_delete_of_the_only_ephemeral_is_no_early_end() -> None:
    service = HonestService()
    service.open("ann")
    service.open("bob")
    service.do("ann", Create("/e", mode=1))
    lost = service.do("bob", Delete("/e"), answered=False)
    service.do("ann", Get("/"))
    assert lost.outcome == UNKNOWN
    assert check(service.history) == []

    service.history.operations.remove(lost)

    assert "S2" in invariants(service.history)


def test_a_clock_that_may_run_fast_excuses_a_session_that_ends_a_little_early() -> None:
    history = story().history
    record = history.sessions[0]
    record.renewed_ns += TIMEOUT_MS * 1_000_000 // 20
    record.valid_until_ns = 0
    assert invariants(history) == ["S2"]

    history.facts.clock_error = 0.1

    assert check(history) == []


def test_nothing_is_late_while_things_are_disturbed() -> None:
    history = story().history
    expired_late(history)
    history.facts.healed_ns = None

    assert "S3" not in invariants(history)

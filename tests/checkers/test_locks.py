"""The lock check accepts an orderly queue, and refuses double grants, borrowed tokens and latecomers."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest

from coordsvc.statemachine.commands import Create, Delete
from coordsvc.statemachine.results import Created
from tests.checkers.history import FencedWrite, History, LockRecord
from tests.checkers.honest_service import STEP_NS, HonestService
from tests.checkers.locks import check, overlaps


def invariants(history: History) -> list[str]:
    return [violation.invariant for violation in check(history)]


def contend(service: HonestService, client: str) -> LockRecord:
    record = LockRecord(client, service.session_of(client), "/lock", service.now_ns)
    result = service.do(client, Create("/lock/n-", mode=3)).result
    assert isinstance(result, Created)
    record.node, record.token = result.path, result.stat.czxid
    service.history.locks.append(record)
    return record


def grant(service: HonestService, record: LockRecord) -> None:
    service.now_ns += STEP_NS
    record.granted_ns = service.now_ns


def release(service: HonestService, record: LockRecord) -> None:
    service.now_ns += STEP_NS
    record.released_ns = record.believed_until_ns = service.now_ns
    service.do(record.client, Delete(record.node))


def fence(service: HonestService, record: LockRecord, *, accepted: bool = True) -> None:
    writes = service.history.fenced_writes
    service.now_ns += STEP_NS
    writes.append(FencedWrite("disk", len(writes) + 1, record.client, record.token, accepted, service.now_ns))


def story() -> HonestService:
    """Ann, Bob and Cid hold the lock in turn. Cid's session expires, and Bob comes late to the resource."""
    service = HonestService()
    service.do("setup", Create("/lock"))
    for client in ("ann", "bob", "cid"):
        service.open(client)
    ann, bob, cid = (contend(service, client) for client in ("ann", "bob", "cid"))
    for record in (ann, bob):
        grant(service, record)
        fence(service, record)
        release(service, record)
    grant(service, cid)
    fence(service, cid)
    fence(service, bob, accepted=False)
    cid.believed_until_ns = cid.lost_ns = service.now_ns
    service.expire("cid")
    again = contend(service, "ann")
    grant(service, again)
    fence(service, again)
    release(service, again)
    return service


def test_an_orderly_queue_is_accepted() -> None:
    assert check(story().history) == []


def test_an_attempt_that_was_never_granted_is_no_holder() -> None:
    service = story()
    contend(service, "bob")

    assert check(service.history) == []


ANN, BOB, CID, AGAIN = range(4)


def granted_too_early(history: History) -> None:
    """Bob was told that he holds the lock before Ann had even begun to release it."""
    ann, bob = history.locks[ANN], history.locks[BOB]
    assert ann.released_ns is not None
    bob.granted_ns = ann.released_ns - 1
    ann.believed_until_ns = bob.granted_ns


def never_released(history: History) -> None:
    """Cid's node lives on, and Ann was granted the lock."""
    history.committed = [
        change
        for change in history.committed
        if change.path != history.locks[CID].node or change.type.name != "DELETED"
    ]


def one_token_for_two(history: History) -> None:
    ann, bob = history.locks[ANN], history.locks[BOB]
    bob.token, bob.node, bob.session = ann.token, ann.node, ann.session


def node_that_never_was(history: History) -> None:
    history.locks[BOB].node = "/lock/n-0000000099"


def node_of_another_life(history: History) -> None:
    history.locks[BOB].token += 1


def node_of_another_session(history: History) -> None:
    history.locks[BOB].session = history.locks[ANN].session


def granted_before_it_was_made(history: History) -> None:
    history.locks[BOB].granted_ns = 1


def node_of_an_earlier_attempt(history: History) -> None:
    """Ann's second attempt takes the node of her first one for its own."""
    first, again = history.locks[ANN], history.locks[AGAIN]
    again.node, again.token = first.node, first.token
    del history.locks[ANN]


def overtaken(history: History) -> None:
    """Ann was granted the lock when Bob had had it already."""
    ann, cid = history.locks[ANN], history.locks[CID]
    assert cid.granted_ns is not None
    ann.granted_ns = cid.granted_ns - 1


def beliefs_overlap(history: History) -> None:
    ann, bob = history.locks[ANN], history.locks[BOB]
    assert bob.granted_ns is not None
    ann.believed_until_ns = bob.granted_ns + 1


def belief_that_spans_two(history: History) -> None:
    ann, cid = history.locks[ANN], history.locks[CID]
    assert cid.granted_ns is not None
    ann.believed_until_ns = cid.granted_ns + 1
    history.locks[BOB].granted_ns = None


def late_write_accepted(history: History) -> None:
    history.fenced_writes[3].accepted = True


def good_write_refused(history: History) -> None:
    history.fenced_writes[1].accepted = False


def borrowed_token(history: History) -> None:
    """Bob writes with Ann's token."""
    history.fenced_writes[0].client = "bob"


def shared_token(history: History) -> None:
    history.locks.clear()
    history.fenced_writes[1].token = history.fenced_writes[0].token


LIES: list[tuple[Callable[[History], None], str]] = [
    (granted_too_early, "K1"),
    (never_released, "K1"),
    (one_token_for_two, "K1"),
    (node_that_never_was, "K1"),
    (node_of_another_life, "K1"),
    (node_of_another_session, "K1"),
    (granted_before_it_was_made, "K1"),
    (node_of_an_earlier_attempt, "K1"),
    (overtaken, "K4"),
    (beliefs_overlap, "K3"),
    (belief_that_spans_two, "K3"),
    (late_write_accepted, "K2"),
    (good_write_refused, "K2"),
    (borrowed_token, "K2"),
    (shared_token, "K2"),
]


@pytest.mark.parametrize(("lie", "invariant"), LIES, ids=lambda part: getattr(part, "__name__", part))
def test_a_lie_is_refused(lie: Callable[[History], None], invariant: str) -> None:
    history = deepcopy(story().history)

    lie(history)

    assert invariant in invariants(history)


def test_a_violation_names_the_holders() -> None:
    history = story().history
    beliefs_overlap(history)

    (violation,) = check(history)

    assert violation.records == history.locks[:2]
    assert "/lock was granted to bob (session 2) with token 3 at" in str(violation)
    assert "while ann (session 1) with token 2 believed until" in str(violation)


def test_an_overlap_with_a_paused_holder_is_told_and_excused() -> None:
    history = story().history
    beliefs_overlap(history)
    history.locks[ANN].was_paused = True

    assert check(history) == []
    assert len(overlaps(history)) == 1


def test_pauses_in_the_whole_run_excuse_overlaps_but_no_double_grant() -> None:
    history = story().history
    beliefs_overlap(history)
    history.facts.has_pauses = True
    assert check(history) == []

    granted_too_early(history)

    assert "K1" in invariants(history)

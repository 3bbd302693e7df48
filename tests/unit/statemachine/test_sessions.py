"""Sessions: identity, order and exactly once, and the ephemerals that live and die with them."""

from __future__ import annotations

import pytest

from coordsvc.statemachine.changes import ChangeType
from coordsvc.statemachine.commands import Create, Delete, Get, Set, Transaction, Write
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.layout import RESULTS, result_key, session_key
from coordsvc.statemachine.machine import Session, StateMachine, WriteStatus
from coordsvc.statemachine.results import Created, ErrorCode, Failure, WasSet
from coordsvc.statemachine.types import CreateMode, Limits
from tests.unit.statemachine.driver import SECRET, Driver, failure


@pytest.fixture
def driver() -> Driver:
    return Driver()


def results_on_disk(driver: Driver) -> int:
    return len(list(driver.store.scan(*RESULTS)))


def last_sequence(driver: Driver, session: Session) -> int:
    return driver.machine.sessions[session.session_id].last_sequence


# -- opening and attaching ----------------------------------------------------------------------


def test_a_session_is_opened_with_what_was_asked_for(driver: Driver) -> None:
    with driver.entry() as machine:
        session = machine.open_session(b"\0secret", 7000, "a program", "member-b", 12)
    assert isinstance(session, Session)
    assert session == Session(1, b"\0secret", 7000, "a program", driver.now_ms, owner=("member-b", 12))
    driver.reload()
    assert driver.machine.sessions == {1: session}


def test_opening_and_attaching_use_no_zxid(driver: Driver) -> None:
    session = driver.open_session()
    with driver.entry() as machine:
        machine.attach_session(session.session_id, SECRET, "other", 2)
    assert driver.machine.zxid == 0


@pytest.mark.parametrize(
    ("wanted", "given"), [(-1, 100), (0, 100), (99, 100), (5000, 5000), (1 << 62, 600_000)]
)
def test_timeouts_are_clamped(driver: Driver, wanted: int, given: int) -> None:
    assert driver.open_session(wanted).timeout_ms == given


def test_session_numbers_are_never_used_again(driver: Driver) -> None:
    """S6, also over a restart."""
    first = driver.open_session()
    second = driver.open_session()
    driver.end_session(second)
    driver.reload()
    third = driver.open_session()
    assert [first.session_id, second.session_id, third.session_id] == [1, 2, 3]


def test_there_are_no_more_sessions_than_allowed() -> None:
    driver = Driver(Limits(sessions=2))
    first = driver.open_session()
    driver.open_session()
    with driver.entry() as machine:
        refusal = failure(machine.open_session(SECRET, 5000, "", "member", 1))
    assert refusal.code == ErrorCode.LIMIT_EXCEEDED
    driver.end_session(first)
    driver.open_session()


@pytest.mark.parametrize(("secret", "name"), [(b"", ""), (bytes(257), ""), (SECRET, "x" * 257)])
def test_secrets_and_names_are_bounded(driver: Driver, secret: bytes, name: str) -> None:
    with driver.entry() as machine:
        assert (
            failure(machine.open_session(secret, 5000, name, "member", 1)).code == ErrorCode.INVALID_ARGUMENT
        )
    assert driver.machine.sessions == {}


@pytest.mark.parametrize("secret", [b"", SECRET[:1], SECRET[:-1], SECRET + b"!", SECRET[:-1] + b"!"])
def test_a_secret_that_is_nearly_right_is_wrong(driver: Driver, secret: bytes) -> None:
    session = driver.open_session()
    with driver.entry() as machine:
        refusal = failure(machine.attach_session(session.session_id, secret, "thief", 1))
    assert refusal.code == ErrorCode.SESSION_EXPIRED


def test_attaching_sets_the_owner(driver: Driver) -> None:
    session = driver.open_session()
    with driver.entry() as machine:
        attached = machine.attach_session(session.session_id, SECRET, "member-c", 99)
    assert isinstance(attached, Session)
    assert attached.owner == ("member-c", 99)
    driver.reload()
    assert driver.machine.sessions[session.session_id].owner == ("member-c", 99)


def test_unknown_sessions_and_wrong_secrets_are_told_apart_by_nothing(driver: Driver) -> None:
    session = driver.open_session()
    ended = driver.open_session()
    driver.end_session(ended)
    with driver.entry() as machine:
        refusals = [
            failure(machine.attach_session(session.session_id, b"wrong", "thief", 1)),
            failure(machine.attach_session(ended.session_id, SECRET, "late", 1)),
            failure(machine.attach_session(777, SECRET, "lost", 1)),
        ]
    assert {refusal.code for refusal in refusals} == {ErrorCode.SESSION_EXPIRED}
    words = {
        refusal.message.replace(str(number), "N")
        for refusal, number in zip(refusals, (session.session_id, ended.session_id, 777), strict=True)
    }
    assert len(words) == 1
    assert driver.machine.sessions[session.session_id].owner == ("member", 1)


# -- exactly once -------------------------------------------------------------------------------


def test_a_repeat_gets_the_first_answer_and_changes_nothing(driver: Driver) -> None:
    session = driver.open_session()
    write = Write(Create("/n-", b"", CreateMode.PERSISTENT_SEQUENTIAL))
    with driver.entry() as machine:
        first = machine.write(session.session_id, 1, write)
        machine.write(0, 0, Write(Create("/between")))
        again = machine.write(session.session_id, 1, write)
    assert (first.status, again.status) == (WriteStatus.APPLIED, WriteStatus.REPEATED)
    assert (again.result, again.zxid, again.changes) == (first.result, 1, [])
    driver.reload()
    with driver.entry() as machine:
        after_restart = machine.write(session.session_id, 1, write)
    assert (after_restart.status, after_restart.result, after_restart.zxid) == (
        WriteStatus.REPEATED,
        first.result,
        1,
    )
    assert driver.children("/") == ["between", "n-0000000000"]


def test_failures_are_answered_again_too(driver: Driver) -> None:
    """Exactly once covers refusals: a repeat must not succeed where the first one was refused."""
    session = driver.open_session()
    set_missing = Write(Set("/a", b"x"))
    with driver.entry() as machine:
        first = machine.write(session.session_id, 1, set_missing)
        machine.write(session.session_id, 2, Write(Create("/a")))
        again = machine.write(session.session_id, 1, set_missing)
    assert failure(first.result).code == ErrorCode.NO_NODE
    assert (again.status, again.result, again.zxid) == (WriteStatus.REPEATED, first.result, 0)
    assert driver.node("/a").value == b""


def test_a_gap_is_refused_and_leaves_no_trace(driver: Driver) -> None:
    session = driver.open_session()
    with driver.entry() as machine:
        outcome = machine.write(session.session_id, 2, Write(Create("/a")))
    assert outcome.status == WriteStatus.GAP
    assert failure(outcome.result).code == ErrorCode.SEQUENCE_GAP
    assert "next is 1" in failure(outcome.result).message
    assert not driver.is_there("/a")
    assert last_sequence(driver, session) == 0
    assert results_on_disk(driver) == 0


@pytest.mark.parametrize("sequence", [0, -1])
def test_sequences_start_at_one(driver: Driver, sequence: int) -> None:
    session = driver.open_session()
    with driver.entry() as machine:
        outcome = machine.write(session.session_id, sequence, Write(Create("/a")))
    assert (outcome.status, failure(outcome.result).code) == (WriteStatus.GAP, ErrorCode.INVALID_ARGUMENT)


def test_an_unknown_session_writes_nothing(driver: Driver) -> None:
    """S1: nor does one that has ended."""
    session = driver.open_session()
    driver.end_session(session)
    with driver.entry() as machine:
        for session_id in (session.session_id, 55, -1):
            outcome = machine.write(session_id, 1, Write(Create("/a")))
            assert outcome.status == WriteStatus.UNKNOWN_SESSION
            assert failure(outcome.result).code == ErrorCode.SESSION_EXPIRED
            assert outcome.changes == []
    assert not driver.is_there("/a")


def test_writes_of_no_session_are_carried_out_as_often_as_they_are_sent(driver: Driver) -> None:
    write = Write(Create("/n-", b"", CreateMode.PERSISTENT_SEQUENTIAL))
    with driver.entry() as machine:
        paths = [machine.write(0, 0, write).result for _ in range(2)]
    assert [path.path for path in paths if isinstance(path, Created)] == ["/n-0000000000", "/n-0000000001"]


def test_sessions_count_apart(driver: Driver) -> None:
    first, second = driver.open_session(), driver.open_session()
    driver.create("/a", session=first)
    driver.create("/b", session=first)
    driver.create("/c", session=second)
    assert (last_sequence(driver, first), last_sequence(driver, second)) == (2, 1)


# -- acknowledging ------------------------------------------------------------------------------


def test_acknowledged_results_are_forgotten_on_disk_too(driver: Driver) -> None:
    session = driver.open_session()
    for name in "abc":
        driver.create("/" + name, session=session)
    assert results_on_disk(driver) == 3
    with driver.entry() as machine:
        machine.acknowledge(session.session_id, 2)
    assert results_on_disk(driver) == 1
    assert list(driver.machine.sessions[session.session_id].results) == [3]
    driver.reload()
    with driver.entry() as machine:
        kept = machine.write(session.session_id, 3, Write(Create("/c")))
        forgotten = machine.write(session.session_id, 2, Write(Create("/b")))
    assert isinstance(kept.result, Created)
    assert forgotten.status == WriteStatus.REPEATED
    assert failure(forgotten.result).code == ErrorCode.UNKNOWN_OUTCOME
    assert "acknowledged" in failure(forgotten.result).message


def test_a_result_acknowledged_in_its_own_entry_never_reaches_the_disk(driver: Driver) -> None:
    session = driver.open_session()
    with driver.entry() as machine:
        machine.write(session.session_id, 1, Write(Create("/a")))
        machine.acknowledge(session.session_id, 1)
    assert results_on_disk(driver) == 0
    driver.reload()
    assert last_sequence(driver, session) == 1


def test_odd_acknowledgements_do_no_harm(driver: Driver) -> None:
    session = driver.open_session()
    driver.create("/a", session=session)
    with driver.entry() as machine:
        for sequence in (1 << 64, 0, -5, 1):
            machine.acknowledge(session.session_id, sequence)
        machine.acknowledge(777, 1)
    driver.create("/b", session=session)
    assert driver.machine.sessions[session.session_id].acknowledged_sequence == 1


def test_a_session_that_never_acknowledges_is_stopped_and_can_go_on() -> None:
    driver = Driver(Limits(results_per_session=2))
    session = driver.open_session()
    driver.create("/a", session=session)
    driver.create("/b", session=session)
    third = Write(Create("/c"))
    with driver.entry() as machine:
        refused = machine.write(session.session_id, 3, third)
        repeated = machine.write(session.session_id, 2, Write(Create("/b")))
        beyond = machine.write(session.session_id, 4, third)
    assert refused.status == WriteStatus.GAP
    assert failure(refused.result).code == ErrorCode.LIMIT_EXCEEDED
    assert "acknowledge" in failure(refused.result).message
    assert repeated.status == WriteStatus.REPEATED
    assert failure(beyond.result).code == ErrorCode.SEQUENCE_GAP
    with driver.entry() as machine:
        machine.acknowledge(session.session_id, 1)
        assert machine.write(session.session_id, 3, third).status == WriteStatus.APPLIED


def test_large_results_are_bounded_by_their_bytes() -> None:
    driver = Driver(Limits(results_bytes_per_session=10_000))
    session = driver.open_session()
    driver.create("/a", bytes(6000))
    read = Transaction(success=[Get("/a")])
    driver.write(read, session)
    driver.write(read, session)
    driver.reload()
    with driver.entry() as machine:
        refused = machine.write(session.session_id, 3, Write(read))
        machine.acknowledge(session.session_id, 1)
        allowed = machine.write(session.session_id, 3, Write(read))
    assert failure(refused.result).code == ErrorCode.LIMIT_EXCEEDED
    assert allowed.status == WriteStatus.APPLIED


# -- ephemerals and the end ---------------------------------------------------------------------


def test_all_ephemerals_go_in_one_transaction_sorted_by_path(driver: Driver) -> None:
    """G7, Z8."""
    session = driver.open_session()
    driver.create("/b")
    for path in ("/b/2", "/c", "/a", "/b/1"):
        driver.create(path, mode=CreateMode.EPHEMERAL, session=session)
    driver.create("/stays", session=session)
    changes = driver.end_session(session)
    assert [(change.type, change.path) for change in changes] == [
        (ChangeType.DELETED, path) for path in ("/a", "/b/1", "/b/2", "/c")
    ]
    assert {change.zxid for change in changes} == {7} == {driver.machine.zxid}
    stat = driver.stat("/b")
    assert (stat.num_children, stat.cversion, stat.pzxid) == (0, 4, 7)
    assert driver.children("/") == ["b", "stays"]


def test_the_order_survives_a_restart(driver: Driver) -> None:
    session = driver.open_session()
    for path in ("/b", "/a", "/c"):
        driver.create(path, mode=CreateMode.EPHEMERAL, session=session)
    driver.reload()
    assert [change.path for change in driver.end_session(session)] == ["/a", "/b", "/c"]


def test_the_end_of_a_session_without_ephemerals_uses_no_zxid(driver: Driver) -> None:
    session = driver.open_session()
    driver.create("/a", session=session)
    with driver.entry() as machine:
        assert machine.end_session(session.session_id) == (True, 1, [])
        assert machine.end_session(session.session_id) == (False, 1, [])
        assert machine.end_session(777) == (False, 1, [])


def test_nothing_of_an_ended_session_stays_on_disk(driver: Driver) -> None:
    keys_before = set(driver.store.records)
    session = driver.open_session()
    driver.create("/e", mode=CreateMode.EPHEMERAL, session=session)
    driver.delete("/e")
    driver.create("/e", mode=CreateMode.EPHEMERAL, session=session)
    driver.end_session(session)
    assert {key for key in driver.store.records if not key.startswith(b"h")} == keys_before


def test_a_session_may_live_and_end_within_one_entry(driver: Driver) -> None:
    with driver.entry() as machine:
        session = machine.open_session(SECRET, 5000, "", "member", 1)
        assert isinstance(session, Session)
        machine.write(session.session_id, 1, Write(Create("/e", b"", CreateMode.EPHEMERAL)))
        existed, zxid, changes = machine.end_session(session.session_id)
    assert (existed, zxid, [change.path for change in changes]) == (True, 2, ["/e"])
    assert driver.machine.sessions == {}


def test_others_deleting_and_remaking_an_ephemeral_change_its_owner(driver: Driver) -> None:
    first, second = driver.open_session(), driver.open_session()
    driver.create("/e", mode=CreateMode.EPHEMERAL, session=first)
    driver.write(Transaction(success=[Delete("/e"), Create("/e", b"", CreateMode.EPHEMERAL)]), second)
    assert driver.end_session(first) == []
    assert [change.path for change in driver.end_session(second)] == ["/e"]


def test_a_failed_transaction_leaves_no_ephemeral_behind(driver: Driver) -> None:
    session = driver.open_session()
    outcome = driver.write(
        Transaction(success=[Create("/e", b"", CreateMode.EPHEMERAL), Set("/no")]), session
    )
    assert isinstance(outcome.result, Failure)
    assert driver.machine.sessions[session.session_id].ephemerals == {}


def test_sets_of_an_ephemeral_keep_it_with_its_session(driver: Driver) -> None:
    session = driver.open_session()
    driver.create("/e", mode=CreateMode.EPHEMERAL, session=session)
    assert isinstance(driver.write(Set("/e", b"x"), session).result, WasSet)
    assert list(driver.machine.sessions[session.session_id].ephemerals) == ["/e"]


# -- damage -------------------------------------------------------------------------------------


def test_results_that_are_missing_or_too_many_are_noticed_at_the_start(driver: Driver) -> None:
    session = driver.open_session()
    driver.create("/a", session=session)
    missing = driver.store.copy()
    missing.write([], [result_key(session.session_id, 1)])
    with pytest.raises(CorruptStateError, match="results of session 1 are missing"):
        StateMachine(missing, driver.limits)
    extra = driver.store.copy()
    stored = extra.get(result_key(session.session_id, 1))
    assert stored is not None
    extra.write([(result_key(session.session_id, 2), stored)], [])
    with pytest.raises(CorruptStateError, match="results 2 to 2 of session 1 belong to no session"):
        StateMachine(extra, driver.limits)


def test_sessions_that_are_missing_or_misplaced_are_noticed_at_the_start(driver: Driver) -> None:
    session = driver.open_session()
    driver.create("/e", mode=CreateMode.EPHEMERAL, session=session)
    with driver.entry() as machine:
        machine.acknowledge(session.session_id, 1)
    key = session_key(session.session_id)
    missing = driver.store.copy()
    missing.write([], [key])
    with pytest.raises(CorruptStateError, match="/e belongs to the unknown session 1"):
        StateMachine(missing, driver.limits)
    misplaced = driver.store.copy()
    misplaced.write([(session_key(2), driver.store.records[key])], [])
    with pytest.raises(CorruptStateError, match="wrong key or number"):
        StateMachine(misplaced, driver.limits)


def test_results_of_one_commit_are_one_record_until_all_are_acknowledged(driver: Driver) -> None:
    session = driver.open_session()
    with driver.entry() as machine:
        for sequence in (1, 2, 3):
            machine.write(session.session_id, sequence, Write(Create(f"/{sequence}")))
    assert len(list(driver.store.scan(*RESULTS))) == 1
    with driver.entry() as machine:
        machine.acknowledge(session.session_id, 2)
    driver.reload()
    assert list(driver.machine.sessions[session.session_id].results) == [3]
    with driver.entry() as machine:
        machine.acknowledge(session.session_id, 3)
    assert list(driver.store.scan(*RESULTS)) == []
    driver.reload()
    assert driver.machine.sessions[session.session_id].last_sequence == 3


def test_results_acknowledged_within_their_commit_are_never_stored(driver: Driver) -> None:
    session = driver.open_session()
    with driver.entry() as machine:
        machine.write(session.session_id, 1, Write(Create("/a")))
        machine.acknowledge(session.session_id, 1)
    assert list(driver.store.scan(*RESULTS)) == []
    driver.reload()
    assert driver.machine.sessions[session.session_id].acknowledged_sequence == 1

"""Ephemeral nodes that linger: what takes their place when their session expires, and only then."""

from __future__ import annotations

import pytest

from coordsvc.statemachine.changes import ChangeType
from coordsvc.statemachine.commands import Create, Set
from coordsvc.statemachine.operations import TTL_MS_MAX
from coordsvc.statemachine.results import ErrorCode
from coordsvc.statemachine.types import CreateMode, Limits
from tests.unit.statemachine.driver import Driver

EPHEMERALS = (CreateMode.EPHEMERAL, CreateMode.EPHEMERAL_SEQUENTIAL)


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_a_session_that_expires_leaves_a_grave_in_the_same_transaction(driver: Driver) -> None:
    session = driver.open_session()
    driver.create("/lock", b"who", CreateMode.EPHEMERAL, ttl_ms=500, session=session)
    driver.create("/other", b"", CreateMode.EPHEMERAL, session=session)

    changes = driver.end_session(session, expired=True)

    assert [(change.type, change.path) for change in changes] == [
        (ChangeType.DELETED, "/lock"),
        (ChangeType.DELETED, "/other"),
        (ChangeType.CREATED, "/lock"),
    ]
    zxid = driver.machine.zxid
    assert {change.zxid for change in changes} == {zxid}
    grave = driver.node("/lock")
    assert (grave.value, grave.stat.czxid, grave.stat.ephemeral_owner) == (b"who", zxid, 0)
    assert (grave.stat.version, grave.stat.ctime) == (0, driver.now_ms)
    assert not driver.is_there("/other")
    assert driver.machine.history(zxid - 1, 10) == changes


def test_the_value_of_the_grave_is_the_last_one(driver: Driver) -> None:
    session = driver.open_session()
    driver.create("/lock", b"first", CreateMode.EPHEMERAL, ttl_ms=500, session=session)
    driver.write(Set("/lock", b"last"), session)
    driver.end_session(session, expired=True)
    assert driver.node("/lock").value == b"last"


def test_a_session_that_is_closed_leaves_none(driver: Driver) -> None:
    session = driver.open_session()
    driver.create("/lock", b"", CreateMode.EPHEMERAL, ttl_ms=500, session=session)
    changes = driver.end_session(session)
    assert [change.type for change in changes] == [ChangeType.DELETED]
    assert not driver.is_there("/lock")


@pytest.mark.parametrize("recursive", [False, True])
def test_a_node_that_was_deleted_leaves_none(driver: Driver, recursive: bool) -> None:
    session = driver.open_session()
    driver.create("/locks")
    driver.create("/locks/a", b"", CreateMode.EPHEMERAL, ttl_ms=500, session=session)
    driver.delete("/locks" if recursive else "/locks/a", recursive=recursive)
    assert driver.end_session(session, expired=True) == []


def test_a_grave_goes_when_its_time_is_over_and_not_before(driver: Driver) -> None:
    session = driver.open_session()
    driver.create("/lock", b"", CreateMode.EPHEMERAL, ttl_ms=500, session=session)
    driver.now_ms += 10_000
    driver.end_session(session, expired=True)
    for later_ms, goes in ((0, False), (500, False), (1, True)):
        driver.now_ms += later_ms
        assert driver.machine.reap_candidates(driver.now_ms, 10) == (["/lock"] if goes else [])
        with driver.entry() as machine:
            machine.reap(["/lock"])
        assert driver.is_there("/lock") is not goes


def test_a_grave_keeps_the_number_of_a_sequential_node_and_takes_none_away(driver: Driver) -> None:
    session, other = driver.open_session(), driver.open_session()
    driver.create("/queue")
    first = driver.create("/queue/c-", b"", CreateMode.EPHEMERAL_SEQUENTIAL, ttl_ms=9, session=session)
    second = driver.create("/queue/c-", b"", CreateMode.EPHEMERAL_SEQUENTIAL, session=other)
    driver.end_session(session, expired=True)
    third = driver.create("/queue/c-", b"", CreateMode.EPHEMERAL_SEQUENTIAL, session=other)
    assert driver.is_there(first)
    assert first < second < third


def test_a_restart_between_create_and_expiry_changes_nothing(driver: Driver) -> None:
    session = driver.open_session()
    driver.create("/lock", b"who", CreateMode.EPHEMERAL, ttl_ms=500, session=session)
    driver.reload()
    driver.end_session(session, expired=True)
    driver.reload()
    assert driver.node("/lock").value == b"who"
    assert driver.machine.reap_candidates(driver.now_ms + 501, 10) == ["/lock"]


def test_a_grave_that_a_limit_forbids_is_not_made_and_the_rest_is() -> None:
    """The limit was lowered since."""
    driver = Driver(Limits())
    session = driver.open_session()
    driver.create("/large", bytes(100), CreateMode.EPHEMERAL, ttl_ms=500, session=session)
    driver.create("/small", b"", CreateMode.EPHEMERAL, ttl_ms=500, session=session)
    driver.limits.value_bytes = 10
    with driver.entry() as machine:
        machine.end_session(session.session_id, expired=True)
    assert not driver.is_there("/large")
    assert driver.is_there("/small")


@pytest.mark.parametrize("mode", EPHEMERALS)
@pytest.mark.parametrize("linger_ms", [-1, TTL_MS_MAX + 1])
def test_a_time_out_of_range_is_refused(driver: Driver, mode: CreateMode, linger_ms: int) -> None:
    refusal = driver.refusal(Create("/lock", b"", mode, linger_ms), driver.open_session())
    assert refusal.code == ErrorCode.INVALID_ARGUMENT
    assert "may linger for" in refusal.message


@pytest.mark.parametrize("mode", EPHEMERALS)
def test_the_longest_time_is_allowed(driver: Driver, mode: CreateMode) -> None:
    path = driver.create("/lock", b"", mode, ttl_ms=TTL_MS_MAX, session=driver.open_session())
    assert driver.is_there(path)

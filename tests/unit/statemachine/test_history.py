"""The history: whole transactions in order, kept within bounds however entries were grouped."""

from __future__ import annotations

import pytest

from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.commands import Create, Delete, Set, Transaction, Write
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.layout import HISTORY, history_key
from coordsvc.statemachine.machine import StateMachine
from coordsvc.statemachine.records import changes_part, join_changes
from coordsvc.statemachine.types import CreateMode, Limits
from tests.stores import MemoryStore
from tests.unit.statemachine.driver import Driver


def since(driver: Driver, zxid: int, limit: int = 1000) -> list[Change]:
    changes = driver.machine.history(zxid, limit)
    assert changes is not None
    return changes


def zxids(changes: list[Change]) -> list[int]:
    return [change.zxid for change in changes]


def test_every_change_is_kept_as_it_was_told() -> None:
    driver = Driver()
    session = driver.open_session()
    told: list[Change] = []
    for operation in (
        Create("/a/b", b"1", parents=True),
        Set("/a/b", b"2"),
        Create("/a/\U0001f512-", b"", CreateMode.EPHEMERAL_SEQUENTIAL),
        Transaction(success=[Set("/a", b"3"), Delete("/a/b")]),
        Delete("/nothing"),
    ):
        told.extend(driver.write(operation, session).changes)
    told.extend(driver.end_session(session))
    assert since(driver, 0) == told
    driver.reload()
    assert since(driver, 0) == told
    assert [change.type for change in told][-2:] == [ChangeType.DELETED, ChangeType.DELETED]


def test_a_reader_goes_on_where_it_stopped() -> None:
    driver = Driver()
    for number in range(5):
        driver.create(f"/{number}")
    assert zxids(since(driver, 3)) == [4, 5]
    assert since(driver, 5) == []
    assert since(driver, 1 << 40) == []
    assert zxids(since(driver, -1)) == [1, 2, 3, 4, 5]


def test_a_page_ends_between_transactions() -> None:
    driver = Driver()
    driver.create("/a")
    driver.transact(*(Create(f"/a/{number}") for number in range(4)))
    driver.create("/b")
    assert zxids(since(driver, 0, limit=1)) == [1]
    assert zxids(since(driver, 0, limit=2)) == [1, 2, 2, 2, 2]
    assert zxids(since(driver, 0, limit=5)) == [1, 2, 2, 2, 2]
    assert zxids(since(driver, 0, limit=6)) == [1, 2, 2, 2, 2, 3]
    assert zxids(since(driver, 1, limit=0)) == [2, 2, 2, 2]


def test_a_page_of_large_values_ends_early() -> None:
    driver = Driver(Limits(children_page_bytes=1000))
    for number in range(4):
        driver.create(f"/{number}", bytes(700))
    assert zxids(since(driver, 0)) == [1, 2]


def test_uncommitted_changes_are_read_after_committed_ones() -> None:
    driver = Driver()
    driver.create("/a")
    with driver.entry() as machine:
        machine.write(0, 0, Write(Create("/b")))
        machine.write(0, 0, Write(Create("/c")))
        assert [change.path for change in since(driver, 0)] == ["/a", "/b", "/c"]
        assert [change.path for change in since(driver, 2)] == ["/c"]
        assert [change.path for change in since(driver, 0, limit=2)] == ["/a", "/b"]


def test_old_transactions_go_whole_and_readers_of_them_are_told() -> None:
    driver = Driver(Limits(history_changes=4))
    driver.transact(Create("/a"), Create("/b"), Create("/c"))
    driver.create("/d")
    assert driver.machine.oldest_history_zxid == 1
    driver.create("/e")
    assert driver.machine.oldest_history_zxid == 2
    assert driver.machine.history(0, 10) is None
    assert zxids(since(driver, 1)) == [2, 3]
    assert len(list(driver.store.scan(*HISTORY))) == 2


def test_the_history_is_bounded_in_bytes() -> None:
    driver = Driver(Limits(history_bytes=3000))
    for number in range(10):
        driver.create(f"/{number}", bytes(1000))
    assert driver.machine.oldest_history_zxid == 9
    assert sum(len(record) for _, record in driver.store.scan(*HISTORY)) <= 3000


def test_a_transaction_larger_than_the_history_leaves_it_empty() -> None:
    driver = Driver(Limits(history_changes=2))
    driver.create("/a")
    driver.transact(*(Create(f"/a/{number}") for number in range(3)))
    assert driver.machine.oldest_history_zxid == 3
    assert since(driver, 2) == []
    assert driver.machine.history(1, 10) is None
    driver.reload()
    driver.create("/b")
    assert zxids(since(driver, 2)) == [3]


def test_what_is_kept_does_not_depend_on_how_entries_share_commits() -> None:
    def run(entries_per_commit: int) -> tuple[int, list[Change] | None]:
        store = MemoryStore()
        machine = StateMachine(store, Limits(history_changes=5, history_bytes=2000))
        for index in range(1, 61):
            machine.begin(index, 1, index)
            machine.write(0, 0, Write(Create(f"/{index}", bytes(index * 7 % 300))))
            if index % 3 == 0:
                machine.write(0, 0, Write(Delete(f"/{index - 1}")))
            if index % entries_per_commit == 0:
                machine.commit()
        machine.verify()
        reloaded = StateMachine(store, machine.limits)
        oldest = reloaded.oldest_history_zxid
        assert oldest == machine.oldest_history_zxid
        assert reloaded.history(oldest - 1, 100) == machine.history(oldest - 1, 100)
        return oldest, machine.history(oldest - 1, 100)

    assert run(1) == run(4) == run(60)


def test_what_one_commit_recorded_is_deleted_when_all_of_it_is_trimmed() -> None:
    driver = Driver(Limits(history_changes=3))
    with driver.entry() as machine:
        for name in "abc":
            machine.write(0, 0, Write(Create(f"/{name}")))
    driver.create("/d")
    driver.create("/e")
    assert zxids(since(driver, 2)) == [3, 4, 5]
    assert len(list(driver.store.scan(*HISTORY))) == 3, "the first record still holds transaction 3"
    driver.create("/f")
    assert len(list(driver.store.scan(*HISTORY))) == 3
    assert zxids(since(driver, 3)) == [4, 5, 6]


@pytest.mark.parametrize(
    ("puts", "deletes", "words"),
    [
        ([], [history_key(2)], "out of place"),
        ([], [history_key(3)], "has 2 changes"),
        ([], [history_key(1)], "out of place"),
        ([(history_key(4), b"x")], [], "damaged"),
        ([(history_key(9), join_changes([changes_part(9, b"x"), b"x"]))], [], "out of place"),
        ([(history_key(2), join_changes([changes_part(1, b"x"), b"x"]))], [], "out of place"),
        ([(history_key(4), join_changes([changes_part(4, b"x"), b"x"]))], [], "has 6 changes"),
        ([(b"h", b"x")], [], "not that of changes"),
    ],
)
def test_a_history_with_holes_is_noticed_at_the_start(
    puts: list[tuple[bytes, bytes]], deletes: list[bytes], words: str
) -> None:
    driver = Driver()
    driver.create("/a")
    driver.create("/b")
    driver.transact(Create("/c"), Create("/d"), Create("/e"))
    driver.store.write(puts, deletes)
    with pytest.raises(CorruptStateError, match=words):
        StateMachine(driver.store, driver.limits)

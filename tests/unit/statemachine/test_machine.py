"""The state machine as a whole: entries, commits, crashes, time, reaping, and the same bytes everywhere."""

from __future__ import annotations

import random

import pytest

from coordsvc.statemachine.changes import ChangeType
from coordsvc.statemachine.commands import Create, Delete, Get, ListChildren, Set, Transaction, Unknown, Write
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.layout import META_KEY, node_key
from coordsvc.statemachine.machine import Session, StateMachine, WriteStatus
from coordsvc.statemachine.results import ErrorCode, Node
from coordsvc.statemachine.types import CreateMode, Limits
from tests.stores import MemoryStore
from tests.unit.statemachine.driver import SECRET, Driver


@pytest.fixture
def driver() -> Driver:
    return Driver()


# -- entries and commits ------------------------------------------------------------------------


def test_a_new_machine_has_the_root_and_nothing_else() -> None:
    store = MemoryStore()
    machine = StateMachine(store, Limits())
    root = machine.get("/")
    assert isinstance(root, Node)
    assert (root.stat.czxid, root.stat.ctime, root.value) == (0, 0, b"")
    assert (machine.applied_index, machine.zxid, machine.node_count, machine.oldest_history_zxid) == (
        0,
        0,
        1,
        1,
    )
    machine.begin(1, 1, 5)
    machine.commit()
    assert sorted(store.records) == [META_KEY, node_key("/")]
    machine.verify()


def test_a_commit_is_one_write_and_nothing_is_written_before(driver: Driver) -> None:
    session = driver.open_session()
    writes = driver.store.writes
    before = driver.store.copy()
    machine = driver.machine
    machine.begin(machine.applied_index + 1, 1, driver.now_ms)
    for sequence in range(1, 20):
        machine.write(session.session_id, sequence, Write(Create(f"/{sequence}")))
    machine.end_session(session.session_id)
    assert driver.store.records == before.records
    machine.commit()
    assert driver.store.writes == writes + 1


def test_the_counters_are_those_of_the_newest_commit(driver: Driver) -> None:
    machine = driver.machine
    machine.begin(7, 3, driver.now_ms)
    machine.write(0, 0, Write(Create("/a")))
    assert (machine.applied_index, machine.applied_term) == (1, 1)
    machine.commit()
    assert (machine.applied_index, machine.applied_term) == (7, 3)
    driver.reload()
    assert (driver.machine.applied_index, driver.machine.applied_term, driver.machine.zxid) == (7, 3, 1)


def test_what_is_done_cannot_be_undone_so_nothing_is_remembered_for_it(driver: Driver) -> None:
    session = driver.open_session()
    driver.create("/a/b", parents=True)
    driver.create("/e", mode=CreateMode.EPHEMERAL, session=session)
    driver.refusal(Transaction(success=[Set("/a"), Set("/missing")]))
    driver.delete("/a", recursive=True)
    driver.end_session(session)
    assert driver.machine._tree.mark() == 0


def test_an_entry_is_applied_once_only(driver: Driver) -> None:
    machine = driver.machine
    with pytest.raises(AssertionError, match="R10"):
        machine.begin(1, 1, 0)
    machine.begin(2, 5, 0)
    with pytest.raises(AssertionError, match="R10"):
        machine.begin(2, 5, 0)
    with pytest.raises(AssertionError, match="R4"):
        machine.begin(3, 4, 0)


def test_time_never_goes_back(driver: Driver) -> None:
    """Z10: whatever the clock of the next leader says."""
    driver.now_ms = 5_000_000
    driver.create("/a")
    driver.now_ms = 4_000_000
    driver.create("/b")
    assert driver.stat("/b").ctime == 5_000_000
    driver.reload()
    assert driver.machine.time_ms == 5_000_000


def test_zxids_have_no_gaps(driver: Driver) -> None:
    """G1: refused and read-only writes, sessions and empty entries use none."""
    session = driver.open_session()
    zxids = []
    for operation in (
        Create("/a"),
        Create("/a"),
        Unknown(),
        Set("/a", b"1"),
        Transaction(success=[Get("/a")]),
        Transaction(success=[Set("/a"), Create("/a")]),
        Delete("/a"),
        Delete("/a"),
    ):
        outcome = driver.write(operation, session)
        if outcome.changes:
            zxids.append(outcome.zxid)
        assert outcome.zxid == driver.machine.zxid
    assert zxids == [1, 2, 3]


def test_a_write_of_an_unknown_kind_is_refused(driver: Driver) -> None:
    assert driver.refusal(Unknown()).code == ErrorCode.INVALID_ARGUMENT


def test_the_configuration_goes_with_the_next_commit(driver: Driver) -> None:
    assert driver.machine.configuration == b""
    with driver.entry() as machine:
        machine.set_configuration(b"\0members")
    driver.reload()
    assert driver.machine.configuration == b"\0members"


# -- the digest ---------------------------------------------------------------------------------


def test_equal_trees_have_equal_digests_however_they_came_about() -> None:
    one, other = Driver(), Driver()
    for driver in (one, other):
        with driver.entry() as machine:
            machine.write(0, 0, Write(Create("/a", b"1")))
            machine.write(0, 0, Write(Create("/b", b"2")))
    assert one.machine.digest == other.machine.digest != 0
    one.set("/a", b"3")
    with other.entry() as machine:
        machine.write(0, 0, Write(Set("/a", b"4")))
    assert one.machine.digest != other.machine.digest


def test_sessions_and_results_are_no_part_of_the_digest(driver: Driver) -> None:
    before = driver.machine.digest
    session = driver.open_session()
    driver.write(Delete("/nothing"), session)
    driver.end_session(session)
    assert driver.machine.digest == before


# -- containers and TTL nodes -------------------------------------------------------------------


def reap(driver: Driver, *, after_ms: int = 0) -> list[str]:
    """Let time pass, ask for candidates as a leader would, and reap them."""
    driver.now_ms += after_ms
    candidates = driver.machine.reap_candidates(driver.now_ms, 100)
    with driver.entry() as machine:
        _, changes = machine.reap(candidates)
    assert [change.path for change in changes] == candidates
    return candidates


def test_a_container_goes_after_its_last_child(driver: Driver) -> None:
    driver.create("/c", mode=CreateMode.CONTAINER)
    driver.create("/c/child")
    assert reap(driver, after_ms=10**9) == []
    driver.delete("/c/child")
    assert reap(driver) == ["/c"]


def test_a_container_that_was_never_used_goes_after_five_minutes(driver: Driver) -> None:
    driver.create("/c", mode=CreateMode.CONTAINER)
    assert reap(driver, after_ms=300_000) == []
    assert reap(driver, after_ms=1) == ["/c"]


def test_a_set_gives_an_unused_container_more_time(driver: Driver) -> None:
    driver.create("/c", mode=CreateMode.CONTAINER)
    driver.now_ms += 300_000
    driver.set("/c")
    assert reap(driver, after_ms=300_000) == []
    assert reap(driver, after_ms=1) == ["/c"]


def test_a_ttl_node_goes_when_it_was_not_set_for_its_time(driver: Driver) -> None:
    driver.create("/t", mode=CreateMode.TTL, ttl_ms=1000)
    assert reap(driver, after_ms=1000) == []
    driver.set("/t")
    assert reap(driver, after_ms=1000) == []
    assert reap(driver, after_ms=1) == ["/t"]


def test_children_keep_a_ttl_node_but_give_it_no_more_time(driver: Driver) -> None:
    """ZooKeeper: mtime moves with sets only."""
    driver.create("/t", mode=CreateMode.TTL, ttl_ms=1000)
    driver.now_ms += 900
    driver.create("/t/child")
    assert reap(driver, after_ms=10_000) == []
    driver.delete("/t/child")
    assert reap(driver) == ["/t"]


def test_emptied_parents_go_in_the_next_pass(driver: Driver) -> None:
    driver.create("/a", mode=CreateMode.CONTAINER)
    driver.create("/a/b", mode=CreateMode.CONTAINER)
    driver.create("/a/b/c")
    driver.delete("/a/b/c")
    assert reap(driver) == ["/a/b"]
    assert reap(driver) == ["/a"]


def test_all_that_is_due_goes_in_one_transaction(driver: Driver) -> None:
    for name in "cab":
        driver.create("/" + name, mode=CreateMode.TTL, ttl_ms=5)
    driver.now_ms += 6
    with driver.entry() as machine:
        zxid, changes = machine.reap(["/c", "/a", "/b"])
    assert zxid == 4 == machine.zxid
    assert [(change.type, change.path, change.zxid) for change in changes] == [
        (ChangeType.DELETED, path, 4) for path in ("/c", "/a", "/b")
    ]


def test_what_is_no_longer_due_is_left_alone(driver: Driver) -> None:
    """Unlike ZooKeeper, the time is checked again too: a set that comes in between saves its node."""
    session = driver.open_session()
    driver.create("/t", mode=CreateMode.TTL, ttl_ms=1000)
    driver.create("/c", mode=CreateMode.CONTAINER)
    driver.create("/c/x")
    driver.delete("/c/x")
    driver.create("/plain")
    driver.create("/e", mode=CreateMode.EPHEMERAL, session=session)
    driver.now_ms += 1001
    assert driver.machine.reap_candidates(driver.now_ms, 10) == ["/c", "/t"]
    driver.set("/t")
    driver.create("/c/again")
    with driver.entry() as machine:
        zxid, changes = machine.reap(["/t", "/c", "/plain", "/e", "/", "/gone", "no path"])
    assert (zxid, changes) == (machine.zxid, [])
    assert driver.children("/") == ["c", "e", "plain", "t"]


def test_a_node_is_reaped_after_its_deadline_and_not_at_it(driver: Driver) -> None:
    """The leader's clock chose the paths; the time of the entry decides."""
    driver.create("/t", mode=CreateMode.TTL, ttl_ms=1000)
    driver.now_ms += 1000
    with driver.entry() as machine:
        assert machine.reap(["/t"])[1] == []
    driver.now_ms += 1
    with driver.entry() as machine:
        assert [change.path for change in machine.reap(["/t"])[1]] == ["/t"]


def test_candidates_come_by_deadline_and_no_more_than_asked_for(driver: Driver) -> None:
    for name, ttl_ms in (("x", 30), ("y", 10), ("z", 20)):
        driver.create("/" + name, mode=CreateMode.TTL, ttl_ms=ttl_ms)
    now_ms = driver.now_ms
    assert driver.machine.reap_candidates(now_ms + 100, 10) == ["/y", "/z", "/x"]
    assert driver.machine.reap_candidates(now_ms + 100, 2) == ["/y", "/z"]
    assert driver.machine.reap_candidates(now_ms + 20, 10) == ["/y"]
    assert driver.machine.reap_candidates(now_ms + 100, 0) == []
    driver.reload()
    assert driver.machine.reap_candidates(now_ms + 100, 10) == ["/y", "/z", "/x"]


# -- the same everywhere ------------------------------------------------------------------------


def random_entry(machine: StateMachine, dice: random.Random) -> str:
    """Do some random commands; return all that was answered, as text: sessions change later on."""
    answers: list[object] = []
    for _ in range(dice.randrange(1, 6)):
        path = "/" + "/".join(dice.choices("abc", k=dice.randrange(1, 4)))
        operations: list[Create | Set | Delete | Transaction] = [
            Create(path, dice.randbytes(4), dice.randrange(7), dice.choice([0, 3]), dice.random() < 0.3),
            Set(path, dice.randbytes(4), dice.choice([-1, 0, 1])),
            Delete(path, recursive=dice.random() < 0.3),
            Transaction(success=[Create(path), Set(path), Set(dice.choice(["/a", "/b"])), ListChildren("/")]),
        ]
        operation = dice.choice(operations)
        session_id = dice.choice([0, *machine.sessions])
        sequence = machine.sessions[session_id].last_sequence + 1 if session_id else 0
        answers.append(machine.write(session_id, sequence - dice.randrange(2), Write(operation)))
        chance = dice.random()
        if chance < 0.1:
            answers.append(machine.open_session(dice.randbytes(4), 2000, "x", "m", 1))
        elif chance < 0.15:
            answers.append(machine.end_session(dice.randrange(1, 9)))
        elif chance < 0.3:
            machine.acknowledge(session_id, sequence)
        elif chance < 0.4:
            answers.append(machine.reap(machine.reap_candidates(machine.time_ms, 10)))
    return repr(answers)


def run(
    seed: int, entries: int, *, crash_every: int = 0, cache_bytes: int = 1 << 20
) -> tuple[dict[bytes, bytes], list[str]]:
    """Apply random entries; return what is in the store at the end, and all answers on the way."""
    dice = random.Random(seed)
    limits = Limits(history_changes=50, results_per_session=5, ephemerals_per_session=3)
    store = MemoryStore()
    machine = StateMachine(store, limits, cache_bytes)
    answers: list[str] = []
    for index in range(1, entries + 1):
        machine.begin(index, 1, index)
        answers.append(random_entry(machine, dice))
        machine.commit()
        answers.append(str(machine.digest))
        if crash_every and index % crash_every == 0:
            store = store.copy()
            machine = StateMachine(store, limits, cache_bytes)
    machine.verify()
    return store.records, answers


@pytest.mark.parametrize("seed", range(5))
def test_the_same_commands_give_the_same_bytes_and_answers(seed: int) -> None:
    """Z7: on a member with another cache, and on one that crashes after every commit, too."""
    expected = run(seed, 150)
    assert run(seed, 150, cache_bytes=0) == expected
    assert run(seed, 150, crash_every=1) == expected
    assert run(seed, 150, crash_every=7) == expected


def test_what_was_not_committed_is_applied_again_after_a_crash(driver: Driver) -> None:
    """G12: the applied index and the state change in one batch, so a replay neither misses nor doubles."""
    session = driver.open_session()
    other = Driver(store=driver.store.copy())

    def entry(machine: StateMachine) -> None:
        machine.begin(machine.applied_index + 1, 1, driver.now_ms)
        machine.write(session.session_id, 1, Write(Create("/n-", b"", CreateMode.EPHEMERAL_SEQUENTIAL)))

    entry(driver.machine)
    driver.reload()  # the crash, before the commit
    assert driver.children("/") == []
    other_machine = StateMachine(other.store, other.limits)
    with_same_start = StateMachine(driver.store, driver.limits)
    for machine in (other_machine, with_same_start):
        while machine.applied_index < other.machine.applied_index:
            machine.begin(machine.applied_index + 1, 1, driver.now_ms)
            machine.commit()
        entry(machine)
        machine.commit()
    assert driver.store.records == other.store.records


# -- damage -------------------------------------------------------------------------------------


def test_records_without_counters_are_refused(driver: Driver) -> None:
    driver.create("/a")
    driver.store.write([], [META_KEY])
    with pytest.raises(CorruptStateError, match=r"records .* but no counters"):
        StateMachine(driver.store, driver.limits)


def test_damaged_counters_are_refused(driver: Driver) -> None:
    driver.store.write([(META_KEY, b"\x01junk")], [])
    with pytest.raises(CorruptStateError, match="the record of the counters is damaged"):
        StateMachine(driver.store, driver.limits)


def test_a_damaged_node_is_noticed_when_it_is_read(driver: Driver) -> None:
    driver.create("/a", b"value")
    driver.store.write([(node_key("/a"), b"\x01")], [])
    driver.reload()
    with pytest.raises(CorruptStateError, match="the record of /a is cut off"):
        driver.machine.get("/a")


def test_only_what_is_committed_can_be_verified(driver: Driver) -> None:
    machine = driver.machine
    machine.begin(machine.applied_index + 1, 1, 0)
    machine.write(0, 0, Write(Create("/a")))
    with pytest.raises(AssertionError, match="committed"):
        machine.verify()


def test_a_session_of_the_log_is_a_session_of_the_machine(driver: Driver) -> None:
    session = driver.open_session()
    with driver.entry() as machine:
        attached = machine.attach_session(session.session_id, SECRET, "m", 3)
        assert isinstance(attached, Session)
        assert attached is machine.sessions[session.session_id]
        assert machine.write(session.session_id, 1, Write(Create("/a"))).status == WriteStatus.APPLIED

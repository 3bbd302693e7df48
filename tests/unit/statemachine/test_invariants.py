"""The checks are shown to fail: each kind of damage is planted, and each is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.commands import Create, Delete, Set, Write
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.invariants import NODES_PER_STEP, _check_node, check_changes, nodes
from coordsvc.statemachine.layout import deadline_key, ephemeral_key, node_key
from coordsvc.statemachine.machine import StateMachine
from coordsvc.statemachine.records import Meta
from coordsvc.statemachine.types import CreateMode, Limits, Stat
from coordsvc.statemachine.znodes import (
    EPHEMERAL,
    PERSISTENT,
    TTL,
    Znode,
    decode_znode,
    encode_znode,
    fingerprint,
    plain_num_children,
)
from tests.stores import MemoryStore
from tests.unit.statemachine.driver import Driver


@pytest.fixture
def driver() -> Driver:
    """A tree with a node of every kind."""
    driver = Driver()
    session = driver.open_session()
    driver.create("/a/b", parents=True)
    driver.set("/a/b", b"value")
    driver.create("/a/c")
    driver.create("/e", mode=CreateMode.EPHEMERAL, session=session)
    driver.create("/t", mode=CreateMode.TTL, ttl_ms=5)
    return driver


def damage(store: MemoryStore, path: str, change: Callable[[Znode], Znode | None]) -> int:
    """Change a record behind the machine's back; return by how much the digest moves."""
    key = node_key(path)
    old = store.records[key]
    new = change(decode_znode(path, old))
    if new is None:
        store.write([], [key])
        return -fingerprint(key, old)
    record = encode_znode(new)
    store.write([(key, record)], [])
    return fingerprint(key, record) - fingerprint(key, old)


def expect_corrupt(driver: Driver, words: str) -> None:
    with pytest.raises(CorruptStateError, match=words):
        driver.machine.verify()


def with_stat(**numbers: int) -> Callable[[Znode], Znode]:
    return lambda node: replace(node, stat=replace(node.stat, **numbers))


def test_a_sound_tree_is_found_sound(driver: Driver) -> None:
    driver.machine.verify()
    driver.reload()
    driver.machine.verify()


@pytest.mark.parametrize(
    ("path", "change", "words"),
    [
        ("/a", lambda _: None, "Z"),
        ("/", lambda _: None, r"Z1: .* has no parent"),
        ("/a/b", lambda _: None, "Z2"),
        ("/a", with_stat(num_children=1, cversion=1), "Z2"),
        ("/a/b", with_stat(num_children=1, cversion=1), "Z2"),
        ("/a", with_stat(cversion=3), "Z2: /a has a cversion that cannot be"),
        ("/a", with_stat(num_children=-1), "Z2"),
        ("/a/b", with_stat(mzxid=99), "Z3"),
        ("/a/b", with_stat(czxid=4), "Z3"),
        ("/a", with_stat(pzxid=99), "Z2"),
        ("/a/b", with_stat(version=-1), "Z3"),
        ("/a/b", with_stat(mtime=1 << 50), "Z10"),
        ("/a/b", with_stat(ephemeral_owner=1), "Z4"),
        ("/e", with_stat(ephemeral_owner=9), "Z4"),
        ("/e", with_stat(cversion=2), "Z4"),
    ],
)
def test_damaged_nodes_are_found(
    driver: Driver, path: str, change: Callable[[Znode], Znode | None], words: str
) -> None:
    driver.machine._tree.digest += damage(driver.store, path, change)  # so that not the digest alone tells
    expect_corrupt(driver, words)


def test_any_changed_record_is_found_by_the_digest(driver: Driver) -> None:
    damage(driver.store, "/a/b", lambda node: replace(node, value=b"eulav"))
    expect_corrupt(driver, "digest")


def test_a_wrong_count_is_found(driver: Driver) -> None:
    driver.machine.node_count += 1
    expect_corrupt(driver, "there are 6 nodes, and 7 are counted")


def test_an_invalid_path_is_found(driver: Driver) -> None:
    record = driver.store.records[node_key("/a/c")]
    driver.store.write([(node_key("/a/.."), record)], [])
    expect_corrupt(driver, "Z9")


def test_a_value_beyond_the_limit_is_found(driver: Driver) -> None:
    driver.machine.limits = Limits(value_bytes=4)
    expect_corrupt(driver, "Z9")


@pytest.mark.parametrize(
    ("puts", "deletes", "words"),
    [
        ([], [ephemeral_key(1, "/e")], "the index has no entry for /e"),
        ([(ephemeral_key(1, "/a"), b"")], [], "the sessions own other nodes"),
        ([], [deadline_key(1_000_005, "/t")], "the index has no entry for /t"),
        ([(deadline_key(7, "/a"), b"")], [], "index of deadlines has entries too many"),
    ],
)
def test_damaged_indexes_are_found(
    driver: Driver, puts: list[tuple[bytes, bytes]], deletes: list[bytes], words: str
) -> None:
    driver.store.write(puts, deletes)
    expect_corrupt(driver, words)


def test_a_session_that_lost_track_of_its_nodes_is_found(driver: Driver) -> None:
    driver.machine.sessions[1].ephemerals = {"/a": None}
    expect_corrupt(driver, "Z4: /e is not known to its session 1")


# -- changes against trees ----------------------------------------------------------------------


def step() -> tuple[dict[str, Znode], dict[str, Znode], list[Change]]:
    """Return a tree before and after some writes, and their changes."""
    store = MemoryStore()
    machine = StateMachine(store, Limits())
    machine.begin(1, 1, 1)
    for path in ("/a", "/a/b", "/gone"):
        machine.write(0, 0, Write(Create(path, b"v")))
    machine.commit()
    before = dict(nodes(store))
    machine.begin(2, 1, 2)
    changes: list[Change] = []
    for operation in (Create("/a/c"), Set("/a/b", b"w"), Delete("/gone"), Create("/gone"), Set("/a/b", b"x")):
        changes += machine.write(0, 0, Write(operation)).changes
    machine.commit()
    return before, dict(nodes(store)), changes


def test_true_changes_lead_from_one_tree_to_the_other() -> None:
    check_changes(*step())


def test_a_change_left_out_doubled_or_moved_is_found() -> None:
    before, after, changes = step()
    for position in range(len(changes)):
        with pytest.raises(CorruptStateError, match="Z"):
            check_changes(before, after, changes[:position] + changes[position + 1 :])
        with pytest.raises(CorruptStateError, match="Z"):
            check_changes(before, after, [*changes[: position + 1], *changes[position:]])
    with pytest.raises(CorruptStateError, match="Z11: transaction"):
        check_changes(before, after, [changes[1], changes[0], *changes[2:]])


def test_a_change_that_tells_another_value_is_found() -> None:
    before, after, changes = step()
    with pytest.raises(CorruptStateError, match="Z11"):
        check_changes(before, after, [*changes[:-1], replace(changes[-1], value=b"other")])


def test_a_change_of_nothing_that_was_there_is_found() -> None:
    before, after, changes = step()
    stranger = replace(changes[0], type=ChangeType.CREATED, path="/no/parent")
    with pytest.raises(CorruptStateError, match="Z1: /no/parent came or went under no parent"):
        check_changes(before, after, [stranger, *changes])


@pytest.mark.parametrize(
    ("field", "words"),
    [("version", "Z"), ("mzxid", "Z3"), ("pzxid", "Z2"), ("mtime", "Z10"), ("cversion", "Z2")],
)
def test_a_node_that_goes_back_is_found(field: str, words: str) -> None:
    before, after, changes = step()
    node = after["/a/b"]
    after["/a/b"] = with_stat(**{field: -1})(node)
    with pytest.raises(CorruptStateError, match=words):
        check_changes(before, after, changes)


_EDGES = (-1, 0, 1, 2, 5, 6, 2**62)


@given(
    numbers=st.tuples(*[st.sampled_from(_EDGES)] * 11),
    value=st.sampled_from([b"", b"v", b"12345"]),
    kind=st.sampled_from([PERSISTENT, EPHEMERAL, TTL]),
    ttl_ms=st.sampled_from([0, 7]),
)
def test_a_node_that_passes_the_quick_look_would_pass_the_close_one(
    numbers: tuple[int, ...], value: bytes, kind: int, ttl_ms: int
) -> None:
    node = Znode(value, Stat(*numbers), kind, ttl_ms)
    record = encode_znode(node)
    limits = replace(Limits(), value_bytes=4)

    num_children = plain_num_children(record, zxid_max=5, time_ms_max=5, value_bytes_max=4)

    try:
        is_sound = decode_znode("/a", record) == node
        _check_node("/a", node, replace(Meta(), zxid=5, time_ms=5), limits, set())
    except CorruptStateError:
        is_sound = False
    assert (num_children is not None) == (is_sound and kind == PERSISTENT)
    assert num_children in (None, node.stat.num_children)


def test_the_checks_stop_after_every_few_nodes_and_see_the_sessions_as_they_were(driver: Driver) -> None:
    for number in range(2 * NODES_PER_STEP):
        driver.create(f"/a/{number}")
    machine = driver.machine

    checks = machine.verification(driver.store.copy())
    machine.begin(machine.applied_index + 1, 1, 2000)
    for session_id in list(machine.sessions):
        machine.end_session(session_id)
    machine.commit()

    assert len(list(checks)) == 2

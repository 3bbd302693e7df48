"""Create, set and delete: ZooKeeper's outcomes, in ZooKeeper's order of checks."""

from __future__ import annotations

import pytest

from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.commands import Check, Create, Delete, Guard, Set, Transaction, Unknown, Write
from coordsvc.statemachine.operations import TTL_MS_MAX
from coordsvc.statemachine.results import Created, ErrorCode, Failure
from coordsvc.statemachine.types import CreateMode, Limits, Stat
from tests.unit.statemachine.driver import Driver

TOO_LARGE = bytes((1 << 20) + 1)


@pytest.fixture
def driver() -> Driver:
    return Driver()


def refused(driver: Driver, operation: Create | Set | Delete) -> tuple[ErrorCode, str]:
    refusal = driver.refusal(operation)
    return refusal.code, refusal.path


# -- create: the order of checks ----------------------------------------------------------------
# Each row breaks its own rule and as many later ones as can be broken at the same time.


@pytest.mark.parametrize(
    ("operation", "code", "path", "words"),
    [
        (Create("x", TOO_LARGE, 9, -1), ErrorCode.INVALID_ARGUMENT, "x", "no create mode 9"),
        (Create("x", TOO_LARGE, -1), ErrorCode.INVALID_ARGUMENT, "x", "no create mode -1"),
        (Create("x", TOO_LARGE, CreateMode.TTL), ErrorCode.INVALID_ARGUMENT, "x", "a TTL must be 1 to"),
        (
            Create("x", TOO_LARGE, CreateMode.CONTAINER, 5),
            ErrorCode.INVALID_ARGUMENT,
            "x",
            "only the TTL and ephemeral modes",
        ),
        (Create("x", TOO_LARGE, CreateMode.EPHEMERAL), ErrorCode.SESSION_REQUIRED, "x", "needs a session"),
        (Create("x", TOO_LARGE), ErrorCode.INVALID_PATH, "x", "must start with '/'"),
        (Create("", TOO_LARGE), ErrorCode.INVALID_PATH, "", "it is empty"),
        (Create("/missing/a\0b", TOO_LARGE), ErrorCode.INVALID_PATH, "/missing/a\0b", "U+0000"),
        (Create("/missing/a\x01", TOO_LARGE), ErrorCode.NO_NODE, "/missing", "create it first"),
        (Create("a/b", TOO_LARGE), ErrorCode.NO_NODE, "a", "create it first"),
        (Create("/ephemeral/a\x01", TOO_LARGE), ErrorCode.INVALID_PATH, "/ephemeral/a\x01", "U+0001"),
        (Create("/ephemeral/", TOO_LARGE), ErrorCode.INVALID_PATH, "/ephemeral/", "must not end with '/'"),
        (Create("/there", TOO_LARGE), ErrorCode.NODE_EXISTS, "/there", "exists already"),
        (Create("/", TOO_LARGE), ErrorCode.NODE_EXISTS, "/", "exists already"),
        (
            Create("/ephemeral/x", TOO_LARGE),
            ErrorCode.NO_CHILDREN_FOR_EPHEMERALS,
            "/ephemeral",
            "is ephemeral",
        ),
        (Create("/new", TOO_LARGE), ErrorCode.LIMIT_EXCEEDED, "/new", "1048576 bytes at most, not 1048577"),
    ],
)
def test_create_answers_with_the_first_rule_that_is_broken(
    driver: Driver, operation: Create, code: ErrorCode, path: str, words: str
) -> None:
    driver.create("/there")
    driver.create("/ephemeral", mode=CreateMode.EPHEMERAL, session=driver.open_session())
    refusal = driver.refusal(operation)
    assert (refusal.code, refusal.path) == (code, path)
    assert words in refusal.message


def test_the_root_is_there_also_when_nothing_else_is(driver: Driver) -> None:
    """A parent without children spares the look-up of the new node, but the root is its own parent."""
    assert refused(driver, Create("/")) == (ErrorCode.NODE_EXISTS, "/")


def test_the_path_that_counts_is_the_one_with_the_number(driver: Driver) -> None:
    driver.create("/a")
    almost = "/a/" + "x" * (4096 - 3 - 9)
    assert (
        driver.refusal(Create(almost, mode=CreateMode.PERSISTENT_SEQUENTIAL)).code == ErrorCode.INVALID_PATH
    )
    driver.create(almost[:-1], mode=CreateMode.PERSISTENT_SEQUENTIAL)


@pytest.mark.parametrize("ttl_ms", [0, -1, TTL_MS_MAX + 1])
@pytest.mark.parametrize("mode", [CreateMode.TTL, CreateMode.TTL_SEQUENTIAL])
def test_a_ttl_out_of_range_is_refused(driver: Driver, mode: CreateMode, ttl_ms: int) -> None:
    assert driver.refusal(Create("/a", b"", mode, ttl_ms)).code == ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "mode", [CreateMode.PERSISTENT, CreateMode.PERSISTENT_SEQUENTIAL, CreateMode.CONTAINER]
)
def test_a_ttl_with_another_mode_is_refused(driver: Driver, mode: CreateMode) -> None:
    assert driver.refusal(Create("/a", b"", mode, 1)).code == ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("mode", list(CreateMode))
def test_every_mode_creates_a_node(driver: Driver, mode: CreateMode) -> None:
    session = driver.open_session()
    ttl_ms = TTL_MS_MAX if mode in (CreateMode.TTL, CreateMode.TTL_SEQUENTIAL) else 0
    path = driver.create("/a", b"v", mode, ttl_ms=ttl_ms, session=session)
    is_sequential = mode in (
        CreateMode.PERSISTENT_SEQUENTIAL,
        CreateMode.EPHEMERAL_SEQUENTIAL,
        CreateMode.TTL_SEQUENTIAL,
    )
    is_ephemeral = mode in (CreateMode.EPHEMERAL, CreateMode.EPHEMERAL_SEQUENTIAL)
    assert path == ("/a0000000000" if is_sequential else "/a")
    assert driver.stat(path).ephemeral_owner == (session.session_id if is_ephemeral else 0)
    driver.reload()
    assert driver.node(path).value == b"v"


# -- stats --------------------------------------------------------------------------------------


def test_a_new_node_has_the_stat_of_its_transaction(driver: Driver) -> None:
    driver.create("/other")
    driver.now_ms += 7
    outcome = driver.write(Create("/a", b"four"))
    expected = Stat(2, 2, 2, driver.now_ms, driver.now_ms, 0, 0, 0, 0, 4, 0)
    assert outcome.result == Created("/a", expected)
    assert outcome.changes == [Change(ChangeType.CREATED, "/a", 2, b"four", expected)]
    assert driver.stat("/a") == expected


def test_a_set_moves_version_mzxid_and_mtime_only(driver: Driver) -> None:
    driver.create("/a", b"old")
    driver.create("/a/child")
    before = driver.stat("/a")
    driver.now_ms += 5
    outcome = driver.write(Set("/a", b"newer"))
    after = driver.stat("/a")
    assert after == Stat(1, 3, 2, before.ctime, driver.now_ms, 1, 1, 0, 0, 5, 1)
    assert outcome.changes == [Change(ChangeType.CHANGED, "/a", 3, b"newer", after)]


def test_a_set_of_equal_bytes_is_a_change(driver: Driver) -> None:
    """ZooKeeper: version is incremented even if the bytes are identical."""
    driver.create("/a", b"same")
    assert driver.set("/a", b"same").version == 1
    assert driver.machine.zxid == 2


def test_children_that_come_and_go_move_cversion_and_pzxid_of_the_parent_only(driver: Driver) -> None:
    driver.create("/a")
    before = driver.stat("/a")
    driver.now_ms += 5
    driver.create("/a/b")
    driver.create("/a/b/c")
    driver.create("/a/d")
    driver.set("/a/d", b"x")
    driver.delete("/a/d")
    after = driver.stat("/a")
    assert (after.cversion, after.pzxid, after.num_children) == (3, 6, 1)
    assert (after.mzxid, after.mtime, after.version) == (before.mzxid, before.mtime, before.version)


def test_a_node_made_anew_starts_again_but_for_czxid(driver: Driver) -> None:
    driver.create("/a")
    driver.set("/a")
    driver.create("/a/child")
    driver.delete("/a", recursive=True)
    driver.create("/a")
    stat = driver.stat("/a")
    assert (stat.version, stat.cversion, stat.czxid, stat.pzxid) == (0, 0, 5, 5)


def test_the_root_can_be_set_and_counts_its_children(driver: Driver) -> None:
    driver.create("/a")
    assert driver.set("/", b"root", version=0).version == 1
    stat = driver.stat("/")
    assert (stat.czxid, stat.mzxid, stat.pzxid, stat.cversion, stat.num_children) == (0, 2, 1, 1, 1)


# -- sequential names ---------------------------------------------------------------------------


def sequential(driver: Driver, prefix: str) -> str:
    return driver.create(prefix, mode=CreateMode.PERSISTENT_SEQUENTIAL)


def test_one_counter_a_parent_counts_all_creations(driver: Driver) -> None:
    """ZooKeeper: the suffix is the number of children ever created, whatever their prefix or mode."""
    driver.create("/q")
    assert sequential(driver, "/q/a-") == "/q/a-0000000000"
    assert sequential(driver, "/q/b-") == "/q/b-0000000001"
    driver.create("/q/plain")
    assert sequential(driver, "/q/a-") == "/q/a-0000000003"
    assert sequential(driver, "/q/") == "/q/0000000004"


def test_deletes_and_failed_creates_do_not_move_the_counter(driver: Driver) -> None:
    driver.create("/q")
    driver.delete(sequential(driver, "/q/a-"))
    assert (
        driver.refusal(Create("/q/b-", TOO_LARGE, CreateMode.PERSISTENT_SEQUENTIAL)).code
        == ErrorCode.LIMIT_EXCEEDED
    )
    assert sequential(driver, "/q/a-") == "/q/a-0000000001"


def test_the_counter_starts_again_only_with_a_new_parent(driver: Driver) -> None:
    driver.create("/q")
    sequential(driver, "/q/a-")
    driver.reload()
    assert sequential(driver, "/q/a-") == "/q/a-0000000001"
    driver.delete("/q", recursive=True)
    driver.create("/q")
    assert sequential(driver, "/q/a-") == "/q/a-0000000000"


def test_sequential_nodes_of_the_root(driver: Driver) -> None:
    assert sequential(driver, "/") == "/0000000000"
    assert sequential(driver, "/n") == "/n0000000001"


def test_a_number_that_is_taken_by_hand_is_refused(driver: Driver) -> None:
    driver.create("/q")
    driver.create("/q/a-0000000001")
    refusal = driver.refusal(Create("/q/a-", mode=CreateMode.PERSISTENT_SEQUENTIAL))
    assert (refusal.code, refusal.path) == (ErrorCode.NODE_EXISTS, "/q/a-0000000001")


# -- parents ------------------------------------------------------------------------------------


def test_missing_ancestors_are_made_in_the_same_transaction(driver: Driver) -> None:
    driver.create("/a")
    outcome = driver.write(Create("/a/b/c/d", b"v", parents=True))
    assert [(change.type, change.path, change.value, change.zxid) for change in outcome.changes] == [
        (ChangeType.CREATED, "/a/b", b"", 2),
        (ChangeType.CREATED, "/a/b/c", b"", 2),
        (ChangeType.CREATED, "/a/b/c/d", b"v", 2),
    ]
    assert driver.machine.zxid == 2
    assert driver.stat("/a/b").pzxid == 2


def test_ancestors_are_persistent_whatever_the_node_is(driver: Driver) -> None:
    session = driver.open_session()
    driver.create("/a/b", mode=CreateMode.EPHEMERAL, parents=True, session=session)
    driver.end_session(session)
    assert driver.is_there("/a")
    assert not driver.is_there("/a/b")


def test_ancestors_do_not_stay_if_the_node_is_refused(driver: Driver) -> None:
    assert driver.refusal(Create("/a/b/c", TOO_LARGE, parents=True)).code == ErrorCode.LIMIT_EXCEEDED
    assert driver.children("/") == []
    assert sequential(driver, "/n-") == "/n-0000000000"


@pytest.mark.parametrize("path", ["/a//b", "/./b", "x/y", "/a/b\x01/c"])
def test_invalid_ancestors_are_refused_as_invalid(driver: Driver, path: str) -> None:
    assert driver.refusal(Create(path, parents=True)).code == ErrorCode.INVALID_PATH


def test_an_ephemeral_ancestor_is_refused(driver: Driver) -> None:
    driver.create("/e", mode=CreateMode.EPHEMERAL, session=driver.open_session())
    assert refused(driver, Create("/e/a/b", parents=True)) == (ErrorCode.NO_CHILDREN_FOR_EPHEMERALS, "/e")


def test_parents_that_exist_are_left_alone(driver: Driver) -> None:
    driver.create("/a", b"kept")
    assert driver.create("/a/", parents=True, mode=CreateMode.PERSISTENT_SEQUENTIAL) == "/a/0000000000"
    assert driver.node("/a").value == b"kept"
    assert driver.refusal(Create("/a", parents=True)).code == ErrorCode.NODE_EXISTS


# -- set, check and guards ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "code", "path"),
    [
        (Set("/a\x01", TOO_LARGE, 7), ErrorCode.INVALID_PATH, "/a\x01"),
        (Set("a", TOO_LARGE, 7), ErrorCode.INVALID_PATH, "a"),
        (Set("/a/", TOO_LARGE, 7), ErrorCode.INVALID_PATH, "/a/"),
        (Set("/missing", TOO_LARGE, 7), ErrorCode.NO_NODE, "/missing"),
        (Set("/there", TOO_LARGE, 7), ErrorCode.BAD_VERSION, "/there"),
        (Set("/there", TOO_LARGE, 0), ErrorCode.LIMIT_EXCEEDED, "/there"),
        (Set("/there", b"", -2), ErrorCode.BAD_VERSION, "/there"),
    ],
)
def test_set_answers_with_the_first_rule_that_is_broken(
    driver: Driver, operation: Set, code: ErrorCode, path: str
) -> None:
    driver.create("/there")
    assert refused(driver, operation) == (code, path)


def test_a_wrong_version_is_told_with_the_right_one(driver: Driver) -> None:
    driver.create("/a")
    driver.set("/a")
    refusal = driver.refusal(Set("/a", b"", 0))
    assert (refusal.expected_version, refusal.actual_version) == (0, 1)
    assert driver.set("/a", b"", version=1).version == 2


def test_checks_in_their_order(driver: Driver) -> None:
    driver.create("/a")
    assert driver.check_refusal(Check("/a/", 5, 5)) == ErrorCode.INVALID_PATH
    assert driver.check_refusal(Check("/b", 5, 5)) == ErrorCode.NO_NODE
    assert driver.check_refusal(Check("/a", 5, 5)) == ErrorCode.BAD_VERSION
    assert driver.check_refusal(Check("/a", 0, 5)) == ErrorCode.CHECK_FAILED
    assert driver.check_refusal(Check("/a", absent=True)) == ErrorCode.CHECK_FAILED
    assert driver.check_refusal(Check("b", absent=True)) == ErrorCode.INVALID_PATH
    driver.transact(Check("/a"), Check("/a", 0, 1), Check("/b", absent=True))


def test_a_guard_holds_for_one_life_of_a_node(driver: Driver) -> None:
    driver.create("/lock")
    driver.create("/data")
    guard = Guard("/lock", driver.stat("/lock").czxid)
    driver.set("/lock", b"another value is the same node")
    assert not isinstance(driver.write(Set("/data", b"1"), guards=[guard]).result, Failure)
    driver.delete("/lock")
    gone = driver.refusal(Set("/data", b"2"), guards=[guard])
    assert (gone.code, gone.path) == (ErrorCode.GUARD_FAILED, "/lock")
    assert "it is gone" in gone.message
    driver.create("/lock")
    other = driver.refusal(Set("/data", b"2"), guards=[guard])
    assert other.code == ErrorCode.GUARD_FAILED
    assert "made anew by transaction 6" in other.message
    assert driver.node("/data").value == b"1"


def test_guards_come_before_everything_else_and_must_all_hold(driver: Driver) -> None:
    driver.create("/lock")
    holds = Guard("/lock", 1)
    for fails in (Guard("/lock", 2), Guard("/gone", 1), Guard("not a path", 1), Guard("/\ud800", 1)):
        for operation in (Set("/missing"), Create("x", mode=9), Delete("/"), Unknown()):
            refusal = driver.refusal(operation, guards=[holds, fails])
            assert (refusal.code, refusal.path) == (ErrorCode.GUARD_FAILED, fails.path)


def test_too_many_guards_are_refused(driver: Driver) -> None:
    refusal = driver.refusal(Create("/a"), guards=[Guard("/", 0)] * 129)
    assert refusal.code == ErrorCode.LIMIT_EXCEEDED
    driver.write(Create("/a"), guards=[Guard("/", 0)] * 128)
    assert driver.is_there("/a")


# -- delete -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "code", "path"),
    [
        (Delete("a", 7), ErrorCode.INVALID_PATH, "a"),
        (Delete("/a\0", 7), ErrorCode.INVALID_PATH, "/a\0"),
        (Delete("/", 7), ErrorCode.INVALID_ARGUMENT, "/"),
        (Delete("/", recursive=True), ErrorCode.INVALID_ARGUMENT, "/"),
        (Delete("/missing", 7), ErrorCode.NO_NODE, "/missing"),
        (Delete("/missing/deep", 7), ErrorCode.NO_NODE, "/missing/deep"),
        (Delete("/full", 7), ErrorCode.BAD_VERSION, "/full"),
        (Delete("/full", 7, recursive=True), ErrorCode.BAD_VERSION, "/full"),
        (Delete("/full", 0), ErrorCode.NOT_EMPTY, "/full"),
    ],
)
def test_delete_answers_with_the_first_rule_that_is_broken(
    driver: Driver, operation: Delete, code: ErrorCode, path: str
) -> None:
    driver.create("/full")
    driver.create("/full/child")
    assert refused(driver, operation) == (code, path)


def test_a_deleted_node_is_told_with_its_last_stat(driver: Driver) -> None:
    driver.create("/a", b"value")
    last = driver.set("/a", b"other")
    outcome = driver.write(Delete("/a", 1))
    assert outcome.changes == [Change(ChangeType.DELETED, "/a", 3, b"", last)]
    assert not driver.is_there("/a")


def test_a_subtree_goes_at_once_children_before_parents(driver: Driver) -> None:
    session = driver.open_session()
    for path in ("/a", "/a/b", "/a/b/c", "/a!", "/a!/x", "/a/d", "/ab"):
        driver.create(path)
    driver.create("/a/b/e", mode=CreateMode.EPHEMERAL, session=session)
    last = driver.stat("/a")
    outcome = driver.write(Delete("/a", recursive=True))
    assert [change.path for change in outcome.changes] == ["/a/b/c", "/a/b/e", "/a/b", "/a/d", "/a"]
    assert {change.zxid for change in outcome.changes} == {driver.machine.zxid}
    assert outcome.changes[-1].stat == last
    assert driver.children("/") == ["a!", "ab"]
    assert driver.machine.node_count == 4
    assert driver.end_session(session) == []


def test_a_recursive_delete_sees_what_the_same_entry_did_before(driver: Driver) -> None:
    driver.create("/a")
    driver.create("/a/old")
    driver.create("/a/gone")
    with driver.entry() as machine:
        for operation in (Create("/a/new"), Create("/a/new/deep"), Delete("/a/gone")):
            machine.write(0, 0, Write(operation))
        outcome = machine.write(0, 0, Write(Delete("/a", recursive=True)))
    assert [change.path for change in outcome.changes] == ["/a/new/deep", "/a/new", "/a/old", "/a"]
    assert driver.machine.node_count == 1


def test_a_subtree_that_is_too_large_is_refused_and_stays() -> None:
    driver = Driver(Limits(recursive_delete_nodes=4))
    for path in ("/a", "/a/b", "/a/b/c", "/a/d"):
        driver.create(path)
    driver.create("/a/b/e")
    refusal = driver.refusal(Delete("/a", recursive=True))
    assert refusal.code == ErrorCode.LIMIT_EXCEEDED
    assert "may delete 4 nodes" in refusal.message
    assert driver.delete("/a/d", recursive=True) == 1
    assert driver.delete("/a", recursive=True) == 4


# -- ephemerals ---------------------------------------------------------------------------------


def test_anyone_may_set_and_delete_an_ephemeral_node(driver: Driver) -> None:
    session = driver.open_session()
    driver.create("/e", mode=CreateMode.EPHEMERAL, session=session)
    assert driver.set("/e", b"x").ephemeral_owner == session.session_id
    driver.delete("/e")
    assert driver.end_session(session) == []


def test_containers_and_ttl_nodes_may_have_children_of_any_kind(driver: Driver) -> None:
    session = driver.open_session()
    driver.create("/c", mode=CreateMode.CONTAINER)
    driver.create("/t", mode=CreateMode.TTL, ttl_ms=1)
    driver.create("/c/e", mode=CreateMode.EPHEMERAL, session=session)
    driver.create("/t/e", mode=CreateMode.EPHEMERAL, session=session)
    assert len(driver.end_session(session)) == 2


def test_a_session_may_own_so_many_nodes_and_no_more() -> None:
    driver = Driver(Limits(ephemerals_per_session=2))
    session = driver.open_session()
    driver.create("/1", mode=CreateMode.EPHEMERAL, session=session)
    driver.create("/2", mode=CreateMode.EPHEMERAL, session=session)
    third = Create("/3", b"", CreateMode.EPHEMERAL)
    assert driver.refusal(third, session).code == ErrorCode.LIMIT_EXCEEDED
    driver.create("/3", mode=CreateMode.EPHEMERAL, session=driver.open_session())
    driver.delete("/3")
    driver.delete("/1")
    driver.create("/3", mode=CreateMode.EPHEMERAL, session=session)


def test_the_limit_of_ephemerals_counts_within_a_transaction() -> None:
    driver = Driver(Limits(ephemerals_per_session=2))
    session = driver.open_session()
    driver.create("/1", mode=CreateMode.EPHEMERAL, session=session)
    second, third = (Create(path, b"", CreateMode.EPHEMERAL) for path in ("/2", "/3"))
    refusal = driver.refusal(Transaction(success=[second, third]), session)
    assert refusal.op_codes == [ErrorCode.OK, ErrorCode.LIMIT_EXCEEDED]
    driver.transact(second, Delete("/1"), third, session=session)

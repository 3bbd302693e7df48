"""Reads: of a node, of its existence, of pages of children."""

from __future__ import annotations

import pytest

from coordsvc.statemachine.commands import Create, Exists, Get, ListChildren, Set, Transaction, Write
from coordsvc.statemachine.results import Children, ErrorCode, ExistsResult, Node
from coordsvc.statemachine.types import Limits
from tests.unit.statemachine.driver import Driver, failure


@pytest.fixture
def driver() -> Driver:
    return Driver()


def page(driver: Driver, request: ListChildren) -> Children:
    result = driver.machine.list_children(request)
    assert isinstance(result, Children), result
    return result


def test_a_node_is_read_with_its_stat(driver: Driver) -> None:
    driver.create("/a", b"value")
    assert driver.machine.get("/a") == Node("/a", b"value", driver.stat("/a"))
    assert driver.machine.exists("/a") == ExistsResult(driver.stat("/a"))


def test_a_missing_node_is_an_answer_of_exists_and_a_refusal_of_the_others(driver: Driver) -> None:
    assert driver.machine.exists("/a/b") == ExistsResult(None)
    for result in (driver.machine.get("/a/b"), driver.machine.list_children(ListChildren("/a/b"))):
        assert (failure(result).code, failure(result).path) == (ErrorCode.NO_NODE, "/a/b")


@pytest.mark.parametrize(
    "path", ["", "a", "/a/", "//", "/..", "/\0", "/\ud800", "x" * 5000, "/" + "x" * 5000]
)
def test_an_invalid_path_is_refused_by_every_read(driver: Driver, path: str) -> None:
    machine = driver.machine
    for result in (machine.get(path), machine.exists(path), machine.list_children(ListChildren(path))):
        refusal = failure(result)
        assert refusal.code == ErrorCode.INVALID_PATH
        assert len(refusal.message) < 500


def test_children_are_sorted_by_code_point(driver: Driver) -> None:
    for name in ("b", "a", "\U0001f512", "Z", "\ue000", "ab", "a!"):
        driver.create("/" + name)
    assert page(driver, ListChildren("/")).names == ["Z", "a", "a!", "ab", "b", "\ue000", "\U0001f512"]


def test_grandchildren_are_not_children(driver: Driver) -> None:
    driver.create("/a/b/c", parents=True)
    assert page(driver, ListChildren("/")).names == ["a"]
    assert page(driver, ListChildren("/a/b/c")).names == []


def test_pages_follow_one_another(driver: Driver) -> None:
    for number in range(7):
        driver.create(f"/{number}")
    first = page(driver, ListChildren("/", limit=3))
    assert (first.names, first.more) == (["0", "1", "2"], True)
    second = page(driver, ListChildren("/", after="2", limit=4))
    assert (second.names, second.more) == (["3", "4", "5", "6"], False)
    assert page(driver, ListChildren("/", after="6")).names == []
    assert page(driver, ListChildren("/", after="25")).names == ["3", "4", "5", "6"]
    assert first.stat == driver.stat("/")


@pytest.mark.parametrize("limit", [1, 249, 250, 251, 500, 501, 599, 600, 601])
@pytest.mark.parametrize("has_room", [True, False])
def test_a_long_list_is_the_same_however_it_is_paged(limit: int, has_room: bool) -> None:
    names = [f"{number:04d}" for number in range(600)]
    driver = Driver(Limits(children_page_bytes=2 << 20 if has_room else 3001))
    for name in names:
        driver.create("/" + name)
    found: list[str] = []
    more = True
    while more:
        next_page = page(driver, ListChildren("/", after=found[-1] if found else "", limit=limit))
        assert 1 <= len(next_page.names) <= (limit if has_room else min(limit, 251))
        found += next_page.names
        more = next_page.more
    assert found == names


def test_names_are_found_while_an_entry_is_applied(driver: Driver) -> None:
    driver.create("/a")
    driver.create("/a/x")
    with driver.entry() as machine:
        machine.write(0, 0, Write(Create("/a/y")))
        assert page(driver, ListChildren("/a")).names == ["x", "y"]


def test_a_page_has_no_more_than_the_limit_of_the_service() -> None:
    driver = Driver(Limits(children_page=2))
    for number in range(3):
        driver.create(f"/{number}")
    for limit in (0, 3, 1000):
        found = page(driver, ListChildren("/", limit=limit))
        assert (found.names, found.more) == (["0", "1"], True)
    assert (
        failure(driver.machine.list_children(ListChildren("/", limit=-1))).code == ErrorCode.INVALID_ARGUMENT
    )


def test_a_page_of_nodes_is_shorter_than_one_of_names() -> None:
    driver = Driver(Limits(children_page=3, children_page_nodes=2))
    for number in range(4):
        driver.create(f"/{number}")
    assert page(driver, ListChildren("/")).names == ["0", "1", "2"]
    assert page(driver, ListChildren("/", with_nodes=True)).names == ["0", "1"]
    assert page(driver, ListChildren("/", limit=1, with_nodes=True)).names == ["0"]


def test_nodes_come_with_the_names_if_asked_for(driver: Driver) -> None:
    driver.create("/a")
    driver.create("/a/x", b"1")
    driver.create("/a/y", b"2")
    found = page(driver, ListChildren("/a", with_nodes=True))
    assert found.nodes == [driver.node("/a/x"), driver.node("/a/y")]
    assert page(driver, ListChildren("/a")).nodes == []


def test_a_page_of_large_values_ends_early_but_never_empty() -> None:
    driver = Driver(Limits(children_page_bytes=1000))
    for name in "abc":
        driver.create("/" + name, bytes(800))
    found = page(driver, ListChildren("/", with_nodes=True))
    assert (found.names, found.more) == (["a", "b"], True)
    driver.set("/a", bytes(5000))
    found = page(driver, ListChildren("/", with_nodes=True))
    assert (found.names, found.more) == (["a"], True)
    assert page(driver, ListChildren("/")).names == ["a", "b", "c"]


def test_a_page_without_any_room_still_moves_on() -> None:
    driver = Driver(Limits(children_page_bytes=0))
    for name in "ab":
        driver.create("/" + name)
    first = page(driver, ListChildren("/"))
    assert (first.names, first.more) == (["a"], True)
    assert page(driver, ListChildren("/", after="a")).names == ["b"]


def test_reads_between_commands_see_what_the_entry_did_so_far(driver: Driver) -> None:
    driver.create("/a", b"old")
    with driver.entry() as machine:
        machine.write(0, 0, Write(Set("/a", b"new")))
        machine.write(0, 0, Write(Create("/b")))
        assert driver.node("/a").value == b"new"
        found = page(driver, ListChildren("/", with_nodes=True))
        assert [(node.path, node.value) for node in found.nodes] == [("/a", b"new"), ("/b", b"")]


def test_reads_in_a_transaction_share_one_budget() -> None:
    """A transaction's answer is kept until it is acknowledged, so it must not grow without limit."""
    driver = Driver(Limits(children_page_bytes=1000))
    driver.create("/a", bytes(600))
    assert len(driver.transact(Get("/a"), Get("/a")).results) == 2
    refusal = driver.refusal(Transaction(success=[Get("/a"), Get("/a"), Exists("/a")]))
    assert refusal.op_codes == [ErrorCode.OK, ErrorCode.OK, ErrorCode.LIMIT_EXCEEDED]

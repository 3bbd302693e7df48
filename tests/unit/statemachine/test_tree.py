"""The tree over its store: what an entry has changed so far lies over what is committed."""

from __future__ import annotations

from coordsvc.statemachine.changes import Change
from coordsvc.statemachine.commands import Create, Delete, Set, Write
from coordsvc.statemachine.layout import DEADLINES, EPHEMERALS, node_key
from coordsvc.statemachine.machine import StateMachine
from coordsvc.statemachine.tree import Tree
from coordsvc.statemachine.types import CreateMode, Stat
from coordsvc.statemachine.znodes import Znode, decode_znode, encode_znode, fingerprint
from tests.stores import MemoryStore
from tests.unit.statemachine.driver import Driver


def node(value: bytes = b"", czxid: int = 1) -> Znode:
    return Znode(value, Stat(czxid, czxid, czxid, 0, 0, 0, 0, 0, 0, len(value), 0))


def tree_with(*paths: str) -> tuple[Tree, MemoryStore]:
    """Return a tree that holds the root and these paths, committed."""
    store = MemoryStore()
    tree = Tree(store, 1 << 20, 0)
    tree.replace("/", None, node())
    for path in paths:
        add(tree, path)
    flush(tree, store)
    return tree, store


def add(tree: Tree, path: str, value: bytes = b"") -> None:
    parent_path = path[: path.rindex("/")] or "/"
    parent = tree.find(parent_path)
    assert parent is not None
    tree.add(path, node(value), parent_path, parent)


def discard(tree: Tree, path: str) -> None:
    gone = tree.find(path)
    assert gone is not None
    tree.discard(path, gone)


def flush(tree: Tree, store: MemoryStore) -> None:
    puts: list[tuple[bytes, bytes]] = []
    deletes: list[bytes] = []
    tree.flush(puts, deletes)
    store.write(puts, deletes)
    tree.settle()


def names(tree: Tree, path: str, after: str = "") -> list[str]:
    return [name for name, _ in tree.children(path, after)]


def test_what_is_not_committed_is_seen_and_not_stored() -> None:
    tree, store = tree_with("/a")
    add(tree, "/b")
    assert tree.find("/b") is not None
    assert store.get(node_key("/b")) is None
    flush(tree, store)
    assert store.get(node_key("/b")) is not None
    assert tree.is_clean


def test_children_merge_the_store_with_what_came_and_went() -> None:
    tree, store = tree_with("/b", "/d", "/f", "/h", "/d/x")
    add(tree, "/a")
    add(tree, "/e")
    add(tree, "/z")
    discard(tree, "/b")
    discard(tree, "/h")
    add(tree, "/h", b"made anew")
    add(tree, "/e2")
    discard(tree, "/e2")
    assert names(tree, "/") == ["a", "d", "e", "f", "h", "z"]
    assert names(tree, "/", "d") == ["e", "f", "h", "z"]
    assert names(tree, "/", "dd") == ["e", "f", "h", "z"]
    assert names(tree, "/", "z") == []
    assert dict(tree.children("/"))["h"] == node(b"made anew")
    assert names(tree, "/d") == ["x"]
    flush(tree, store)
    assert names(tree, "/") == ["a", "d", "e", "f", "h", "z"]


def test_a_child_list_asked_for_twice_sees_what_came_between() -> None:
    tree, _ = tree_with()
    add(tree, "/b")
    assert names(tree, "/") == ["b"]
    add(tree, "/a")
    add(tree, "/c")
    assert names(tree, "/") == ["a", "b", "c"]


def test_a_set_child_is_listed_with_its_new_value() -> None:
    tree, _ = tree_with("/a", "/b")
    old = tree.find("/a")
    tree.replace("/a", old, node(b"new"))
    assert dict(tree.children("/"))["a"] == node(b"new")


def test_roll_back_restores_what_was_committed_and_what_was_not() -> None:
    tree, store = tree_with("/a", "/b")
    add(tree, "/kept", b"1")
    tree.settle()
    root = tree.find("/")
    mark = tree.mark()
    add(tree, "/new")
    discard(tree, "/a")
    discard(tree, "/kept")
    add(tree, "/kept", b"2")
    tree.roll_back(mark)
    assert names(tree, "/") == ["a", "b", "kept"]
    assert tree.find("/kept") == node(b"1")
    assert tree.find("/") is root
    assert tree.find("/new") is None
    flush(tree, store)
    other, expected = tree_with("/a", "/b")
    add(other, "/kept", b"1")
    flush(other, expected)
    assert store.records == expected.records
    assert tree.digest == other.digest


def test_roll_back_to_an_inner_mark_keeps_what_came_before_it() -> None:
    tree, _ = tree_with()
    outer = tree.mark()
    add(tree, "/a")
    inner = tree.mark()
    add(tree, "/b")
    tree.roll_back(inner)
    assert names(tree, "/") == ["a"]
    tree.roll_back(outer)
    assert names(tree, "/") == []


def test_what_comes_and_goes_within_one_commit_is_never_written() -> None:
    tree, store = tree_with()
    add(tree, "/a")
    discard(tree, "/a")
    puts: list[tuple[bytes, bytes]] = []
    deletes: list[bytes] = []
    tree.flush(puts, deletes)
    assert [key for key, _ in puts] == [node_key("/")]
    assert deletes == []
    assert store.get(node_key("/a")) is None


def test_the_digest_is_the_sum_over_all_records() -> None:
    tree, store = tree_with("/a", "/b", "/b/c")
    add(tree, "/d", b"x")
    discard(tree, "/a")
    flush(tree, store)
    shares = [fingerprint(key, record) for key, record in store.scan(b"n", b"o")]
    assert tree.digest == sum(shares) % (1 << 64)
    assert len(shares) == 4


def test_a_node_read_back_from_the_store_counts_the_same_in_the_digest() -> None:
    tree, store = tree_with("/a")
    again = Tree(store, 0, tree.digest)
    for each in (tree, again):
        discard(each, "/a")
        puts: list[tuple[bytes, bytes]] = []
        each.flush(puts, [])
    assert tree.digest == again.digest


def test_subtrees_are_sorted_children_before_parents() -> None:
    tree, _ = tree_with("/a", "/a/b", "/a/b/y", "/a/b/x", "/a/c", "/a!", "/ab")
    top = tree.find("/a")
    assert top is not None
    found = tree.subtree("/a", top, 5)
    assert found is not None
    assert [path for path, _ in found] == ["/a/b/x", "/a/b/y", "/a/b", "/a/c", "/a"]
    assert tree.subtree("/a", top, 4) is None


def test_a_very_deep_subtree_does_not_exhaust_the_stack() -> None:
    driver = Driver()
    deep = "/a" * 2000
    driver.create(deep, parents=True)
    assert driver.delete("/a", recursive=True) == 2000


def test_a_subtree_keeps_no_values_in_memory() -> None:
    driver = Driver()
    driver.create("/a")
    for number in range(3):
        driver.create(f"/a/{number}", bytes(1000))
    driver.reload()
    digest = driver.machine.digest
    tree = driver.machine._tree
    top = tree.find("/a")
    assert top is not None
    found = tree.subtree("/a", top, 10)
    assert found is not None
    assert [each.value for _, each in found] == [b""] * 4
    driver.delete("/a", recursive=True)  # which verifies the digest
    assert driver.machine.digest != digest


def test_index_keys_follow_the_nodes() -> None:
    driver = Driver()
    session = driver.open_session()
    driver.create("/c", mode=CreateMode.CONTAINER)
    driver.create("/t", mode=CreateMode.TTL, ttl_ms=9)
    driver.create("/e", mode=CreateMode.EPHEMERAL, session=session)

    def lengths() -> tuple[int, int]:
        return len(list(driver.store.scan(*EPHEMERALS))), len(list(driver.store.scan(*DEADLINES)))

    assert lengths() == (1, 2)
    driver.create("/c/x")
    driver.create("/t/x")
    assert lengths() == (1, 0)
    driver.delete("/c/x")
    driver.delete("/t/x")
    driver.delete("/e")
    assert lengths() == (0, 2)
    driver.delete("/c")
    driver.delete("/t")
    assert lengths() == (0, 0)


def test_memory_does_not_grow_with_the_tree() -> None:
    driver = Driver(cache_bytes=200_000)
    with driver.entry() as machine:
        for number in range(3000):
            machine.write(0, 0, Write(Create(f"/{number}")))
    assert len(driver.machine._tree._cache) < 300
    for number in range(3000):
        assert driver.is_there(f"/{number}")
    assert len(driver.machine._tree._cache) < 300


def test_a_small_cache_changes_nothing() -> None:
    """The store, not the cache, is the truth: with no cache at all every answer is the same."""

    def run(cache_bytes: int) -> tuple[list[list[Change]], dict[bytes, bytes]]:
        driver = Driver(cache_bytes=cache_bytes)
        changes: list[list[Change]] = []
        for number in range(60):
            with driver.entry() as machine:
                operations = (
                    Create(f"/{number % 7}"),
                    Create(f"/{number % 7}/c", b"", CreateMode.PERSISTENT_SEQUENTIAL),
                    Set(f"/{number % 5}", b"%d" % number),
                    Delete(f"/{number % 11}", recursive=True),
                )
                changes.extend(machine.write(0, 0, Write(operation)).changes for operation in operations)
        return changes, driver.store.records

    assert run(0) == run(1 << 20)


def test_records_on_disk_are_those_of_the_nodes() -> None:
    store = MemoryStore()
    machine = StateMachine(store, Driver().limits)
    machine.begin(1, 1, 5)
    machine.write(0, 0, Write(Create("/a", b"v")))
    machine.commit()
    record = store.get(node_key("/a"))
    assert record is not None
    assert encode_znode(decode_znode("/a", record)) == record

"""Mirror: whatever was read when, all events together lead to what the service holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordclient import Event, EventType, Node, Stat
from coordclient.recipes.mirror import CacheChange, Mirror
from coordclient.types import event_from_wire, node_from_wire
from coordproto.v1 import data_pb2
from tests.unit.client.fake_tree import FakeTree

NAMES = ["/a", "/a/b", "/a/b/c", "/a/d", "/e"]
Steps = list[tuple[str, str]]

steps = st.lists(
    st.tuples(st.sampled_from(["set", "delete", "remake", "fleeting", "twice"]), st.sampled_from(NAMES))
)


def write(tree: FakeTree, kind: str, path: str) -> None:
    """Do something to a path, in one transaction."""
    value = b"%d" % tree.zxid
    transaction = data_pb2.Transaction()

    def add() -> data_pb2.TransactionOp:
        return transaction.success.add()

    if kind in ("delete", "remake") and path in tree.nodes:
        add().delete.CopyFrom(data_pb2.Delete(path=path, recursive=True))
    if kind in ("remake", "fleeting") or (kind != "delete" and path not in tree.nodes):
        add().create.CopyFrom(data_pb2.Create(path=path, value=value, parents=True))
    elif kind in ("set", "twice"):
        add().set.CopyFrom(data_pb2.Set(path=path, value=value))
    if kind == "twice":
        add().set.CopyFrom(data_pb2.Set(path=path, value=value + b" again"))
    if kind == "fleeting":
        add().delete.CopyFrom(data_pb2.Delete(path=path, recursive=True))
    tree.write(data_pb2.Write(transaction=transaction), 0)


def contents(nodes: dict[str, Node]) -> dict[str, tuple[bytes, int, int]]:
    return {path: (node.value, node.stat.czxid, node.stat.mzxid) for path, node in nodes.items()}


def held(tree: FakeTree) -> dict[str, Node]:
    return {path: node_from_wire(node) for path, node in tree.nodes.items() if path != "/"}


@given(steps, steps, st.lists(st.integers(min_value=0), min_size=len(NAMES), max_size=len(NAMES)))
def test_reads_at_any_time_and_the_events_after_the_first_lead_to_the_end(
    before: Steps, after: Steps, times: list[int]
) -> None:
    tree = FakeTree()
    for kind, path in before:
        write(tree, kind, path)
    first = tree.zxid
    looks = [held(tree)]
    for kind, path in after:
        write(tree, kind, path)
        looks.append(held(tree))
    read = [looks[time % len(looks)].get(path) for path, time in zip(NAMES, times, strict=True)]
    mirror = Mirror(node for node in read if node is not None)
    for change in tree.changes:
        if change.zxid > first:
            mirror.apply(event_from_wire(change))

    assert contents(mirror.nodes) == contents(held(tree))
    for path in ["/", *tree.nodes]:
        assert mirror.children(path) == list(tree.children(data_pb2.ListChildren(path=path)).names)


@given(steps, steps)
def test_the_differences_lead_from_one_state_to_the_other(before: Steps, after: Steps) -> None:
    tree = FakeTree()
    for kind, path in before:
        write(tree, kind, path)
    old = held(tree)
    for kind, path in after:
        write(tree, kind, path)
    mirror = Mirror(old.values())
    shown = dict(old)
    for change in mirror.adopt(Mirror(held(tree).values())):
        follow(shown, change)

    assert contents(shown) == contents(mirror.nodes) == contents(held(tree))


def follow(shown: dict[str, Node], change: CacheChange) -> None:
    """Do to a copy what a change says, and check that it fits."""
    previous = shown.get(change.path)
    known, told = (
        None if node is None else (node.value, node.stat.mzxid) for node in (previous, change.previous)
    )
    assert known == told
    parent = change.path.rpartition("/")[0]
    if change.node is None:
        assert change.type is EventType.DELETED
        assert not any(path.startswith(change.path + "/") for path in shown)
        del shown[change.path]
    else:
        assert change.type is (EventType.CREATED if previous is None else EventType.CHANGED)
        assert not parent or parent in shown
        shown[change.path] = change.node


def test_what_is_older_than_what_is_known_is_ignored() -> None:
    stat = Stat(7, 9, 7, 0, 0, 1, 0, 0, 0, 0, 0)
    old = Stat(7, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0)
    mirror = Mirror([Node("/a", b"new", stat)])

    assert mirror.apply(Event(EventType.CHANGED, "/a", 8, b"old", old)) is None
    assert mirror.apply(Event(EventType.DELETED, "/a", 6, b"", old)) is None
    assert mirror.apply(Event(EventType.CHILDREN, "/a", 10)) is None
    assert mirror.apply(Event(EventType.DELETED, "/b", 10, b"", old)) is None
    assert mirror.nodes["/a"].value == b"new"
    assert len(mirror) == 1

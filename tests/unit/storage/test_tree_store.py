"""The tree's records on LevelDB."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordsvc.storage.errors import DiskFailedError, DiskNotTrustedError, DiskTrust, SnapshotClosed
from coordsvc.storage.leveldb import Tuning
from coordsvc.storage.tree_chunks import ChunkReader
from coordsvc.storage.tree_store import TreeSnapshot, TreeStore

Record = tuple[bytes, bytes]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[TreeStore]:
    store = TreeStore.create(tmp_path / "tree-1", DiskTrust())
    yield store
    store.close()


def read_back(snapshot: TreeSnapshot, bytes_max: int) -> list[Record]:
    reader = ChunkReader(1 << 30)
    records: list[Record] = []
    for chunk in snapshot.chunks(bytes_max):
        records += reader.read(chunk.number, chunk.data, chunk.checksum)
    assert reader.complete
    return records


def test_what_is_put_is_found_and_what_is_deleted_is_not(tree: TreeStore) -> None:
    tree.write([(b"a", b"1"), (b"b", b""), (b"c", b"3")], [])
    tree.write([(b"a", b"2")], [b"c"])

    assert [tree.get(key) for key in (b"a", b"b", b"c")] == [b"2", b"", None]


def test_a_scan_is_ordered_half_open_and_as_of_its_call(tree: TreeStore) -> None:
    tree.write([(b"k%d" % number, b"old") for number in (3, 1, 2, 4)], [])

    records, keys = tree.scan(b"k1", b"k4"), tree.keys(b"k1", b"k4")
    tree.write([(b"k2", b"new"), (b"k25", b"new")], [b"k3"])

    assert list(records) == [(b"k1", b"old"), (b"k2", b"old"), (b"k3", b"old")]
    assert list(keys) == [b"k1", b"k2", b"k3"]
    assert list(tree.scan(b"k2", b"k3")) == [(b"k2", b"new"), (b"k25", b"new")]


def test_a_scan_may_be_left_early_and_the_tree_closed(tmp_path: Path) -> None:
    tree = TreeStore.create(tmp_path / "tree", DiskTrust())
    tree.write([(b"a", b"1"), (b"b", b"2")], [])
    records = tree.scan(b"a", b"z")
    assert next(records) == (b"a", b"1")

    tree.close()


def test_records_are_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "tree"
    tree = TreeStore.create(path, DiskTrust())
    tree.write([(b"%04d" % number, b"x" * 100) for number in range(2000)], [])
    tree.sync()
    tree.close()

    tree = TreeStore.open(path, DiskTrust())
    assert tree.verify_all() == 2000
    assert tree.get(b"1999") == b"x" * 100
    tree.close()


@pytest.mark.parametrize("bytes_max", [1, 100, 1 << 20])
def test_a_snapshot_is_the_tree_as_it_was_whatever_came_later(tree: TreeStore, bytes_max: int) -> None:
    before = [(b"k%03d" % number, b"v" * (number % 50)) for number in range(200)]
    tree.write(before, [])

    snapshot = tree.snapshot()
    tree.write([(b"k000", b"changed"), (b"later", b"added")], [b"k001"])

    assert read_back(snapshot, bytes_max) == before
    assert snapshot.get(b"k001") == b"v"
    snapshot.close()


def test_a_range_of_a_snapshot_is_as_it_was_too(tree: TreeStore) -> None:
    tree.write([(b"k%d" % number, b"old") for number in range(5)], [])
    snapshot = tree.snapshot()
    tree.write([(b"k2", b"new"), (b"k25", b"new")], [b"k3"])

    assert list(snapshot.scan(b"k1", b"k4")) == [(b"k1", b"old"), (b"k2", b"old"), (b"k3", b"old")]
    snapshot.close()
    with pytest.raises(SnapshotClosed):
        snapshot.scan(b"k1", b"k4")


def test_an_empty_tree_has_a_snapshot_too(tree: TreeStore) -> None:
    snapshot = tree.snapshot()

    assert read_back(snapshot, 1000) == []
    snapshot.close()


def test_a_snapshot_that_is_closed_while_it_is_read_says_so(tmp_path: Path) -> None:
    """As when the tree is replaced in the middle of streaming it: no fault, and no end of the member."""
    tree = TreeStore.create(tmp_path / "tree", DiskTrust())
    tree.write([(b"k%03d" % number, b"v" * 50) for number in range(200)], [])
    snapshot = tree.snapshot()
    chunks = snapshot.chunks(1000)
    next(chunks)

    snapshot.close()
    snapshot.close()
    tree.close()

    with pytest.raises(SnapshotClosed):
        next(chunks)
    with pytest.raises(SnapshotClosed):
        snapshot.chunks(1000)
    with pytest.raises(SnapshotClosed):
        snapshot.get(b"k000")


def test_looking_for_what_is_not_there_rewrites_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LevelDB's own `get` would: it merges files because they were looked into in vain."""
    monkeypatch.setattr("coordsvc.storage.tree_store.TREE_TUNING", Tuning(write_buffer_bytes=64 << 10))
    path = tmp_path / "tree"
    tree = TreeStore.create(path, DiskTrust())
    records = [(b"k%05d" % number, random.Random(number).randbytes(50)) for number in range(4000)]
    tree.write(records, [])
    tree._database.compact_range()
    tree.write(records[::10], [])
    tree.close()
    tree = TreeStore.open(path, DiskTrust())  # what was in the write buffer is a file of its own now

    for number in range(4000):
        assert tree.get(b"k%05d-" % number) is None
    tree.close()

    assert "Compact" not in (path / "LOG").read_text()


def note_steps(tree: TreeStore, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list that grows whenever an iterator is used for a look."""
    steps: list[object] = []
    position = tree._raw_iterator

    def note_and_position(**how: bool) -> object:
        steps.append(how)
        return position(**how)

    monkeypatch.setattr(tree, "_raw_iterator", note_and_position)
    return steps


def test_looking_among_many_deleted_records_does_not_step_over_all_of_them_each_time(
    tree: TreeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An iterator does: it goes on to the next record that is there, and there may be none for long."""
    keys = [b"k%06d" % number for number in range(50_000)]
    tree.write([(key, b"") for key in keys], [])
    tree.write([(b"z", b"there")], keys)
    stepping = note_steps(tree, monkeypatch)

    assert [tree.get(key) for key in keys[:2000]] == [None] * 2000

    assert len(stepping) <= 20, "each of these stepped over nearly 50,000 deleted records"
    assert tree.get(b"z") == b"there"


def test_after_a_slow_look_the_quick_way_is_taken_again(
    tree: TreeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [b"k%06d" % number for number in range(50_000)]
    tree.write([(key, b"") for key in keys], [])
    tree.write([(b"z", b"there")], keys)
    assert tree.get(b"k") is None

    looks = 0
    stepping = note_steps(tree, monkeypatch)
    while not stepping:
        assert tree.get(b"z") == b"there"
        looks += 1
        assert looks < 10_000, "it never tries again"


def test_after_a_failed_sync_everything_is_refused(tree: TreeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.write([(b"a", b"1")], [])

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(DiskFailedError, match=str(tree.path)):
        tree.sync()
    monkeypatch.undo()

    for call in (
        lambda: tree.get(b"a"),
        lambda: tree.scan(b"a", b"b"),
        lambda: tree.keys(b"a", b"b"),
        lambda: tree.write([(b"a", b"2")], []),
        tree.sync,
        tree.snapshot,
        tree.verify_all,
    ):
        with pytest.raises(DiskNotTrustedError, match="Input/output error"):
            call()

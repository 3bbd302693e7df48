"""A received tree is built beside the live one, and switched to only when it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordsvc.storage.data_directory import DataDirectory, InstalledSnapshot
from coordsvc.storage.errors import SnapshotRefused
from coordsvc.storage.tree_chunks import TreeChunk, encode_chunks

RECORDS = [(b"k%03d" % number, b"v" * 50) for number in range(100)]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DataDirectory]:
    opened = DataDirectory.open(tmp_path / "data", "cluster", "a")
    yield opened
    opened.close()


def received() -> list[TreeChunk]:
    return list(encode_chunks(RECORDS, 1000))


def trees(directory: DataDirectory) -> list[str]:
    return sorted(path.name for path in directory.path.glob("tree-*") if path.is_dir())


def test_a_whole_snapshot_takes_the_place_of_the_tree(directory: DataDirectory) -> None:
    old = directory.open_tree()
    old.write([(b"old", b"1")], [])
    builder = directory.new_tree()
    for chunk in received():
        builder.add_chunk(chunk.number, chunk.data, chunk.checksum)
    assert builder.complete
    builder.finish()

    new = directory.switch_tree(builder, 70, 3)
    old.close()
    directory.remove_old_trees()

    assert list(new.scan(b"", b"\xff")) == RECORDS
    assert directory.installed == InstalledSnapshot(70, 3)
    assert trees(directory) == ["tree-2"]
    new.close()


def test_the_old_tree_serves_until_it_is_closed(directory: DataDirectory) -> None:
    old = directory.open_tree()
    old.write([(b"old", b"1")], [])
    builder = directory.new_tree()
    for chunk in received():
        builder.add_chunk(chunk.number, chunk.data, chunk.checksum)
    builder.finish()
    new = directory.switch_tree(builder, 70, 3)

    assert old.get(b"old") == b"1"
    assert new.get(b"old") is None
    old.close()
    new.close()


def test_an_incomplete_snapshot_cannot_be_finished(directory: DataDirectory) -> None:
    builder = directory.new_tree()
    for chunk in received()[:-1]:
        builder.add_chunk(chunk.number, chunk.data, chunk.checksum)

    with pytest.raises(SnapshotRefused, match="before its end"):
        builder.finish()
    builder.abort()


def test_a_tree_that_was_not_finished_cannot_be_switched_to(directory: DataDirectory) -> None:
    builder = directory.new_tree()
    for chunk in received():
        builder.add_chunk(chunk.number, chunk.data, chunk.checksum)

    with pytest.raises(AssertionError, match="durable"):
        directory.switch_tree(builder, 70, 3)
    builder.abort()


def test_an_aborted_build_leaves_nothing(directory: DataDirectory) -> None:
    builder = directory.new_tree()
    builder.add_chunk(*_parts(received()[0]))
    with pytest.raises(SnapshotRefused, match="chunk 5 came where chunk 1 was due"):
        builder.add_chunk(*_parts(received()[5]))

    builder.abort()
    builder.abort()

    assert trees(directory) == ["tree-1"]
    assert directory.trust.failure is None


def test_the_limit_of_a_snapshot_holds(directory: DataDirectory) -> None:
    builder = directory.new_tree(bytes_max=2500)
    builder.add_chunk(*_parts(received()[0]))
    builder.add_chunk(*_parts(received()[1]))

    with pytest.raises(SnapshotRefused, match="larger than 2500 bytes"):
        builder.add_chunk(*_parts(received()[2]))
    builder.abort()


def _parts(chunk: TreeChunk) -> tuple[int, bytes, int]:
    return chunk.number, chunk.data, chunk.checksum


def test_finishing_makes_every_file_of_the_tree_and_its_name_durable(
    directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = directory.new_tree()
    for chunk in received():
        builder.add_chunk(chunk.number, chunk.data, chunk.checksum)
    synced: set[int] = set()
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))

    builder.finish()

    needed = (builder.path, *builder.path.iterdir(), directory.path)
    assert {path.stat().st_ino for path in needed} <= synced
    builder.abort()

"""A crash between any two steps of making a directory or swapping a tree: all the old, or all the new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from coordsvc.raft.types import Configuration, Entry, HardState, SnapshotMetadata
from coordsvc.storage.data_directory import DataDirectory, prepare_to_join, read_identity
from coordsvc.storage.recovery import recover_log
from coordsvc.storage.tree_chunks import encode_chunks
from tests.storage.damage import images_at_every_step

OLD = [(b"applied", b"5"), *((b"old%02d" % number, b"v") for number in range(20))]
NEW = [(b"applied", b"90"), *((b"new%02d" % number, b"v") for number in range(50))]
SNAPSHOT = SnapshotMetadata(90, 4, Configuration(("a", "b", "c")))


def test_a_crash_while_a_directory_is_made_leaves_one_that_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    with images_at_every_step(path, tmp_path / "images", monkeypatch):
        DataDirectory.open(path, "cluster", "a").close()

    images = sorted((tmp_path / "images").iterdir())
    assert len(images) > 15
    for image in images:
        directory = DataDirectory.open(image, "cluster", "a")
        log, tree = directory.open_log(), directory.open_tree()
        assert (log.last_index(), list(tree.scan(b"", b"\xff"))) == (0, [])
        log.close()
        tree.close()
        directory.close()


def test_a_crash_on_the_way_into_a_cluster_leaves_a_directory_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its id is on the disk under its name, the server has it for good: it may have asked with it."""
    path = tmp_path / "data"
    with images_at_every_step(path, tmp_path / "images", monkeypatch):
        member_id = prepare_to_join(path)
        become_member(path, member_id)

    images = sorted((tmp_path / "images").iterdir())
    assert len(images) > 15
    for image in images:
        had_one = (image / "joining").exists()
        if read_identity(image) is None:
            number = prepare_to_join(image)
            assert number == member_id or not had_one
            assert prepare_to_join(image) == number
        become_member(image, member_id)
        identity = read_identity(image)
        assert identity is not None
        assert (identity.member, identity.member_id, identity.joined_index) == ("d", member_id, 9)
        assert not list(image.glob("joining*")), "what is not needed any more is gone"


def test_a_crash_while_a_snapshot_is_installed_leaves_the_old_or_the_new_tree_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    make_old_member(path)
    with images_at_every_step(path, tmp_path / "images", monkeypatch) as keep_image:
        install_snapshot(path, keep_image)

    seen = [open_after_crash(image) for image in sorted((tmp_path / "images").iterdir())]

    assert seen == sorted(seen, key=["old", "new"].index), "never back to the old one"
    assert {"old", "new"} == set(seen)


def become_member(path: Path, member_id: int) -> None:
    DataDirectory.open(path, "cluster", "d", members="a=h:1", member_id=member_id, joined_index=9).close()


def make_old_member(path: Path) -> None:
    directory = DataDirectory.open(path, "cluster", "a")
    log, tree = directory.open_log(), directory.open_tree()
    log.write(HardState(1, "b", 5), [Entry(index, 1) for index in range(1, 8)], None, sync=True)
    tree.write(OLD, [])
    log.close()
    tree.close()
    directory.close()


def install_snapshot(path: Path, keep_image: Callable[[], None]) -> None:
    """Do what a member does, with an image kept after each step that the steps themselves do not keep."""
    directory = DataDirectory.open(path, "cluster", "a")
    log, old = directory.open_log(), directory.open_tree()
    builder = directory.new_tree()
    for chunk in encode_chunks(NEW, 200):
        builder.add_chunk(chunk.number, chunk.data, chunk.checksum)
        keep_image()
    builder.finish()
    new = directory.switch_tree(builder, SNAPSHOT.index, SNAPSHOT.term)
    keep_image()
    log.write(HardState(4, None, 90), [], SNAPSHOT, sync=True)
    keep_image()
    old.close()
    directory.remove_old_trees()
    keep_image()
    log.close()
    new.close()
    directory.close()


def open_after_crash(image: Path) -> str:
    """Start on the image as a member does. Returns which tree is there: it is whole, and the log fits it."""
    directory = DataDirectory.open(image, "cluster", "a")
    log, tree = directory.open_log(), directory.open_tree()
    records = list(tree.scan(b"", b"\xff"))
    applied = int(tree.get(b"applied") or b"0")
    recover_log(log, applied, directory.installed)
    trees = [entry.name for entry in image.glob("tree-*") if entry.is_dir()]
    log_range = (log.first_index(), log.last_index())
    log.close()
    tree.close()
    directory.close()
    assert len(trees) == 1, "what was left over is gone"
    if records == sorted(OLD):
        assert log_range == (1, 7)
        return "old"
    assert records == sorted(NEW)
    assert log_range == (91, 90)
    return "new"

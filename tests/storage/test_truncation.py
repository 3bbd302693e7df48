"""A LevelDB log cut anywhere, as a crash of the machine may leave it: a clean prefix, or a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordsvc.raft.types import Entry, HardState
from coordsvc.storage.errors import CorruptDataError, DiskTrust
from coordsvc.storage.log_store import LogStore
from coordsvc.storage.tree_store import TreeStore
from tests.storage.damage import offsets, with_file_cut

BATCHES = 60
BATCH_ENTRIES = 4


def newest_log_file(directory: Path) -> Path:
    return max(directory.glob("*.log"))


@pytest.fixture(scope="module")
def log_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 batches of 4 entries; the later ones large enough to cross LevelDB's blocks."""
    path = tmp_path_factory.mktemp("truncation") / "log"
    LogStore.create(path)
    log = LogStore.open(path, DiskTrust())
    for batch in range(BATCHES):
        first = batch * BATCH_ENTRIES + 1
        entries = [Entry(first + place, 1 + batch // 10, b"x" * batch * 10) for place in range(BATCH_ENTRIES)]
        hard_state = HardState(1 + batch // 10, "a", first - 1)
        log.write(hard_state, entries, None, sync=True)
        log.adopt(hard_state, entries, None)
    log.close()
    return path


def test_a_cut_log_is_a_prefix_of_whole_batches(log_path: Path, tmp_path: Path) -> None:
    file = newest_log_file(log_path)
    lengths = set()
    for length in offsets(file, 150, seed=1):
        copy = with_file_cut(log_path, tmp_path / "copy", file.name, length)
        log = LogStore.open(copy, DiskTrust())

        last = log.last_index()
        assert last % BATCH_ENTRIES == 0
        assert log.hard_state.commit == max(0, last - BATCH_ENTRIES)
        assert [entry.index for entry in log.entries(1, last + 1, 1 << 30)] == list(range(1, last + 1))
        lengths.add(last)
        log.close()
    assert len(lengths) > 20, "the sweep saw many different prefixes"


def test_a_cut_manifest_or_pointer_to_it_is_refused_or_changes_nothing(
    log_path: Path, tmp_path: Path
) -> None:
    files = [log_path / "CURRENT", *log_path.glob("MANIFEST-*")]
    for file in files:
        for length in range(file.stat().st_size):
            copy = with_file_cut(log_path, tmp_path / "copy", file.name, length)
            try:
                log = LogStore.open(copy, DiskTrust())
            except CorruptDataError as error:
                assert "\n" not in str(error)  # noqa: PT017 - a refusal is one of the two right outcomes
                continue
            assert log.last_index() == BATCHES * BATCH_ENTRIES
            log.close()


def test_a_cut_tree_is_a_prefix_of_whole_writes(tmp_path: Path) -> None:
    path = tmp_path / "tree"
    tree = TreeStore.create(path, DiskTrust())
    for number in range(200):
        tree.write([(b"applied", b"%d" % number), (b"k%03d" % number, b"x" * number)], [])
    tree.close()
    file = newest_log_file(path)

    for length in offsets(file, 100, seed=2):
        tree = TreeStore.open(with_file_cut(path, tmp_path / "copy", file.name, length), DiskTrust())
        applied = int(tree.get(b"applied") or b"-1")
        keys = [key for key, _ in tree.scan(b"k", b"l")]
        assert keys == [b"k%03d" % number for number in range(applied + 1)]
        tree.close()

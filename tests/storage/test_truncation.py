"""A LevelDB log cut anywhere: refused if it lost what was synced, and else a clean prefix.

LevelDB itself takes any end for that of a write that a crash cut short: `coordsvc/storage/sync_mark.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from coordsvc.raft.types import Entry, HardState
from coordsvc.storage.errors import CorruptDataError, DiskTrust
from coordsvc.storage.log_store import LogStore
from coordsvc.storage.tree_store import TreeStore
from tests.storage.damage import offsets, with_file_cut

BATCHES = 60
SYNCED_BATCHES = 20
BATCH_ENTRIES = 4


SYNCED_BYTES: dict[Path, int] = {}


def newest_log_file(directory: Path) -> Path:
    return max(directory.glob("*.log"))


@pytest.fixture(scope="module")
def log_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 batches of 4 entries, the first 20 synced; the later ones large enough to cross LevelDB's blocks."""
    path = tmp_path_factory.mktemp("truncation") / "log"
    LogStore.create(path)
    log = LogStore.open(path, DiskTrust())
    for batch in range(BATCHES):
        first = batch * BATCH_ENTRIES + 1
        entries = [Entry(first + place, 1 + batch // 10, b"x" * batch * 10) for place in range(BATCH_ENTRIES)]
        hard_state = HardState(1 + batch // 10, "a", first - 1)
        log.write(hard_state, entries, None, sync=batch < SYNCED_BATCHES)
        if batch == SYNCED_BATCHES - 1:
            SYNCED_BYTES[path] = newest_log_file(path).stat().st_size
        log.adopt(hard_state, entries, None)
    log.close()
    return path


def test_a_log_that_was_cut_behind_what_was_synced_is_a_prefix_of_whole_batches(
    log_path: Path, tmp_path: Path
) -> None:
    file = newest_log_file(log_path)
    lengths = set()
    for length in offsets(file, 150, seed=1):
        if length < SYNCED_BYTES[log_path]:
            continue
        copy = with_file_cut(log_path, tmp_path / "copy", file.name, length)
        log = LogStore.open(copy, DiskTrust())

        last = log.last_index()
        assert last % BATCH_ENTRIES == 0
        assert last >= SYNCED_BATCHES * BATCH_ENTRIES
        assert log.hard_state.commit == max(0, last - BATCH_ENTRIES)
        assert [entry.index for entry in log.entries(1, last + 1, 1 << 30)] == list(range(1, last + 1))
        lengths.add(last)
        log.close()
    assert len(lengths) > 20, "the sweep saw many different prefixes"


def test_a_log_that_lost_anything_that_was_synced_is_refused(log_path: Path, tmp_path: Path) -> None:
    """Also at the border of two records, where LevelDB sees a file without a fault."""
    file = newest_log_file(log_path)
    cuts = [0, *record_borders(file, SYNCED_BYTES[log_path]), SYNCED_BYTES[log_path] - 1]
    assert len(cuts) > SYNCED_BATCHES
    for length in cuts:
        copy = with_file_cut(log_path, tmp_path / "copy", file.name, length)
        with pytest.raises(CorruptDataError, match=r"lost its end|is missing"):
            LogStore.open(copy, DiskTrust())


def record_borders(file: Path, end: int) -> list[int]:
    """Where LevelDB's records of the first block begin, before `end`."""
    content = file.read_bytes()[:end]
    assert end < 32768
    borders = []
    offset = 0
    while offset < end:
        borders.append(offset)
        offset += 7 + int.from_bytes(content[offset + 4 : offset + 6], "little")
    assert offset == end
    return borders


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

"""Log and tree at start: one gap is closed, all others are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordsvc.raft.types import Entry, HardState
from coordsvc.storage.data_directory import InstalledSnapshot
from coordsvc.storage.errors import CorruptDataError, DiskTrust
from coordsvc.storage.log_store import LogStore
from coordsvc.storage.recovery import recover_log

GREW_HERE = InstalledSnapshot()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogStore]:
    """Entries 4 to 9 of term 2; 1 to 3 are trimmed."""
    LogStore.create(tmp_path / "log")
    store = LogStore.open(tmp_path / "log", DiskTrust())
    entries = [Entry(index, 2) for index in range(1, 10)]
    store.write(HardState(2, "b", 6), entries, None, sync=True)
    store.adopt(HardState(2, "b", 6), entries, None)
    store.trim(3)
    store.adopt_trim(3)
    yield store
    store.close()


def reopened(log: LogStore) -> LogStore:
    log.close()
    return LogStore.open(log.path, DiskTrust())


@pytest.mark.parametrize("applied", [3, 6, 9])
def test_a_tree_within_the_log_fits(log: LogStore, applied: int) -> None:
    recover_log(log, applied, GREW_HERE)

    assert (log.first_index(), log.last_index()) == (4, 9)


def test_a_tree_ahead_of_the_log_is_refused(log: LogStore) -> None:
    with pytest.raises(CorruptDataError, match="ends at entry 9, but the tree has applied entry 10"):
        recover_log(log, 10, GREW_HERE)


def test_a_tree_behind_the_log_is_refused(log: LogStore) -> None:
    with pytest.raises(CorruptDataError, match="applied entry 2, but the log begins at entry 4"):
        recover_log(log, 2, GREW_HERE)


@pytest.mark.parametrize(
    ("index", "term"), [(50, 7), (8, 3)], ids=["beyond the log", "inside the log, of another term"]
)
def test_a_crash_between_swap_and_reset_is_completed(log: LogStore, index: int, term: int) -> None:
    recover_log(log, index, InstalledSnapshot(index, term))

    again = reopened(log)
    assert (again.first_index(), again.last_index(), again.term(index)) == (index + 1, index, term)
    assert again.hard_state == HardState(term, None, index)
    again.close()


def test_a_vote_of_the_snapshots_own_term_is_kept(log: LogStore) -> None:
    recover_log(log, 50, InstalledSnapshot(50, 2))

    assert log.hard_state == HardState(2, "b", 50)


def test_a_snapshot_that_the_log_covers_changes_nothing(log: LogStore) -> None:
    recover_log(log, 8, InstalledSnapshot(8, 2))

    assert (log.first_index(), log.last_index()) == (4, 9)


def test_a_tree_that_moved_on_since_its_snapshot_must_find_its_entries_in_the_log(log: LogStore) -> None:
    with pytest.raises(CorruptDataError, match="applied entry 51"):
        recover_log(log, 51, InstalledSnapshot(50, 7))

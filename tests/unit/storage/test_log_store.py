"""The log on LevelDB: what was written, and nothing before it is adopted."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import plyvel
import pytest

from coordsvc.raft.log import Compacted, Unavailable
from coordsvc.raft.types import Configuration, Entry, HardState, SnapshotMetadata
from coordsvc.storage.errors import CorruptDataError, DiskNotTrustedError, DiskTrust
from coordsvc.storage.log_records import (
    HARD_STATE_KEY,
    START_KEY,
    encode_entry,
    encode_hard_state,
    entry_key,
)
from coordsvc.storage.log_store import LogStore

ALL = 1 << 30
OpenLog = Callable[..., LogStore]


@pytest.fixture
def open_log(tmp_path: Path) -> Iterator[OpenLog]:
    """Open the same log again and again, as restarts do."""
    path = tmp_path / "log"
    LogStore.create(path)
    opened: list[LogStore] = []

    def reopen(cache_bytes_max: int = 1 << 20) -> LogStore:
        while opened:
            opened.pop().close()
        opened.append(LogStore.open(path, DiskTrust(), cache_bytes_max))
        return opened[-1]

    yield reopen
    while opened:
        opened.pop().close()


def entries(first: int, last: int, term: int = 1, size: int = 10) -> list[Entry]:
    return [Entry(index, term, b"%d " % index + b"x" * size) for index in range(first, last + 1)]


def store(
    log: LogStore,
    added: list[Entry],
    hard_state: HardState | None = None,
    snapshot: SnapshotMetadata | None = None,
) -> None:
    log.write(hard_state, added, snapshot, sync=False)
    log.adopt(hard_state, added, snapshot)


def contents(log: LogStore) -> list[Entry]:
    return log.entries(log.first_index(), log.last_index() + 1, ALL)


def snapshot_at(index: int, term: int) -> SnapshotMetadata:
    return SnapshotMetadata(index, term, Configuration(("a",)))


def test_a_new_log_is_empty(open_log: OpenLog) -> None:
    log = open_log()

    assert (log.first_index(), log.last_index(), log.hard_state) == (1, 0, HardState())
    assert log.term(0) == 0
    assert contents(log) == []


def test_entries_and_hard_state_are_there_after_a_restart(open_log: OpenLog) -> None:
    hard_state = HardState(2, "b", 3)
    store(open_log(), entries(1, 3) + entries(4, 5, term=2), hard_state)

    log = open_log()

    assert contents(log) == entries(1, 3) + entries(4, 5, term=2)
    assert log.hard_state == hard_state
    assert [log.term(index) for index in range(6)] == [0, 1, 1, 1, 2, 2]


def test_nothing_is_visible_before_it_is_adopted(open_log: OpenLog) -> None:
    log = open_log()

    log.write(HardState(1, "a", 0), entries(1, 3), None, sync=True)

    assert (log.last_index(), log.hard_state) == (0, HardState())
    with pytest.raises(Unavailable):
        log.term(1)
    with pytest.raises(Unavailable):
        log.entries(1, 2, ALL)


def test_an_append_discards_every_stored_entry_at_or_after_its_first(open_log: OpenLog) -> None:
    log = open_log()
    store(log, entries(1, 10), HardState(1))
    store(log, entries(4, 5, term=3), HardState(3))

    expected = entries(1, 3) + entries(4, 5, term=3)
    assert contents(log) == expected
    assert contents(open_log()) == expected


@pytest.mark.parametrize("cache_bytes_max", [1, 1 << 20])
def test_entries_are_cut_to_the_asked_bytes_but_never_to_none(
    open_log: OpenLog, cache_bytes_max: int
) -> None:
    log = open_log(cache_bytes_max)
    store(log, [Entry(index, 1, b"x" * 100) for index in range(1, 11)], HardState(1))

    assert [entry.index for entry in log.entries(2, 9, 350)] == [2, 3, 4]
    assert [entry.index for entry in log.entries(2, 9, 300)] == [2, 3, 4]
    assert [entry.index for entry in log.entries(2, 9, 0)] == [2]
    assert [entry.index for entry in log.entries(2, 4, ALL)] == [2, 3]
    assert log.entries(5, 5, ALL) == []


def test_trimmed_entries_are_compacted_and_the_rest_stays(open_log: OpenLog) -> None:
    log = open_log()
    store(log, entries(1, 5) + entries(6, 9, term=2), HardState(2))

    log.trim(6)
    assert log.first_index() == 1
    log.adopt_trim(6)

    for current in (log, open_log()):
        assert (current.first_index(), current.last_index()) == (7, 9)
        assert contents(current) == entries(7, 9, term=2)
        assert current.term(6) == 2
        with pytest.raises(Compacted):
            current.term(5)
        with pytest.raises(Compacted):
            current.entries(6, 8, ALL)


def test_the_whole_log_can_be_trimmed_and_goes_on(open_log: OpenLog) -> None:
    log = open_log()
    store(log, entries(1, 9), HardState(1))
    log.trim(9)
    log.adopt_trim(9)
    assert (log.first_index(), log.last_index(), log.term(9)) == (10, 9, 1)

    store(log, entries(10, 12), HardState(1))

    assert contents(open_log()) == entries(10, 12)


def test_a_long_trim_goes_in_steps_that_each_leave_a_whole_log(
    open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordsvc.storage.log_store._TRIM_BATCH_ENTRIES", 7)
    log = open_log()
    store(log, entries(1, 100), HardState(1))

    log.trim(50)
    log.adopt_trim(50)
    log.trim(20)  # older than what is gone: nothing to do
    log.adopt_trim(20)

    assert contents(open_log()) == entries(51, 100)


def test_a_trim_may_be_done_piece_by_piece_with_writes_in_between(
    open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordsvc.storage.log_store._TRIM_BATCH_ENTRIES", 7)
    log = open_log()
    store(log, entries(1, 20), HardState(1))

    assert not log.trim_some(14)
    store(log, entries(21, 22))
    assert log.trim_some(14)
    log.adopt_trim(14)

    assert contents(log) == entries(15, 22)
    assert contents(open_log()) == entries(15, 22)


def test_a_reader_that_meets_a_trim_not_yet_adopted_is_told_compacted(open_log: OpenLog) -> None:
    log = open_log(cache_bytes_max=1)
    store(log, entries(1, 20), HardState(1))

    log.trim(10)

    with pytest.raises(Compacted):
        log.entries(5, 15, ALL)
    assert log.entries(12, 15, ALL) == entries(12, 14)


def test_a_snapshot_empties_the_log_and_starts_it_anew(open_log: OpenLog) -> None:
    log = open_log()
    store(log, entries(1, 9), HardState(1))

    store(log, entries(101, 102, term=7), HardState(7, None, 100), snapshot_at(100, 6))

    for current in (log, open_log()):
        assert (current.first_index(), current.last_index()) == (101, 102)
        assert (current.term(100), current.term(101)) == (6, 7)
        assert contents(current) == entries(101, 102, term=7)


def test_a_snapshot_behind_the_end_drops_the_entries_after_it_too(open_log: OpenLog) -> None:
    log = open_log()
    store(log, entries(1, 9), HardState(1))

    store(log, [], HardState(2, None, 5), snapshot_at(5, 2))

    for current in (log, open_log()):
        assert (current.first_index(), current.last_index()) == (6, 5)
        assert current.term(5) == 2


def test_the_newest_entries_are_in_memory(open_log: OpenLog) -> None:
    log = open_log(cache_bytes_max=10_000)
    assert log.first_index_in_memory == 1
    store(log, entries(1, 100, size=1000), HardState(1))

    assert 90 <= log.first_index_in_memory <= 97
    assert log.entries(log.first_index_in_memory, 101, ALL) == entries(
        log.first_index_in_memory, 100, size=1000
    )


def test_counts_since_the_last_trim(open_log: OpenLog) -> None:
    log = open_log()
    store(log, [Entry(1, 1, b"12345"), Entry(2, 1, b"123")], HardState(1))
    assert (log.entries_since_trim, log.bytes_since_trim) == (2, 8)

    log.trim(1)
    log.adopt_trim(1)
    assert (log.entries_since_trim, log.bytes_since_trim) == (0, 0)
    store(log, [Entry(3, 1, b"1")])
    assert (log.entries_since_trim, log.bytes_since_trim) == (1, 1)


def test_the_log_agrees_with_a_plain_list_through_random_use(open_log: OpenLog) -> None:
    dice = random.Random(11)
    log = open_log(cache_bytes_max=2000)
    model: dict[int, Entry] = {}
    start, last, term = 0, 0, 1
    for _ in range(300):
        choice = dice.random()
        if choice < 0.7:
            first = dice.randint(max(start + 1, last - 4), last + 1)
            term += dice.random() < 0.2
            added = entries(first, first + dice.randint(0, 5), term, size=dice.randint(0, 400))
            store(log, added, HardState(term))
            model = {index: entry for index, entry in model.items() if index < first}
            model |= {entry.index: entry for entry in added}
            last = added[-1].index
        elif choice < 0.85 and last > start:
            start = dice.randint(start, last)
            log.trim(start)
            log.adopt_trim(start)
            model = {index: entry for index, entry in model.items() if index > start}
        elif choice < 0.9:
            start = last = last + dice.randint(1, 10)
            store(log, [], HardState(term), snapshot_at(start, term))
            model = {}
        else:
            log = open_log(cache_bytes_max=2000)
        assert (log.first_index(), log.last_index()) == (start + 1, last)
        assert contents(log) == list(model.values())


class RecordingDatabase:
    """Stands before LevelDB and notes which batches it is asked to sync."""

    def __init__(self, database: plyvel.DB) -> None:
        self._database = database
        self.syncs: list[bool] = []

    def write_batch(self, *, sync: bool = False) -> plyvel.WriteBatch:
        self.syncs.append(sync)
        return self._database.write_batch(sync=sync)


def test_leveldb_is_asked_to_sync_when_the_caller_asks_and_only_then(open_log: OpenLog) -> None:
    log = open_log()
    database = log._database
    recording = log._database = RecordingDatabase(database)

    log.write(HardState(1), entries(1, 3), None, sync=True)
    log.write(HardState(1, None, 2), [], None, sync=False)

    assert recording.syncs == [True, False]
    log._database = database


# --- what is refused -----------------------------------------------------------------------------


def change(log_path: Path, puts: dict[bytes, bytes], deletes: list[bytes]) -> None:
    """Do to the database what no member does."""
    database = plyvel.DB(str(log_path))
    for key, value in puts.items():
        database.put(key, value)
    for key in deletes:
        database.delete(key)
    database.close()


def rotten(record: bytes) -> bytes:
    return record[:-1] + bytes([record[-1] ^ 1])


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    """A closed log with entries 1 to 9; a flawless LevelDB, so that only our own checks can see damage."""
    path = tmp_path / "log"
    LogStore.create(path)
    log = LogStore.open(path, DiskTrust())
    store(log, entries(1, 9), HardState(1, "a", 5))
    log.close()
    return path


def record_of(path: Path, index: int) -> bytes:
    database = plyvel.DB(str(path))
    record: bytes = database.get(entry_key(index))
    database.close()
    return record


def refuse(path: Path) -> str:
    with pytest.raises(CorruptDataError) as caught:
        LogStore.open(path, DiskTrust())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_hole_is_refused(log_path: Path) -> None:
    change(log_path, {}, [entry_key(4)])

    assert "entry 4 is missing" in refuse(log_path)


def test_a_missing_beginning_is_refused(log_path: Path) -> None:
    change(log_path, {}, [entry_key(1)])

    assert "entry 1 is missing" in refuse(log_path)


def test_a_lost_end_is_refused_when_it_was_known_to_be_committed(log_path: Path) -> None:
    change(log_path, {}, [entry_key(index) for index in range(5, 10)])

    assert "entries up to 5 were committed" in refuse(log_path)


def test_swapped_entries_are_refused(log_path: Path) -> None:
    fourth, fifth = record_of(log_path, 4), record_of(log_path, 5)
    change(log_path, {entry_key(4): fifth, entry_key(5): fourth}, [])

    assert "entry 4" in refuse(log_path)


def test_an_entry_of_another_history_is_refused(log_path: Path) -> None:
    foreign, _ = encode_entry(Entry(4, 1, b"another life"), 12345)
    change(log_path, {entry_key(4): foreign}, [])

    assert "entry 4" in refuse(log_path)


def test_a_rotten_entry_is_refused(log_path: Path) -> None:
    change(log_path, {entry_key(7): rotten(record_of(log_path, 7))}, [])

    assert "entry 7" in refuse(log_path)


def test_a_left_over_behind_the_end_is_refused(log_path: Path) -> None:
    change(log_path, {entry_key(11): record_of(log_path, 9)}, [])

    assert "entry 10 is missing" in refuse(log_path)


@pytest.mark.parametrize("key", [START_KEY, HARD_STATE_KEY])
def test_missing_or_rotten_head_records_are_refused(log_path: Path, key: bytes) -> None:
    database = plyvel.DB(str(log_path))
    record = database.get(key)
    database.close()

    change(log_path, {key: rotten(record)}, [])
    assert "checksum" in refuse(log_path)
    change(log_path, {}, [key])
    assert "missing" in refuse(log_path)


def test_a_term_older_than_the_entries_is_refused(log_path: Path) -> None:
    change(log_path, {HARD_STATE_KEY: encode_hard_state(HardState(0))}, [])

    assert "term 0 is older" in refuse(log_path)


def test_damage_that_is_met_while_reading_ends_all_use(log_path: Path) -> None:
    trust = DiskTrust()
    log = LogStore.open(log_path, trust, cache_bytes_max=1)
    log._database.put(entry_key(5), rotten(log._database.get(entry_key(5))))

    with pytest.raises(CorruptDataError, match="entry 5"):
        log.entries(1, 9, ALL)

    with pytest.raises(DiskNotTrustedError, match="entry 5"):
        log.write(None, entries(10, 10), None, sync=True)
    with pytest.raises(DiskNotTrustedError, match="entry 5"):
        log.trim(1)
    log.close()

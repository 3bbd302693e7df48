"""The log: a durable part, a window in memory, and what is handed out of them. etcd's log tests."""

from __future__ import annotations

import pytest

from coordsvc.raft.log import Compacted, Log, LogStateError, Unavailable
from coordsvc.raft.ready import Persist
from coordsvc.raft.types import Entry, Index, Term
from tests.unit.raft.bench import snapshot_at
from tests.unit.raft.cluster import stored
from tests.unit.raft.memory_log import MemoryLog


def log_on(
    storage: MemoryLog,
    *,
    commit: Index = 0,
    applied: Index | None = None,
    committed_bytes_max: int = 1 << 20,
    cached_bytes_max: int = 1 << 20,
) -> Log:
    return Log(
        storage,
        commit=commit,
        applied=storage.snapshot_index if applied is None else applied,
        committed_bytes_max=committed_bytes_max,
        cached_bytes_max=cached_bytes_max,
    )


def entries(first: Index, *terms: Term, data: bytes = b"") -> list[Entry]:
    return [Entry(index, term, data) for index, term in enumerate(terms, first)]


def hand_out(log: Log) -> Persist:
    return Persist(None, log.hand_out_entries(), log.hand_out_snapshot(), must_sync=True, term=9)


def persist(log: Log, storage: MemoryLog, batch: Persist | None = None) -> None:
    """Let one batch become durable: the one given, or all that there is."""
    batch = batch or hand_out(log)
    storage.adopt(batch)
    log.note_persisted(batch)


def terms_of(log: Log) -> list[Term]:
    return [log.term(index) for index in range(log.first_index(), log.last_index + 1)]


class TestStart:
    def test_it_begins_with_what_is_stored(self) -> None:
        log = log_on(stored(1, 1, 2), commit=2, applied=1)
        assert (log.applied, log.commit, log.stable, log.last_index, log.last_term) == (1, 2, 3, 3, 2)

    def test_it_begins_behind_a_snapshot(self) -> None:
        log = log_on(MemoryLog(index=10, term=4))
        assert (log.first_index(), log.last_index, log.last_term, log.commit) == (11, 10, 4, 10)

    def test_what_was_applied_counts_as_committed(self) -> None:
        assert log_on(stored(1, 1, 1), commit=1, applied=3).commit == 3

    @pytest.mark.parametrize(("commit", "applied"), [(4, 0), (0, 4)])
    def test_a_log_that_is_shorter_than_what_was_promised_is_refused(
        self, commit: Index, applied: Index
    ) -> None:
        with pytest.raises(LogStateError):
            log_on(stored(1, 1, 1), commit=commit, applied=applied)

    def test_a_state_machine_behind_the_start_of_the_log_is_refused(self) -> None:
        with pytest.raises(LogStateError):
            log_on(MemoryLog(index=10, term=4), applied=9)


class TestReading:
    def test_terms_are_known_from_the_snapshot_to_the_end(self) -> None:
        log = log_on(MemoryLog(entries(11, 4, 5), index=10, term=4))
        log.extend(entries(13, 6))
        assert [log.term(index) for index in (10, 11, 12, 13)] == [4, 4, 5, 6]
        with pytest.raises(Compacted):
            log.term(9)
        with pytest.raises(Unavailable):
            log.term(14)

    @pytest.mark.parametrize(
        ("index", "term", "matches"),
        [(10, 4, True), (10, 3, False), (12, 5, True), (9, 4, False), (13, 5, False)],
    )
    def test_matching_stops_gracefully_at_both_ends(self, index: Index, term: Term, matches: bool) -> None:
        log = log_on(MemoryLog(entries(11, 4, 5), index=10, term=4))
        assert log.matches(index, term) is matches

    @pytest.mark.parametrize(
        ("index", "term", "found"),
        [
            (6, 9, (6, 4)),
            (6, 3, (4, 2)),
            (6, 2, (4, 2)),
            (6, 1, (2, 1)),
            (6, 0, (0, 0)),
            (3, 2, (3, 2)),
            (99, 9, (6, 4)),
            (0, 9, (0, 0)),
        ],
    )
    def test_the_last_entry_of_a_term_is_found(
        self, index: Index, term: Term, found: tuple[Index, Term]
    ) -> None:
        log = log_on(stored(1, 1, 2, 2))
        log.extend(entries(5, 4, 4))
        assert log.find_by_term(index, term) == found

    @pytest.mark.parametrize(
        ("index", "term", "found"), [(12, 9, (12, 5)), (12, 4, (11, 4)), (12, 3, (9, 0)), (7, 9, (7, 0))]
    )
    def test_the_search_stops_at_what_is_compacted(
        self, index: Index, term: Term, found: tuple[Index, Term]
    ) -> None:
        log = log_on(MemoryLog(entries(11, 4, 5), index=10, term=4))
        assert log.find_by_term(index, term) == found

    @pytest.mark.parametrize(("bytes_max", "count"), [(0, 1), (9, 1), (10, 1), (19, 1), (20, 2), (1_000, 4)])
    def test_a_slice_keeps_its_limit_but_has_at_least_one_entry(self, bytes_max: int, count: int) -> None:
        log = log_on(MemoryLog())
        log.extend(entries(1, 1, 1, 1, 1, data=b"0123456789"))
        assert log.slice(1, 5, bytes_max) == entries(1, *[1] * count, data=b"0123456789")

    def test_slices_go_on_from_the_stored_part_to_the_window(self) -> None:
        log = log_on(stored(1, 1))
        log.extend(entries(3, 2, 2))
        assert [entry.index for entry in log.slice(1, 5, 1_000)] == [1, 2]
        assert [entry.index for entry in log.slice(3, 5, 1_000)] == [3, 4]

    @pytest.mark.parametrize(
        ("index", "term", "is_up_to_date"),
        [(2, 3, True), (3, 2, True), (9, 2, True), (2, 2, False), (9, 1, False)],
    )
    def test_newer_means_later_term_then_longer(self, index: Index, term: Term, is_up_to_date: bool) -> None:
        assert log_on(stored(1, 1, 2)).is_up_to_date(index, term) is is_up_to_date


class TestReconcile:
    @pytest.mark.parametrize(
        ("first", "new", "expected"),
        [
            (4, (3,), [1, 2, 2, 3]),  # behind the end
            (3, (3, 3), [1, 2, 3, 3]),  # a conflict cuts off the rest
            (1, (1,), [1, 2, 2]),  # an old message cuts off nothing
            (1, (1, 2, 2), [1, 2, 2]),
            (2, (2, 2, 3), [1, 2, 2, 3]),  # partly known
            (1, (4,), [4]),
        ],
    )
    @pytest.mark.parametrize("is_durable", [True, False])
    def test_only_a_conflict_truncates(
        self, first: Index, new: tuple[Term, ...], expected: list[Term], is_durable: bool
    ) -> None:
        storage = stored(1, 2, 2) if is_durable else MemoryLog()
        log = log_on(storage)
        if not is_durable:
            log.extend(entries(1, 1, 2, 2))

        log.reconcile(entries(first, *new))
        persist(log, storage)

        assert terms_of(log) == expected
        assert [entry.term for entry in storage.stored] == expected
        assert log.last_term == expected[-1]

    def test_what_is_committed_is_never_replaced(self) -> None:
        log = log_on(stored(1, 1, 1), commit=2)
        with pytest.raises(AssertionError, match="R6"):
            log.reconcile(entries(2, 2))


class TestPersisting:
    def test_nothing_is_handed_out_twice(self) -> None:
        log = log_on(MemoryLog())
        log.extend(entries(1, 1, 1))
        assert [entry.index for entry in hand_out(log).entries] == [1, 2]
        assert not log.has_unhanded()
        log.extend(entries(3, 1))
        assert [entry.index for entry in hand_out(log).entries] == [3]

    def test_entries_are_stable_once_their_batch_is_durable(self) -> None:
        storage = MemoryLog()
        log = log_on(storage)
        log.extend(entries(1, 1, 1))
        batch = hand_out(log)
        log.extend(entries(3, 1))
        assert log.stable == 0

        persist(log, storage, batch)

        assert log.stable == 2

    def test_a_batch_that_was_overwritten_on_its_way_marks_only_what_is_still_the_same(self) -> None:
        """The ABA race: index 2 of term 1 is on its way to the disk, and becomes index 2 of term 2."""
        storage = MemoryLog()
        log = log_on(storage)
        log.extend(entries(1, 1, 1, 1))
        batch = hand_out(log)
        log.reconcile(entries(2, 2, 2))

        persist(log, storage, batch)
        assert log.stable == 1
        persist(log, storage)

        assert (log.stable, terms_of(log)) == (3, [1, 2, 2])
        assert [entry.term for entry in storage.stored] == [1, 2, 2]

    def test_a_batch_that_was_overwritten_and_restored_on_its_way_counts(self) -> None:
        """The full circle: term 1, then 2, then the entry of term 1 again. The disk holds that very entry."""
        storage = MemoryLog()
        log = log_on(storage)
        log.extend(entries(1, 1, 1, 1))
        batch = hand_out(log)
        log.reconcile(entries(2, 2, 2))
        log.reconcile(entries(2, 1))

        persist(log, storage, batch)
        assert log.stable == 2
        log.extend(entries(3, 3))
        persist(log, storage)

        assert [entry.term for entry in storage.stored] == [1, 1, 3]
        assert log.stable == 3

    def test_overwriting_what_is_durable_makes_it_unstable_again(self) -> None:
        storage = stored(1, 1, 1)
        log = log_on(storage)
        log.reconcile(entries(2, 2))
        assert (log.stable, log.last_index) == (1, 2)

        persist(log, storage)

        assert (log.stable, storage.last_index()) == (2, 2)


class TestSnapshots:
    def test_a_snapshot_replaces_the_log_at_once_and_is_applied_when_durable(self) -> None:
        storage = stored(1, 1, 1)
        log = log_on(storage, commit=2, applied=2)

        log.restore(snapshot_at(10, 3))
        assert (log.first_index(), log.last_index, log.commit, log.applied) == (11, 10, 10, 2)
        assert log.term(10) == 3
        with pytest.raises(Compacted):
            log.term(3)
        log.extend(entries(11, 3))
        persist(log, storage)

        assert (log.applied, log.applying, log.stable) == (10, 10, 11)
        assert (storage.first_index(), storage.last_index()) == (11, 11)

    def test_entries_that_a_pending_snapshot_replaces_are_not_shown(self) -> None:
        """The storage has them until the snapshot is durable; they may be a dead leader's."""
        log = log_on(stored(1, 1, 2, 2))
        log.restore(snapshot_at(3, 3))

        with pytest.raises(Compacted):
            log.slice(3, 4, 0)

    def test_nothing_is_handed_out_for_apply_while_a_snapshot_is_pending(self) -> None:
        storage = stored(1, 1, 1)
        log = log_on(storage, commit=3)
        log.restore(snapshot_at(10, 3))
        assert log.take_committed() == []
        assert not log.has_committed()

    def test_a_write_under_way_when_a_snapshot_comes_marks_nothing(self) -> None:
        storage = MemoryLog()
        log = log_on(storage)
        log.extend(entries(1, *[1] * 12))
        batch = hand_out(log)
        log.restore(snapshot_at(10, 2))
        log.extend(entries(11, 2))

        persist(log, storage, batch)
        assert log.snapshot is not None
        assert log.stable == 10
        persist(log, storage)

        assert (log.stable, [entry.term for entry in storage.stored]) == (11, [2])

    def test_entries_that_follow_a_snapshot_are_written_with_it_even_if_they_were_on_their_way(self) -> None:
        """The snapshot resets the stored log: the very same entry must be stored again behind it."""
        storage = MemoryLog()
        log = log_on(storage)
        log.extend(entries(1, *[1] * 11))
        batch = hand_out(log)
        log.restore(snapshot_at(10, 1))
        log.extend(entries(11, 1))

        persist(log, storage, batch)
        persist(log, storage)

        assert (storage.first_index(), storage.last_index(), log.stable) == (11, 11, 11)

    def test_a_snapshot_overtaken_by_a_newer_one_leaves_the_newer_pending(self) -> None:
        storage = MemoryLog()
        log = log_on(storage)
        log.restore(snapshot_at(10, 1))
        batch = hand_out(log)
        log.restore(snapshot_at(20, 1))

        persist(log, storage, batch)
        assert (log.applied, log.snapshot) == (10, snapshot_at(20, 1))
        persist(log, storage)

        assert (log.applied, log.snapshot) == (20, None)

    def test_a_snapshot_never_takes_back_what_is_committed(self) -> None:
        log = log_on(stored(1, 1, 1), commit=3)
        with pytest.raises(AssertionError, match="R6"):
            log.restore(snapshot_at(2, 1))


class TestApplying:
    def test_only_committed_and_durable_entries_are_handed_out_each_once(self) -> None:
        storage = MemoryLog()
        log = log_on(storage)
        log.extend(entries(1, 1, 1, 1))
        log.commit_to(2)
        assert log.take_committed() == [], "nothing is durable yet"

        persist(log, storage)

        assert [entry.index for entry in log.take_committed()] == [1, 2]
        assert log.take_committed() == []
        log.commit_to(3)
        assert [entry.index for entry in log.take_committed()] == [3]

    def test_what_is_outstanding_is_bounded_and_goes_on_when_applied(self) -> None:
        storage = MemoryLog()
        log = log_on(storage, committed_bytes_max=25)
        log.extend(entries(1, 1, 1, 1, 1, 1, data=b"0123456789"))
        persist(log, storage)
        log.commit_to(5)

        assert [entry.index for entry in log.take_committed()] == [1, 2]
        assert [entry.index for entry in log.take_committed()] == [3], "five bytes of room: one more"
        assert not log.has_committed()
        assert log.note_applied(1) == 0, "the first batch is not done"
        assert log.note_applied(2) == 20
        assert [entry.index for entry in log.take_committed()] == [4]

    def test_after_a_restart_every_committed_entry_comes_once_in_pages(self) -> None:
        """etcd's TestNodeCommitPaginationAfterRestart: storage that returns less than asked skips nothing."""
        storage = MemoryLog(entries(1, *[1] * 10, data=b"0123456789"))
        log = log_on(storage, commit=10, applied=3, committed_bytes_max=20)
        seen = []
        while page := log.take_committed():
            assert len(page) <= 2
            seen += [entry.index for entry in page]
            log.note_applied(page[-1].index)
        assert seen == [4, 5, 6, 7, 8, 9, 10]

    def test_applying_what_was_not_handed_out_is_a_bug(self) -> None:
        log = log_on(stored(1, 1), commit=2)
        with pytest.raises(AssertionError, match="R10"):
            log.note_applied(1)


class TestWindow:
    def test_memory_stays_bounded_and_everything_stays_readable(self) -> None:
        storage = MemoryLog()
        log = log_on(storage, cached_bytes_max=2_000)
        for index in range(1, 201):
            log.extend(entries(index, 1, data=b"0123456789"))
            persist(log, storage)
            log.commit_to(index)
            log.take_committed()
            log.note_applied(index)

        assert len(log._window) < 40
        seen = []
        index = 1
        while index <= 200:
            page = log.slice(index, 201, 1 << 20)
            seen += [entry.index for entry in page]
            index = page[-1].index + 1
        assert seen == list(range(1, 201))

    def test_what_is_not_durable_or_not_applied_stays_in_memory(self) -> None:
        storage = MemoryLog()
        log = log_on(storage, cached_bytes_max=1)
        for index in range(1, 51):
            log.extend(entries(index, 1, data=b"0123456789"))
        persist(log, storage)
        assert len(log._window) == 50

        log.commit_to(50)
        log.take_committed()
        log.note_applied(50)

        assert len(log._window) == 0
        assert log.term(50) == 1
        log.reconcile(entries(51, 1))
        assert log.last_index == 51

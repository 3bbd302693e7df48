"""The leader's view of a follower: states, windows and rejections. etcd's tracker tests."""

from __future__ import annotations

import pytest

from coordsvc.raft.progress import Inflights, Progress, ProgressState


def progress(
    state: ProgressState = ProgressState.REPLICATE,
    *,
    match: int = 0,
    following: int = 1,
    messages_max: int = 3,
    bytes_max: int = 1_000,
) -> Progress:
    one = Progress("b", Inflights(messages_max, bytes_max), is_learner=False)
    one.match, one.next, one.state = match, following, state
    return one


class TestInflights:
    def test_window_is_full_by_count(self) -> None:
        window = Inflights(2, 1_000)
        window.add(1, 10)
        assert not window.is_full()
        window.add(2, 10)
        assert window.is_full()

    def test_window_is_full_by_bytes_and_the_crossing_message_still_fits(self) -> None:
        window = Inflights(10, 100)
        window.add(1, 99)
        assert not window.is_full()
        window.add(2, 500)
        assert window.is_full()
        assert window.bytes_total == 599

    def test_freeing_forgets_everything_up_to_the_index(self) -> None:
        window = Inflights(3, 1_000)
        for index in (5, 7, 9):
            window.add(index, 10)
        window.free_to(8)
        assert (len(window), window.bytes_total) == (1, 10)
        window.free_to(4)
        assert len(window) == 1
        window.free_to(9)
        assert (len(window), window.bytes_total) == (0, 0)

    def test_a_full_window_takes_nothing_more(self) -> None:
        window = Inflights(1, 1_000)
        window.add(1, 10)
        with pytest.raises(AssertionError, match="R13"):
            window.add(2, 10)


class TestStates:
    def test_probe_after_replicate_starts_behind_what_is_known(self) -> None:
        one = progress(match=3, following=9)
        one.inflights.add(8, 10)
        one.become_probe()
        assert (one.state, one.match, one.next) == (ProgressState.PROBE, 3, 4)
        assert len(one.inflights) == 0

    @pytest.mark.parametrize(("match", "pending", "following"), [(1, 10, 11), (12, 10, 13), (1, 0, 2)])
    def test_probe_after_snapshot_starts_behind_it(self, match: int, pending: int, following: int) -> None:
        one = progress(ProgressState.SNAPSHOT, match=match, following=11)
        one.pending_snapshot = pending
        one.become_probe()
        assert (one.next, one.pending_snapshot) == (following, 0)

    def test_snapshot_pauses(self) -> None:
        one = progress()
        one.become_snapshot(10)
        assert one.is_paused()
        assert (one.pending_snapshot, one.next) == (10, 11)

    def test_probe_pauses_after_one_append(self) -> None:
        one = progress(ProgressState.PROBE)
        one.note_sent(1, 10, commit=0)
        assert one.is_paused()
        assert one.next == 1

    def test_replicate_runs_ahead_until_the_window_is_full(self) -> None:
        one = progress(messages_max=2)
        one.note_sent(3, 10, commit=0)
        assert (one.next, one.is_paused()) == (4, False)
        one.note_sent(2, 10, commit=0)
        assert (one.next, one.is_paused()) == (6, True)


class TestAcknowledge:
    @pytest.mark.parametrize(
        ("index", "is_news", "match", "following"),
        [(2, False, 3, 5), (3, False, 3, 5), (4, True, 4, 5), (5, True, 5, 6), (9, True, 9, 10)],
    )
    def test_only_more_than_is_known_is_news(
        self, index: int, is_news: bool, match: int, following: int
    ) -> None:
        one = progress(match=3, following=5)
        assert one.acknowledge(index) is is_news
        assert (one.match, one.next) == (match, following)

    def test_news_lets_a_paused_follower_go_on(self) -> None:
        one = progress(match=3, following=5)
        one.flow_paused = True
        one.acknowledge(3)
        assert one.is_paused()
        one.acknowledge(4)
        assert not one.is_paused()


class TestRetreat:
    @pytest.mark.parametrize(
        ("rejected", "is_real", "following"), [(4, False, 10), (5, False, 10), (9, True, 6)]
    )
    def test_in_replicate_a_rejection_of_what_is_known_is_stale(
        self, rejected: int, is_real: bool, following: int
    ) -> None:
        one = progress(match=5, following=10)
        assert one.retreat(rejected, 0) is is_real
        assert one.next == following

    @pytest.mark.parametrize(
        ("rejected", "hint", "is_real", "following"),
        [
            (7, 2, False, 10),  # not the append that was sent last
            (10, 2, False, 10),
            (9, 9, True, 9),
            (9, 2, True, 3),
            (9, 50, True, 9),  # a hint never leads forward
        ],
    )
    def test_in_probe_only_a_rejection_of_the_last_probe_counts(
        self, rejected: int, hint: int, is_real: bool, following: int
    ) -> None:
        one = progress(ProgressState.PROBE, following=10)
        assert one.retreat(rejected, hint) is is_real
        assert one.next == following

    def test_it_never_falls_back_behind_what_is_known(self) -> None:
        """raft#149."""
        one = progress(ProgressState.PROBE, match=5, following=10)
        assert one.retreat(9, 0)
        assert (one.match, one.next) == (5, 6)

    def test_a_rejection_of_what_was_acknowledged_is_not_answered_at_once(self) -> None:
        """Its disk has lost it: the same append would be rejected again, as fast as the network allows."""
        one = progress(ProgressState.PROBE, match=5, following=6)
        one.flow_paused = True
        assert not one.retreat(5, 2)
        assert (one.next, one.flow_paused) == (6, True)

    def test_while_a_snapshot_is_on_its_way_rejections_are_stale(self) -> None:
        one = progress()
        one.become_snapshot(10)
        assert not one.retreat(10, 2)
        assert one.next == 11


def test_commit_is_worth_telling_only_if_the_follower_can_use_it() -> None:
    one = progress(match=3, following=6)
    one.note_sent(0, 0, commit=3)
    assert one.can_bump_commit(4)
    assert not one.can_bump_commit(3)
    one.note_sent(0, 0, commit=5)
    assert not one.can_bump_commit(9), "5 was told, and it has been sent nothing after 5"

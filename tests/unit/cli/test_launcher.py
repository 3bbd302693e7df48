"""Who belongs to a command, and when the watchman kills it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from coordclient import clock
from coordclient.cli import launcher
from coordclient.cli.launcher import Process, belonging_to

LEADER = 100


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say which processes run, each as (number, parent, group)."""

    def set_running(*processes: tuple[int, int, int]) -> None:
        found = {
            number: Process(number, parent, group, started_at=number) for number, parent, group in processes
        }
        monkeypatch.setattr(launcher, "running_processes", lambda: found)

    return set_running


def numbers(processes: set[Process]) -> set[int]:
    return {process.number for process in processes}


def test_whoever_descends_from_a_command_belongs_to_it(running: Callable[..., None]) -> None:
    running((1, 0, 1), (50, 1, 50), (LEADER, 50, 50), (101, LEADER, 50), (102, 101, 102), (200, 1, 200))

    assert numbers(belonging_to(LEADER, has_own_group=False)) == {LEADER, 101, 102}


def test_the_process_group_belongs_to_it_only_if_it_is_its_own(running: Callable[..., None]) -> None:
    orphan = 103
    running((50, 1, LEADER), (LEADER, 50, LEADER), (orphan, 1, LEADER), (104, orphan, 104))

    assert numbers(belonging_to(LEADER, has_own_group=True)) == {50, LEADER, orphan, 104}
    assert numbers(belonging_to(LEADER, has_own_group=False)) == {LEADER}


def test_the_children_of_a_command_that_has_just_ended_belong_to_it(running: Callable[..., None]) -> None:
    running((101, LEADER, 50), (102, 101, 50))

    assert numbers(belonging_to(LEADER, has_own_group=False)) == {101, 102}


def test_a_real_process_is_read_with_its_parent_and_group() -> None:
    own = launcher.running_processes()[os.getpid()]

    assert (own.parent, own.group) == (os.getppid(), os.getpgrp())
    assert own == launcher.running_processes()[os.getpid()]


def test_it_reads_the_clock_of_the_sdk() -> None:
    before = clock.now()

    assert before <= launcher.now() <= clock.now()


# ---------------------------------------------------------------------------------------------
# The watchman


@pytest.fixture
def lifeline() -> Iterator[tuple[int, Callable[[bytes], None]]]:
    """The end that the watchman reads, and a way to write to the other; an empty text closes that."""
    reader, writer = os.pipe()
    is_open = [True]

    def say(text: bytes) -> None:
        if text:
            os.write(writer, text)
        else:
            os.close(writer)
            is_open.clear()

    yield reader, say
    os.close(reader)
    if is_open:
        os.close(writer)


def test_the_end_of_coordctl_without_a_last_word_kills(lifeline: tuple[int, Callable[[bytes], None]]) -> None:
    reader, say = lifeline
    say(b"until %.3f\n" % (clock.now() + 1000))
    say(b"")

    assert launcher._must_kill(reader)


def test_a_last_word_does_not_kill(lifeline: tuple[int, Callable[[bytes], None]]) -> None:
    reader, say = lifeline
    say(b"until %.3f\ndone\n" % (clock.now() + 1000))
    say(b"")

    assert not launcher._must_kill(reader)


def test_time_that_has_passed_kills(lifeline: tuple[int, Callable[[bytes], None]]) -> None:
    reader, say = lifeline
    say(b"until %.3f\n" % (clock.now() - 1))

    assert launcher._must_kill(reader)


def test_the_last_time_counts_also_if_it_comes_in_parts(
    lifeline: tuple[int, Callable[[bytes], None]],
) -> None:
    reader, say = lifeline
    say(b"until 1.0\nuntil %.3f\ndo" % (clock.now() + 1000))
    say(b"ne\n")

    assert not launcher._must_kill(reader)


def test_a_number_that_was_given_away_again_is_left_alone() -> None:
    own = launcher.running_processes()[os.getpid()]
    former = Process(own.number, own.parent, own.group, own.started_at - 1)

    assert launcher._is_the_same(own.number, own)
    assert not launcher._is_the_same(own.number, former)

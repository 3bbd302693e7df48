"""Signals as items that are taken one by one, and nothing left of it afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from coordclient.cli.signal_inbox import SignalInbox

WITHIN_S = 30.0


@pytest.fixture(autouse=True)
def handlers_stay() -> Iterator[None]:
    """What a test ignores is as before when it has ended."""
    numbers = (signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGTSTP)
    former = [(number, signal.getsignal(number)) for number in numbers]
    yield
    for number, handler in former:
        signal.signal(number, handler)


def test_a_signal_is_an_item() -> None:
    with SignalInbox(takes_stops=False) as inbox:
        os.kill(os.getpid(), signal.SIGUSR1)

        assert inbox.wait(WITHIN_S) == [signal.SIGUSR1]
        assert inbox.wait(0.0) == []


def test_a_wake_ends_a_wait_without_an_item_and_does_no_harm_later() -> None:
    with SignalInbox(takes_stops=False) as inbox:
        inbox.wake()

        assert inbox.wait(WITHIN_S) == []
    inbox.wake()


def test_what_is_ignored_from_the_start_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with SignalInbox(takes_stops=False) as inbox:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGUSR1)

        assert inbox.wait(WITHIN_S) == [signal.SIGUSR1]


def test_the_end_of_a_command_is_heard_of_even_where_that_was_ignored() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with SignalInbox(takes_stops=False):
        assert signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN


def test_stops_are_items_only_where_there_is_no_terminal() -> None:
    before = signal.getsignal(signal.SIGTSTP)
    with SignalInbox(takes_stops=False):
        assert signal.getsignal(signal.SIGTSTP) is before
    with SignalInbox(takes_stops=True) as inbox:
        os.kill(os.getpid(), signal.SIGTSTP)

        assert inbox.wait(WITHIN_S) == [signal.SIGTSTP]
    assert signal.getsignal(signal.SIGTSTP) is before

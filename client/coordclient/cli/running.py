"""A command under coordination: run, watched over, stopped in time, and its exit code.

Rule of this file: it returns only after the command has ended; what the command was granted is given back
after that, by the caller.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Final, Protocol

import click

from coordclient import clock
from coordclient.cli.command import fail_line
from coordclient.cli.command_process import CommandProcess, problem_with
from coordclient.cli.signal_inbox import SignalInbox
from coordclient.cli.supervision import ENDING, Course, Order
from coordclient.recipes.signals import Signal

_LOOK_INTERVAL_S: Final = 1.0  # how old the watchman's knowledge may get
_STOPPING_INTERVAL_S: Final = 0.05
_KEYBOARD: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)


class Fact(Protocol):
    """Something that becomes true once, and stays so."""

    @property
    def reason(self) -> str: ...  # pragma: no cover

    def __bool__(self) -> bool: ...  # pragma: no cover


class Held(Protocol):
    """What a command runs under."""

    @property
    def valid_until(self) -> float: ...  # pragma: no cover

    @property
    def lost(self) -> Fact: ...  # pragma: no cover

    @property
    def must_stop(self) -> str:
        """Return why the command must end although nothing is lost; empty: it need not."""
        ...  # pragma: no cover

    def on_news(self, callback: Callable[[], None]) -> None:
        """Call back, from any thread, when one of the above may have changed."""
        ...  # pragma: no cover


class Unconditional:
    """For commands that run under nothing that could be lost."""

    valid_until: float = math.inf
    must_stop: str = ""

    def __init__(self) -> None:
        self.lost = Signal()

    def on_news(self, callback: Callable[[], None]) -> None:
        """Nothing ever changes."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended.

    Attributes:
        exit_code: The command's own; 128 + n after signal n.
        stopped_because: Why we stopped it; empty: it ended by itself.
        is_lost: What it ran under is lost, or could not be made certain in time.
        asked_to_end: A signal to `coordctl` that asks for the end came meanwhile.
    """

    exit_code: int
    stopped_because: str = ""
    is_lost: bool = False
    asked_to_end: signal.Signals | None = None


def refuse_impossible(command: Sequence[str]) -> None:
    """End with 127 or 126, before anything is acquired, if the command cannot be started."""
    problem = problem_with(command[0])
    if problem is not None:
        code, text = problem
        fail_line(text)
        click.get_current_context().exit(code)


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    held: Held,
    course: Course,
    *,
    stdin: IO[bytes] | None = None,
    on_draining: Callable[[], None] | None = None,
) -> Ending:
    """Run a command to its end.

    Args:
        on_draining: Called when the command is about to be asked to end, `course.drain_s` before.
    """
    with SignalInbox(takes_stops=not CommandProcess.shares_terminal()) as inbox:
        process = CommandProcess(command, environment, stdin=stdin)
        running = _Running(process, held, course, inbox, on_draining)
        try:
            running.to_the_end()
            running.is_lost |= bool(held.lost) or process.is_overdue
        finally:
            exit_code = process.end()
    return Ending(exit_code, running.stopped_because, running.is_lost, running.asked_to_end)


class _Running:
    """The loop around one command."""

    def __init__(
        self,
        process: CommandProcess,
        held: Held,
        course: Course,
        inbox: SignalInbox,
        on_draining: Callable[[], None] | None,
    ) -> None:
        self.stopped_because = ""
        self.is_lost = False
        self.asked_to_end: signal.Signals | None = None
        self._process = process
        self._held = held
        self._course = course
        self._inbox = inbox
        self._on_draining = on_draining

    def to_the_end(self) -> None:
        self._held.on_news(self._inbox.wake)
        while not self._is_over():
            wake_at = self._look()
            interval_s = _STOPPING_INTERVAL_S if self._course.is_stopping else _LOOK_INTERVAL_S
            for number in self._inbox.wait(min(wake_at - clock.now(), interval_s)):
                self._take(number)

    def _is_over(self) -> bool:
        if not self._process.has_ended:
            return False
        # A command that we stop has ended when nothing that it has started is left either.
        return not self._course.is_stopping or not self._process.survivors()

    def _look(self) -> float:
        """Do what is to be done now; return when to look again."""
        held = self._held
        is_lost, valid_until = bool(held.lost), held.valid_until
        self._process.keep_until(valid_until - self._course.margin_s / 2)
        step = self._course.look(
            clock.now(), valid_until=valid_until, is_lost=is_lost, must_stop=bool(held.must_stop)
        )
        if step.order is Order.TERMINATE:
            self._stop(is_lost=is_lost)
        elif step.order is Order.KILL:
            fail_line("the command has not ended in time, and is killed")
            self._process.kill()
        if step.passed_on is not None:
            self._process.pass_on(step.passed_on)
        return step.wake_at

    def _stop(self, *, is_lost: bool) -> None:
        self.is_lost = is_lost or not self._held.must_stop
        if is_lost:
            self.stopped_because = f"it is lost, {self._held.lost.reason}"
        else:
            self.stopped_because = self._held.must_stop or "it could not be renewed in time"
        fail_line(f"stopping the command: {self.stopped_because}")
        self._process.terminate()

    def _take(self, number: signal.Signals) -> None:
        if number is signal.SIGCHLD:
            return
        if number in ENDING:
            self.asked_to_end = number
        passes = self._course.received(number, clock.now())
        if not passes:
            assert self._course.is_draining, "a signal is kept back for draining only"
            if self._on_draining is not None:
                self._on_draining()
        # What was typed on the terminal the command has got already, from the kernel.
        elif number not in _KEYBOARD or not self._process.has_terminal_foreground():
            self._process.pass_on(number)

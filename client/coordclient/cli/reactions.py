"""`coordctl watch --exec`: one command for each change, one after the other.

Rule of this file: in the order of the changes, never two at once, and none is left out unless `--latest`
asks for that.
"""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import click

from coordclient import Client
from coordclient.cli.command import Settings, fail_line
from coordclient.cli.running import Ending, Unconditional, run
from coordclient.cli.supervision import Course
from coordclient.types import Event

_FOR_COMMANDS_ONLY: Final = (signal.SIGUSR1, signal.SIGUSR2)


class Newest:
    """Where the newest event is; those before it are forgotten."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._event: Event | None = None

    def put(self, event: Event) -> None:
        with self._changed:
            self._event = event
            self._changed.notify()

    def __iter__(self) -> Iterator[Event]:
        while True:
            with self._changed:
                while self._event is None:
                    self._changed.wait()
                event, self._event = self._event, None
            yield event


@contextmanager
def source_of_events(
    client: Client, path: str, *, recursive: bool, since: int | None, latest: bool
) -> Iterator[Iterable[Event]]:
    """Watch for the length of the body.

    Args:
        latest: Of what happens while nobody reads, only the last is kept.
    """
    if not latest:
        with client.watch(path, recursive=recursive, since=since) as events:
            yield events
        return
    newest = Newest()
    with client.watch(path, recursive=recursive, since=since, callback=newest.put):
        yield newest


def react(
    events: Iterable[Event],
    command: tuple[str, ...],
    settings: Settings,
    *,
    count: int | None,
    ends_on_failure: bool,
) -> int:
    """Run the command for each event; return the exit code for the whole.

    That is the code of the last command that failed, 0 if none did.
    """
    failure = 0
    for done, event in enumerate(events, start=1):
        ending = _run_for(event, command, settings)
        failure = ending.exit_code or failure
        if ending.asked_to_end is not None:
            return ending.exit_code
        if ending.exit_code:
            what = f"{event.type.name} {event.path} (zxid {event.zxid})"
            fail_line(f"the command for {what} ended with {ending.exit_code}")
            if ends_on_failure:
                break
        if done == count:
            break
    return failure


def _run_for(event: Event, command: tuple[str, ...], settings: Settings) -> Ending:
    environment = {
        "COORD_EVENT_TYPE": event.type.name,
        "COORD_EVENT_PATH": event.path,
        "COORD_EVENT_ZXID": str(event.zxid),
        "COORD_ENDPOINTS": settings.endpoints,
    }
    # A file: a pipe would hold us up when the command does not read, and the value is larger than the pipe.
    with tempfile.TemporaryFile() as value:
        value.write(event.value)
        value.seek(0)
        return run(command, environment, Unconditional(), Course(grace_s=0.0), stdin=value)


@contextmanager
def between_commands() -> Iterator[None]:
    """Live through signals that mean something to commands only, while none runs."""
    former = [(number, signal.getsignal(number)) for number in _FOR_COMMANDS_ONLY]
    for number, handler in former:
        # Not SIG_IGN: a command would inherit that.
        signal.signal(number, handler if handler is signal.SIG_IGN else _nobody_is_there)
    try:
        yield
    finally:
        for number, handler in former:
            signal.signal(number, handler)


def _nobody_is_there(_number: int, _frame: FrameType | None) -> None:
    """No command runs to which this could be passed on."""


def check_options(*, runs: bool, has_command: bool, with_command_only: dict[str, bool]) -> None:
    """Refuse what does not go together."""
    if has_command and not runs:
        raise click.UsageError("a command is run with --exec: coordctl watch PATH --exec -- COMMAND...")
    if runs and not has_command:
        raise click.UsageError("--exec needs a command: coordctl watch PATH --exec -- COMMAND...")
    for option, is_given in with_command_only.items():
        if is_given and not runs:
            raise click.UsageError(f"{option} goes with --exec")

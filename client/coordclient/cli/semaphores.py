"""`coordctl semaphore`: so many holders at a time, for as long as a command runs or until Ctrl-C.

Rule of this file: it only says which semaphore and which options; waiting and running are done elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from coordclient import Client
from coordclient.cli.arguments import Duration, ZnodePath
from coordclient.cli.command import Settings
from coordclient.cli.connection import connected
from coordclient.cli.held_grants import HeldGrant, Waiting, client_name, print_contenders, run_or_hold
from coordclient.cli.output import print_data
from coordclient.cli.runner_command import RunnerCommand, checked_grace, holding_options, try_option
from coordclient.cli.running import refuse_impossible
from coordclient.errors import MismatchError
from coordclient.recipes.semaphore import Semaphore

_ANY_NUMBER = 1  # for calls that do not say how many permits there are


@click.command(cls=RunnerCommand, waits_for="the permits")
@click.argument("path", type=ZnodePath())
@click.option(
    "-n", "--permits", type=click.IntRange(min=1), help="how many there are; all who use it must say the same"
)
@click.option(
    "--weight", type=click.IntRange(min=1), default=1, help="how many of them the command takes  [default: 1]"
)
@try_option
@click.option(
    "--lock-delay",
    type=Duration(),
    metavar="DURATION",
    default=0.0,
    help="how long nobody else gets the permits after a holder's session has expired",
)
@holding_options
@click.option("--who", "shows_who", is_flag=True, help="print who holds permits and who waits, in order")
@click.option(
    "--resize", type=click.IntRange(min=1), metavar="N", help="change the number of permits, for everybody"
)
def semaphore(
    settings: Settings,
    path: str,
    command: tuple[str, ...],
    wait_s: float | None,
    permits: int | None,
    weight: int,
    may_not_wait: bool,
    lock_delay: float,
    grace: float | None,
    session_timeout: float,
    shows_who: bool,
    resize: int | None,
) -> None:
    """Run a command while holding a permit of the semaphore PATH; without a command, hold it until Ctrl-C.

    \b
    coordctl semaphore /limits/reports -n 3 -- ./report.sh
    coordctl semaphore /limits/reports -n 3 --weight 2 -- ./large-report.sh

    The environment of the command, signals, exit codes and what happens when the permit is lost are those of
    `coordctl lock`.
    """
    if shows_who or resize is not None:
        if command or (shows_who and resize is not None):
            raise click.UsageError("--who, --resize and a command exclude each other")
        with connected(settings) as client:
            _look_or_resize(client, path, settings, resize)
        return
    if permits is None:
        raise click.UsageError("say with -n how many permits there are")
    if weight > permits:
        raise click.UsageError(f"--weight {weight} is more than the {permits} permits that there are")
    grace_s = checked_grace(grace, session_timeout)
    if command:
        refuse_impossible(command)
    waiting = Waiting(path, wait_s, may_wait=not may_not_wait)
    with connected(settings, session_timeout, name=client_name(command)) as client, _advice(path, permits):
        wanted = Semaphore(client, path, permits, lock_delay=lock_delay)
        permit = waiting.acquire(
            client,
            lambda timeout: wanted.acquire(weight, timeout=timeout),
            lambda: wanted.try_acquire(weight),
            wanted.contenders,
        )
        run_or_hold(settings, client, path, HeldGrant(permit), command, grace_s)


@contextmanager
def _advice(path: str, permits: int) -> Iterator[None]:
    try:
        yield
    except MismatchError as error:
        # What to do is said in the words of this program; the SDK's are for callers of its methods.
        error.message = str(error).partition(";")[0]
        error.add_note("say with -n the same number as the others; or, to change it for everybody:")
        error.add_note(f"coordctl semaphore {path} --resize {permits}")
        raise


def _look_or_resize(client: Client, path: str, settings: Settings, permits: int | None) -> None:
    found = Semaphore(client, path, _ANY_NUMBER)
    if permits is None:
        print_contenders(found.contenders(), settings)
        return
    found.resize(permits)
    if settings.for_people:
        click.echo(f"{path} has {permits} permits")
    else:
        print_data({"path": path, "permits": permits}, settings.output_format)

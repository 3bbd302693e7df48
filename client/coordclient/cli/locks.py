"""`coordctl lock`: one holder at a time, for as long as a command runs or until Ctrl-C.

Rule of this file: it only says which lock and which options; waiting and running are done elsewhere.
"""

from __future__ import annotations

import click

from coordclient.cli.arguments import Duration, ZnodePath
from coordclient.cli.command import Settings, fail_line
from coordclient.cli.connection import connected
from coordclient.cli.exit_codes import ExitCode
from coordclient.cli.held_grants import HeldGrant, Waiting, client_name, print_contenders, run_or_hold
from coordclient.cli.output import print_data
from coordclient.cli.runner_command import (
    RunnerCommand,
    checked_grace,
    holding_options,
    try_option,
)
from coordclient.cli.running import refuse_impossible
from coordclient.recipes.lock import Lock, LockHandle


@click.command(cls=RunnerCommand, waits_for="the lock")
@click.argument("path", type=ZnodePath())
@try_option
@click.option(
    "--lock-delay",
    type=Duration(),
    metavar="DURATION",
    default=0.0,
    help="how long nobody else gets the lock after a holder's session has expired, so that what it had on its"
    " way can arrive",
)
@click.option(
    "--revocable", is_flag=True, help="let go when somebody asks with --revoke: the command gets SIGTERM"
)
@holding_options
@click.option("--who", "shows_who", is_flag=True, help="print who holds the lock and who waits, in order")
@click.option("--revoke", "revokes", is_flag=True, help="ask the holder to let go; it need not")
@click.option("--reason", default="", help="with --revoke: what to tell the holder")
def lock(
    settings: Settings,
    path: str,
    command: tuple[str, ...],
    wait_s: float | None,
    may_not_wait: bool,
    lock_delay: float,
    revocable: bool,
    grace: float | None,
    session_timeout: float,
    shows_who: bool,
    revokes: bool,
    reason: str,
) -> None:
    """Run a command while holding the lock PATH; without a command, hold it until Ctrl-C.

    \b
    coordctl lock /locks/backup -- pg_dump --file=/backup/db.sql mydb
    coordctl lock /locks/backup --try -- ./nightly.sh
    coordctl lock /locks/backup --who

    Whoever waits gets the lock in the order of arrival. The command is run as it stands, without a shell.
    In its environment are COORD_PATH, COORD_TOKEN (the fencing token, a number that grows with every holder),
    COORD_NODE (what stands for the grant), COORD_GUARD (for coordctl set --guard) and COORD_ENDPOINTS.
    Signals are passed on to it, and its exit code is returned. When the lock is lost, or cannot be renewed in
    time, it is stopped before anybody else can hold the lock: SIGTERM, and after --grace SIGKILL. If coordctl
    itself is killed, or stopped for too long, the command is killed. The lock is released when the command
    has ended, not before; what it leaves running in the background is not waited for.
    """
    if shows_who or revokes:
        if command or (shows_who and revokes):
            raise click.UsageError("--who, --revoke and a command exclude each other")
        with connected(settings) as client:
            if shows_who:
                print_contenders(Lock(client, path).contenders(), settings)
            else:
                _revoke(Lock(client, path), reason, settings)
        return
    if reason:
        raise click.UsageError("--reason goes with --revoke")
    grace_s = checked_grace(grace, session_timeout)
    if command:
        refuse_impossible(command)
    waiting = Waiting(path, wait_s, may_wait=not may_not_wait)
    with connected(settings, session_timeout, name=client_name(command)) as client:
        wanted = Lock(client, path, lock_delay=lock_delay)
        handle = waiting.acquire(
            client,
            lambda timeout: wanted.acquire(timeout=timeout),
            wanted.try_acquire,
            wanted.contenders,
        )
        assert isinstance(handle, LockHandle)
        asked = handle.revoke_requested
        asked.add_callback(
            lambda: fail_line(f"somebody asks for {path}: {asked.reason or 'no reason given'}")
        )
        held = HeldGrant(handle, asked if revocable else None)
        run_or_hold(settings, client, path, held, command, grace_s)


def _revoke(wanted: Lock, reason: str, settings: Settings) -> None:
    is_asked = wanted.request_revoke(reason)
    if not settings.for_people:
        print_data({"path": wanted.path, "asked": is_asked}, settings.output_format)
    elif is_asked:
        click.echo(f"the holder of {wanted.path} is asked to let go")
    if not is_asked:
        fail_line(f"nobody holds {wanted.path}")
        click.get_current_context().exit(ExitCode.NO_NODE)

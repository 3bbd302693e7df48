"""`coordctl watch, history`: what changes now, and what has changed."""

from __future__ import annotations

from collections.abc import Iterable

import click

from coordclient.cli.arguments import ZnodePath
from coordclient.cli.command import ServiceCommand, Settings
from coordclient.cli.connection import connected
from coordclient.cli.output import event_data, event_line, print_item
from coordclient.cli.reactions import between_commands, check_options, react, source_of_events
from coordclient.cli.runner_command import RunnerCommand
from coordclient.cli.running import refuse_impossible
from coordclient.types import Event

_since = click.option(
    "--since", type=click.IntRange(min=0), metavar="ZXID", help="begin after this transaction"
)


@click.command(cls=RunnerCommand)
@click.argument("path", type=ZnodePath())
@click.option("--recursive", "-r", is_flag=True, help="the node and everything below it")
@_since
@click.option("--count", type=click.IntRange(min=1), help="end after so many events")
@click.option("--once", is_flag=True, help="end after one event")
@click.option("--exec", "runs", is_flag=True, help="run COMMAND for each event instead of printing it")
@click.option("--latest", is_flag=True, help="with --exec: skip to the newest event when a command has ended")
@click.option(
    "--exit-on-error", "ends_on_failure", is_flag=True, help="with --exec: end when a command has failed"
)
def watch(
    settings: Settings,
    path: str,
    command: tuple[str, ...],
    recursive: bool,
    since: int | None,
    count: int | None,
    once: bool,
    runs: bool,
    latest: bool,
    ends_on_failure: bool,
) -> None:
    """Print each change of a node when it happens, until Ctrl-C. The node need not exist yet.

    Reconnects by itself and misses nothing; if the history that it needs is gone, it prints RESYNC.

    \b
    coordctl watch /app/config --exec -- ./reload.sh

    With --exec it runs a command, without a shell, for each event in order, never two at once. The command
    finds COORD_EVENT_TYPE, COORD_EVENT_PATH, COORD_EVENT_ZXID and COORD_ENDPOINTS in its environment, and the
    new value on its standard input. One that fails is told on standard error, and the watch goes on; at its
    end the exit code is that of the last command that failed. A signal that asks for the end is passed on to
    the command that runs, and the watch ends with it.
    """
    check_options(
        runs=runs,
        has_command=bool(command),
        with_command_only={"--latest": latest, "--exit-on-error": ends_on_failure},
    )
    if once and count is not None:
        raise click.UsageError("--once is --count 1; give one of them")
    count = 1 if once else count
    if runs:
        refuse_impossible(command)
    with (
        connected(settings) as client,
        source_of_events(client, path, recursive=recursive, since=since, latest=latest) as events,
    ):
        if not runs:
            _print_events(events, settings, count)
            return
        with between_commands():
            exit_code = react(events, command, settings, count=count, ends_on_failure=ends_on_failure)
    click.get_current_context().exit(exit_code)


def _print_events(events: Iterable[Event], settings: Settings, count: int | None) -> None:
    for number, event in enumerate(events, start=1):
        _print_event(event, settings)
        if number == count:
            return


@click.command(cls=ServiceCommand)
@click.argument("path", type=ZnodePath(), default="/")
@_since
@click.option("--follow", "-f", is_flag=True, help="go on with new changes until Ctrl-C")
def history(settings: Settings, path: str, since: int | None, follow: bool) -> None:
    """Print the changes that the service still keeps, of a node and everything below it, oldest first."""
    with connected(settings) as client:
        for event in client.history("" if path == "/" else path, since=since, follow=follow):
            _print_event(event, settings)


def _print_event(event: Event, settings: Settings) -> None:
    if settings.for_people:
        click.echo(event_line(event))
    else:
        print_item(event_data(event), settings.output_format)

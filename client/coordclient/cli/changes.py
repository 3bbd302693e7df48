"""`coordctl watch, history`: what changes now, and what has changed."""

from __future__ import annotations

import click

from coordclient.cli.arguments import ZnodePath
from coordclient.cli.command import ServiceCommand, Settings
from coordclient.cli.connection import connected
from coordclient.cli.output import event_data, event_line, print_item
from coordclient.types import Event

_since = click.option(
    "--since", type=click.IntRange(min=0), metavar="ZXID", help="begin after this transaction"
)


@click.command(cls=ServiceCommand)
@click.argument("path", type=ZnodePath())
@click.option("--recursive", "-r", is_flag=True, help="the node and everything below it")
@_since
@click.option("--count", type=click.IntRange(min=1), help="end after so many events")
def watch(settings: Settings, path: str, recursive: bool, since: int | None, count: int | None) -> None:
    """Print each change of a node when it happens, until Ctrl-C. The node need not exist yet.

    Reconnects by itself and misses nothing; if the history that it needs is gone, it prints RESYNC.
    """
    with connected(settings) as client, client.watch(path, recursive=recursive, since=since) as events:
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

"""`coordctl get, set, create, delete, stat`: one znode at a time."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import click

from coordclient import Client, State
from coordclient.cli.arguments import Duration, Guard, ZnodePath, read_value
from coordclient.cli.command import ServiceCommand, Settings
from coordclient.cli.connection import SESSION_TIMEOUT_S, connected, reader
from coordclient.cli.output import node_data, print_data, print_fields, session_name, stat_data, stat_fields
from coordclient.errors import NodeExistsError, NoNodeError, SessionExpiredError

_value_file = click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="take the value from FILE; - is standard input",
)
stale_option = click.option(
    "--stale", is_flag=True, help="read what any member has; works without a leader, and may be old"
)
_guard = click.option(
    "--guard",
    type=Guard(),
    metavar="PATH:CZXID",
    help='refuse unless this node is still there; under coordctl lock: --guard "$COORD_GUARD"',
)
_any_version = click.option(
    "--version", type=click.IntRange(min=0), help="only if the node still has this version"
)


@click.command(cls=ServiceCommand)
@click.argument("path", type=ZnodePath())
@click.option("--stat", "with_stat", is_flag=True, help="print the stat after the value")
@stale_option
def get(settings: Settings, path: str, with_stat: bool, stale: bool) -> None:
    """Print the value of a node, byte for byte."""
    with reader(settings, stale=stale) as source:
        node = source.get(path)
    if not settings.for_people:
        print_data(node_data(node), settings.output_format)
        return
    output = sys.stdout.buffer
    output.write(node.value)
    if (with_stat or sys.stdout.isatty()) and node.value and not node.value.endswith(b"\n"):
        output.write(b"\n")
    output.flush()
    if with_stat:
        print_fields(stat_fields(node.stat))


@click.command(cls=ServiceCommand)
@click.argument("path", type=ZnodePath())
@stale_option
def stat(settings: Settings, path: str, stale: bool) -> None:
    """Print what the service knows about a node: versions, times, transactions, owner."""
    with reader(settings, stale=stale) as source:
        found = source.exists(path)
        if found is None:
            raise NoNodeError(path=path)
    if settings.for_people:
        print_fields([("path", path), *stat_fields(found)])
    else:
        print_data({"path": path, "stat": stat_data(found)}, settings.output_format)


@click.command("set", cls=ServiceCommand)
@click.argument("path", type=ZnodePath())
@click.argument("value", required=False)
@_value_file
@_any_version
@_guard
@click.option(
    "--create", "create_missing", is_flag=True, help="create the node, and its parents, if it is missing"
)
def set_value(
    settings: Settings,
    path: str,
    value: str | None,
    file: Path | None,
    version: int | None,
    guard: tuple[str, int] | None,
    create_missing: bool,
) -> None:
    """Set the value of a node. VALUE - is standard input."""
    data = read_value(value, file)
    if data is None:
        raise click.UsageError("give a value: as an argument, with --file FILE, or - for standard input")
    with connected(settings) as client:
        try:
            changed = client.set(path, data, version=version, guard=guard)
        except NoNodeError:
            if not create_missing or version is not None:
                raise
            try:
                client.create(path, data, parents=True, guard=guard)
            except NodeExistsError:  # somebody was faster
                client.set(path, data, guard=guard)
            changed = client.get(path).stat
    if settings.for_people:
        click.echo(f"{path} set to version {changed.version}, {len(data)} bytes")
    else:
        print_data({"path": path, "stat": stat_data(changed)}, settings.output_format)


@click.command(cls=ServiceCommand)
@click.argument("path", type=ZnodePath(keep_final_slash=True))
@click.argument("value", required=False)
@_value_file
@click.option("--ephemeral", is_flag=True, help="the node lives as long as this command: until Ctrl-C")
@click.option("--sequential", is_flag=True, help="append a growing number to the name; PATH may end with /")
@click.option("--container", is_flag=True, help="the node goes by itself after its last child has gone")
@click.option(
    "--ttl", type=Duration(), metavar="DURATION", help="the node goes when it was not set for so long"
)
@click.option("--parents", is_flag=True, help="create missing parents too, in the same transaction")
@_guard
@click.option(
    "--session-timeout",
    type=Duration(),
    default=SESSION_TIMEOUT_S,
    metavar="DURATION",
    help="with --ephemeral: how long the node outlives a crash of this command  [default: 10s]",
)
def create(
    settings: Settings,
    path: str,
    value: str | None,
    file: Path | None,
    ephemeral: bool,
    sequential: bool,
    container: bool,
    ttl: float | None,
    parents: bool,
    guard: tuple[str, int] | None,
    session_timeout: float,
) -> None:
    """Create a node, empty if no VALUE is given, and print its path. VALUE - is standard input."""
    if ephemeral + container + (ttl is not None) > 1:
        raise click.UsageError("--ephemeral, --container and --ttl exclude each other")
    if sequential and container:
        raise click.UsageError("--sequential and --container exclude each other")
    if path.endswith("/") and path != "/" and not sequential:
        path = path.removesuffix("/")
    data = read_value(value, file) or b""
    with connected(settings, session_timeout) as client:
        try:
            made = client.create(
                path,
                data,
                ephemeral=ephemeral,
                sequential=sequential,
                container=container,
                ttl=ttl,
                parents=parents,
                guard=guard,
            )
        except NoNodeError as error:
            error.add_note("--parents creates what is missing, in the same transaction")
            raise
        if settings.for_people:
            click.echo(made)
        else:
            print_data({"path": made}, settings.output_format)
        if ephemeral:
            _hold(client, made)


def _hold(client: Client, path: str) -> None:
    """Keep the session until Ctrl-C; closing it takes the node away at once."""
    lost = threading.Event()
    client.add_listener(lambda state: lost.set() if state is State.LOST else None)
    session = session_name(client.session_id or 0)
    try:
        click.echo(f"holding {path} in session {session}; Ctrl-C lets it go", err=True)
        lost.wait()
    except KeyboardInterrupt:
        return
    raise SessionExpiredError(f"session {session} was lost, and {path} with it", path=path)


@click.command(cls=ServiceCommand)
@click.argument("path", type=ZnodePath())
@click.option("--recursive", "-r", is_flag=True, help="the node and everything below it, in one transaction")
@_any_version
@_guard
@click.option("--yes", "-y", is_flag=True, help="do not ask before a recursive delete")
def delete(
    settings: Settings,
    path: str,
    recursive: bool,
    version: int | None,
    guard: tuple[str, int] | None,
    yes: bool,
) -> None:
    """Delete a node; a recursive delete asks first if a person is at the terminal."""
    if path == "/":
        raise click.UsageError("the root cannot be deleted; delete what is below it")
    if recursive and not yes and sys.stdin.isatty():
        click.confirm(f"Delete {path} and everything below it?", abort=True, err=True)
    with connected(settings) as client:
        count = client.delete(path, version=version, recursive=recursive, guard=guard)
    if settings.for_people:
        click.echo(f"{path} deleted" + (f", {count} nodes in all" if count > 1 else ""))
    else:
        print_data({"path": path, "deleted": count}, settings.output_format)

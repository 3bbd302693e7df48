"""`coordctl ls, tree`: the children of a node, and everything below it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import click

from coordclient.cli.arguments import ZnodePath
from coordclient.cli.command import ServiceCommand, Settings
from coordclient.cli.connection import Reader, reader
from coordclient.cli.nodes import stale_option
from coordclient.cli.output import Data, moment, node_data, preview, print_data, print_table, session_name
from coordclient.errors import NoNodeError
from coordclient.types import Node


@click.command(cls=ServiceCommand)
@click.argument("path", type=ZnodePath(), default="/")
@click.option("--long", "-l", "is_long", is_flag=True, help="with version, size, children, owner and time")
@click.option("--recursive", "-r", "-R", is_flag=True, help="everything below, with whole paths")
@stale_option
def ls(settings: Settings, path: str, is_long: bool, recursive: bool, stale: bool) -> None:
    """List the children of a node."""
    with reader(settings, stale=stale) as source:
        if not (is_long or recursive) and settings.for_people:
            for name in source.get_children(path):
                click.echo(name)
            return
        nodes = list(_below(source, path, recursive=recursive))
    if not settings.for_people:
        print_data([node_data(node) for node in nodes], settings.output_format)
    elif is_long:
        print_table(_LONG_COLUMNS, [_long_row(node, recursive=recursive) for node in nodes])
    else:
        for node in nodes:
            click.echo(node.path)


@click.command(cls=ServiceCommand)
@click.argument("path", type=ZnodePath(), default="/")
@click.option(
    "--depth", type=click.IntRange(1, 200), default=50, show_default=True, help="how many levels to show"
)
@click.option("--values", "with_values", is_flag=True, help="show the beginning of each value")
@stale_option
def tree(settings: Settings, path: str, depth: int, with_values: bool, stale: bool) -> None:
    """Draw a node and everything below it."""
    with reader(settings, stale=stale) as source:
        if not settings.for_people:
            root = source.get(path)
            print_data(_tree_data(source, root, depth), settings.output_format)
            return
        top = _children(source, path, must_exist=True)
        click.echo(path)
        _draw(source, top, depth, "", with_values=with_values)


_LONG_COLUMNS = ("VERSION", "BYTES", "CHILDREN", "EPHEMERAL OF", "MODIFIED", "NAME")


def _long_row(node: Node, *, recursive: bool) -> tuple[str, ...]:
    return (
        str(node.stat.version),
        str(node.stat.data_length),
        str(node.stat.num_children),
        session_name(node.stat.ephemeral_owner) or "-",
        moment(node.stat.mtime),
        node.path if recursive else _name_of(node),
    )


def _name_of(node: Node) -> str:
    return node.path.rpartition("/")[2]


def _below(source: Reader, path: str, *, recursive: bool) -> Iterator[Node]:
    """Yield the children, each followed by what is below it: the order of a tree."""
    pending = [iter(_children(source, path, must_exist=True))]
    while pending:
        node = next(pending[-1], None)
        if node is None:
            pending.pop()
            continue
        yield node
        if recursive and node.stat.num_children:
            pending.append(iter(_children(source, node.path)))


def _children(source: Reader, path: str, *, must_exist: bool = False) -> list[Node]:
    try:
        return source.get_children_nodes(path)
    except NoNodeError:
        if must_exist:
            raise
        return []  # it went while we were looking


def _draw(
    source: Reader,
    nodes: Iterable[Node],
    depth: int,
    indent: str,
    *,
    with_values: bool,
) -> None:
    nodes = list(nodes)
    for node in nodes:
        last = node is nodes[-1]
        click.echo(f"{indent}{'└── ' if last else '├── '}{_label(node, with_values=with_values)}")
        if not node.stat.num_children:
            continue
        below = indent + ("    " if last else "│   ")
        if depth == 1:
            click.echo(f"{below}… {node.stat.num_children} below")
            continue
        children = _children(source, node.path)
        _draw(source, children, depth - 1, below, with_values=with_values)


def _label(node: Node, *, with_values: bool) -> str:
    name = click.style(_name_of(node), fg="cyan") if node.stat.ephemeral_owner else _name_of(node)
    owner = f"  (ephemeral of {session_name(node.stat.ephemeral_owner)})" if node.stat.ephemeral_owner else ""
    value = f" = {preview(node.value)}" if with_values and node.value else ""
    return name + value + owner


def _tree_data(source: Reader, node: Node, depth: int) -> Data:
    """Return a node with its children inside it; `children` is null below the depth that was asked for."""
    data = node_data(node)
    if not node.stat.num_children:
        data["children"] = []
    elif depth == 0:
        data["children"] = None
    else:
        below = depth - 1
        children = _children(source, node.path)
        data["children"] = [_tree_data(source, child, below) for child in children]
    return data

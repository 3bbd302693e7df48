"""What `coordctl` prints: tables for people, JSON and YAML for scripts.

Rule of this file: JSON and YAML hold the same data under the same names, and those never change; a table may.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import click
import yaml

from coordclient.types import Event, Node, Stat

Data: TypeAlias = dict[str, Any]  # JSON types only

OUTPUT_FORMATS: Final = ("table", "json", "yaml")
_PREVIEW_CHARACTERS: Final = 60


def print_data(data: Data | list[Data], output_format: str) -> None:
    """Print one complete document."""
    if output_format == "yaml":
        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)
    else:
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_item(data: Data, output_format: str) -> None:
    """Print one item of a stream that may never end: a line of JSON, or a YAML document."""
    if output_format == "yaml":
        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, explicit_start=True), nl=False)
    else:
        click.echo(json.dumps(data, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns under their names; numbers are aligned to the right."""
    widths = [
        max(len(column), *(len(row[number]) for row in rows)) if rows else len(column)
        for number, column in enumerate(columns)
    ]
    right = [bool(rows) and all(_is_number(row[number]) for row in rows) for number in range(len(columns))]
    click.secho(_line(columns, widths, right), bold=True)
    for row in rows:
        click.echo(_line(row, widths, right))


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print `name  value` lines."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        click.echo(f"{click.style(f'{name:{width}}', bold=True)}  {value}")


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if to_the_right else cell.ljust(width)
        for cell, width, to_the_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(padded).rstrip()


def _is_number(cell: str) -> bool:
    return cell.isdigit() or cell in ("", "-")


# ---------------------------------------------------------------------------------------------
# The service's values as data


def value_data(value: bytes) -> Data:
    """Text stays text; anything else is base64, and `encoding` says so."""
    try:
        return {"value": value.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"value": base64.b64encode(value).decode(), "encoding": "base64"}


def stat_data(stat: Stat) -> Data:
    return {
        "czxid": stat.czxid,
        "mzxid": stat.mzxid,
        "pzxid": stat.pzxid,
        "ctime": stat.ctime,
        "mtime": stat.mtime,
        "version": stat.version,
        "cversion": stat.cversion,
        "aversion": stat.aversion,
        "ephemeral_owner": session_name(stat.ephemeral_owner),
        "data_length": stat.data_length,
        "num_children": stat.num_children,
    }


def node_data(node: Node) -> Data:
    return {"path": node.path, **value_data(node.value), "stat": stat_data(node.stat)}


def event_data(event: Event) -> Data:
    return {
        "type": event.type.name,
        "path": event.path,
        "zxid": event.zxid,
        **value_data(event.value),
        "stat": stat_data(event.stat) if event.stat else None,
    }


# ---------------------------------------------------------------------------------------------
# The service's values for people


def stat_fields(stat: Stat) -> list[tuple[str, str]]:
    """Return the stat as named lines."""
    owner = f"session {session_name(stat.ephemeral_owner)}" if stat.ephemeral_owner else "-"
    return [
        ("version", str(stat.version)),
        ("bytes", str(stat.data_length)),
        ("children", f"{stat.num_children} (list changed {stat.cversion} times)"),
        ("ephemeral", owner),
        ("created", f"{moment(stat.ctime)}  zxid {stat.czxid}"),
        ("modified", f"{moment(stat.mtime)}  zxid {stat.mzxid}"),
        ("children changed", f"zxid {stat.pzxid}"),
    ]


def event_line(event: Event) -> str:
    """Return one line that tells of an event."""
    colour = {"CREATED": "green", "CHANGED": "yellow", "DELETED": "red"}.get(event.type.name, "cyan")
    kind = click.style(f"{event.type.name:8}", fg=colour)
    return f"{event.zxid:>8}  {kind}  {event.path}  {preview(event.value)}".rstrip()


def session_name(session_id: int) -> str:
    """Return a session id the way people see it everywhere; empty for none. Too large for a JSON number."""
    return f"{session_id:#x}" if session_id else ""


def moment(time_ms: int) -> str:
    """Return a point in time in the local zone, to the millisecond."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone().isoformat(" ", "milliseconds")


def age(milliseconds: int) -> str:
    """Return a span of time in its largest fitting unit."""
    for unit, length_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if milliseconds >= length_ms:
            return f"{milliseconds // length_ms}{unit}"
    return f"{milliseconds}ms"


def preview(value: bytes) -> str:
    """Return the beginning of a value on one line that cannot upset a terminal."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"({len(value)} bytes)"
    shown = "".join(character if character.isprintable() else "·" for character in text[:_PREVIEW_CHARACTERS])
    return shown + ("…" if len(text) > _PREVIEW_CHARACTERS else "")

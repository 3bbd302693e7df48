"""What people type: paths, endpoints, durations, values.

Rule of this file: what is wrong is refused before anything is sent, with the words that are right.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from coordclient.cli.stale_reads import StaleReader
from coordclient.errors import CoordError

DEFAULT_ENDPOINTS: Final = "127.0.0.1:7400"
COMPLETION_TIMEOUT_S: Final = 1.0
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")


class ZnodePath(click.ParamType[str]):
    """An absolute path; a slash at its end is forgiven, except where it means something.

    The service knows the full grammar and refuses what breaks it; here are the slips of people.
    """

    name = "path"

    def __init__(self, *, keep_final_slash: bool = False) -> None:
        self._keep_final_slash = keep_final_slash

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        path = str(value)
        if not path.startswith("/"):
            self.fail(f"{path!r} is no path, paths start with '/'; did you mean '/{path}'?", param, ctx)
        if "//" in path:
            fixed = re.sub("/+", "/", path)
            self.fail(f"{path!r} has an empty name in it; did you mean {fixed!r}?", param, ctx)
        if any(name in (".", "..") for name in path.split("/")):
            fixed = posixpath.normpath(path)
            self.fail(f"{path!r}: '.' and '..' are no names; did you mean {fixed!r}?", param, ctx)
        return path if self._keep_final_slash or path == "/" else path.removesuffix("/")

    def shell_complete(
        self, ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete with the children of the node that was typed so far; with nothing if nobody answers."""
        root = ctx.find_root().params
        endpoints = ctx.params.get("endpoints") or root.get("endpoints") or os.environ.get("COORD_ENDPOINTS")
        parent, _, beginning = incomplete.rpartition("/")
        try:
            with StaleReader((endpoints or DEFAULT_ENDPOINTS).split(","), COMPLETION_TIMEOUT_S) as source:
                names = source.get_children(parent or "/")
        except CoordError:
            return []
        return [CompletionItem(f"{parent}/{name}") for name in names if name.startswith(beginning)]


class Endpoints(click.ParamType[str]):
    """`HOST:PORT,...`, the client addresses of one or more members."""

    name = "endpoints"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        endpoints = [endpoint.strip() for endpoint in str(value).split(",") if endpoint.strip()]
        if not endpoints:
            self.fail(f"name at least one endpoint, such as {DEFAULT_ENDPOINTS}", param, ctx)
        for endpoint in endpoints:
            self._check(endpoint, param, ctx)
        return ",".join(endpoints)

    def _check(self, endpoint: str, param: click.Parameter | None, ctx: click.Context | None) -> None:
        scheme, separator, rest = endpoint.partition("://")
        if separator:
            self.fail(f"{endpoint!r}: leave {scheme}:// out; did you mean {rest.rstrip('/')!r}?", param, ctx)
        host, separator, port = endpoint.rpartition(":")
        if not separator or not host:
            address = f"{endpoint.strip(':') or '127.0.0.1'}:7400"
            self.fail(f"{endpoint!r} is not HOST:PORT; did you mean {address!r}?", param, ctx)
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
            self.fail(f"{endpoint!r}: {port!r} is not a port, a number from 1 to 65535", param, ctx)


class Duration(click.ParamType[float]):
    """A span of time in seconds: `5`, `2.5s`, `500ms`, `10m`, `1h`, `2d`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        match = _DURATION.fullmatch(str(value).strip())
        if not match:
            self.fail(f"{value!r} is no duration; write 5, 2.5s, 500ms, 10m, 1h or 2d", param, ctx)
        seconds = float(match[1]) * _UNIT_S[match[2] or "s"]
        if seconds <= 0:
            self.fail(f"{value!r} must be more than nothing", param, ctx)
        return seconds


def read_value(value: str | None, file: Path | None) -> bytes | None:
    """Return the value that was given as argument, as file, or as `-` on standard input; None if none was."""
    if value is not None and file is not None:
        raise click.UsageError("give the value as an argument or with --file, not both")
    if value == "-" or (file is not None and str(file) == "-"):
        return sys.stdin.buffer.read()
    if file is None:
        # What the shell handed over byte by byte goes on byte by byte, even if it is no valid UTF-8.
        return None if value is None else value.encode("utf-8", "surrogateescape")
    try:
        return file.read_bytes()
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror}") from error

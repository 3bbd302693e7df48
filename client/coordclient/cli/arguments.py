"""What people type: paths, endpoints, durations, values.

Rule of this file: what is wrong is refused before anything is sent, with the words that are right.
"""

from __future__ import annotations

import ipaddress
import os
import posixpath
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from coordclient.cli.service_calls import ask_status
from coordclient.cli.stale_reads import StaleReader
from coordclient.errors import CoordError

DEFAULT_ENDPOINTS: Final = "127.0.0.1:7400"
COMPLETION_TIMEOUT_S: Final = 1.0
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SCOPE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST_LENGTH_MAX: Final = 253
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
        parent, _, beginning = incomplete.rpartition("/")
        try:
            with StaleReader(_endpoints_to_ask(ctx), COMPLETION_TIMEOUT_S) as source:
                names = source.get_children(parent or "/")
        except CoordError:
            return []
        return [CompletionItem(f"{parent}/{name}") for name in names if name.startswith(beginning)]


class Endpoints(click.ParamType[str]):
    """`HOST:PORT,...`, the client addresses of one or more members."""

    name = "endpoints"
    _port = 7400

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
            address = f"{endpoint.strip(':') or '127.0.0.1'}:{self._port}"
            self.fail(f"{endpoint!r} is not HOST:PORT; did you mean {address!r}?", param, ctx)
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
            self.fail(f"{endpoint!r}: {port!r} is not a port, a number from 1 to 65535", param, ctx)


class MemberName(click.ParamType[str]):
    """The name of a member, completed with those that the cluster has."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = str(value)
        if not name or any(character in name for character in "=,: \t\n"):
            self.fail(f"{value!r} is no member's name: no spaces, '=', ',' or ':' in it", param, ctx)
        return name

    def shell_complete(
        self, ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        statuses = ask_status(_endpoints_to_ask(ctx), COMPLETION_TIMEOUT_S)
        replies = [status.reply for status in statuses if status.reply is not None]
        names = sorted({member.name for reply in replies for member in reply.members})
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class PeerAddress(Endpoints):
    """`HOST:PORT`, where members reach a member."""

    name = "address"
    _port = 7401

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        address = str(value).strip()
        self._check(address, param, ctx)
        host = address.rpartition(":")[0]
        if not _is_host(host):
            self.fail(f"{address!r}: {host!r} is neither an IP address nor the name of a host", param, ctx)
        return address


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


class Guard(click.ParamType[tuple[str, int]]):
    """`PATH:CZXID`, the node that must still be there: what a command finds as COORD_GUARD."""

    name = "guard"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        path, _, czxid = str(value).rpartition(":")
        if not path.startswith("/") or not (czxid.isascii() and czxid.isdigit()):
            self.fail(
                f"{value!r} is no guard: PATH:CZXID, as in COORD_GUARD under `coordctl lock`", param, ctx
            )
        return path, int(czxid)


def _is_host(host: str) -> bool:
    """Whether this can be looked up; an IPv6 address is in brackets."""
    if host.startswith("["):
        address, separator, scope = host[1:-1].partition("%")
        has_scope = not separator or _SCOPE.fullmatch(scope) is not None
        return host.endswith("]") and has_scope and _is_one(ipaddress.IPv6Address, address)
    if len(host) > _HOST_LENGTH_MAX:
        return False
    try:
        labels = host.encode("idna").decode("ascii").removesuffix(".").split(".")
    except UnicodeError:
        return False
    if labels[-1].isdigit():
        return _is_one(ipaddress.IPv4Address, host)
    return all(_LABEL.fullmatch(label) for label in labels)


def _is_one(kind: Callable[[str], object], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _endpoints_to_ask(ctx: click.Context) -> list[str]:
    """Return the endpoints that hold for a command line which is still being typed."""
    root = ctx.find_root().params
    endpoints = ctx.params.get("endpoints") or root.get("endpoints") or os.environ.get("COORD_ENDPOINTS")
    return str(endpoints or DEFAULT_ENDPOINTS).split(",")


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

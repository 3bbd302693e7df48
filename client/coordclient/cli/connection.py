"""A client for the length of one command, and better words for a node that is not there.

Rule of this file: the only place of the program that makes clients.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from coordclient import AsyncClient, Client
from coordclient.cli.command import Settings
from coordclient.cli.stale_reads import StaleReader
from coordclient.errors import CoordError, NoNodeError
from coordclient.types import Node, Stat

SESSION_TIMEOUT_S: Final = 10.0
_NAMES_SHOWN: Final = 6


@contextmanager
def connected(
    settings: Settings, session_timeout_s: float = SESSION_TIMEOUT_S, *, name: str = "coordctl"
) -> Iterator[Client]:
    """Connect for the length of a command; a missing node is told with what is there instead.

    Args:
        name: What others see of us, where they look who holds something.

    Raises:
        CoordError: As the SDK does.
    """
    client = Client(
        settings.endpoints,
        session_timeout=session_timeout_s,
        request_timeout=settings.timeout_s,
        connect_timeout=settings.timeout_s,
        name=name,
    )
    with client, _hints(client):
        yield client


def async_client(settings: Settings, endpoints: str, *, name: str) -> AsyncClient:
    """Return a client that is not connected yet, for a command that needs many sessions at a time."""
    return AsyncClient(
        endpoints,
        session_timeout=SESSION_TIMEOUT_S,
        request_timeout=settings.timeout_s,
        connect_timeout=settings.timeout_s,
        name=name,
    )


class Reader(Protocol):
    """What commands that only read need."""

    def get(self, path: str) -> Node: ...  # pragma: no cover
    def exists(self, path: str) -> Stat | None: ...  # pragma: no cover
    def get_children(self, path: str) -> list[str]: ...  # pragma: no cover
    def get_children_nodes(self, path: str) -> list[Node]: ...  # pragma: no cover


@contextmanager
def reader(settings: Settings, *, stale: bool) -> Iterator[Reader]:
    """Read through a session, or `stale` from any member that answers: that works without a leader.

    Raises:
        CoordError: As the SDK does.
    """
    if not stale:
        with connected(settings) as client:
            yield client
        return
    source = StaleReader(settings.endpoints.split(","), settings.timeout_s)
    with source, _hints(source):
        yield source


@contextmanager
def _hints(source: Reader) -> Iterator[None]:
    try:
        yield
    except NoNodeError as error:
        error.message = _with_hint(source, error)
        raise


def _with_hint(source: Reader, error: NoNodeError) -> str:
    """Name the nearest node that exists, and what it has that resembles the missing one."""
    message = f"there is no node {error.path}" if error.path else str(error)
    missing = error.path
    try:
        while missing not in ("", "/"):
            parent, _, name = missing.rpartition("/")
            if source.exists(parent or "/") is not None:
                return f"{message}{_what_is_there(source, parent, name)}"
            missing = parent
    except CoordError:
        return message  # the hint is a courtesy; the error itself stands
    return message


def _what_is_there(source: Reader, parent: str, missing_name: str) -> str:
    names = source.get_children(parent or "/")
    near = difflib.get_close_matches(missing_name, names, n=1)
    if near:
        return f"; did you mean {parent}/{near[0]}?"
    if not names:
        return f"; {parent or '/'} has no children"
    more = f", and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"; {parent or '/'} has {', '.join(names[:_NAMES_SHOWN])}{more}"

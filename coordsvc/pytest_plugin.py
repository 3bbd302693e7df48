"""The pytest plugin: fixtures that give a test a real server, a client of it, or a real cluster.

| fixture | what | ready in |
|---|---|---|
| `coord_server` | a server in this process, with an empty tree: `coordsvc.testing.Server` | 0.1 s |
| `coord_client` | a connected `coordclient.Client` of `coord_server` | |
| `coord_async_client` | the same as a `coordclient.AsyncClient`; needs pytest-asyncio or anyio | |
| `coord_cluster` | three member processes beside the test: `coordsvc.testing.Cluster` | 2 s |

Each test gets servers of its own, so tests cannot disturb each other, also when they run in parallel.

Rule of this file: it is loaded in every run of pytest, so what costs time is imported inside the fixtures.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from coordclient import AsyncClient, Client
    from coordsvc.testing import Cluster, Server


def _async_fixture() -> Callable[[Any], Any]:
    """How the asynchronous fixture is made: by the plugin that will run it."""
    if importlib.util.find_spec("pytest_asyncio") is None:
        return pytest.fixture  # anyio runs asynchronous fixtures that are made like all others.
    import pytest_asyncio

    return pytest_asyncio.fixture


@pytest.fixture
def coord_server() -> Iterator[Server]:
    """A real coordsvc server in this process, of this test alone: `coord_server.endpoints`.

    It can lose connections, requests and replies (`coord_server.link`), expire a session
    (`coord_server.expire_session(client.session_id)`), and be restarted.
    """
    from coordsvc.testing import Server

    with Server() as server:
        yield server


@pytest.fixture
def coord_client(coord_server: Server) -> Iterator[Client]:
    """A connected client of `coord_server`."""
    from coordclient import Client

    with Client(coord_server.endpoints) as client:
        yield client


@_async_fixture()
async def coord_async_client(coord_server: Server) -> AsyncIterator[AsyncClient]:
    """A connected asynchronous client of `coord_server`."""
    from coordclient import AsyncClient

    async with AsyncClient(coord_server.endpoints) as client:
        yield client


@pytest.fixture
def coord_cluster() -> Iterator[Cluster]:
    """Three real member processes beside this test, of this test alone: `coord_cluster.endpoints`.

    Members can be paused, killed, stopped and started (`coord_cluster.leader().kill()`), and what is between
    them and the clients can be cut.
    """
    from coordsvc.testing import Cluster

    with Cluster() as cluster:
        yield cluster

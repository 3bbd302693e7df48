"""Fixtures of the SDK's tests: a fake server, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from coordclient import AsyncClient
from tests.unit.client.fake_server import FakeServer

Connect = Callable[..., Awaitable[AsyncClient]]


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    server = FakeServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def connect(server: FakeServer) -> AsyncIterator[Connect]:
    """Make connected clients; they are closed after the test."""
    async with AsyncExitStack() as stack:

        async def connect_one(**options: float | str) -> AsyncClient:
            client = AsyncClient(server.address, **options)  # type: ignore[arg-type]  # the test's to get right
            return await stack.enter_async_context(client)

        yield connect_one


@pytest.fixture
async def client(connect: Connect) -> AsyncClient:
    return await connect()

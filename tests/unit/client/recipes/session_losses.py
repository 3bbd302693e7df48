"""Losing a session, or only an answer, at the very request that matters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from coordclient import AsyncClient
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import ClientFrame, FakeServer

T = TypeVar("T")


def holds_transaction(frame: ClientFrame) -> bool:
    return any(write.HasField("transaction") for write in frame.writes.writes)


def lose_session(
    server: FakeServer,
    client: AsyncClient,
    *,
    is_applied: bool,
    at: Callable[[ClientFrame], bool] = holds_transaction,
) -> None:
    """The next such frame is the last of its session; nobody tells whether it was applied."""
    session_id = client.session_id

    def strike(frame: ClientFrame) -> None:
        if not at(frame):
            return
        server.on_frame = None
        if is_applied:
            server.drop_after_apply = 1
        else:
            server.drop_before_apply = 1
        asyncio.get_running_loop().call_soon(server.expire, session_id)

    server.on_frame = strike


async def cancelled_after(frames: int, act: Callable[[], Awaitable[T]], server: FakeServer) -> T | None:
    """Run `act`, and cancel it when the server has had so many more frames. None: it was cancelled."""
    task = asyncio.ensure_future(act())
    left = frames

    def count(frame: ClientFrame) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            task.cancel()

    server.on_frame = count
    await asyncio.wait([task])
    server.on_frame = None
    return None if task.cancelled() else task.result()


async def settled(client: AsyncClient) -> None:
    """Return when nothing is under way any more."""
    core = client._core
    assert core is not None
    await eventually(lambda: client.janitor.task_count == 0 and core.pipeline.pending_count == 0)
    await client.sync()

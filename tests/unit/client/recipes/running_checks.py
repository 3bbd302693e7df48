"""Health checks that run in the tests' own rhythm, and servers for them to ask."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from coordclient.recipes.service_checks import CheckResult, PeriodicCheck, Rhythm
from coordclient.recipes.service_health import TtlCheck
from tests.unit.client.eventually import eventually

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Running:
    """A check that runs, and its results. Pauses end when the test says so."""

    def __init__(self, check: PeriodicCheck | TtlCheck, *, dice: float = 0.0) -> None:
        self.results: list[CheckResult] = []
        self.pauses: list[float] = []
        self._next = asyncio.Event()
        self._task = asyncio.create_task(check.run(self.results.append, Rhythm(self._pause, lambda: dice)))

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._next.clear()
        await self._next.wait()

    def go_on(self) -> None:
        self._next.set()

    async def result(self, number: int = 1) -> CheckResult:
        """Return the result of this number, counted from 1."""
        while len(self.results) < number:
            await self._another(len(self.results) + 1)
        return self.results[number - 1]

    async def _another(self, count: int) -> None:
        self.go_on()
        await eventually(lambda: len(self.results) >= count)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def one_result(check: PeriodicCheck) -> CheckResult:
    """Run a check until its first result."""
    running = Running(check)
    result = await running.result()
    await running.close()
    return result


@asynccontextmanager
async def listening(serve: Serve, encrypted: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve TCP connections on a free port."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=encrypted)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def answering(
    answer: bytes, *, then_hang: bool = False, encrypted: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Serve one fixed HTTP answer; yield the port, and the requests as they come."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        if then_hang:
            await asyncio.Event().wait()

    async with listening(serve, encrypted) as port:
        yield port, requests

"""A real server for tests, in the test process: on the running event loop, or on one in a thread of its own.

Rule of this file: nothing of a server outlives its block, and what goes wrong inside comes out of it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from coordsvc.testing.errors import TestServerError
from coordsvc.testing.link import FaultyLink
from coordsvc.testing.link_controls import Link
from coordsvc.testing.members import InProcessMember, quick_config
from coordsvc.testing.ports import HOST, free_ports
from coordsvc.testing.threads import LoopThread

T = TypeVar("T")


class AsyncServer:
    """A single-member cluster in this process, on the event loop that runs.

    It is the real thing: consensus, LevelDB in a temporary directory, gRPC on a free port of 127.0.0.1. It is
    ready within a fraction of a second, and the shortest session timeout is 0.2 s. Use it as
    `async with AsyncServer() as server`, or as `running_server()`. Several may run at once.
    """

    def __init__(self, **settings: Any) -> None:
        """Prepare the server.

        Args:
            settings: Of `coordsvc serve`, by their names in the configuration file; for example
                `history_changes=100` to see what a client does when the history is gone.
        """
        self._settings = settings
        self._directory: Path | None = None
        self._member: InProcessMember | None = None
        self._link: FaultyLink | None = None

    @property
    def link(self) -> FaultyLink:
        """What stands between clients and the server: cut it, hold it, let it lose a reply."""
        if self._link is None:
            raise TestServerError("the server was not started: use it in a `with` statement")
        return self._link

    @property
    def endpoints(self) -> str:
        """What clients connect to: the link in front of the server, which can be cut."""
        return self.link.address

    @property
    def is_running(self) -> bool:
        return self._member is not None and self._member.is_running

    async def __aenter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="coordsvc-test-"))
        client_port, peer_port = free_ports(2)
        link = FaultyLink(f"{HOST}:{client_port}")
        settings = {"advertise_client": link.address} | self._settings
        config = quick_config(self._directory / "data", client_port, peer_port, **settings)
        self._member = InProcessMember(config)
        try:
            await self._member.start()
            try:
                self._link = await link.__aenter__()
            except BaseException:
                await self._member.stop()
                raise
        except BaseException:
            self._remove_directory()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.link.__aexit__(kind, error, trace)
            await self._inside.stop()
        finally:
            self._remove_directory()

    def _remove_directory(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def _inside(self) -> InProcessMember:
        if self._member is None:
            raise TestServerError("the server was not started: use it in a `with` statement")
        return self._member

    async def stop(self) -> None:
        """Stop the server as SIGTERM does. Its data stays: `start` goes on with it."""
        await self._inside.stop()

    async def start(self) -> None:
        """Start a stopped server again, at the same address and with the same data."""
        if not self.is_running:
            await self._inside.start()

    async def restart(self) -> None:
        """Stop and start again: what a client sees when its server is upgraded."""
        await self.stop()
        await self.start()

    async def expire_session(self, session_id: int) -> None:
        """End a session as if it had expired, and return when its ephemeral nodes are gone.

        Raises:
            TestServerError: There is no such session.
        """
        await self._inside.expire_session(session_id)

    def session_ids(self) -> list[int]:
        """Return the sessions that are open, sorted."""
        return sorted(self._inside.member.replica.state.machine.sessions)


@asynccontextmanager
async def running_server(**settings: Any) -> AsyncIterator[AsyncServer]:
    """Run a real server on this event loop for the length of the block. See `AsyncServer`."""
    async with AsyncServer(**settings) as server:
        yield server


class Server:
    """A real server for tests with threads: the same as `AsyncServer`, on an event loop of its own.

    Use it in a `with` statement. Its methods wait and may be called from any thread.
    """

    def __init__(self, **settings: Any) -> None:
        """Prepare the server; `settings` as for `AsyncServer`."""
        self._settings = settings
        self._thread: LoopThread | None = None
        self._server: AsyncServer | None = None

    @property
    def endpoints(self) -> str:
        """What clients connect to: the link in front of the server, which can be cut."""
        return self._inside.endpoints

    @property
    def link(self) -> Link:
        """What stands between clients and the server: cut it, hold it, let it lose a reply."""
        return Link(self._running_thread, self._inside.link)

    @property
    def is_running(self) -> bool:
        return self._server is not None and self._server.is_running

    def __enter__(self) -> Self:
        self._thread = LoopThread("coordsvc test server")
        try:
            self._server = self._thread.run(self._open())
        except BaseException:
            self._end_thread()
            raise
        return self

    async def _open(self) -> AsyncServer:
        return await AsyncServer(**self._settings).__aenter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server = self._inside
        try:
            self._run(server.__aexit__(kind, error, trace))
        finally:
            self._server = None
            self._end_thread()

    def _end_thread(self) -> None:
        thread, self._thread = self._running_thread, None
        thread.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._running_thread.run(work)

    @property
    def _running_thread(self) -> LoopThread:
        if self._thread is None:
            raise TestServerError("the server does not run: use it in a `with` statement")
        return self._thread

    @property
    def _inside(self) -> AsyncServer:
        if self._server is None:
            raise TestServerError("the server does not run: use it in a `with` statement")
        return self._server

    def stop(self) -> None:
        """See `AsyncServer.stop`."""
        self._run(self._inside.stop())

    def start(self) -> None:
        """See `AsyncServer.start`."""
        self._run(self._inside.start())

    def restart(self) -> None:
        """See `AsyncServer.restart`."""
        self._run(self._inside.restart())

    def expire_session(self, session_id: int) -> None:
        """See `AsyncServer.expire_session`."""
        self._run(self._inside.expire_session(session_id))

    def session_ids(self) -> list[int]:
        """Return the sessions that are open, sorted."""
        return self._run(self._session_ids())

    async def _session_ids(self) -> list[int]:
        return self._inside.session_ids()


def start_server(**settings: Any) -> Server:
    """Start a real server in a thread of its own; end it with `stop_server`, or use `Server` in a `with`."""
    return Server(**settings).__enter__()


def stop_server(server: Server) -> None:
    """End a server that `start_server` started, and remove its data."""
    server.__exit__(None, None, None)

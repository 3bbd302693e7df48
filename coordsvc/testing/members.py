"""A whole member in this process, on the event loop that runs: LevelDB, consensus, gRPC.

Rule of this file: it is the same member that `coordsvc serve` runs, put together from the same parts; only
its times are shorter, and it listens on this machine alone.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from coordproto.v1 import coordination_pb2
from coordsvc.api.gateway import ClientHandle
from coordsvc.config import ServerConfig
from coordsvc.server.grpc_server import GrpcServer
from coordsvc.server.member import Member
from coordsvc.server.opening import open_member
from coordsvc.server.status import is_ready
from coordsvc.testing.errors import TestServerError

READY_WITHIN_S = 20.0
_LAST_WORD_S = 0.2
# A lone member has nobody to wait for; what is left of its times is how soon a session can expire.
QUICK_SETTINGS: dict[str, Any] = {
    "tick_ms": 50,
    "heartbeat_ms": 50,
    "election_ms": 250,
    "session_timeout_ms_min": 200,
}


class InProcessMember:
    """One run of a member, from `start` to `stop`. A data directory may see several, one after the other."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._member: Member | None = None
        self._grpc_server: GrpcServer | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def member(self) -> Member:
        """The member, for those that look inside."""
        if self._member is None:
            raise TestServerError("the server does not run; start it again with `await server.start()`")
        return self._member

    @property
    def is_running(self) -> bool:
        return self._member is not None

    async def start(self) -> None:
        """Open the data, and return when the member serves."""
        member = Member(self._config, open_member(self._config))
        self._member = member
        self._grpc_server = GrpcServer(member, self._config.listen)
        await self._grpc_server.start()
        self._running = asyncio.get_running_loop().create_task(member.run(), name="coordsvc test member")
        await self._wait_until_ready(member, self._running)
        await self._grpc_server.set_serving(serving=True)

    async def _wait_until_ready(self, member: Member, running: asyncio.Task[None]) -> None:
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                while not is_ready(member) and not running.done():
                    member.readiness_changed.clear()
                    waiting = asyncio.ensure_future(member.readiness_changed.wait())
                    await asyncio.wait([waiting, running], return_when=asyncio.FIRST_COMPLETED)
                    waiting.cancel()
        except TimeoutError:
            raise TestServerError(f"the server was not ready within {READY_WITHIN_S:g} s") from None
        finally:
            if not is_ready(member):
                await self.stop()

    async def stop(self) -> None:
        """End the member as SIGTERM does: clients are told to go, what is on its way to the disk gets there.

        Raises:
            TestServerError: It had ended by itself before.
        """
        member, grpc_server, running = self._member, self._grpc_server, self._running
        if member is None or grpc_server is None:
            return
        self._member = self._grpc_server = self._running = None
        member.end_session_streams()
        await grpc_server.stop(_LAST_WORD_S)
        failure = None
        if running is not None:
            running.cancel()
            await asyncio.wait([running])
            failure = None if running.cancelled() else running.exception()
        await member.close()
        if failure is not None:
            raise TestServerError(f"the server ended by itself: {first_reason(failure)}") from failure

    async def expire_session(self, session_id: int) -> None:
        """End a session as if it had expired, and return when that is so."""
        member = self.member
        replica = member.replica
        if session_id not in replica.state.machine.sessions:
            raise TestServerError(f"there is no session {session_id:#x}: did it end already?")
        handle = ClientHandle(member, member.feed(replica.open_call))
        try:
            member.feed(replica.expire_session, handle.connection, session_id)
            while items := await handle.receive():
                if any(coordination_pb2.ServerItem.FromString(item).HasField("closed") for item in items):
                    break
        finally:
            handle.close()


def quick_config(data_dir: Path, client_port: int, peer_port: int, **settings: Any) -> ServerConfig:
    """The settings of a member that runs for a test; `settings` are those of `coordsvc serve`."""
    return ServerConfig(
        **QUICK_SETTINGS
        | {
            "name": "test-server",
            "data_dir": data_dir,
            "listen": f"127.0.0.1:{client_port}",
            "peer_listen": f"127.0.0.1:{peer_port}",
        }
        | settings
    )


def first_reason(error: BaseException) -> BaseException:
    """What is at the bottom of nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

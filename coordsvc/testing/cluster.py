"""A cluster of real server processes beside the test, on this machine, each member behind a link of its own.

Rule of this file: no process outlives the block, and a member that crashed fails it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc
import grpc.aio

from coordproto.v1 import coordination_pb2, coordination_pb2_grpc
from coordsvc.testing.errors import TestServerError
from coordsvc.testing.link import Drop, FaultyLink, make_drop
from coordsvc.testing.ports import free_ports
from coordsvc.testing.processes import MemberProcess

READY_WITHIN_S: Final = 30.0
CALL_WITHIN_S: Final = 2.0
LOG_LINES_SHOWN: Final = 20
MEMBERS_MAX: Final = 9
_LOOK_EVERY_S: Final = 0.02
_QUICK_OPTIONS: Final = {
    "tick_ms": 50,
    "heartbeat_ms": 50,
    "election_ms": 400,
    "session_timeout_ms_min": 200,
}

Status = coordination_pb2.StatusResponse


class AsyncMember:
    """One member of a cluster: its process, and the link that clients reach it by."""

    def __init__(self, cluster: AsyncCluster, process: MemberProcess, link: FaultyLink) -> None:
        self.link = link
        self._cluster = cluster
        self._process = process

    def __repr__(self) -> str:
        return repr(self._process)

    @property
    def name(self) -> str:
        return self._process.name

    @property
    def endpoint(self) -> str:
        """Return where clients reach it: its link."""
        return self.link.address

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether there is a process; one that is paused is there."""
        return self._process.is_running

    def log_text(self) -> str:
        """Return everything that its process has printed, over all its runs."""
        return self._process.log_text()

    def pause(self) -> None:
        """Stop the process with SIGSTOP: it is there, keeps its connections, and does nothing."""
        self._process.pause()

    def resume(self) -> None:
        """Let a paused process go on."""
        self._process.resume()

    async def kill(self) -> None:
        """End the process like a crash, with SIGKILL. Its data stays."""
        await self._process.kill()

    async def stop(self) -> None:
        """End the process in good order, as for an upgrade."""
        await self._process.stop()

    async def start(self) -> None:
        """Start it again with its data, and return when it follows a leader, or leads."""
        self._process.start()
        await self._cluster.wait_until_ready(self)

    async def restart(self) -> None:
        """Stop and start again."""
        await self.stop()
        await self.start()


class AsyncCluster:
    """`async with AsyncCluster() as cluster`: three members run, one leads, and all follow it.

    Its times are short: a leader that is gone has a successor after about a second, and the shortest session
    timeout is 0.2 s. Members are named a, b, c, ...
    """

    def __init__(self, members: int = 3, **settings: Any) -> None:
        """Prepare the cluster.

        Args:
            members: How many, 1 to 9.
            settings: Of `coordsvc serve`, for all members, by their names in the configuration file.
        """
        if not 1 <= members <= MEMBERS_MAX:
            raise ValueError(f"a cluster of {members} members cannot be made; choose 1 to {MEMBERS_MAX}")
        self._names = "abcdefghi"[:members]
        self._options = _QUICK_OPTIONS | settings
        self._members: dict[str, AsyncMember] = {}
        self._processes: dict[str, MemberProcess] = {}
        self._stack = AsyncExitStack()

    def __iter__(self) -> Iterator[AsyncMember]:
        return iter(self._members.values())

    def __getitem__(self, name: str) -> AsyncMember:
        return self._members[name]

    @property
    def members(self) -> Mapping[str, AsyncMember]:
        return self._members

    @property
    def endpoints(self) -> str:
        """What clients connect to: the links of all members."""
        return ",".join(member.endpoint for member in self)

    # -----------------------------------------------------------------------------------------
    # Life

    async def __aenter__(self) -> Self:
        directory = Path(tempfile.mkdtemp(prefix="coordsvc-cluster-"))
        self._stack.callback(shutil.rmtree, directory, ignore_errors=True)
        try:
            await self._start(directory)
        except BaseException:
            self._end_processes()
            await self._stack.aclose()
            raise
        return self

    async def _start(self, directory: Path) -> None:
        for name in self._names:
            self._processes[name] = MemberProcess(name, free_ports(3), directory)
        peers = ",".join(f"{name}={process.peer_address}" for name, process in self._processes.items())
        for name, process in self._processes.items():
            link = await self._stack.enter_async_context(FaultyLink(process.endpoint))
            self._members[name] = AsyncMember(self, process, link)
            settings = self._options | {"advertise_client": link.address, "initial_cluster": peers}
            process.options = tuple(
                text
                for setting, value in settings.items()
                for text in ("--" + setting.replace("_", "-"), str(value))
            )
            process.start()
        await self._wait(
            "all members follow one leader", lambda: self._is_led(len(self._members)), READY_WITHIN_S
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        crashed = self._crashed()
        self._end_processes()
        await self._stack.aclose()
        if crashed and error is None:
            raise TestServerError(crashed)

    def _crashed(self) -> str:
        """Say which member ended by itself, and what it said last."""
        for process in self._processes.values():
            if not process.is_running and not process.exit_expected:
                last = "\n".join(process.log_text().splitlines()[-LOG_LINES_SHOWN:])
                return f"member {process.name} ended by itself; its last lines:\n{last}"
        return ""

    def _end_processes(self) -> None:
        for process in self._processes.values():
            process.end()

    # -----------------------------------------------------------------------------------------
    # What the members say

    async def leader(self) -> AsyncMember:
        """Wait until a majority follows one leader, and return it."""

        async def look() -> bool:
            return await self._is_led(len(self._members) // 2 + 1)

        await self._wait("a majority follows one leader", look, READY_WITHIN_S)
        return self._members[leader_among(await self.statuses(), 1)]

    async def followers(self) -> list[AsyncMember]:
        """Return the members that do not lead."""
        leader = await self.leader()
        return [member for member in self if member is not leader]

    async def expire_session(self, session_id: int) -> None:
        """End a session as if it had expired, and return when its ephemeral nodes are gone.

        Raises:
            TestServerError: There is no such session.
        """
        leader = await self.leader()
        request = coordination_pb2.ExpireSessionRequest(session_id=session_id)
        async with self._cluster_service(leader) as stub:
            answer = await stub.ExpireSession(request, timeout=READY_WITHIN_S)
        if not answer.existed:
            raise TestServerError(f"there is no session {session_id:#x}: did it end already?")

    def cut(self) -> None:
        """Break the connections of all clients. They may connect again at once."""
        for member in self:
            member.link.cut()

    def drop_next_reply(self, *kinds: str) -> Drop:
        """Lose the answer to the next request, whichever member it goes to. See `FaultyLink`."""
        return self._arm_all(make_drop(kinds, loses_reply=True))

    def drop_next_request(self, *kinds: str) -> Drop:
        """Lose the next request, whichever member it goes to. See `FaultyLink`."""
        return self._arm_all(make_drop(kinds, loses_reply=False))

    def _arm_all(self, drop: Drop) -> Drop:
        for member in self:
            member.link.arm(drop)
        return drop

    async def wait_until_ready(self, member: AsyncMember) -> None:
        """Wait until this member follows a leader, or leads, and has caught up."""

        async def look() -> bool:
            statuses = await self.statuses()
            newest = max((status.commit_index for status in statuses), default=0)
            own = next((status for status in statuses if status.member == member.name), None)
            return own is not None and bool(own.leader) and own.applied_index >= newest

        await self._wait(f"member {member.name} is ready", look, READY_WITHIN_S)

    async def statuses(self) -> list[Status]:
        """Return what the members say of themselves, of those that answer."""
        answers = await asyncio.gather(*(self._status(member) for member in self if member.is_running))
        return [answer for answer in answers if answer is not None]

    async def _status(self, member: AsyncMember) -> Status | None:
        async with self._cluster_service(member) as stub:
            try:
                return await stub.Status(coordination_pb2.StatusRequest(), timeout=CALL_WITHIN_S)
            except grpc.aio.AioRpcError:
                return None

    def _cluster_service(self, member: AsyncMember) -> _ClusterService:
        """Talk to a member past its link, which may be cut."""
        return _ClusterService(self._processes[member.name].endpoint)

    async def _is_led(self, followers: int) -> bool:
        return bool(leader_among(await self.statuses(), followers))

    async def _wait(self, what: str, look: Callable[[], Awaitable[bool]], within_s: float) -> None:
        give_up_at_s = time.monotonic() + within_s
        while not await look():
            if crashed := self._crashed():
                raise TestServerError(crashed)
            if time.monotonic() > give_up_at_s:
                raise TestServerError(f"not within {within_s:g} s: {what}")
            await asyncio.sleep(_LOOK_EVERY_S)


class _ClusterService:
    """`async with _ClusterService(endpoint) as stub`: a channel for one question."""

    def __init__(self, endpoint: str) -> None:
        self._channel = grpc.aio.insecure_channel(endpoint, options=(("grpc.enable_http_proxy", 0),))

    async def __aenter__(self) -> coordination_pb2_grpc.ClusterAsyncStub:
        stub: coordination_pb2_grpc.ClusterAsyncStub = coordination_pb2_grpc.ClusterStub(self._channel)
        return stub

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()


def leader_among(statuses: list[Status], followers: int) -> str:
    """Return who leads, and is followed in its term by so many members, itself included; or nobody."""
    for leading in statuses:
        following = [
            status for status in statuses if (status.leader, status.term) == (leading.member, leading.term)
        ]
        if leading.role == "leader" and len(following) >= followers:
            return leading.member
    return ""

"""A cluster of real server processes for a test, and a look at what they say.

Rule of this file: no process outlives the test, and one that crashed fails it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import urlopen

import grpc
import grpc.aio

from coordproto.v1 import coordination_pb2, coordination_pb2_grpc
from coordsvc.testing.ports import free_ports
from coordsvc.testing.processes import STOP_WITHIN_S, MemberProcess
from tests.processes.conditions import eventually

__all__ = ["ClusterProcesses", "MemberProcess", "free_ports"]

LOG_LINES_SHOWN = 60
# gRPC prints this by itself when a process ends in the very moment in which a call begins.
CANCELLED_IN_GRPC = re.compile(
    r'Traceback \(most recent call last\):\n  File "src/python/grpcio/[^\n]*_schedule_rpc_coro\n'
    r"asyncio\.exceptions\.CancelledError\n"
)
CALL_WITHIN_S = 2.0
BLOCK_WITHIN_S = 120.0

Status = coordination_pb2.StatusResponse


def logged_a_traceback(member: MemberProcess) -> bool:
    """Whether there is one in the member's log that is not gRPC's own."""
    return "Traceback" in CANCELLED_IN_GRPC.sub("", member.log_text())


class ClusterProcesses:
    """`async with ClusterProcesses(tmp_path) as cluster`: members a, b, c run, and one leads.

    `options` go to every member; one that was started before is left as it is. At the end a member that
    ended without having been asked to, or that logged a traceback, fails the test. A block that hangs ends
    with TimeoutError, so that the logs are shown.
    """

    def __init__(
        self, directory: Path, *options: str, members: int = 3, peer_addresses: Sequence[str] = ()
    ) -> None:
        ports = free_ports(3 * members)
        names = "abcdefghi"[:members]
        self.members = {
            name: MemberProcess(name, ports[3 * number : 3 * number + 3], directory)
            for number, name in enumerate(names)
        }
        for member in self.members.values():
            member.options = options
        addresses = list(peer_addresses) or [member.peer_address for member in self]
        self.initial_cluster = ",".join(
            f"{name}={address}" for name, address in zip(names, addresses, strict=True)
        )
        self.former: list[MemberProcess] = []
        self._directory = directory
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._bound = asyncio.timeout(None)

    def __iter__(self) -> Iterator[MemberProcess]:
        return iter(self.members.values())

    def __getitem__(self, name: str) -> MemberProcess:
        return self.members[name]

    @property
    def endpoints(self) -> str:
        return ",".join(member.endpoint for member in self)

    # -----------------------------------------------------------------------------------------
    # Life

    async def __aenter__(self) -> Self:
        try:
            self.start(*(member for member in self if not member.is_running))
            await self.wait_until_leader()
        except BaseException:
            self._end(show_logs=True)
            raise
        await self._bound.__aenter__()
        self._bound.reschedule(asyncio.get_running_loop().time() + BLOCK_WITHIN_S)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._check_nobody_crashed()
        except AssertionError as crashed:
            error = crashed
            raise
        finally:
            self._end(show_logs=error is not None)
            for channel in self._channels.values():
                await channel.close()
            await self._bound.__aexit__(kind, error, trace)

    def _check_nobody_crashed(self) -> None:
        for member in (*self, *self.former):
            assert member.is_running or member.exit_expected, f"member {member.name} ended by itself"
            assert not logged_a_traceback(member), f"member {member.name} logged a traceback"

    def _end(self, *, show_logs: bool) -> None:
        for member in (*self.former, *self):
            member.end()
            if show_logs:
                lines = member.log_text().splitlines()
                print(f"\n--- last lines of member {member.name} ({len(lines)} in all)")
                print("\n".join(lines[-LOG_LINES_SHOWN:]))

    def start(self, *members: MemberProcess) -> None:
        for member in members:
            member.start(self.initial_cluster)

    def start_joining(self, name: str, *options: str) -> MemberProcess:
        """Start a further member, which is told of the running ones and nothing else."""
        running = ",".join(member.endpoint for member in self if member.is_running)
        member = self.members[name] = MemberProcess(name, free_ports(3), self._directory)
        member.options = ("--join", running, *options)
        member.start()
        return member

    def retire(self, member: MemberProcess) -> None:
        """A member has left the cluster: what is said of all members no longer includes it."""
        del self.members[member.name]
        self.former.append(member)

    # -----------------------------------------------------------------------------------------
    # What the members say

    def channel(self, member: MemberProcess) -> grpc.aio.Channel:
        """A channel that lives as long as the cluster."""
        if member.name not in self._channels:
            options = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200))
            self._channels[member.name] = grpc.aio.insecure_channel(member.endpoint, options=options)
        return self._channels[member.name]

    def coordination(self, member: MemberProcess) -> coordination_pb2_grpc.CoordinationAsyncStub:
        return coordination_pb2_grpc.CoordinationStub(self.channel(member))

    async def status(self, member: MemberProcess) -> Status | None:
        """What the member says of itself; None if it does not answer."""
        if not member.is_running:
            return None
        stub: coordination_pb2_grpc.ClusterAsyncStub = coordination_pb2_grpc.ClusterStub(self.channel(member))
        try:
            return await stub.Status(coordination_pb2.StatusRequest(), timeout=CALL_WITHIN_S)
        except grpc.aio.AioRpcError:
            return None

    async def statuses(self) -> list[Status]:
        answers = await asyncio.gather(*(self.status(member) for member in self))
        return [status for status in answers if status is not None]

    async def wait_until_leader(self, within_s: float = 15.0) -> MemberProcess:
        """Wait until a majority of the members follow one leader; return it."""
        majority = len(self.members) // 2 + 1

        async def look() -> str:
            statuses = await self.statuses()
            for leading in statuses:
                followers = [
                    status
                    for status in statuses
                    if status.leader == leading.member and status.term == leading.term
                ]
                if leading.role == "leader" and len(followers) >= majority:
                    return leading.member
            return ""

        return self[await eventually("a leader that a majority follows", look, within_s=within_s)]

    async def transfer_leadership(self, leader: MemberProcess, target: str) -> None:
        stub: coordination_pb2_grpc.ClusterAsyncStub = coordination_pb2_grpc.ClusterStub(self.channel(leader))
        await stub.TransferLeadership(
            coordination_pb2.TransferLeadershipRequest(member=target), timeout=STOP_WITHIN_S
        )

    async def followers(self) -> list[MemberProcess]:
        leader = await self.wait_until_leader()
        return [member for member in self if member is not leader]

    async def wait_until_ready(self, member: MemberProcess, within_s: float = 20.0) -> None:
        """Wait until this member follows (or leads) and has applied what was committed when it came."""

        async def look() -> bool:
            statuses = await self.statuses()
            newest = max((status.commit_index for status in statuses), default=0)
            own = next((status for status in statuses if status.member == member.name), None)
            return own is not None and bool(own.leader) and own.applied_index >= newest - 100

        await eventually(f"member {member.name} is back", look, within_s=within_s)

    async def wait_until_equal(self, within_s: float = 20.0) -> Status:
        """Wait until all members run, have applied the same, and hold the same tree."""

        async def look() -> list[Status]:
            return await self.statuses()

        def equal(statuses: list[Status]) -> bool:
            states = {(status.applied_index, status.zxid, status.digest) for status in statuses}
            return len(statuses) == len(self.members) and len(states) == 1

        return (await eventually("all members hold the same", look, within_s=within_s, until=equal))[0]

    async def wait_for_log(self, member: MemberProcess, text: str, within_s: float = 15.0) -> None:
        async def look() -> bool:
            return text in member.log_text()

        await eventually(f"{text!r} in the log of member {member.name}", look, within_s=within_s)

    async def metric(self, member: MemberProcess, name: str) -> float:
        """Read one of the member's Prometheus metrics."""
        url = f"http://{member.admin_address}/metrics"

        def get() -> str:
            with urlopen(url, timeout=CALL_WITHIN_S) as answer:
                text: str = answer.read().decode()
            return text

        text = await asyncio.to_thread(get)
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert found, f"there is a metric {name}"
        return float(found[1])

"""Three members for the demonstration, on ports that are free.

Rule of this file: they are ordinary servers, started as a user would start them.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import grpc

from coordproto.v1 import coordination_pb2, coordination_pb2_grpc
from examples.demo.processes import DemoFailedError, Stage

MEMBERS = ("member-1", "member-2", "member-3")


class Cluster:
    """Starts the members, and knows who leads."""

    def __init__(self, stage: Stage, directory: Path) -> None:
        self._stage = stage
        self._directory = directory
        ports = iter(free_ports(3 * len(MEMBERS)))
        self._clients = {name: f"127.0.0.1:{next(ports)}" for name in MEMBERS}
        self._peers = {name: f"127.0.0.1:{next(ports)}" for name in MEMBERS}
        self._admins = {name: f"127.0.0.1:{next(ports)}" for name in MEMBERS}

    @property
    def endpoints(self) -> str:
        return ",".join(self._clients.values())

    async def start(self) -> None:
        initial_cluster = ",".join(f"{name}={address}" for name, address in self._peers.items())
        for name in MEMBERS:
            await self._stage.start(
                name,
                *("-m", "coordsvc", "serve", "--name", name, "--data-dir", str(self._directory / name)),
                *("--listen", self._clients[name], "--peer-listen", self._peers[name]),
                *("--admin-listen", self._admins[name], "--initial-cluster", initial_cluster),
            )

    async def leader(self) -> tuple[str, int]:
        """Return name and term of the member that leads; wait until one does."""
        try:
            async with asyncio.timeout(15):
                while True:
                    statuses = [await self._status(name) for name in MEMBERS]
                    led = [status for status in statuses if status is not None and status.role == "leader"]
                    if led:
                        newest = max(led, key=lambda status: status.term)
                        return newest.member, newest.term
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise DemoFailedError("the cluster found no leader") from None

    async def wait_until_caught_up(self, name: str) -> None:
        """Wait until a member that was started again has applied all that its leader has."""
        try:
            async with asyncio.timeout(15):
                leader, _ = await self.leader()
                target = await self._status(leader)
                while target is not None:
                    status = await self._status(name)
                    if status is not None and status.leader and status.applied_index >= target.applied_index:
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise DemoFailedError(f"{name} did not catch up") from None

    async def _status(self, name: str) -> coordination_pb2.StatusResponse | None:
        async with grpc.aio.insecure_channel(self._clients[name]) as channel:
            stub = coordination_pb2_grpc.ClusterStub(channel)
            try:
                return await stub.Status(coordination_pb2.StatusRequest(), timeout=1)
            except grpc.aio.AioRpcError:
                return None


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()

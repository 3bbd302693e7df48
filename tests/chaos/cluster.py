"""A cluster whose members reach each other, and are reached by clients, through faulty gates only.

Rule of this file: the test itself looks at the members directly, past the gates, so that what it sees of a
fault is never the fault's own doing.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.chaos.clock_shim import JumpingClock
from tests.chaos.links import Gate, Link, greeted_from
from tests.crashes.failing_disk import FailingDisk
from tests.processes.cluster import ClusterProcesses, MemberProcess
from tests.processes.ports import HOST, free_ports

MEMBER_OPTIONS = (
    "--log-trim-entries=400",  # so that a member that was away needs a snapshot
    "--log-keep-entries=100",
    "--history-changes=50000000",  # the judges read all of it
    "--history-bytes=4000000000",
)
SETTLE_S = 300.0  # what start, healing and judging may take, besides the faults


class GatedCluster(ClusterProcesses):
    """`async with GatedCluster(directory, members=5, seconds=600) as cluster`.

    Attributes:
        clocks, disks: By member: the wall clock that can jump, and the disk that can fail.
    """

    def __init__(self, directory: Path, *, members: int, seconds: float) -> None:
        self._gate_ports = {name: free_ports(2) for name in "abcdefghi"[:members]}
        addresses = [f"{HOST}:{ports[0]}" for ports in self._gate_ports.values()]
        super().__init__(directory, members=members, peer_addresses=addresses)
        self.directory = directory
        self.clocks: dict[str, JumpingClock] = {}
        self.disks: dict[str, FailingDisk] = {}
        self.removed: list[MemberProcess] = []
        self._seconds = seconds
        self._first_names = tuple(self.members)
        self._joined = 0
        self._links: dict[tuple[str, str], Link] = {}
        self._client_links: dict[str, Link] = {}
        self._gates: dict[str, tuple[Gate, Gate]] = {}
        self._stack = AsyncExitStack()
        for member in self:
            self._equip(member)

    def _equip(self, member: MemberProcess) -> None:
        """Give a member its addresses, its clock and its disk."""
        peer_port, client_port = self._gate_ports[member.name]
        member.options = (*MEMBER_OPTIONS, f"--advertise-client={HOST}:{client_port}")
        faults = self.directory / f"{member.name}-faults"
        disk = self.disks[member.name] = FailingDisk(faults, member.data_dir)
        clock = self.clocks[member.name] = JumpingClock(faults)
        preloaded = f"{disk.environment['LD_PRELOAD']}:{clock.environment['LD_PRELOAD']}"
        member.environment = disk.environment | clock.environment | {"LD_PRELOAD": preloaded}
        client_link = self._client_links[member.name] = Link("clients", member.name)

        def link_from_peer(first_bytes: bytes) -> Link | None:
            source = greeted_from(first_bytes)
            return None if source is None else self.link(source, member.name)

        self._gates[member.name] = (
            Gate(member.peer_address, peer_port, link_from_peer),
            Gate(member.endpoint, client_port, lambda _: client_link),
        )

    async def __aenter__(self) -> Self:
        for gates in self._gates.values():
            for gate in gates:
                await self._stack.enter_async_context(gate)
        try:
            await super().__aenter__()
        except BaseException:
            await self._stack.aclose()
            raise
        self._bound.reschedule(asyncio.get_running_loop().time() + self._seconds + SETTLE_S)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            for member in self.removed:
                member.end()
            await self._stack.aclose()

    # -----------------------------------------------------------------------------------------
    # Links

    @property
    def public_endpoints(self) -> str:
        """Where clients reach the members: the gates in front of them."""
        return ",".join(self._gates[name][1].address for name in self.members)

    def link(self, source: str, target: str) -> Link:
        """Return the link by which `source` sends to `target`."""
        return self._links.setdefault((source, target), Link(source, target))

    def client_link(self, member: str) -> Link:
        return self._client_links[member]

    @property
    def all_links(self) -> list[Link]:
        return [*self._links.values(), *self._client_links.values()]

    @property
    def bytes_passed(self) -> int:
        return sum(gate.bytes_passed for gates in self._gates.values() for gate in gates)

    def heal_links(self) -> None:
        for link in self.all_links:
            link.heal()

    # -----------------------------------------------------------------------------------------
    # Members

    def disk_failures(self, member: MemberProcess) -> int:
        """Return how often the member's disk has failed so far."""
        log = self.directory / f"{member.name}-faults" / "log"
        return log.read_bytes().count(b"failed ") if log.exists() else 0

    def restart(self, *members: MemberProcess) -> None:
        """Start members that have ended, on a disk that does not fail any more."""
        for member in members:
            self.disks[member.name].heal()
        self.start(*members)

    async def new_member(self) -> MemberProcess:
        """Make a server that can join; it is not started, and no member yet."""
        self._joined += 1
        name = f"j{self._joined}"
        ports = free_ports(5)
        member = MemberProcess(name, ports[:3], self.directory)
        self._gate_ports[name] = ports[3:]
        self._equip(member)
        for gate in self._gates[name]:
            await self._stack.enter_async_context(gate)
        member.options += (f"--advertise-peer={HOST}:{ports[3]}", f"--join={self.endpoints}")
        return member

    def start_joiner(self, member: MemberProcess) -> None:
        """Start a server that asks the others to take it in."""
        self.members[member.name] = member
        self.start(member)

    def start(self, *members: MemberProcess) -> None:
        """Start members; those that came later are told of the others by `--join` alone."""
        for member in members:
            is_first = member.name in self._first_names
            member.start(self.initial_cluster if is_first else "")

    def forget(self, member: MemberProcess) -> None:
        """This one is no member any more."""
        del self.members[member.name]
        self.removed.append(member)


def file_system_of(directory: Path) -> str:
    """Return the type of the file system that holds a directory, such as ext4."""
    best, found = "", "unknown"
    real = os.path.realpath(directory)
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, mount_point, kind, *_ = line.split()
        is_above = mount_point == "/" or real == mount_point or real.startswith(mount_point + "/")
        if is_above and len(mount_point) >= len(best):
            best, found = mount_point, kind
    return found

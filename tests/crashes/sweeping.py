"""Lets a member die at a failpoint, or in a call to its disk, while clients go on, and brings it back.

Rule of this file: a crash that did not happen fails the test: every case must reach its point.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from coordclient import AsyncClient
from coordsvc.storage.failpoints import VARIABLE
from tests.crashes.failing_disk import FailingDisk
from tests.crashes.remains import Remains, check_that_they_agree, read_remains
from tests.processes.cluster import ClusterProcesses, MemberProcess
from tests.processes.ports import free_ports
from tests.processes.workload import CountingClients, stored_counts

TRIMMING_SOON = ("--log-trim-entries", "20", "--log-keep-entries", "5")
REQUEST_TIMEOUT_S = 60.0
DIES_WITHIN_S = 60.0
SESSION_TIMEOUT_S = 300.0  # outlives every crash, also on a slow machine


class SweptCluster:
    """A cluster whose members can be made to die at failpoints, with or without a loss of power."""

    def __init__(self, directory: Path, members: int) -> None:
        self.processes = ClusterProcesses(directory, *TRIMMING_SOON, members=members)
        self.crashes: list[str] = []
        self._disks: dict[str, FailingDisk] = {}
        self._directory = directory
        for member in self.processes:
            self._give_disk(member)

    def _give_disk(self, member: MemberProcess) -> None:
        disk = FailingDisk(self._directory / f"disk-{member.name}", member.data_dir)
        self._disks[member.name] = disk
        member.environment |= disk.environment

    def add_joiner(self, name: str) -> MemberProcess:
        """A server that is to join, and is not started yet."""
        running = ",".join(member.endpoint for member in self.processes)
        joiner = self.processes.members[name] = MemberProcess(name, free_ports(3), self._directory)
        joiner.options = ("--join", running)
        self._give_disk(joiner)
        return joiner

    def start(self, member: MemberProcess) -> None:
        if "--join" in member.options:
            member.start()
        else:
            self.processes.start(member)

    async def crash(self, member: MemberProcess, point: str, *, power_lost: bool) -> None:
        """Start the member, and wait until it has died at `point` (`NAME` or `NAME@COUNT`)."""
        member.environment[VARIABLE] = point
        self.start(member)
        await self.wait_for_crash(member, power_lost=power_lost)

    async def wait_for_crash(self, member: MemberProcess, *, power_lost: bool) -> None:
        armed = member.environment.pop(VARIABLE)
        try:
            code = await member.exit_code(within_s=DIES_WITHIN_S)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{member} never came to {armed}") from error
        assert code == -signal.SIGKILL, f"{member} ended with {code} before {armed}"
        assert f"failpoint {armed.partition('@')[0]} reached" in member.log_text().splitlines()[-1]
        if power_lost:
            self._disks[member.name].lose_unsynced()
        self.crashes.append(f"{member.name}: {armed}")

    async def crash_in_call(self, member: MemberProcess, call: str, nth: int, *, power_lost: bool) -> None:
        """Wait until its disk has killed the member, which is started now if it does not run.

        `write`: half of the n-th write from now on is done. `sync`: all is written, and the n-th sync from
        now on is not done.
        """
        disk = self._disks[member.name]
        deaths = disk.failures
        if call == "write":
            disk.kill_in_write(after=nth - 1)
        else:
            disk.kill_before_sync(after=nth - 1)
        if not member.is_running:
            self.start(member)
        try:
            code = await member.exit_code(within_s=DIES_WITHIN_S)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{member} never came to {call} number {nth}") from error
        disk.heal()
        assert code == -signal.SIGKILL, f"{member} ended with {code} before {call} number {nth}"
        assert disk.failures == deaths + 1, f"{member} was killed by its disk"
        if power_lost:
            disk.lose_unsynced()
        self.crashes.append(f"{member.name}: {call} {nth}")

    async def stop_and_compare(self) -> list[Remains]:
        """Stop everybody in good order; what they leave behind must agree."""
        status = await self.processes.wait_until_equal()
        for member in self.processes:
            await member.stop()
        remains = [read_remains(member.data_dir, status.cluster_id, member.name) for member in self.processes]
        check_that_they_agree(remains)
        return remains


@asynccontextmanager
async def load(swept: SweptCluster) -> AsyncIterator[CountingClients]:
    """Counting clients, and sessions with ephemerals that end, until the end of the block.

    Afterwards every acknowledged write is there, once, and no ephemeral outlives its session: only a
    session whose last word a crash cut off is still there.
    """
    cluster = swept.processes
    async with AsyncClient(cluster.endpoints, request_timeout=REQUEST_TIMEOUT_S) as client:
        await client.ensure_path("/ephemerals")
    enough = asyncio.Event()
    async with CountingClients(
        cluster.endpoints, request_timeout=REQUEST_TIMEOUT_S, session_timeout=SESSION_TIMEOUT_S
    ) as clients:
        opening = asyncio.create_task(_open_and_close_sessions(cluster.endpoints, enough))
        try:
            yield clients
        finally:
            enough.set()
            await opening
    async with AsyncClient(
        cluster.endpoints, connect_timeout=REQUEST_TIMEOUT_S, request_timeout=REQUEST_TIMEOUT_S
    ) as client:
        assert await stored_counts(client, list(clients.acknowledged)) == clients.acknowledged
        assert len(await client.get_children("/ephemerals")) <= len(swept.crashes)


async def _open_and_close_sessions(endpoints: str, enough: asyncio.Event) -> None:
    while not enough.is_set():
        async with AsyncClient(
            endpoints,
            connect_timeout=REQUEST_TIMEOUT_S,
            request_timeout=REQUEST_TIMEOUT_S,
            session_timeout=SESSION_TIMEOUT_S,
        ) as client:
            await client.create("/ephemerals/node-", ephemeral=True, sequential=True)

"""An operator of a cluster of real processes: types `coordctl` commands and starts servers.

Rule of this file: whatever `coordctl` can do is done with it, as a program of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

from tests.processes.cluster import ClusterProcesses, MemberProcess

REMOVED = "stops: it was removed from the cluster; its data directory is of no use any more"


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, and how it ended."""

    exit_code: int
    stdout: str
    stderr: str


class Operator:
    def __init__(self, cluster: ClusterProcesses) -> None:
        self._cluster = cluster

    async def coordctl(self, *arguments: str, at: MemberProcess | None = None) -> Said:
        """Run a command; it is told of one member only, and has to find the others."""
        member = at or next(member for member in self._cluster if member.is_running)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "coordclient.cli",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "COORD_ENDPOINTS": member.endpoint},
        )
        try:
            stdout, stderr = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        return Said(process.returncode, stdout.decode(), stderr.decode())

    async def done(self, *arguments: str, at: MemberProcess | None = None) -> str:
        """Run a command that must succeed; return what it printed."""
        said = await self.coordctl(*arguments, at=at)
        assert said.exit_code == 0, f"coordctl {' '.join(arguments)}: {said}"
        return said.stdout

    async def members(self) -> dict[str, dict[str, Any]]:
        """The members by name, as the leader sees them."""
        data = json.loads(await self.done("member", "list", "-o", "json"))
        return {found["member"]: found for found in data["members"]}

    # -----------------------------------------------------------------------------------------
    # Changes

    async def join(self, name: str) -> MemberProcess:
        """Start a server that joins as a learner; return once it has caught up."""
        member = self._cluster.start_joining(name)
        await self._cluster.wait_until_ready(member)
        return member

    async def add_voter(self, name: str) -> MemberProcess:
        member = await self.join(name)
        await self.done("member", "promote", name)
        return member

    async def replace(self, old: MemberProcess, name: str) -> MemberProcess:
        """A new member takes the place of a running one, which stops by itself."""
        member = await self.join(name)
        old.exit_expected = True
        await self.done("member", "replace", old.name, name)
        await self.see_off(old)
        return member

    async def remove(self, member: MemberProcess) -> None:
        member.exit_expected = True
        at = next(other for other in self._cluster if other is not member and other.is_running)
        await self.done("member", "remove", member.name, at=at)
        await self.see_off(member)

    async def see_off(self, member: MemberProcess) -> None:
        """A member that was removed stops by itself, and says why."""
        code = await member.exit_code()
        assert (code, REMOVED in member.log_text()) == (0, True), f"{member}: exit code {code}"
        self._cluster.retire(member)

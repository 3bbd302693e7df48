"""A cluster of server processes on this machine, with one process that starts, watches and stops them.

Rule of this file: the members are ordinary `coordsvc serve` processes. One that dies is reported and left
dead, the rest go on; when this process ends, in whatever way, all end.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from coordproto.v1 import coordination_pb2, coordination_pb2_grpc
from coordsvc.config import ENVIRONMENT_PREFIX

PORTS_PER_MEMBER: Final = 10
_HOST: Final = "127.0.0.1"
_STATUS_INTERVAL_S: Final = 0.5
_STATUS_TIMEOUT_S: Final = 1.0
_STOP_TIMEOUT_S: Final = 10.0
_LAST_LINES: Final = 8


@dataclass(frozen=True, slots=True)
class LocalMember:
    """One member's place: its name, its ports (client, then peer and admin) and its files."""

    name: str
    client_port: int
    cluster_dir: Path

    @property
    def client_address(self) -> str:
        return f"{_HOST}:{self.client_port}"

    @property
    def peer_address(self) -> str:
        return f"{_HOST}:{self.client_port + 1}"

    @property
    def admin_address(self) -> str:
        return f"{_HOST}:{self.client_port + 2}"

    @property
    def log_file(self) -> Path:
        return self.cluster_dir / f"{self.name}.log"

    @property
    def config_file(self) -> Path:
        return self.cluster_dir / f"{self.name}.toml"


def plan_members(count: int, base_port: int, cluster_dir: Path) -> tuple[LocalMember, ...]:
    """Name the members and give each its ports and files below `cluster_dir`."""
    return tuple(
        LocalMember(f"member-{number}", base_port + PORTS_PER_MEMBER * (number - 1), cluster_dir.absolute())
        for number in range(1, count + 1)
    )


def config_text(member: LocalMember, members: tuple[LocalMember, ...]) -> str:
    """The member's settings as TOML: enough to start it again by hand with `coordsvc serve --config`."""
    settings = {
        "name": member.name,
        "data_dir": str(member.cluster_dir / member.name),
        "listen": member.client_address,
        "peer_listen": member.peer_address,
        "admin_listen": member.admin_address,
        "initial_cluster": ",".join(f"{other.name}={other.peer_address}" for other in members),
    }
    # A JSON string is a TOML basic string.
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())


class LocalCluster:
    """Runs the members until it is asked to stop, or until none is left."""

    def __init__(
        self,
        members: tuple[LocalMember, ...],
        serve_options: tuple[str, ...],
        announce: Callable[[str], None],
    ) -> None:
        self._members = members
        self._serve_options = serve_options
        self._announce = announce
        self._processes: dict[LocalMember, asyncio.subprocess.Process] = {}
        self._asked_to_stop = asyncio.Event()

    async def run(self) -> int:
        """Run the cluster until SIGINT, SIGTERM, or the end of its last member.

        Returns:
            0 if it was asked to stop, 1 if its members ended by themselves.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked_to_stop.set)
        try:
            for member in self._members:
                await self._start(member)
            self._announce(self._start_lines())
            async with asyncio.TaskGroup() as tasks:
                lives = [
                    tasks.create_task(self._watch_over(member), name=f"watch-over-{member.name}")
                    for member in self._members
                ]
                others = (
                    tasks.create_task(self._announce_leaders(), name="announce-leaders"),
                    tasks.create_task(self._stop_when_asked(), name="stop-when-asked"),
                )
                await asyncio.wait(lives)
                for task in others:
                    task.cancel()
        finally:
            for member in self._running():
                self._processes[member].kill()
        return 0 if self._asked_to_stop.is_set() else 1

    def _running(self) -> list[LocalMember]:
        return [member for member, process in self._processes.items() if process.returncode is None]

    async def _start(self, member: LocalMember) -> None:
        member.config_file.write_text(config_text(member, self._members), encoding="utf-8")
        command = (
            sys.executable,
            "-m",
            "coordsvc",
            "serve",
            "--config",
            str(member.config_file),
            "--stop-at-eof",
        )
        with member.log_file.open("wb") as log:
            self._processes[member] = await asyncio.create_subprocess_exec(
                *command,
                *self._serve_options,
                stdin=asyncio.subprocess.PIPE,  # it ends when we do, and then the member stops
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us alone; the members are stopped in good order
                env=_environment(),
            )

    def _start_lines(self) -> str:
        width = max(len(member.name) for member in self._members)
        lines = [f"{len(self._members)} members, data and logs in {self._members[0].cluster_dir}"]
        lines += [
            f"  {member.name:{width}}  clients {member.client_address}  pid {process.pid}"
            for member, process in self._processes.items()
        ]
        endpoints = ",".join(member.client_address for member in self._members)
        lines += [f"  try: coordctl --endpoints {endpoints} status", "  Ctrl-C stops it all"]
        return "\n".join(lines)

    async def _watch_over(self, member: LocalMember) -> None:
        """Wait for the end of a member, and report it unless it was asked for."""
        code = await self._processes[member].wait()
        if self._asked_to_stop.is_set():
            return
        cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._say(f"{member.name} {cause}; its last lines ({member.log_file}):")
        for line in _last_lines(member.log_file):
            self._announce(f"    {line}")
        again = shlex.join(("coordsvc", "serve", "--config", str(member.config_file), *self._serve_options))
        self._announce(f"    to start it again: {again}")

    async def _stop_when_asked(self) -> None:
        await self._asked_to_stop.wait()
        self._say("stopping")
        for member in self._running():
            self._processes[member].terminate()
        await asyncio.sleep(_STOP_TIMEOUT_S)  # cancelled as soon as the last member has ended
        for member in self._running():
            self._say(f"{member.name} does not stop; killing it")
            self._processes[member].kill()

    async def _announce_leaders(self) -> None:
        """Say who leads, and every change of it."""
        announced = None
        async with AsyncExitStack() as stack:
            stubs = []
            for member in self._members:
                channel = await stack.enter_async_context(grpc.aio.insecure_channel(member.client_address))
                stubs.append(coordination_pb2_grpc.ClusterStub(channel))
            while not self._asked_to_stop.is_set():
                leader = await _find_leader(stubs)
                if leader != announced and (leader or announced):
                    self._say(leader or "no leader")
                    announced = leader
                await asyncio.sleep(_STATUS_INTERVAL_S)

    def _say(self, line: str) -> None:
        self._announce(f"{time.strftime('%H:%M:%S')}  {line}")


async def _find_leader(stubs: list[coordination_pb2_grpc.ClusterAsyncStub]) -> str:
    """Ask every member; the leader of the highest term counts: one that was cut off may not know yet."""
    request = coordination_pb2.StatusRequest()
    calls = [stub.Status(request, timeout=_STATUS_TIMEOUT_S) for stub in stubs]
    highest_term = 0
    leader = ""
    for call in calls:
        try:
            status = await call
        except grpc.aio.AioRpcError:
            continue  # not up yet, or dead: the others may know
        if status.role == "leader" and status.term > highest_term:
            highest_term = status.term
            leader = f"{status.member} leads (term {status.term})"
    return leader


def _environment() -> dict[str, str]:
    """Ours without the server's settings, which would win over what each member's own file says."""
    return {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}


def _last_lines(path: Path) -> list[str]:
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - _LAST_LINES * 500))
        return log.read().decode(errors="replace").splitlines()[-_LAST_LINES:]

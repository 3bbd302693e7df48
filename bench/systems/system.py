"""A service of three members on this machine, whichever it is: start, kill, stop, find the leader.

Rule of this file: every system runs as its documentation says for production, with the defaults that it comes
with: durable writes on, all data on one file system, loopback only. What is set is set because three members
share one machine, and stands with its reason in the system's own file.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from bench.measuring import BenchError
from bench.processes import end, last_lines, spawn, wait_until

MEMBERS = 3
PORTS_PER_MEMBER = 10
HOST = "127.0.0.1"
START_WITHIN_S = 60.0
_FIRST_PORT, _LAST_PORT, _BLOCK_PORTS = 13_000, 32_000, 50


class System(ABC):
    """Three members of one service. Members are counted from 0; an index that is not 0 to 2 is a mistake."""

    name: ClassVar[str]
    packages: ClassVar[str] = ""  # Debian's, for the message that they are missing
    members: ClassVar[int] = MEMBERS  # how many there are; all comparisons are of three

    def __init__(self) -> None:
        self._directory = Path()
        self._base_port = 0
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * self.members

    @classmethod
    @abstractmethod
    def missing(cls) -> str:
        """Return what is not installed, or an empty string if the system can be started."""

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Return the version of the servers, for the heading of the table."""

    @abstractmethod
    def command(self, index: int) -> list[str]:
        """Return the command line that runs a member."""

    @abstractmethod
    def is_leader(self, index: int) -> bool:
        """Ask this member whether it leads; False also if it does not answer within a second."""

    @abstractmethod
    def is_serving(self, index: int) -> bool:
        """Ask this member whether it serves clients: it has a leader; False if it does not answer."""

    @abstractmethod
    def data_directory(self, index: int) -> Path:
        """Return where the member keeps what is lost when `wipe` removes it."""

    def prepare(self, index: int) -> None:  # noqa: B027  most need none
        """Write the files that the member needs before its first start."""

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def port(self, index: int, role: int = 0) -> int:
        """Return a port of a member: role 0 is for clients, the others as the system likes."""
        return self._base_port + PORTS_PER_MEMBER * index + role

    @property
    def endpoint_list(self) -> list[str]:
        return [f"{HOST}:{self.port(index)}" for index in range(self.members)]

    @property
    def endpoints(self) -> str:
        """The client addresses of all members, in order: `host:port,host:port,host:port`."""
        return ",".join(self.endpoint_list)

    @property
    def endpoints_leader_first(self) -> str:
        """The same, but beginning with the leader: where a client with one connection attaches."""
        addresses, leader = self.endpoint_list, self.leader()
        return ",".join(addresses[leader:] + addresses[:leader])

    @property
    def pids(self) -> list[int]:
        """The processes of the members that run, or are stopped."""
        return [process.pid for process in self._processes if process is not None and process.poll() is None]

    def pid(self, index: int) -> int:
        process = self._processes[index]
        assert process is not None, f"member {index} of {self.name} was not started"
        return process.pid

    def member_directory(self, index: int) -> Path:
        return self._directory / f"{self.name}-{index}"

    def log_file(self, index: int) -> Path:
        return self._directory / f"{self.name}-{index}.log"

    def start(self, directory: Path, base_port: int = 0) -> None:
        """Start three members with empty data below `directory`, and wait until all serve and one leads.

        Raises:
            BenchError: They do not; the message holds the last lines that they wrote.
        """
        self._directory = directory.absolute()
        self._base_port = base_port or free_base_port()
        for index in range(self.members):
            self.member_directory(index).mkdir(parents=True)
            self.prepare(index)
        for index in range(self.members):
            self._spawn(index)
        self.wait_until_serving()

    def _spawn(self, index: int) -> None:
        self._processes[index] = spawn(
            self.command(index), self.log_file(index), self.member_directory(index), self.environment()
        )

    def wait_until_serving(self, within_s: float = START_WITHIN_S) -> None:
        """Wait until every member serves and one of them leads."""
        waiting = set(range(self.members))

        def all_serve() -> bool:
            self.check()
            waiting.difference_update([index for index in waiting if self.is_serving(index)])
            return not waiting and any(self.is_leader(index) for index in range(self.members))

        def complaint() -> str:
            logs = "\n".join(last_lines(self.log_file(index)) for index in range(self.members))
            return f"{self.name} was not ready after {within_s:g} s; its members wrote last:\n{logs}"

        wait_until(all_serve, within_s, complaint)

    def check(self) -> None:
        """Raise if a member ended that nobody killed.

        Raises:
            BenchError: One did; the message holds the last lines that it wrote.
        """
        for index, process in enumerate(self._processes):
            if process is not None and process.poll() is not None:
                raise BenchError(
                    f"member {index} of {self.name} ended by itself (exit code {process.returncode}); it"
                    f" wrote last:\n{last_lines(self.log_file(index))}"
                )

    def leader(self, within_s: float = START_WITHIN_S) -> int:
        """Return the index of the member that leads; waits while there is none.

        Raises:
            BenchError: No member leads, for `within_s`.
        """
        deadline = time.monotonic() + within_s
        while True:
            for index in range(self.members):
                if self._processes[index] is not None and self.is_leader(index):
                    return index
            if time.monotonic() > deadline:
                raise BenchError(f"no member of {self.name} leads, for {within_s:g} s")
            time.sleep(0.05)

    def kill(self, index: int) -> None:
        """End a member like a crash (SIGKILL); returns when the process is gone."""
        process = self._processes[index]
        assert process is not None, f"member {index} of {self.name} is dead already"
        self._processes[index] = None
        end(process)

    def stop(self, index: int) -> None:
        """Stop a member's process (SIGSTOP): it neither runs nor closes its connections."""
        os.kill(self.pid(index), signal.SIGSTOP)

    def resume(self, index: int) -> None:
        """Let a stopped member go on (SIGCONT)."""
        os.kill(self.pid(index), signal.SIGCONT)

    def restart(self, index: int) -> None:
        """Start a member that was killed, on the data that it has; does not wait for it."""
        assert self._processes[index] is None, f"member {index} of {self.name} still runs"
        self._spawn(index)

    def wipe(self, index: int) -> None:
        """Remove the data of a member that was killed, so that `restart` brings it back empty.

        The leader then sends it everything. Systems in which a voter must not forget need a change of the
        membership for that; it is made here, while the other two members serve.
        """
        assert self._processes[index] is None, f"member {index} of {self.name} still runs"
        shutil.rmtree(self.data_directory(index))

    def settle(self, index: int) -> None:  # noqa: B027  most need nothing
        """Make a member that came back after `wipe` a full one again, if the system wants to be told so."""

    def close(self) -> None:
        """Kill all members. Their data stays where it is."""
        for index, process in enumerate(self._processes):
            if process is not None:
                end(process)
            self._processes[index] = None


def free_base_port() -> int:
    """Return a port after which all that five members need are free, and stay ours while this process lives.

    Other benchmarks may run on this machine: a block of ports belongs to whoever holds its last one.

    Raises:
        BenchError: There is none.
    """
    for base in range(_FIRST_PORT, _LAST_PORT, _BLOCK_PORTS):
        guard = socket.socket()
        try:
            guard.bind((HOST, base + _BLOCK_PORTS - 1))
        except OSError:
            guard.close()
            continue
        _guards.append(guard)
        if all(_is_free(base + offset) for offset in range(_BLOCK_PORTS - 1)):
            return base
    raise BenchError(f"no free ports in a row between {_FIRST_PORT} and {_LAST_PORT} on {HOST}")


_guards: list[socket.socket] = []


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True

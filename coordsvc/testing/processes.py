"""A member as a process of its own: start, stop, kill, pause.

Rule of this file: a process is signalled by its own pid only, and none outlives the process that tests: not
when a test fails, and not when the test process itself is killed (`--stop-at-eof`; a paused member is in a
process group that becomes an orphan then, which the kernel ends).

A member begins as a fork of a process that has the server imported, where the system can do that: it serves
half a second earlier. One that has an environment of its own is a new process with it from the beginning.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from coordsvc.config import ENVIRONMENT_PREFIX
from coordsvc.testing import forked
from coordsvc.testing.errors import TestServerError
from coordsvc.testing.ports import HOST

STOP_WITHIN_S = 15.0


class MemberProcess:
    """One member: its addresses, its files, and its process while it runs."""

    def __init__(self, name: str, ports: Sequence[int], directory: Path) -> None:
        client_port, peer_port, admin_port = ports
        self.name = name
        self.endpoint = f"{HOST}:{client_port}"
        self.peer_address = f"{HOST}:{peer_port}"
        self.admin_address = f"{HOST}:{admin_port}"
        self.data_dir = directory / name
        self.log_file = directory / f"{name}.log"
        self.options: tuple[str, ...] = ()
        self.environment: dict[str, str] = {}
        self.exit_expected = False
        self._process: subprocess.Popen[bytes] | forked.ForkedProcess | None = None

    def __repr__(self) -> str:
        return f"<member {self.name} {'pid ' + str(self.pid) if self.is_running else 'not running'}>"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise TestServerError(f"member {self.name} was not started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def memory_bytes(self) -> int:
        """Resident memory of its own; the pages that it maps of its files are the kernel's to take back."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        assert found, "Linux tells the resident size"
        return int(found[1]) * 1024

    def log_text(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def start(self, initial_cluster: str = "") -> None:
        """Start the process; without an initial cluster its data directory, or its options, say the rest."""
        if self.is_running:
            raise TestServerError(f"member {self.name} runs already")
        self.exit_expected = False
        arguments = ["serve", "--stop-at-eof", "--name", self.name]
        arguments += ["--data-dir", str(self.data_dir), "--listen", self.endpoint]
        arguments += ["--peer-listen", self.peer_address, "--admin-listen", self.admin_address]
        if initial_cluster:
            arguments += ["--initial-cluster", initial_cluster]
        arguments += self.options
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)
        }
        with self.log_file.open("ab") as log:
            if not self.environment and forked.is_possible():
                self._process = forked.fork_server().start("coordsvc", arguments, environment, log)
                return
            self._process = subprocess.Popen(
                [sys.executable, "-m", "coordsvc", *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment | self.environment,
                process_group=0,
            )

    def signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise TestServerError(f"member {self.name} was not started")
        self._process.send_signal(number)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End the process like a crash."""
        self.exit_expected = True
        self.signal(signal.SIGKILL)
        await self.exit_code()

    async def stop(self) -> int:
        """End the process in good order; return its exit code."""
        self.exit_expected = True
        self.signal(signal.SIGTERM)
        return await self.exit_code()

    async def exit_code(self, within_s: float = STOP_WITHIN_S) -> int:
        """Wait for the end of the process, which is expected from now on."""
        self.exit_expected = True
        process = self._process
        if process is None:
            raise TestServerError(f"member {self.name} was not started")
        code = await asyncio.to_thread(process.wait, within_s)
        if process.stdin is not None:
            process.stdin.close()
        return code

    def end(self) -> None:
        """Whatever state the process is in: it is gone after this."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()

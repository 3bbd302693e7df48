"""`coordctl` as a process of its own, in the conditions of a service or of a terminal, for tests.

Rule of this file: no process outlives the test that started it.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar

from click.testing import CliRunner, Result

from coordclient import Client
from coordclient.cli import main
from tests.processes.cluster import MemberProcess, free_ports

RECORDED_COMMAND = Path(__file__).with_name("recorded_command.py")
WITHIN_S = 30.0
_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
T = TypeVar("T")


def eventually(what: str, look: Callable[[], T]) -> T:
    """Look again and again until what is seen is true; return it."""
    give_up_at = time.monotonic() + WITHIN_S
    while not (seen := look()):
        assert time.monotonic() < give_up_at, f"not in time: {what}"
        time.sleep(0.01)
    return seen


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """A server for the tests of one file; its endpoint."""
    member = MemberProcess("a", free_ports(3), directory)
    member.start(f"a={member.peer_address}")
    try:
        with Client(member.endpoint, connect_timeout=30):
            yield member.endpoint
    finally:
        member.end()


def ended(endpoints: str, *arguments: str) -> tuple[int, str, str]:
    """Run `coordctl` to its end; return its exit code and what was written to the two outputs."""
    with Coordctl(endpoints, *arguments) as running:
        return running.ended()


def told(endpoints: str, *arguments: str) -> Result:
    """What a command says that runs no other: for speed, in this process."""
    return CliRunner().invoke(main, ["--endpoints", endpoints, *arguments])


class Record:
    """What a recorded command has written down; its end is in the test's hands."""

    def __init__(self, directory: Path, name: str = "record") -> None:
        self.file = directory / f"{name}.txt"

    def command(self, *modes: str) -> list[str]:
        return [sys.executable, str(RECORDED_COMMAND), str(self.file), *modes]

    def lines(self) -> list[str]:
        return self.file.read_text().splitlines() if self.file.exists() else []

    def wait_for(self, beginning: str) -> str:
        """Return the first line that begins so."""

        def look() -> str:
            return next((line for line in self.lines() if line.startswith(beginning)), "")

        return eventually(f"{beginning!r} in {self.lines()}", look)

    def pid(self) -> int:
        return int(self.wait_for("started").split()[1])

    def child_pid(self) -> int:
        return int(self.wait_for("child").split()[1])

    def signals(self) -> list[str]:
        return [line for line in self.lines() if line.startswith("SIG")]

    def end_with(self, exit_code: int) -> None:
        written = self.file.with_suffix(".new")
        written.write_text(str(exit_code))
        written.rename(self.file.with_suffix(".end"))


class Coordctl:
    """`with Coordctl(endpoints, "lock", ...) as running:` in a session of its own, without a terminal."""

    def __init__(self, endpoints: str, *arguments: str, record: Record | None = None) -> None:
        self._record = record
        self._process = subprocess.Popen(
            [sys.executable, "-m", "coordclient.cli", "--endpoints", endpoints, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def line(self) -> str:
        """Return the next line of the standard output."""
        return _next_line(self._process.stdout)

    def error_line(self) -> str:
        """Return the next line of the standard error."""
        return _next_line(self._process.stderr)

    def ended(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit code and what was written to the two outputs."""
        stdout, stderr = self._process.communicate(timeout=WITHIN_S)
        return self._process.returncode, stdout.decode(), stderr.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate(timeout=WITHIN_S)
        if self._record is not None:
            for line in self._record.lines():
                if line.startswith(("started", "child")) and is_running(int(line.split()[1])):
                    os.kill(int(line.split()[1]), signal.SIGKILL)


def _next_line(source: IO[bytes] | None) -> str:
    assert source is not None
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([source], [], [], WITHIN_S)
        assert ready, f"no line in time, only {line!r}"
        byte = source.read(1)
        assert byte, f"the end instead of a line: {line!r}"
        line += byte
    return line.decode().rstrip("\n")


class OnTerminal:
    """`coordctl` in the foreground of a terminal of its own, on whose keyboard `press` types."""

    def __init__(self, endpoints: str, *arguments: str) -> None:
        self._terminal, other_end = pty.openpty()
        # Not pty.fork(): it would run Python in a copy of this process, which has threads.
        program = [sys.executable, "-m", "coordclient.cli", "--endpoints", endpoints, *arguments]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *program],
            stdin=other_end,
            stdout=other_end,
            stderr=other_end,
            start_new_session=True,
        )
        os.close(other_end)

    @property
    def pid(self) -> int:
        return self._process.pid

    def press(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def ended(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what was shown."""
        shown = b""
        while True:
            try:
                data = os.read(self._terminal, 4096)
            except OSError:  # Linux says so when the last process has let go of the terminal.
                break
            if not data:
                break
            shown += data
        return self._process.wait(timeout=WITHIN_S), shown.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(timeout=WITHIN_S)
        os.close(self._terminal)

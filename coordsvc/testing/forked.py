"""Processes that begin as forks of one that has everything imported, with the methods of `subprocess.Popen`.

Rule of this file: a process is signalled through a descriptor of it, which can mean no other process, and
the process that forks lives no longer than the one that asks it to.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import IO, Final

from coordsvc.testing.errors import TestServerError
from coordsvc.testing.fork_server import REQUEST, Launch

PRELOADED: Final = ("coordsvc.cli", "coordsvc.server.main", "coordclient")
_PROGRAM: Final = "from coordsvc.testing.fork_server import main; main()"
_REPLY_BYTES: Final = 64


def is_possible() -> bool:
    """Return whether this system lets processes be signalled through descriptors; some containers do not."""
    try:
        descriptor = os.pidfd_open(os.getpid())
    except (AttributeError, OSError):
        return False
    try:
        signal.pidfd_send_signal(descriptor, 0)
    except (AttributeError, OSError):
        return False
    finally:
        os.close(descriptor)
    return True


class ForkedProcess:
    """One process. Its standard input is a pipe, `stdin`; its output goes where it was told to."""

    def __init__(self, pid: int, descriptor: int, reply: int, stdin: IO[bytes]) -> None:
        self.pid = pid
        self.stdin = stdin
        self.returncode: int | None = None
        self._descriptor = descriptor
        self._reply = reply
        self._lock = threading.Lock()

    def __del__(self) -> None:
        os.close(self._descriptor)
        os.close(self._reply)

    def poll(self) -> int | None:
        """Return the exit code, or minus the signal that ended it; None while it runs."""
        with self._lock:
            if self.returncode is None and self._has_ended(0.0):
                # It is told at once; nothing comes only if the process that forks was killed before.
                told = os.read(self._reply, _REPLY_BYTES)
                self.returncode = int(told) if told else -signal.SIGKILL
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return as `poll` does; TimeoutExpired after that many seconds."""
        if self.returncode is None and not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        code = self.poll()
        assert code is not None, "it has ended"
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the process has ended."""
        if self.poll() is not None:
            return
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError:  # It has ended in between.
            return

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _has_ended(self, timeout: float | None) -> bool:
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        return bool(poller.poll(None if timeout is None else timeout * 1000.0))


class ForkServer:
    """The process that forks, as seen by the one that asks it to."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), *PRELOADED],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                process_group=0,  # An interrupt from the terminal is for those that were started.
            )
        self._control = ours
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], output: IO[bytes]
    ) -> ForkedProcess:
        """Run a module as `python -m` would, in a process group of its own, with all output there."""
        launch = Launch(module, list(arguments), dict(environment), str(Path.cwd()))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reading, writing = os.pipe()
        stdin = os.fdopen(writing, "wb", buffering=0)
        try:
            self._ask(launch, [reading, output.fileno(), theirs.fileno()])
            theirs.close()
            told, descriptors, _, _ = socket.recv_fds(ours, _REPLY_BYTES, 1)
        except OSError:
            told, descriptors = b"", []
        finally:
            theirs.close()
            os.close(reading)
        if not told:
            stdin.close()
            ours.close()
            raise TestServerError("the process that starts the members has ended: was it killed?")
        return ForkedProcess(int(told), descriptors[0], ours.detach(), stdin)

    def _ask(self, launch: Launch, descriptors: list[int]) -> None:
        with tempfile.TemporaryFile() as description:
            description.write(json.dumps(asdict(launch)).encode())
            description.seek(0)
            with self._lock:
                socket.send_fds(self._control, [REQUEST], [description.fileno(), *descriptors])

    def close(self) -> None:
        """Let the process end; what it has started goes on."""
        self._control.close()
        self._process.wait()


def fork_server() -> ForkServer:
    """Return the one of this process. It is started when it is first needed, and ends with this process."""
    return _fork_server_of(os.getpid())


@cache
def _fork_server_of(pid: int) -> ForkServer:  # A child that was forked must not share the socket.
    server = ForkServer()
    atexit.register(_close_in_process, pid, server)
    return server


def _close_in_process(pid: int, server: ForkServer) -> None:
    if os.getpid() == pid:
        server.close()

"""Three real members on this machine, for the length of a measurement.

Rule of this file: what is measured is what users run: `coordsvc dev`, with its defaults, on a real disk.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMBERS = 3
_PORTS_PER_MEMBER = 10
_FIRST_PORT, _LAST_PORT = 21_000, 29_000


@contextmanager
def running_cluster() -> Iterator[str]:
    """Start three members in a fresh directory below the current one, and yield their endpoints."""
    base_port = _free_base_port()
    with tempfile.TemporaryDirectory(prefix="coordsvc-bench-", dir=Path.cwd()) as data_dir:
        command = [sys.executable, "-m", "coordsvc", "dev", "--nodes", str(_MEMBERS)]
        command += ["--base-port", str(base_port), "--data-dir", data_dir]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            yield ",".join(f"127.0.0.1:{base_port + _PORTS_PER_MEMBER * n}" for n in range(_MEMBERS))
        finally:
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
            if process.returncode:
                print(output, file=sys.stderr)


def _free_base_port() -> int:
    """Return a port after which all that the members need are free."""
    for base in range(_FIRST_PORT, _LAST_PORT, 100):
        ports = [base + _PORTS_PER_MEMBER * member + role for member in range(_MEMBERS) for role in range(3)]
        if all(_is_free(port) for port in ports):
            return base
    raise RuntimeError("no free ports on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0

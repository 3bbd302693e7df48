"""Ports for the servers of tests, which nobody else takes between the choice and the use.

Rule of this file: a test process reserves a block of ports by holding the first of them, so tests that run
at the same time on one machine never choose the same. All lie below those that the system gives to outgoing
connections.
"""

from __future__ import annotations

import atexit
import random
import socket
from functools import cache

from coordsvc.testing.errors import TestServerError

HOST = "127.0.0.1"
BLOCK_PORTS = 200
_FIRST_PORT = 12_000
_LAST_PORT = 32_000


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on; none is given out again before all others of the block were."""
    return [_block().take() for _ in range(count)]


@cache
def _block() -> _Block:
    blocks = list(range(_FIRST_PORT, _LAST_PORT, BLOCK_PORTS))
    random.SystemRandom().shuffle(blocks)
    for first in blocks:
        guard = socket.socket()
        try:
            guard.bind((HOST, first))
        except OSError:
            guard.close()
            continue
        atexit.register(guard.close)
        return _Block(guard, first)
    raise TestServerError("every block of ports is reserved: how many test runs are there?")


class _Block:
    """The ports of this process; `guard` holds the first one as long as the process lives."""

    def __init__(self, guard: socket.socket, first: int) -> None:
        self._guard = guard
        self._first = first
        self._taken = 0

    def take(self) -> int:
        for _ in range(BLOCK_PORTS):
            self._taken = self._taken % (BLOCK_PORTS - 1) + 1
            port = self._first + self._taken
            if _is_free(port):
                return port
        raise TestServerError("every port of this process's block is in use")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True

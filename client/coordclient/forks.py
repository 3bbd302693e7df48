"""Notice a fork: a client made before it is of no use in the child.

Rule of this file: a forked client fails at once with `ForkedClientError`; it never hangs. Its threads
and sockets belong to the parent.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable

from coordclient import clock
from coordclient.errors import ForkedClientError

GRPC_POLLER = "_poll_wrapper"  # in the name of the thread that grpc.aio has while it is in use
GRPC_ENDS_SECONDS = 1.0  # gRPC's own threads end a little later than its last channel

_after_fork: list[Callable[[], None]] = []


class _Process:
    generation = 0
    grpc_used_at = -math.inf
    has_forked_grpc = False


def note_grpc() -> None:
    """gRPC is in use at this moment."""
    _Process.grpc_used_at = clock.now()


def _before() -> None:
    if any(GRPC_POLLER in thread.name for thread in threading.enumerate()):
        note_grpc()


def _in_child() -> None:
    _Process.generation += 1
    _Process.has_forked_grpc |= clock.now() - _Process.grpc_used_at < GRPC_ENDS_SECONDS
    for forget in _after_fork:
        forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)


def generation() -> int:
    """Return a number that differs between a process and the children that it forks."""
    return _Process.generation


def check(made_in: int) -> None:
    """Refuse what was made before a fork."""
    if made_in != _Process.generation:
        raise ForkedClientError


def check_grpc() -> None:
    """Refuse to connect where gRPC was in use when this process was forked: it would never get an answer."""
    if _Process.has_forked_grpc:
        raise ForkedClientError(
            "this process was forked while gRPC was in use, which does not work in it any more: fork before"
            ' any client connects, or start the process by "spawn" or "forkserver"'
        )


def forget_in_child(forget: Callable[[], None]) -> None:
    """Call `forget` in every child that this process forks."""
    _after_fork.append(forget)

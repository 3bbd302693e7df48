"""Notice a fork: a client made before it is of no use in the child.

Rule of this file: a forked client fails at once with `ForkedClientError`; it never hangs. Its threads
and sockets belong to the parent.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from coordclient.errors import ForkedClientError

_after_fork: list[Callable[[], None]] = []


class _Process:
    generation = 0


def _in_child() -> None:
    _Process.generation += 1
    for forget in _after_fork:
        forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def generation() -> int:
    """Return a number that differs between a process and the children that it forks."""
    return _Process.generation


def check(made_in: int) -> None:
    """Refuse what was made before a fork."""
    if made_in != _Process.generation:
        raise ForkedClientError


def forget_in_child(forget: Callable[[], None]) -> None:
    """Call `forget` in every child that this process forks."""
    _after_fork.append(forget)

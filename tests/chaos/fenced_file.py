"""A resource outside the service that compares fencing tokens: a file, shared by all processes of a machine.

Rule of this file: a token smaller than one that was accepted is refused; the file itself says in which
order writes came.
"""

from __future__ import annotations

import fcntl
from pathlib import Path

from tests.checkers.history import FencedWrite


class FencedFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, client: str, token: int, at_ns: int) -> FencedWrite:
        """Try to write as the holder of this token."""
        with self._path.open("a+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            order, largest = map(int, (file.read() or "0 0").split())
            is_accepted = token >= largest
            file.truncate(0)
            file.write(f"{order + 1} {max(token, largest)}")
        return FencedWrite(self._path.name, order + 1, client, token, is_accepted, at_ns)

"""A resource outside the service that compares fencing tokens: a file, shared by all processes of a machine.

Rule of this file: a token smaller than one that was accepted is refused; the resource itself records in
which order writes came, so nothing is missing when a client is killed.
"""

from __future__ import annotations

import fcntl
from pathlib import Path

from tests.checkers.history import FencedWrite
from tests.checkers.history_files import write_record


class FencedFile:
    """The file `name` in a directory; what happened to it is recorded in another one."""

    def __init__(self, directory: Path, histories: Path, name: str) -> None:
        self._path = directory / name
        self._history = histories / f"fenced-{name}.jsonl"

    def write(self, client: str, token: int, at_ns: int) -> bool:
        """Try to write as the holder of this token; return whether that was accepted."""
        with self._path.open("a+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            order, largest = map(int, (file.read() or "0 0").split())
            is_accepted = token >= largest
            file.truncate(0)
            file.write(f"{order + 1} {max(token, largest)}")
            with self._history.open("a", encoding="utf-8") as history:
                write_record(
                    history, FencedWrite(self._path.name, order + 1, client, token, is_accepted, at_ns)
                )
        return is_accepted

"""How a command tells how it is: it writes `passing`, `warning` or `critical`, and a note, to a named pipe.

Rule of this file: whoever writes is never kept waiting, and no command fails because of what it writes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from coordclient.cli.command import fail_line
from coordclient.recipes.service_health import TtlCheck

_LINE_BYTES_MAX: Final = 4096  # of one that has no end yet; a note is shorter


class HealthPipe:
    """`with HealthPipe(check) as pipe`: each line that is written to `pipe.path` is told to the check."""

    def __init__(self, check: TtlCheck) -> None:
        self._verdicts = {"passing": check.passing, "warning": check.warning, "critical": check.critical}
        self._has_ended = False
        self._thread = threading.Thread(target=self._read, name="coordctl health", daemon=True)

    def __enter__(self) -> Self:
        self._directory = tempfile.mkdtemp(prefix="coordctl-")
        self.path = Path(self._directory, "health")
        os.mkfifo(self.path, 0o600)
        # Open for writing too: so there is always a reader and a writer, and neither waits for the other.
        self._pipe = os.open(self.path, os.O_RDWR)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._has_ended = True
        os.write(self._pipe, b"\n")
        self._thread.join()
        os.close(self._pipe)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _read(self) -> None:
        begun = b""
        while True:
            data = os.read(self._pipe, _LINE_BYTES_MAX)
            if self._has_ended:
                return
            *lines, begun = (begun + data).split(b"\n")
            begun = begun[:_LINE_BYTES_MAX]
            for line in lines:
                self._take(line.decode(errors="replace").strip())

    def _take(self, line: str) -> None:
        word, _, note = line.partition(" ")
        verdict = self._verdicts.get(word)
        if verdict is not None:
            verdict(note)
        elif line:
            fail_line(f"{line!r} was written to COORD_HEALTH: write passing, warning or critical, and a note")

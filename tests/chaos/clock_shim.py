"""A wall clock that jumps on request: a small C library (`clock_shim.c`) is preloaded into a member.

Rule of this file: only CLOCK_REALTIME jumps, and only for the process that was started with `environment`.
No clock that nobody can set, such as CLOCK_MONOTONIC, is touched.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")


class JumpingClock:
    """The wall clock of a process that runs with `environment`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        control = directory / "clock"
        control.write_bytes(bytes(mmap.PAGESIZE))
        self._control = control
        self.environment = {
            "LD_PRELOAD": str(_compile(directory / "clock_shim.so")),
            "CLOCK_SHIM_CONTROL": str(control),
        }

    def set_ahead(self, seconds: int) -> None:
        """Let the clock show so much more (or less) than the machine's, from now on."""
        with self._control.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[:8] = struct.pack("=q", seconds)


def _compile(library: Path) -> Path:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    assert compiler is not None, "this test needs a C compiler for its clock, and there is none"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(_SOURCE)]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, f"{_SOURCE.name} does not compile: {compiled.stderr}"
    return library

"""A disk that fails on request, and the loss of power: a small C library is preloaded into a member.

    disk = FailingDisk(tmp_path / "disk", member.data_dir)
    member.environment |= disk.environment
    ...
    disk.fail_sync(errno.EIO)      # the next fsync or fdatasync below data_dir fails, once
    disk.lose_unsynced()           # after a kill: what was never synced is gone

The library is `failing_disk.c` beside this file. It needs a C compiler (`cc`), and a test without one fails
and says so: a failing disk cannot be had otherwise.

Rule of this file: the fault hits one process only, the one that was started with `environment`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")
_KILL = 0
_OF_NO_ACCOUNT = ("LOCK", "LOG", "LOG.old", "initializing")  # nobody reads what is in them


class FailingDisk:
    """What is below `under` can be made to fail for a process that runs with `environment`."""

    def __init__(self, directory: Path, under: Path) -> None:
        directory.mkdir(parents=True)
        self._under = under
        self._control = directory / "control"
        self._log = directory / "log"
        self.environment = {
            "LD_PRELOAD": str(_compile(directory / "failing_disk.so")),
            "DISK_FAULTS_UNDER": f"{os.path.realpath(under)}/",
            "DISK_FAULTS_CONTROL": str(self._control),
            "DISK_FAULTS_LOG": str(self._log),
        }

    def fail_sync(self, error: int, *, after: int = 0) -> None:
        """Let the next fsync or fdatasync fail, or the one after so many others."""
        self._arm("sync", error, after)

    def fail_write(self, error: int, *, after: int = 0) -> None:
        """Let the next write fail when half of it is done, or the one after so many others."""
        self._arm("write", error, after)

    def kill_in_write(self, *, after: int = 0) -> None:
        """Let the process die when half of the next write is done, or of the one after so many others."""
        self._arm("write", _KILL, after)

    def kill_before_sync(self, *, after: int = 0) -> None:
        """Let the process die between a write and its sync."""
        self._arm("sync", _KILL, after)

    def heal(self) -> None:
        """A process that is started from now on finds a good disk. What was synced stays known."""
        self._control.unlink(missing_ok=True)

    @property
    def failed_file(self) -> str:
        """The path of the file whose write or sync failed; empty if none did."""
        return next((line.split(" ", 2)[2] for line in self._lines() if line.startswith("failed ")), "")

    @property
    def failures(self) -> int:
        """How often the disk has failed, or killed."""
        return sum(line.startswith("failed ") for line in self._lines())

    @property
    def calls_after_failure(self) -> list[str]:
        """Which calls came after the failure to the file that failed: `write` or `sync`."""
        after = [line.split(" ", 2) for line in self._lines() if line.startswith("after ")]
        return [call for _, call, path in after if path == self.failed_file]

    def lose_unsynced(self) -> int:
        """Cut every file to what was ever synced of it. Returns how many files lost something.

        For files that only grow or keep their length, as all in a data directory do. The names of files are
        kept: not how every file system forgets, but the most that a journalling one does.
        """
        synced = dict[int, int]()  # by inode: a rename changes the name
        for line in self._lines():
            if line.startswith("synced "):
                _, inode, size = line.split()
                synced[int(inode)] = int(size)
        shortened = 0
        for path in self._under.rglob("*"):
            if not path.is_file() or path.name in _OF_NO_ACCOUNT:
                continue
            known = path.stat()
            if synced.get(known.st_ino, 0) < known.st_size:
                os.truncate(path, synced.get(known.st_ino, 0))
                shortened += 1
        return shortened

    def _arm(self, call: str, error: int, after: int) -> None:
        aside = self._control.with_suffix(".tmp")
        aside.write_text(f"{call} {after + 1} {error}\n", encoding="ascii")
        aside.rename(self._control)

    def _lines(self) -> list[str]:
        return self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []


def _compile(library: Path) -> Path:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    assert compiler is not None, (
        "this test needs a C compiler for its failing disk, and there is none; install one (on Debian and "
        "Ubuntu: apt-get install gcc libc6-dev)"
    )
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(_SOURCE)]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, f"{_SOURCE.name} does not compile: {compiled.stderr}"
    return library

"""A disk that a test can fill up and write-protect: a small tmpfs, or limits of the process without root.

Rule of this file: what is mounted is unmounted at the end of the block, whatever happened in it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.processes.cluster import MemberProcess

SMALL_BYTES = 24 << 20
LARGE_BYTES = 512 << 20


@cache
def may_mount() -> bool:
    """Whether we can mount: root can, except in most containers."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as directory:
        tried = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], capture_output=True, check=False)
        if tried.returncode == 0:
            subprocess.run(["umount", directory], check=True)
    return tried.returncode == 0


class SmallDisk:
    """`directory` has little room until `enlarge`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def limit(self, member: MemberProcess) -> None:
        """Without a disk of its own: the running member can make no file larger than this."""
        if not may_mount():
            resource.prlimit(member.pid, resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))

    def enlarge(self) -> None:
        """There is space again (for a member that is started anew, where limits do the work)."""
        if may_mount():
            _mount("-o", f"remount,size={LARGE_BYTES}", str(self.directory))


@contextmanager
def small_disk(directory: Path) -> Iterator[SmallDisk]:
    directory.mkdir()
    if not may_mount():
        yield SmallDisk(directory)
        return
    _mount("-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "tmpfs", str(directory))
    try:
        yield SmallDisk(directory)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def write_protected(directory: Path) -> Iterator[Path]:
    """A directory that nobody may write, root included."""
    if os.geteuid() == 0 and not may_mount():
        yield Path("/sys")  # Not even root can make a directory there.
        return
    directory.mkdir()
    if not may_mount():
        directory.chmod(0o555)
        try:
            yield directory
        finally:
            directory.chmod(0o755)
        return
    _mount("-t", "tmpfs", "-o", "ro", "tmpfs", str(directory))
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)

"""A full disk: the first failed write is the last, and what was acknowledged before it is there.

Without that rule LevelDB accepts 20 more synced writes behind the torn one, and loses all 20.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordsvc.storage.data_directory import DataDirectory


@dataclass
class SmallDisk:
    """Where to write, how the writer is limited, and how to make room again."""

    path: Path
    writer_arguments: list[str]
    make_room: Callable[[], None]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A real file system of 1 MiB where it can be mounted, else a limit on the size of files."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    if os.geteuid() == 0 and _mount("size=1m", mounted):
        yield SmallDisk(mounted / "data", [], lambda: _remount_larger(mounted))
        subprocess.run(["umount", "-l", str(mounted)], check=True)
    else:
        yield SmallDisk(mounted / "data", ["300000"], lambda: None)


def _mount(options: str, path: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _remount_larger(path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(path)], check=True)


def run_writer(path: Path, arguments: list[str]) -> list[str]:
    writer = Path(__file__).with_name("writer.py")
    command = [sys.executable, str(writer), str(path), "5000", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120
    ).stdout.splitlines()


def check_full_disk(path: Path, arguments: list[str], make_room: Callable[[], None]) -> None:
    lines = run_writer(path, arguments)
    acknowledged = [int(line.split()[1]) for line in lines if line.startswith("durable")]
    failed, again = lines[len(acknowledged) :]
    assert len(acknowledged) > 20
    assert failed.startswith("failed DiskFullError")
    assert str(path) in failed
    assert "free space" in failed
    assert again.startswith("again DiskNotTrustedError")

    make_room()
    directory = DataDirectory.open(path, "cluster", "a")
    log, tree = directory.open_log(), directory.open_tree()

    stored = log.entries(1, log.last_index() + 1, 1 << 30)
    assert [entry.index for entry in stored] == acknowledged
    assert all(entry.data == b"%d " % entry.index + b"x" * 5000 for entry in stored)
    assert tree.get(b"applied") == b"%d" % acknowledged[-1]
    log.close()
    tree.close()
    directory.close()


def test_on_a_full_file_system_nothing_acknowledged_is_lost(small_disk: SmallDisk) -> None:
    check_full_disk(small_disk.path, small_disk.writer_arguments, small_disk.make_room)


def test_at_the_limit_of_a_files_size_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    check_full_disk(tmp_path / "data", ["200000"], lambda: None)


def test_a_member_cannot_begin_on_a_full_disk_and_says_so(tmp_path: Path) -> None:
    program = (
        "import resource, sys\n"
        "from coordsvc.storage.data_directory import DataDirectory\n"
        "from coordsvc.storage.errors import StorageError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))\n"
        "try:\n    DataDirectory.open(sys.argv[1], 'cluster', 'a')\n"
        "except StorageError as error:\n    print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "data")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert said.startswith("DiskFullError cannot")
    assert str(tmp_path / "data") in said
    assert said.count("\n") == 1
    DataDirectory.open(tmp_path / "data", "cluster", "a").close()  # with space again: no harm done

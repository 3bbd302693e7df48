"""A writer killed with SIGKILL, again and again on one directory: whatever it called durable is there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

from coordsvc.storage.data_directory import DataDirectory

ROUNDS = 8


def test_what_was_durable_survives_every_kill(tmp_path: Path) -> None:
    path = tmp_path / "data"
    dice = random.Random(9)
    for _ in range(ROUNDS):
        acknowledged = kill_after(path, lines=dice.randint(1, 200))

        directory = DataDirectory.open(path, "cluster", "a")
        log, tree = directory.open_log(), directory.open_tree()
        last = log.last_index()
        assert last >= acknowledged
        assert log.hard_state.commit == last - 1
        for entry in log.entries(1, last + 1, 1 << 30):
            assert entry.data.startswith(b"%d " % entry.index)
        assert acknowledged - 1 <= int(tree.get(b"applied") or b"0") <= last
        log.close()
        tree.close()
        directory.close()


def kill_after(path: Path, lines: int) -> int:
    """Let the writer write until it has said so many lines, kill it, and return the last index it said."""
    writer = Path(__file__).with_name("writer.py")
    command = [sys.executable, str(writer), str(path), "300"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    return max(int(line.split()[1]) for line in said if line.endswith("\n"))

"""The wall clock of a process jumps, and no other clock does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.chaos.clock_shim import JumpingClock

HOUR_S = 3600
READ = "import time; print(time.time(), time.clock_gettime(time.CLOCK_REALTIME), time.monotonic())"


def test_only_the_wall_clock_jumps(tmp_path: Path) -> None:
    clock = JumpingClock(tmp_path / "faults")
    environment = os.environ | clock.environment
    for ahead in (0, HOUR_S, -HOUR_S):
        clock.set_ahead(ahead)
        before = time.time(), time.time(), time.monotonic()
        printed = subprocess.run(
            [sys.executable, "-c", READ], env=environment, capture_output=True, text=True, check=True
        ).stdout
        after = time.time(), time.time(), time.monotonic()

        wall, realtime, monotonic = map(float, printed.split())
        assert before[0] + ahead <= wall <= after[0] + ahead
        assert before[1] + ahead <= realtime <= after[1] + ahead
        assert before[2] <= monotonic <= after[2]


def test_the_clock_of_a_running_process_jumps(tmp_path: Path) -> None:
    clock = JumpingClock(tmp_path / "faults")
    script = "import time\nwhile True:\n    print(time.time() if input() else 0, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | clock.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        shown = []
        for ahead in (0, HOUR_S):
            clock.set_ahead(ahead)
            process.stdin.write("now\n")
            process.stdin.flush()
            shown.append(float(process.stdout.readline()))
        process.kill()

    assert HOUR_S <= shown[1] - shown[0] < 2 * HOUR_S

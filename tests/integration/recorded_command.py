"""A command for tests: writes down what happens to it, and ends when it is told to.

`python recorded_command.py FILE [stubborn] [child]`: each signal is a line in FILE. `stubborn` does not end
when it is asked to; `child` starts a process of its own. It ends when FILE.end exists, with the exit code
that stands there.

Rule of this file: a line is written before anything else is done, so that nothing that happened is missing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

TAKEN = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
)


def main(file: Path, *modes: str) -> int:
    def note(line: str) -> None:
        with file.open("a") as record:
            record.write(line + "\n")

    def take(number: int, _frame: FrameType | None) -> None:
        note(signal.Signals(number).name)
        if number in (signal.SIGTERM, signal.SIGINT) and "stubborn" not in modes:
            os._exit(40 + number)

    for number in TAKEN:
        signal.signal(number, take)
    if "child" in modes:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        note(f"child {child.pid}")
    note(f"started {os.getpid()} token={os.environ.get('COORD_TOKEN', '')}")
    end = file.with_suffix(".end")
    while not end.exists():
        time.sleep(0.01)
    return int(end.read_text())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))

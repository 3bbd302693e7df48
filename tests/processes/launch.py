"""Runs a program of a test, and ends it when the test process ends: `launch.py SCRIPT [ARGUMENT...]`.

Rule of this file: the program runs as if it had been started itself.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name="__main__")

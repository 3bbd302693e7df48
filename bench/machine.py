"""Names the machine that was measured on.

Rule of this file: facts only, one line each.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine() -> str:
    """Name this machine: model, cores, memory, system, Python."""
    model = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    for line in cpu_info.read_text().splitlines() if cpu_info.exists() else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = platform.python_version()
    system = f"{platform.system()} {platform.release()}"
    return f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, {system}, CPython {python}"

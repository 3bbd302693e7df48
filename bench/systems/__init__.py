"""The systems that are compared: each is three members on this machine, behind one interface."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.measuring import BenchError
from bench.systems.coordsvc import Coordsvc
from bench.systems.etcd import Etcd
from bench.systems.system import HOST, MEMBERS, System, free_base_port
from bench.systems.zookeeper import Zookeeper

__all__ = ["HOST", "MEMBERS", "OURS", "SYSTEMS", "System", "free_base_port", "running"]

SYSTEMS: Final[dict[str, type[System]]] = {system.name: system for system in (Coordsvc, Etcd, Zookeeper)}
OURS: Final = Coordsvc.name


@contextmanager
def running(name: str) -> Iterator[System]:
    """Start three members in a fresh directory below build/, and yield them; the data goes at the end.

    The directory is on the repository's disk: durable data must not be on a file system in memory.

    Raises:
        BenchError: The system is not installed, or does not start.
    """
    kind = SYSTEMS[name]
    if missing := kind.missing():
        raise BenchError(f"{name} cannot be started, {missing} not found: apt-get install {kind.packages}")
    below = Path("build")
    below.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", dir=below) as directory:
        system = kind()
        try:
            system.start(Path(directory))
            yield system
        finally:
            system.close()

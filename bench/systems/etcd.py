"""Three members of etcd, from Debian's package etcd-server.

Rule of this file: addresses, names and directories are set; everything else is at its default.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from bench.measuring import BenchError
from bench.systems.system import HOST, MEMBERS, System

_ANSWER_WITHIN_S = 1.0
_HEALTHY_WITHIN_S = 20.0  # its members must have been connected for 5 s


class Etcd(System):
    """Members `member-1` to `member-3`."""

    name: ClassVar[str] = "etcd"
    packages: ClassVar[str] = "etcd-server etcd-client"

    def __init__(self) -> None:
        super().__init__()
        self._initial_state = ["new"] * MEMBERS

    @classmethod
    def missing(cls) -> str:
        return " and ".join(program for program in ("etcd", "etcdctl") if not shutil.which(program))

    @classmethod
    @cache
    def version(cls) -> str:
        output = subprocess.run(["etcd", "--version"], capture_output=True, text=True, check=True).stdout
        return output.splitlines()[0].rpartition(" ")[2]

    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}

    def member_name(self, index: int) -> str:
        return f"member-{index + 1}"

    def peer_url(self, index: int) -> str:
        return f"http://{HOST}:{self.port(index, 1)}"

    def data_directory(self, index: int) -> Path:
        return self.member_directory(index) / "data"

    def command(self, index: int) -> list[str]:
        client_url = f"http://{HOST}:{self.port(index)}"
        members = ",".join(f"{self.member_name(other)}={self.peer_url(other)}" for other in range(MEMBERS))
        command = ["etcd", "--name", self.member_name(index), "--data-dir", str(self.data_directory(index))]
        command += ["--listen-client-urls", client_url, "--advertise-client-urls", client_url]
        command += ["--listen-peer-urls", self.peer_url(index)]
        command += ["--initial-advertise-peer-urls", self.peer_url(index), "--initial-cluster", members]
        return [*command, "--initial-cluster-state", self._initial_state[index], "--log-level", "warn"]

    def _status(self, index: int) -> dict[str, Any] | None:
        request = urllib.request.Request(
            f"http://{HOST}:{self.port(index)}/v3/maintenance/status", data=b"{}", method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_WITHIN_S) as answer:
                status = json.load(answer)
        except (urllib.error.URLError, OSError, ValueError):
            return None  # not up yet, dead, or stopped
        assert isinstance(status, dict)
        return status

    def is_leader(self, index: int) -> bool:
        status = self._status(index)
        return status is not None and status.get("leader", "0") == status["header"]["member_id"]

    def is_serving(self, index: int) -> bool:
        status = self._status(index)
        return status is not None and status.get("leader", "0") != "0"

    def wipe(self, index: int) -> None:
        """A voter must not forget: the member is removed from the cluster, and added again as a new one."""
        super().wipe(index)
        removed = self._member_ids()[self.member_name(index)]
        self._etcdctl(index, "member", "remove", f"{removed:x}")
        self._add(index)
        self._initial_state[index] = "existing"

    def _add(self, index: int) -> None:
        """Add the member again; etcd refuses that for some seconds after one of the others came or went."""
        deadline = time.monotonic() + _HEALTHY_WITHIN_S
        command = ("member", "add", self.member_name(index), f"--peer-urls={self.peer_url(index)}")
        while True:
            try:
                self._etcdctl(index, *command)
            except BenchError as error:
                if "unhealthy cluster" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    def _member_ids(self) -> dict[str, int]:
        listing = json.loads(self._etcdctl(-1, "member", "list", "-w", "json"))
        return {member.get("name", ""): member["ID"] for member in listing["members"]}

    def _etcdctl(self, without: int, *arguments: str) -> str:
        """Run etcdctl against the members that run; `without` one that was killed."""
        addresses = [
            address
            for index, address in enumerate(self.endpoint_list)
            if index != without and self._processes[index] is not None
        ]
        command = ["etcdctl", "--endpoints", ",".join(addresses), *arguments]
        environment = self.environment() | {"ETCDCTL_API": "3"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise BenchError(f"etcdctl {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

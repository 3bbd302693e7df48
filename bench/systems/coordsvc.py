"""Three members of coordsvc, as `coordsvc dev` runs them.

Rule of this file: nothing but addresses and directories is set; everything else is at its default.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import grpc

from bench.measuring import BenchError
from bench.systems.system import HOST, System
from coordproto.v1 import coordination_pb2, coordination_pb2_grpc
from coordsvc.config import ENVIRONMENT_PREFIX

_ANSWER_WITHIN_S = 1.0
_PROMOTE_WITHIN_S = 300.0


class Coordsvc(System):
    """Members `member-1` to `member-3`, each an ordinary `coordsvc serve` process."""

    name: ClassVar[str] = "coordsvc"

    def __init__(self) -> None:
        super().__init__()
        self._joins: set[int] = set()  # those that come back as new members

    @classmethod
    def missing(cls) -> str:
        return ""

    @classmethod
    def version(cls) -> str:
        return importlib.metadata.version("coordsvc")

    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}

    def member_name(self, index: int) -> str:
        return f"member-{index + 1}"

    def data_directory(self, index: int) -> Path:
        return self.member_directory(index) / "data"

    def command(self, index: int) -> list[str]:
        command = [sys.executable, "-m", "coordsvc", "serve", "--name", self.member_name(index)]
        command += ["--data-dir", str(self.data_directory(index)), "--listen", f"{HOST}:{self.port(index)}"]
        command += ["--peer-listen", f"{HOST}:{self.port(index, 1)}"]
        command += ["--admin-listen", f"{HOST}:{self.port(index, 2)}"]
        if index in self._joins:
            others = [address for other, address in enumerate(self.endpoint_list) if other != index]
            return [*command, "--join", ",".join(others)]
        members = (f"{self.member_name(other)}={HOST}:{self.port(other, 1)}" for other in range(self.members))
        return [*command, "--initial-cluster", ",".join(members)]

    def status(self, index: int) -> coordination_pb2.StatusResponse | None:
        """Return what the member says about itself; None if it does not answer within a second."""
        with grpc.insecure_channel(self.endpoint_list[index]) as channel:
            try:
                return coordination_pb2_grpc.ClusterStub(channel).Status(
                    coordination_pb2.StatusRequest(), timeout=_ANSWER_WITHIN_S
                )
            except grpc.RpcError:
                return None  # not up yet, dead, or stopped

    def is_leader(self, index: int) -> bool:
        status = self.status(index)
        return status is not None and status.role == "leader"

    def is_serving(self, index: int) -> bool:
        status = self.status(index)
        return status is not None and bool(status.leader)

    def wipe(self, index: int) -> None:
        """A voter must not forget: the member is removed from the cluster, and joins it again."""
        super().wipe(index)
        self._change_members("remove", "--yes", self.member_name(index), endpoints=self._others(index))
        self._joins.add(index)

    def settle(self, index: int) -> None:
        """Give the vote back; waits until the member has caught up."""
        self._change_members("promote", self.member_name(index), endpoints=self._others(index))

    def _others(self, index: int) -> str:
        return ",".join(address for other, address in enumerate(self.endpoint_list) if other != index)

    def _change_members(self, *what: str, endpoints: str) -> None:
        command = [sys.executable, "-m", "coordclient.cli", "member", *what]
        command += ["--endpoints", endpoints, "--timeout", f"{_PROMOTE_WITHIN_S:g}s"]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment(), check=False)
        if done.returncode:
            raise BenchError(f"coordctl member {' '.join(what)} failed: {done.stderr.strip()}")

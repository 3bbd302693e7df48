"""Three members of ZooKeeper, from Debian's package zookeeper, each a JVM with its default heap.

Rule of this file: the settings are those of the sample configuration that ZooKeeper comes with (tickTime
2000, initLimit 10, syncLimit 5), and the log is forced to disk as by default. Set are addresses and
directories, no limit on connections from one host (all come from this one), no admin web server (three on one
port), and the command `srvr` allowed, which tells who leads. Its own log says warnings only.

ZooKeeper 3.6.0 to 3.8.0 can stop answering its only client until that client's connection times out or
another one writes (ZOOKEEPER-4537). A measurement that meets that fails, and is tried again in the next
round.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from functools import cache
from pathlib import Path
from typing import ClassVar

from bench.systems.system import HOST, MEMBERS, System

_JARS = Path("/usr/share/java")
_ZOOKEEPER_JAR = _JARS / "zookeeper.jar"  # its manifest names the others
_ANSWER_WITHIN_S = 1.0


class Zookeeper(System):
    """Servers 1 to 3; ports of a member: 0 for clients, 1 between members, 2 for elections."""

    name: ClassVar[str] = "zookeeper"
    packages: ClassVar[str] = "zookeeper"

    @classmethod
    def missing(cls) -> str:
        absent = [] if shutil.which("java") else ["java"]
        absent += [] if _ZOOKEEPER_JAR.exists() else [str(_ZOOKEEPER_JAR)]
        return " and ".join(absent)

    @classmethod
    @cache
    def version(cls) -> str:
        jars = [jar.stem.removeprefix("zookeeper-") for jar in _JARS.glob("zookeeper-[0-9]*.jar")]
        zookeeper = jars[0] if jars else "of unknown version"
        java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
        return f"{zookeeper} (Java {java.splitlines()[0].split(chr(34))[1]})"

    def environment(self) -> dict[str, str]:
        changes_the_machine = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH")
        return {name: value for name, value in os.environ.items() if name not in changes_the_machine}

    def data_directory(self, index: int) -> Path:
        return self.member_directory(index) / "data" / "version-2"

    def prepare(self, index: int) -> None:
        data = self.member_directory(index) / "data"
        data.mkdir()
        (data / "myid").write_text(f"{index + 1}\n", encoding="ascii")
        settings = ["tickTime=2000", "initLimit=10", "syncLimit=5", f"dataDir={data}"]
        settings += [f"clientPort={self.port(index)}", f"clientPortAddress={HOST}", "maxClientCnxns=0"]
        settings += ["admin.enableServer=false", "4lw.commands.whitelist=srvr"]
        settings += [
            f"server.{member + 1}={HOST}:{self.port(member, 1)}:{self.port(member, 2)}"
            for member in range(MEMBERS)
        ]
        self._config_file(index).write_text("\n".join(settings) + "\n", encoding="ascii")

    def _config_file(self, index: int) -> Path:
        return self.member_directory(index) / "zoo.cfg"

    def command(self, index: int) -> list[str]:
        class_path = os.pathsep.join((str(_ZOOKEEPER_JAR), str(_JARS / "slf4j-simple.jar")))
        return [
            "java",
            "-cp",
            class_path,
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            str(self._config_file(index)),
        ]

    def mode(self, index: int) -> str:
        """Return `leader`, `follower`, or an empty string if the member does not serve."""
        answer = b""
        try:
            with socket.create_connection((HOST, self.port(index)), timeout=_ANSWER_WITHIN_S) as connection:
                connection.settimeout(_ANSWER_WITHIN_S)
                connection.sendall(b"srvr")
                while part := connection.recv(4096):
                    answer += part
        except OSError:
            return ""  # not up yet, dead, or stopped
        for line in answer.decode(errors="replace").splitlines():
            if line.startswith("Mode: "):
                return line.removeprefix("Mode: ")
        return ""

    def is_leader(self, index: int) -> bool:
        return self.mode(index) == "leader"

    def is_serving(self, index: int) -> bool:
        return self.mode(index) in ("leader", "follower")

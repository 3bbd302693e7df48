"""Builds the native drivers, and etcd's messages for Python, in a scratch folder outside of the repository.

Rule of this file: what is built is named after the contents of its source, so it is built again exactly when
that changes. The folder is $BENCH_SCRATCH, or coordsvc-bench in the user's cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from bench.measuring import FinalError

SOURCES: Final = Path(__file__).parent
GO_SOURCES: Final = Path("/usr/share/gocode")
_GOGO = GO_SOURCES / "src/github.com/gogo/protobuf"
_ETCD = GO_SOURCES / "src/go.etcd.io"
_PROTOS = (
    "etcd/etcdserver/etcdserverpb/rpc.proto",
    "etcd/mvcc/mvccpb/kv.proto",
    "etcd/auth/authpb/auth.proto",
    "gogoproto/gogo.proto",
)


def scratch() -> Path:
    """Return the folder that holds what was built; it is made if it is missing."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("BENCH_SCRATCH") or cache_home / "coordsvc-bench")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.absolute()


@cache
def zookeeper_program(source: str = "zookeeper_driver.c") -> Path:
    """Build a C program on ZooKeeper's client library, and return where it is.

    Raises:
        FinalError: There is no compiler or no library, or the source does not compile.
    """
    _need("gcc", "gcc")
    if not Path("/usr/include/zookeeper/zookeeper.h").exists():
        raise FinalError("ZooKeeper's C client was not found: apt-get install libzookeeper-mt-dev")

    def build(target: Path) -> None:
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-DTHREADED", "-o", str(target), str(SOURCES / source)]
        _run([*command, "-lzookeeper_mt", "-lpthread"])

    return _built(SOURCES / source, build)


@cache
def etcd_program(source: str = "etcd_driver.go") -> Path:
    """Build a Go program on etcd's client, and return where it is; the first time takes half a minute.

    Raises:
        FinalError: There is no compiler or no client, or the source does not compile.
    """
    _need("go", "golang-go")
    if not (_ETCD / "etcd/clientv3").exists():
        raise FinalError("etcd's Go client was not found: apt-get install golang-etcd-server-dev")
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(GO_SOURCES), "GOFLAGS": ""}

    def build(target: Path) -> None:
        _run(["go", "build", "-o", str(target), str(SOURCES / source)], environment)

    return _built(SOURCES / source, build)


@cache
def etcd_messages() -> Path:
    """Make Python modules of etcd's .proto files, and return the folder to put on the module path.

    Raises:
        FinalError: The files or the compiler are missing.
    """
    if not (_ETCD / _PROTOS[0]).exists():
        raise FinalError("etcd's .proto files were not found: apt-get install golang-etcd-server-dev")
    if importlib.util.find_spec("grpc_tools") is None:
        raise FinalError("grpcio-tools is not installed; `make bench-peers` installs it")
    google = importlib.util.find_spec("google.api")
    assert google is not None, "coordsvc depends on googleapis-common-protos"
    assert google.submodule_search_locations, "google.api is a package"
    google_root = Path(next(iter(google.submodule_search_locations))).parents[1]

    def build(target: Path) -> None:
        target.mkdir()
        includes = [f"-I{folder}" for folder in (_ETCD, _GOGO, google_root)]
        outputs = [f"--python_out={target}", f"--grpc_python_out={target}"]
        _run([sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs, *_PROTOS])

    return _built(_ETCD / _PROTOS[0], build)


def _built(source: Path, build: Callable[[Path], None]) -> Path:
    """Return the result of `build`, which is called if there is none of this very source."""
    contents = hashlib.sha256(source.read_bytes() + Path(__file__).read_bytes()).hexdigest()
    target = scratch() / f"{source.stem}-{contents[:16]}"
    if not target.exists():
        unfinished = target.with_name(f"{target.name}.{os.getpid()}")
        build(unfinished)
        unfinished.rename(target)
    return target


def _need(program: str, package: str) -> None:
    if not shutil.which(program):
        raise FinalError(f"{program} was not found: apt-get install {package}")


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise FinalError(f"{' '.join(command)} failed:\n{done.stderr.strip()}")

"""Processes that begin as forks do what they would do if they had been started by themselves."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordsvc.testing.errors import TestServerError
from coordsvc.testing.forked import ForkedProcess, ForkServer, is_possible

WITHIN_S = 30.0
PROGRAM = """
import json, os, random, sys
print(json.dumps({
    "name": __name__, "arguments": sys.argv[1:], "directory": os.getcwd(), "own": os.environ.get("OWN"),
    "group": os.getpgrp() == os.getpid(), "dice": random.random(),
    "package": "coordsvc.server.main" in sys.modules,
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
}), flush=True)
if sys.argv[1:] == ["fail"]:
    raise KeyError("what went wrong")
while line := sys.stdin.readline():
    print("read", line, end="", flush=True)
sys.exit(7)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a module to run."""
    (tmp_path / "forked_program.py").write_text(textwrap.dedent(PROGRAM))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(server: ForkServer, directory: Path, *arguments: str, name: str = "output") -> ForkedProcess:
    environment = dict(os.environ) | {"OWN": "value"}
    with (directory / name).open("wb") as output:
        return server.start("forked_program", arguments, environment, output)


def report(directory: Path, name: str = "output") -> dict[str, object]:
    found: dict[str, object] = json.loads((directory / name).read_text().splitlines()[0])
    return found


def test_it_runs_as_the_main_module_with_what_it_was_given(server: ForkServer, directory: Path) -> None:
    process = start(server, directory, "one", "two")
    process.stdin.write(b"a line\n")
    process.stdin.close()

    assert process.wait(WITHIN_S) == 7
    assert process.poll() == 7
    told = report(directory)
    del told["dice"]
    assert told == {
        "name": "__main__",
        "arguments": ["one", "two"],
        "directory": str(directory),
        "own": "value",
        "group": True,
        "package": True,
        "descriptors": [0, 1, 2],
    }
    assert (directory / "output").read_text().splitlines()[1] == "read a line"


def test_an_environment_may_be_large(server: ForkServer, directory: Path) -> None:
    """A message through a socket is cut off at 208 KiB on most systems."""
    environment = dict(os.environ) | {f"LARGE_{number}": "x" * 100_000 for number in range(5)}
    with (directory / "output").open("wb") as output:
        process = server.start("forked_program", [], environment, output)
    process.stdin.close()

    assert process.wait(WITHIN_S) == 7


def test_what_it_dies_of_is_told_as_for_any_process(server: ForkServer, directory: Path) -> None:
    failing = start(server, directory, "fail")
    killed = start(server, directory, name="killed")
    assert killed.poll() is None

    killed.kill()

    assert killed.wait(WITHIN_S) == -signal.SIGKILL
    assert failing.wait(WITHIN_S) == 1
    assert "KeyError: 'what went wrong'" in (directory / "output").read_text()
    killed.kill()  # Nobody is hit.
    for process in (killed, failing):
        process.stdin.close()


def test_whoever_waits_too_long_is_told(server: ForkServer, directory: Path) -> None:
    process = start(server, directory)

    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.0)

    process.stdin.close()
    assert process.wait(WITHIN_S) == 7


def test_one_that_is_paused_neither_ends_nor_hears_until_it_is_resumed(
    server: ForkServer, directory: Path
) -> None:
    process = start(server, directory)
    process.send_signal(signal.SIGSTOP)
    process.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)

    process.send_signal(signal.SIGCONT)

    assert process.wait(WITHIN_S) == 7


def test_where_the_system_refuses_descriptors_of_processes_nothing_is_forked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """gVisor and old kernels know none, whatever Python was built for."""
    assert is_possible()

    def refuse(_pid: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert not is_possible()


def test_each_rolls_dice_of_its_own(server: ForkServer, directory: Path) -> None:
    names = ["first", "second", "third"]
    processes = [start(server, directory, name=name) for name in names]
    for process in processes:
        process.stdin.close()
        assert process.wait(WITHIN_S) == 7, "siblings do not keep its input open"

    assert len({str(report(directory, name)["dice"]) for name in names}) == 3


def test_the_end_of_the_server_is_not_that_of_the_others_but_no_more_can_be_started(directory: Path) -> None:
    server = ForkServer()
    process = start(server, directory)

    server.close()
    with pytest.raises(TestServerError, match="has ended"):
        start(server, directory, name="late")

    process.stdin.close()
    assert process.wait(WITHIN_S) != 0, "its exit code is not known any more"


def test_when_the_process_that_asked_is_killed_nothing_is_left_behind(directory: Path) -> None:
    asking = """
        import sys, time
        from pathlib import Path
        from tests.unit.testing.test_forked import ForkServer, start
        server = ForkServer()
        running, paused = (start(server, Path(sys.argv[1]), name=name) for name in ("running", "paused"))
        paused.send_signal(19)
        print(server.pid, running.pid, paused.pid, flush=True)
        time.sleep(600)
    """
    environment = dict(os.environ) | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", textwrap.dedent(asking), str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as asker:
        assert asker.stdout is not None
        descriptors = [os.pidfd_open(int(pid)) for pid in asker.stdout.readline().split()]
        asker.kill()

    for descriptor in descriptors:
        ended, _, _ = select.select([descriptor], [], [], WITHIN_S)
        os.close(descriptor)
        assert ended

"""`coordctl watch --exec`: one command for each change, in order, never two at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordclient import Client
from tests.integration.coordctl_processes import Coordctl, eventually, serving

pytestmark = pytest.mark.processes

# Writes down what it was given, between a line when it begins and one when it ends.
NOTE = """
import os, sys
with open(sys.argv[1], "a") as record:
    record.write("begin ")
with open(sys.argv[1], "a") as record:
    event = [os.environ["COORD_EVENT_" + name] for name in ("TYPE", "PATH", "ZXID")]
    record.write(" ".join([*event, str(len(sys.stdin.buffer.read()))]) + " end\\n")
sys.exit(int(sys.argv[2]) if event[0] == "DELETED" else 0)
"""


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("watch")) as endpoint:
        yield endpoint


@pytest.fixture
def client(endpoints: str) -> Iterator[Client]:
    with Client(endpoints) as client:
        yield client


def noting(file: Path, exit_code_on_delete: int = 0) -> list[str]:
    return [sys.executable, "-c", NOTE, str(file), str(exit_code_on_delete)]


def make_changes(client: Client, path: str) -> int:
    """Create, set and delete; return the transaction before."""
    before: int = client.sync()
    client.create(path, b"x" * 5, parents=True)
    client.set(path, b"y" * 100_000)  # more than a pipe holds
    client.delete(path)
    return before


def test_each_change_has_its_command_in_order(endpoints: str, client: Client, tmp_path: Path) -> None:
    before = make_changes(client, "/order")
    arguments = ("watch", "/order", "--since", str(before), "--count", "3", "--exec", "--")

    with Coordctl(endpoints, *arguments, *noting(tmp_path / "notes")) as watching:
        code, said, complaints = watching.ended()

    assert (code, said, complaints) == (0, "", "")
    assert (tmp_path / "notes").read_text().splitlines() == [
        f"begin CREATED /order {before + 1} 5 end",
        f"begin CHANGED /order {before + 2} 100000 end",
        f"begin DELETED /order {before + 3} 0 end",
    ]


def test_a_command_that_fails_is_told_and_the_watch_goes_on(
    endpoints: str, client: Client, tmp_path: Path
) -> None:
    before = make_changes(client, "/fails")
    client.create("/fails")
    arguments = ("watch", "/fails", "--since", str(before), "--exec")

    with Coordctl(endpoints, *arguments, "--count", "4", "--", *noting(tmp_path / "all", 3)) as going_on:
        code, _, complaints = going_on.ended()
    with Coordctl(endpoints, *arguments, "--exit-on-error", "--", *noting(tmp_path / "first", 3)) as ending:
        code_of_first = ending.ended()[0]

    assert code == code_of_first == 3
    assert f"the command for DELETED /fails (zxid {before + 3}) ended with 3" in complaints
    assert len((tmp_path / "all").read_text().splitlines()) == 4
    assert len((tmp_path / "first").read_text().splitlines()) == 3


def test_a_command_that_does_not_read_its_standard_input_holds_nothing_up(
    endpoints: str, client: Client
) -> None:
    before = client.sync()
    client.create("/unread", b"x" * 500_000)

    with Coordctl(
        endpoints, "watch", "/unread", "--since", str(before), "--once", "--exec", "--", "true"
    ) as run:
        assert run.ended()[0] == 0


def test_latest_skips_what_happened_while_a_command_ran(
    endpoints: str, client: Client, tmp_path: Path
) -> None:
    go_on, notes = tmp_path / "go-on", tmp_path / "notes"
    script = 'echo "$COORD_EVENT_ZXID" >> "$0"; while ! test -e "$1"; do sleep 0.05; done'
    before = client.sync()
    client.create("/latest")
    arguments = ("watch", "/latest", "--since", str(before), "--exec", "--latest", "--count", "2", "--")
    with Coordctl(endpoints, *arguments, "sh", "-c", script, str(notes), str(go_on)) as watching:
        eventually("the first command runs", lambda: notes.exists() and notes.read_text())
        for number in range(10):
            client.set("/latest", b"%d" % number)
        newest = client.last_zxid
        client.sync()
        go_on.touch()
        # What is on its way to the watch arrives in order, so a further command may run before the newest.
        code = watching.ended()[0]

    first, second = map(int, notes.read_text().split())
    assert code == 0
    assert first == before + 1
    assert first + 1 < second <= newest


def test_a_signal_goes_to_the_command_and_ends_the_watch(
    endpoints: str, client: Client, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    script = 'trap "exit 9" TERM; touch "$0"; while true; do sleep 0.05; done'
    before = client.sync()
    client.create("/asked")
    arguments = ("watch", "/asked", "--since", str(before), "--exec", "--", "sh", "-c", script, str(started))
    with Coordctl(endpoints, *arguments) as watching:
        eventually("the command runs", started.exists)
        watching.signal(signal.SIGTERM)

        assert watching.ended()[0] == 9

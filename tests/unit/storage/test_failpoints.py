"""Failpoints: armed by a variable, deadly at the right time, and nothing otherwise."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coordsvc.storage.failpoints import POINTS, VARIABLE, armed_points

STORAGE = Path(__file__).parents[3] / "coordsvc/storage"
PROGRAM = """
from coordsvc.storage.failpoints import reach
for number in range(5):
    print(number, flush=True)
    reach("log_written")
"""


def run(armed: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {VARIABLE: armed}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_process_dies_when_it_comes_to_the_point_for_the_nth_time() -> None:
    ended = run("log_written@3")

    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.split() == ["0", "1", "2"]
    assert ended.stderr == "failpoint log_written reached\n"


@pytest.mark.parametrize("armed", ["", "tree_written", "log_written@6"])
def test_nothing_happens_at_points_that_are_not_armed_or_not_reached(armed: str) -> None:
    ended = run(armed)

    assert (ended.returncode, ended.stdout.split()) == (0, ["0", "1", "2", "3", "4"])


@pytest.mark.parametrize("armed", ["nowhere", "log_written@0", "log_written@-1", "log_written@x"])
def test_a_point_that_does_not_exist_or_a_strange_count_is_refused(armed: str) -> None:
    with pytest.raises(ValueError, match=re.escape(armed)):
        armed_points(armed)


def test_several_points_may_be_armed() -> None:
    assert armed_points("log_written@3,tree_written") == {"log_written": 3, "tree_written": 1}


def test_every_point_of_the_list_is_somewhere_in_the_code_and_no_other() -> None:
    source = "".join(path.read_text("utf-8") for path in STORAGE.glob("*.py") if path.name != "failpoints.py")
    calls = " ".join(re.findall(r"\breach\(([^)]*)\)", source))

    assert set(re.findall(r'"(\w+)"', calls)) == set(POINTS)

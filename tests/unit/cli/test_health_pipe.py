"""What a command writes about itself, and what becomes of it."""

from __future__ import annotations

import os
import queue
from pathlib import Path

import pytest

from coordclient.cli.health_pipe import HealthPipe
from coordclient.recipes.service_health import TtlCheck

WITHIN_S = 10.0


class RecordingCheck(TtlCheck):
    def __init__(self) -> None:
        super().__init__(60.0)
        self.told: queue.Queue[tuple[str, str]] = queue.Queue()

    def passing(self, note: str = "") -> None:
        self.told.put(("passing", note))

    def warning(self, note: str = "") -> None:
        self.told.put(("warning", note))

    def critical(self, note: str = "") -> None:
        self.told.put(("critical", note))


def write(path: Path, text: bytes) -> None:
    with path.open("wb", buffering=0) as pipe:
        pipe.write(text)


def test_each_line_is_told_with_its_note() -> None:
    check = RecordingCheck()
    with HealthPipe(check) as pipe:
        write(pipe.path, b"passing\nwarning the queue is long\n")
        write(pipe.path, b"critical\n")

        told = [check.told.get(timeout=WITHIN_S) for _ in range(3)]

    assert told == [("passing", ""), ("warning", "the queue is long"), ("critical", "")]


def test_a_line_may_come_in_pieces() -> None:
    check = RecordingCheck()
    with HealthPipe(check) as pipe:
        write(pipe.path, b"pass")
        write(pipe.path, b"ing at last\n")

        assert check.told.get(timeout=WITHIN_S) == ("passing", "at last")


def test_another_word_is_refused_and_what_follows_counts(capfd: pytest.CaptureFixture[str]) -> None:
    check = RecordingCheck()
    with HealthPipe(check) as pipe:
        write(pipe.path, b"fine\n\npassing\n")

        assert check.told.get(timeout=WITHIN_S) == ("passing", "")
    assert capfd.readouterr().err == (
        "coordctl: 'fine' was written to COORD_HEALTH: write passing, warning or critical, and a note\n"
    )


def test_an_endless_line_does_not_fill_the_memory() -> None:
    check = RecordingCheck()
    with HealthPipe(check) as pipe:
        write(pipe.path, b"x" * 200_000)
        write(pipe.path, b"\npassing\n")

        assert check.told.get(timeout=WITHIN_S) == ("passing", "")


def test_nothing_is_left_of_the_pipe_and_only_its_owner_may_write() -> None:
    with HealthPipe(RecordingCheck()) as pipe:
        assert os.stat(pipe.path).st_mode & 0o777 == 0o600
    assert not pipe.path.parent.exists()

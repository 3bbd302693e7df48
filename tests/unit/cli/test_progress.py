"""The line that tells how far a command is: for people on a terminal, and gone at the end."""

from __future__ import annotations

import pytest

from coordclient.cli.progress import ProgressLine


def test_on_a_terminal_each_text_takes_the_place_of_the_last_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with ProgressLine() as progress:
        for text in ("1 of 2", "1 of 2", "2 of 2"):
            progress.show(text)

    assert capsys.readouterr().err == "\r\x1b[K1 of 2\r\x1b[K2 of 2\r\x1b[K"


def test_elsewhere_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine() as progress:
        progress.show("1 of 2")

    assert capsys.readouterr().err == ""

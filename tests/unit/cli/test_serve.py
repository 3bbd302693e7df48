"""`coordsvc serve`: its options are the settings, and what is wrong is refused before anything starts."""

from __future__ import annotations

import subprocess
import sys

from click.testing import CliRunner

from coordsvc.cli import main
from coordsvc.cli.serve import start_lines
from coordsvc.config import ServerConfig, settings


def test_every_setting_is_an_option() -> None:
    text = CliRunner().invoke(main, ["serve", "--help"]).output

    assert [setting.name for setting in settings() if "--" + setting.name.replace("_", "-") not in text] == []


def test_a_wrong_setting_ends_with_usage_code_and_one_line() -> None:
    result = CliRunner().invoke(main, ["serve", "--tick-ms", "soon"])

    assert result.exit_code == 2
    assert result.stderr == "coordsvc: --tick-ms: 'soon' is not a whole number\n"


def test_a_missing_configuration_file_is_named() -> None:
    result = CliRunner().invoke(main, ["serve", "--config", "absent.toml"])

    assert result.exit_code == 2
    assert "absent.toml: No such file or directory" in result.stderr


def test_it_refuses_to_run_without_asserts() -> None:
    result = subprocess.run(
        [sys.executable, "-O", "-m", "coordsvc", "serve"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert result.returncode == 2
    assert "python -O" in result.stderr


def test_the_start_lines_say_who_where_and_how_to_talk_to_it() -> None:
    lines = start_lines(ServerConfig(name="a", initial_cluster="a=h1:7401,b=h2:7401", listen="h1:7400"))

    assert "a, one of 2 members of cluster" in lines
    assert "coordsvc-data" in lines
    assert "coordctl --endpoints h1:7400 status" in lines

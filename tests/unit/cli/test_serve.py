"""`coordsvc serve`: its options are the settings, and what is wrong is refused before anything starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
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


_SAY_WHAT_GRPC_FINDS = """
import os, sys

class Witness:
    def find_spec(self, name, path, target=None):
        if name == "grpc":
            print(os.environ["GRPC_EXPERIMENTS"])

sys.meta_path.insert(0, Witness())
import coordsvc.cli, coordsvc.server.main
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "-event_engine_client,-event_engine_listener"), ({"GRPC_EXPERIMENTS": "mine"}, "mine")],
    ids=["by default", "given by the user"],
)
def test_grpc_is_told_who_reads_its_sockets_before_it_is_imported(
    given: dict[str, str], expected: str
) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}

    output = subprocess.check_output(
        [sys.executable, "-c", _SAY_WHAT_GRPC_FINDS], env=inherited | given, text=True
    )

    assert output == f"{expected}\n"


def test_the_start_lines_say_who_where_and_how_to_talk_to_it() -> None:
    lines = start_lines(ServerConfig(name="a", initial_cluster="a=h1:7401,b=h2:7401", listen="h1:7400"))

    assert "a, one of 2 members of cluster" in lines
    assert "coordsvc-data" in lines
    assert "coordctl --endpoints h1:7400 status" in lines


def test_the_first_start_speaks_of_a_new_cluster_and_a_later_one_of_the_data_directory(
    tmp_path: Path,
) -> None:
    new, used = tmp_path / "new", tmp_path / "used"
    used.mkdir()

    assert "coordsvc-1, the only member of a new cluster" in start_lines(ServerConfig(data_dir=new))
    assert "the member that its data directory says" in start_lines(ServerConfig(data_dir=used))

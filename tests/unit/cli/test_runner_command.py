"""What stands before `--` and what stands after it, and what cannot be run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from coordclient.cli.command import Settings
from coordclient.cli.command_process import problem_with
from coordclient.cli.runner_command import RunnerCommand, checked_grace


@click.command(cls=RunnerCommand, waits_for="the thing")
@click.argument("path")
@click.option("--flag", is_flag=True)
def waiting(settings: Settings, **given: Any) -> None:
    click.echo(json.dumps({**given, "timeout": settings.timeout_s}))


@click.command(cls=RunnerCommand, needs_command=True)
@click.argument("path")
def needing(settings: Settings, path: str, command: tuple[str, ...]) -> None:
    click.echo(json.dumps([settings.timeout_s, path, command]))


def run(command: click.Command, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_everything_after_the_first_dashes_is_the_command() -> None:
    result = run(waiting, "/x", "--flag", "--", "ls", "--flag", "--timeout", "--", "-l")

    given = json.loads(result.stdout)
    assert (given["path"], given["flag"], given["wait_s"]) == ("/x", True, None)
    assert given["command"] == ["ls", "--flag", "--timeout", "--", "-l"]


def test_timeout_bounds_the_waiting_and_has_no_default_there() -> None:
    assert json.loads(run(waiting, "/x").stdout)["wait_s"] is None
    assert json.loads(run(waiting, "/x", "--timeout", "2s").stdout)["wait_s"] == 2.0
    assert "how long to wait for the thing" in run(waiting, "--help").stdout


def test_the_usage_shows_where_the_command_goes() -> None:
    assert "[-- COMMAND...]" in run(waiting, "--help").stdout
    assert " -- COMMAND..." in run(needing, "--help").stdout


@pytest.mark.parametrize(
    ("command", "arguments", "advice"),
    [
        (waiting, ("/x", "ls"), "put -- before the command to run: -- ls"),
        (waiting, ("/x", "ls", "-l"), "with its options, goes after --"),
        (waiting, ("/x", "--"), "name the command to run after --"),
        (needing, ("/x",), "name the command to run after --"),
        (waiting, ("/x", "--nonsense", "--", "ls"), "No such option"),
    ],
)
def test_slips_are_told_with_what_is_right(
    command: click.Command, arguments: tuple[str, ...], advice: str
) -> None:
    result = run(command, *arguments)

    assert result.exit_code == 2
    assert advice in result.stderr


def test_an_unknown_option_of_ours_is_not_taken_for_one_of_the_command() -> None:
    assert "goes after --" not in run(waiting, "/x", "--nonsense", "--", "ls").stderr


def test_the_grace_must_leave_time_to_ride_out_a_lost_connection() -> None:
    assert checked_grace(None, 20.0) == 5.0
    assert checked_grace(None, 4.0) == 1.0
    assert checked_grace(10.0, 20.0) == 10.0
    with pytest.raises(click.UsageError, match="--session-timeout of 22s"):
        checked_grace(11.0, 20.0)


def test_what_cannot_be_run_is_told_before_anything_is_acquired(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("")

    assert problem_with("sh") is None
    assert problem_with("no-such-command") == (127, "no-such-command: command not found")
    assert problem_with(str(tmp_path / "nothing")) == (127, f"{tmp_path}/nothing: command not found")
    assert problem_with(str(text)) == (126, f"{text}: permission denied: it is not executable")
    assert problem_with(str(tmp_path)) == (126, f"{tmp_path}: is a directory")

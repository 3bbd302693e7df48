"""What people type at `coordctl`: slips are refused with the words that are right."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from coordclient.cli.arguments import Duration, Endpoints, ZnodePath, read_value


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("app/config", "did you mean '/app/config'?"),
        ("/app//config", "did you mean '/app/config'?"),
        ("", "paths start with '/'"),
        ("/app/../config", "did you mean '/config'?"),
    ],
)
def test_a_path_with_a_slip_is_refused_with_the_right_one(typed: str, message: str) -> None:
    with pytest.raises(click.BadParameter) as refusal:
        ZnodePath().convert(typed, None, None)
    assert message in refusal.value.message


def test_a_slash_at_the_end_of_a_path_is_forgiven() -> None:
    assert ZnodePath().convert("/app/", None, None) == "/app"
    assert ZnodePath().convert("/", None, None) == "/"
    assert ZnodePath(keep_final_slash=True).convert("/jobs/", None, None) == "/jobs/"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("http://10.0.0.1:7400", "leave http:// out; did you mean '10.0.0.1:7400'?"),
        ("10.0.0.1", "did you mean '10.0.0.1:7400'?"),
        (":7400", "is not HOST:PORT"),
        ("10.0.0.1:http", "'http' is not a port"),
        ("10.0.0.1:70000", "'70000' is not a port"),
        (" , ", "name at least one endpoint"),
        ("a:1,b", "'b' is not HOST:PORT"),
    ],
)
def test_an_endpoint_with_a_slip_is_refused_with_the_right_one(typed: str, message: str) -> None:
    with pytest.raises(click.BadParameter) as refusal:
        Endpoints().convert(typed, None, None)
    assert message in refusal.value.message


def test_endpoints_are_a_list_with_commas() -> None:
    assert Endpoints().convert(" a:1, [::1]:7400 ,", None, None) == "a:1,[::1]:7400"


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("5", 5.0), ("2.5s", 2.5), ("500ms", 0.5), ("10m", 600.0), ("1h", 3600.0), ("2d", 172_800.0)],
)
def test_a_duration_has_a_unit_or_is_in_seconds(typed: str, seconds: float) -> None:
    assert Duration().convert(typed, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("typed", ["", "soon", "-1", "0", "5 minutes", "1e9"])
def test_what_is_no_duration_is_refused(typed: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(typed, None, None)


def test_a_value_comes_from_the_argument_or_the_file_byte_for_byte(tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_bytes(b"\x00\xff\n")

    assert read_value("grüß", None) == "grüß".encode()
    assert read_value("\udcff", None) == b"\xff"  # as the shell hands over a byte that is no UTF-8
    assert read_value(None, file) == b"\x00\xff\n"
    assert read_value(None, None) is None


def test_two_values_or_an_unreadable_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="not both"):
        read_value("a", tmp_path / "value")
    with pytest.raises(click.UsageError, match=r"cannot read .*absent: No such file"):
        read_value(None, tmp_path / "absent")

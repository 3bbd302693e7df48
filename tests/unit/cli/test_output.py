"""What `coordctl` prints: data that scripts can rely on, tables that people can read."""

from __future__ import annotations

import json

import pytest
import yaml

from coordclient.cli.output import (
    age,
    event_data,
    node_data,
    preview,
    print_data,
    print_item,
    print_table,
    session_name,
    value_data,
)
from coordclient.types import Event, EventType, Node, Stat

STAT = Stat(
    czxid=3,
    mzxid=5,
    pzxid=3,
    ctime=1_000,
    mtime=2_000,
    version=1,
    cversion=0,
    aversion=0,
    ephemeral_owner=(1 << 60) + 1,
    data_length=2,
    num_children=0,
)
NODE = Node("/app/ü", "hé".encode(), STAT)


def test_text_stays_text_and_other_bytes_are_base64() -> None:
    assert value_data("hé".encode()) == {"value": "hé", "encoding": "utf-8"}
    assert value_data(b"\xff\x00") == {"value": "/wA=", "encoding": "base64"}


def test_a_session_id_is_text_because_json_numbers_lose_digits() -> None:
    assert node_data(NODE)["stat"]["ephemeral_owner"] == "0x1000000000000001"
    assert session_name(0) == ""


def test_json_and_yaml_hold_the_same_data(capsys: pytest.CaptureFixture[str]) -> None:
    print_data([node_data(NODE)], "json")
    from_json = json.loads(capsys.readouterr().out)
    print_data([node_data(NODE)], "yaml")
    from_yaml = yaml.safe_load(capsys.readouterr().out)

    assert from_json == from_yaml == [node_data(NODE)]


def test_the_names_in_the_data_are_promised() -> None:
    assert list(node_data(NODE)) == ["path", "value", "encoding", "stat"]
    assert list(node_data(NODE)["stat"]) == [
        *("czxid", "mzxid", "pzxid", "ctime", "mtime", "version", "cversion", "aversion"),
        *("ephemeral_owner", "data_length", "num_children"),
    ]


def test_a_stream_is_one_line_of_json_an_item(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in (EventType.CREATED, EventType.RESYNC):
        print_item(event_data(Event(kind, "/a", 7, b"two\nlines")), "json")

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["type"] for line in lines] == ["CREATED", "RESYNC"]
    assert lines[0]["stat"] is None


def test_a_stream_is_one_document_of_yaml_an_item(capsys: pytest.CaptureFixture[str]) -> None:
    for zxid in (7, 8):
        print_item(event_data(Event(EventType.CHANGED, "/a", zxid)), "yaml")

    assert [item["zxid"] for item in yaml.safe_load_all(capsys.readouterr().out)] == [7, 8]


def test_a_table_aligns_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "BYTES"), [("a", "5"), ("longer", "1000")])

    assert capsys.readouterr().out.splitlines() == ["NAME    BYTES", "a           5", "longer   1000"]


def test_an_empty_table_is_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "BYTES"), [])

    assert capsys.readouterr().out == "NAME  BYTES\n"


def test_a_value_cannot_upset_the_terminal() -> None:
    assert preview(b"\x1b[31mred\n") == "·[31mred·"
    assert preview(b"\xff\xfe") == "(2 bytes)"
    assert len(preview(b"x" * 500)) == 61


def test_an_age_is_told_in_its_largest_unit() -> None:
    assert [age(5), age(61_000), age(7_200_000), age(90_000_000)] == ["5ms", "1m", "2h", "1d"]

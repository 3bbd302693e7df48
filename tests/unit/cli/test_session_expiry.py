"""`coordctl session expire`, on a real server in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from coordclient import Client
from coordclient.cli import main, session_expiry
from coordclient.cli.output import session_name
from coordsvc.testing import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.endpoints) as client:
        yield client


def coordctl(server: Server, *arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, ["--endpoints", server.endpoints, *arguments], input=typed)


@pytest.mark.parametrize("form", [session_name, str])
def test_a_session_ends_with_all_that_it_holds(server: Server, client: Client, form: object) -> None:
    assert callable(form)
    victim = client.session_id
    client.create("/held", b"", ephemeral=True)

    result = coordctl(server, "session", "expire", form(victim))

    assert (result.exit_code, result.stdout) == (
        0,
        f"session {session_name(victim)} has ended, as if it had expired\n",
    )
    assert victim not in server.session_ids()
    assert coordctl(server, "get", "/held").exit_code == 4


def test_scripts_read_json(server: Server, client: Client) -> None:
    name = session_name(client.session_id)
    assert json.loads(coordctl(server, "session", "expire", name, "-o", "json").stdout) == {"session": name}


def test_one_that_is_not_there_is_an_error(server: Server) -> None:
    result = coordctl(server, "session", "expire", "0xffff")
    assert result.exit_code == 1
    assert "there is no session 0xffff; it may have ended already" in result.stderr


@pytest.mark.parametrize("text", ["zero", "0", "-1", "0x8000000000000000"])
def test_what_is_no_session_is_wrong_usage(server: Server, text: str) -> None:
    result = coordctl(server, "session", "expire", "--", text)
    assert result.exit_code == 2
    assert "'coordctl session list' shows them" in result.stderr


@pytest.mark.parametrize(("answer", "ends"), [("y\n", True), ("n\n", False)])
def test_somebody_at_a_terminal_is_asked(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch, answer: str, ends: bool
) -> None:
    monkeypatch.setattr(session_expiry, "is_at_terminal", lambda: True)
    victim = client.session_id
    result = coordctl(server, "session", "expire", session_name(victim), typed=answer)
    assert "and lose all that it holds?" in result.stderr
    assert (victim not in server.session_ids()) is ends


def test_nobody_is_asked_who_says_yes(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_expiry, "is_at_terminal", lambda: True)
    assert coordctl(server, "session", "expire", session_name(client.session_id), "--yes").exit_code == 0


def test_the_next_endpoint_is_asked_if_one_does_not_answer(server: Server, client: Client) -> None:
    endpoints = f"127.0.0.1:1,{server.endpoints}"
    arguments = ["--endpoints", endpoints, "session", "expire", session_name(client.session_id)]
    assert CliRunner().invoke(main, arguments).exit_code == 0


def test_it_fails_if_nobody_answers() -> None:
    arguments = ["--endpoints", "127.0.0.1:1", "session", "expire", "1", "--timeout", "1s"]
    assert CliRunner().invoke(main, arguments).exit_code == 3

"""The HTTP check against servers that answer in all ways, or not at all."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from coordclient import InvalidArgumentError
from coordclient.recipes.service_checks import CheckResult
from coordclient.recipes.service_health import HttpCheck, TcpCheck
from coordclient.types import Status
from tests.unit.client.recipes.running_checks import answering, one_result

CERTIFICATE = Path(__file__).parents[2] / "transport" / "localhost.pem"
PASSING, WARNING, CRITICAL = Status.PASSING, Status.WARNING, Status.CRITICAL


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (b"200 OK", PASSING),
        (b"204 No Content", PASSING),
        (b"299 Fine", PASSING),
        (b"429 Too Many Requests", WARNING),
        (b"302 Found", CRITICAL),
        (b"404 Not Found", CRITICAL),
        (b"500 Oh", CRITICAL),
        (b"503", CRITICAL),
    ],
)
async def test_http_codes_mean_what_they_mean_in_consul(code: bytes, status: Status) -> None:
    async with answering(b"HTTP/1.1 " + code + b"\r\nContent-Length: 0\r\n\r\n") as (port, _):
        result = await one_result(HttpCheck(f"http://127.0.0.1:{port}/health"))

    assert result.status is status
    assert result.note.startswith(f"HTTP {code.decode()}")


async def test_what_is_asked_for_is_sent() -> None:
    async with answering(b"HTTP/1.0 200 OK\r\n\r\n") as (port, requests):
        headers = {"Authorization": "Bearer x", "user-agent": "me"}
        await one_result(HttpCheck(f"http://127.0.0.1:{port}?deep=1", method="HEAD", headers=headers))

    lines = requests[0].decode().split("\r\n")
    assert lines[0] == "HEAD /?deep=1 HTTP/1.1"
    assert set(lines[1:]) >= {f"Host: 127.0.0.1:{port}", "Authorization: Bearer x", "user-agent: me"}
    assert not any(line.startswith("User-Agent") for line in lines)


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more", "HTTP 200 OK: hello"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", "HTTP 200 OK: until the end"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\none\r\n4\r\n two\r\n0\r\n\r\n",
            "HTTP 200 OK: one two",
        ),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nlate", "HTTP 200 OK: late"),
        (b"HTTP/1.1 200 OK\nContent-Length: 1\n\n\xff", "HTTP 200 OK: \ufffd"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut off", "HTTP 200 OK: cut off"),
    ],
)
async def test_the_body_becomes_the_note(answer: bytes, note: str) -> None:
    async with answering(answer) as (port, _):
        assert await one_result(HttpCheck(f"http://127.0.0.1:{port}")) == CheckResult(PASSING, note)


@pytest.mark.parametrize(
    "framing", [b"", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 999999999\r\n"]
)
async def test_a_body_without_end_is_read_only_at_its_beginning(framing: bytes) -> None:
    size = b"ffffff\r\n" if b"chunked" in framing else b""
    answer = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + size + b"x" * 100_000
    async with answering(answer, then_hang=True) as (port, _):
        result = await one_result(HttpCheck(f"http://127.0.0.1:{port}", timeout=30))

    assert result.status is PASSING
    assert result.note.startswith("HTTP 200 OK: xxx")
    assert len(result.note) == 500


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000,
        b"HTTP/1.1 200 " + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
)
async def test_what_does_not_speak_http_is_critical(answer: bytes) -> None:
    async with answering(answer) as (port, _):
        result = await one_result(HttpCheck(f"http://127.0.0.1:{port}"))

    assert result.status is CRITICAL
    assert result.note


async def test_a_server_that_never_answers_is_critical() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n", then_hang=True) as (port, _):
        result = await one_result(HttpCheck(f"http://127.0.0.1:{port}", timeout=0.05))

    assert result == CheckResult(CRITICAL, "no result within 0.05 s")


async def test_nobody_there_is_critical() -> None:
    async with answering(b"") as (port, _):
        pass
    for check in (HttpCheck(f"http://127.0.0.1:{port}"), TcpCheck(f"127.0.0.1:{port}")):
        result = await one_result(check)
        assert result.status is CRITICAL
        assert str(port) in result.note


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "127.0.0.1:80"},
        {"url": "ftp://host/"},
        {"url": "http://host/with space"},
        {"url": "http://host/\r\nX-Evil: 1"},
        {"url": "http://host:99999/"},
        {"url": "http://name:password@host/"},
        {"method": "GET / HTTP/1.1\r\nX-Evil:"},
        {"headers": {"X": "1\r\nX-Evil: 1"}},
        {"headers": {"X Y": "1"}},
    ],
)
def test_requests_that_cannot_be_made_are_refused_at_once(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidArgumentError):
        HttpCheck(**{"url": "http://host/", **wrong})  # type: ignore[arg-type]  # that is what is tested


async def test_https_trusts_whom_it_is_told_to_trust() -> None:
    encrypted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    encrypted.load_cert_chain(CERTIFICATE)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with answering(answer, encrypted=encrypted) as (port, _):
        url = f"https://localhost:{port}/health"
        trusted = await one_result(HttpCheck(url, tls=ssl.create_default_context(cafile=CERTIFICATE)))
        stranger = await one_result(HttpCheck(url))

    assert trusted == CheckResult(PASSING, "HTTP 200 OK")
    assert stranger.status is CRITICAL
    assert "certificate verify failed" in stranger.note

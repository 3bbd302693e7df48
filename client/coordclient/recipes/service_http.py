"""One HTTP request, as a health check makes it: the status line, and the beginning of the body.

Rule of this file: everything that is read is bounded, redirects are not followed, the connection is
closed at the end. The caller bounds the time.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from coordclient.errors import InvalidArgumentError

HEADER_LINES_MAX = 200
LINE_BYTES_MAX = 16 << 10
BODY_BYTES_MAX = 4 << 10
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
_CODES_WITHOUT_BODY = (204, 304)


class NotHttpError(ValueError):
    """What answered does not speak HTTP/1."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A status code with its reason, and as much of the body as is wanted."""

    code: int
    reason: str
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """Where to connect to, and what to send."""

    host: str
    port: int
    is_encrypted: bool
    method: str
    head: bytes


def http_request(url: str, method: str, headers: Mapping[str, str]) -> HttpRequest:
    """Make a request of its parts, which come from the application: refuse what cannot be one."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidArgumentError(f"{url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host or not _VISIBLE.fullmatch(url):
        raise InvalidArgumentError(f"{url!r} must be a URL like http://host:port/path, without spaces")
    if parts.username is not None:
        raise InvalidArgumentError("a name or password does not belong into the URL: give it in headers=")
    if not _TOKEN.fullmatch(method):
        raise InvalidArgumentError(f"{method!r} is not an HTTP method")
    lines = {"Host": parts.netloc, "User-Agent": "coordclient", "Accept": "*/*", "Connection": "close"}
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidArgumentError(
                f"{name!r} cannot be sent as an HTTP header: its name or value is malformed"
            )
        lines = {key: kept for key, kept in lines.items() if key.lower() != name.lower()}
        lines[name] = value
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    is_encrypted = parts.scheme == "https"
    return HttpRequest(
        host,
        port or (443 if is_encrypted else 80),
        is_encrypted,
        method,
        f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("ascii"),
    )


async def ask(request: HttpRequest, context: ssl.SSLContext | None) -> HttpAnswer:
    """Send the request and read the answer.

    Raises:
        OSError: The connection failed.
        NotHttpError: The answer is not HTTP.
    """
    reader, writer = await asyncio.open_connection(
        request.host,
        request.port,
        ssl=context if request.is_encrypted else None,
        limit=LINE_BYTES_MAX,
    )
    try:
        writer.write(request.head)
        await writer.drain()
        return await _answer(reader, request.method)
    finally:
        writer.transport.abort()  # Not `close`: saying goodbye in TLS may take longer than we have.


async def _answer(reader: asyncio.StreamReader, method: str) -> HttpAnswer:
    while True:
        code, reason = _status(await _line(reader))
        headers = await _headers(reader)
        if not 100 <= code < 200:  # 1xx only precedes the answer.
            break
    if method == "HEAD" or code in _CODES_WITHOUT_BODY:
        return HttpAnswer(code, reason, b"")
    return HttpAnswer(code, reason, await _body(reader, headers))


async def _line(reader: asyncio.StreamReader) -> str:
    try:
        line = await reader.readline()
    except ValueError:
        raise NotHttpError(f"a line is longer than {LINE_BYTES_MAX} bytes") from None
    if not line.endswith(b"\n"):
        raise NotHttpError("the connection was closed before the answer was complete")
    return line.decode("latin-1").strip()


def _status(line: str) -> tuple[int, str]:
    version, _, rest = line.partition(" ")
    code, _, reason = rest.strip().partition(" ")
    if not version.startswith("HTTP/1.") or not re.fullmatch("[1-5][0-9][0-9]", code):
        raise NotHttpError(f"the answer is not HTTP/1: {line[:80]!r}")
    return int(code), reason.strip()


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(HEADER_LINES_MAX):
        line = await _line(reader)
        if not line:
            return headers
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    raise NotHttpError(f"the answer has more than {HEADER_LINES_MAX} headers")


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """Read the body as far as it is wanted. It is only shown to people: what is cut off does not matter."""
    if headers.get("transfer-encoding", "").lower().endswith("chunked"):
        return await _chunks(reader)
    length = headers.get("content-length", "")
    return await _read(reader, int(length) if re.fullmatch("[0-9]{1,18}", length) else BODY_BYTES_MAX)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while len(body) < BODY_BYTES_MAX:
        size = (await _line(reader)).partition(";")[0].strip()
        if not re.fullmatch("[0-9A-Fa-f]{1,8}", size):
            raise NotHttpError(f"a chunk of the body has no size: {size[:20]!r}")
        if not int(size, 16):
            break
        body += await _read(reader, int(size, 16))
        await _line(reader) if len(body) < BODY_BYTES_MAX else None
    return body[:BODY_BYTES_MAX]


async def _read(reader: asyncio.StreamReader, length: int) -> bytes:
    found = b""
    wanted = min(length, BODY_BYTES_MAX)
    while len(found) < wanted and (piece := await reader.read(wanted - len(found))):
        found += piece
    return found

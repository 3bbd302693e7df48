"""The admin port: `/metrics` for Prometheus, `/livez` and `/readyz` for whoever restarts and routes.

Rule of this file: answers come from the member's event loop, so a member that hangs is not live.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from coordsvc.server.logs import log
from coordsvc.server.status import is_ready

if TYPE_CHECKING:
    from coordsvc.server.member import Member

_REQUEST_BYTES_MAX = 8192
_REQUEST_WITHIN_S = 5.0


class AdminServer:
    """A very small HTTP/1.1 server: one GET a connection."""

    def __init__(self, member: Member) -> None:
        self._member = member

    async def run(self, host: str, port: int) -> None:
        """Serve until cancelled."""
        server = await asyncio.start_server(self._serve, host, port, limit=_REQUEST_BYTES_MAX)
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_WITHIN_S):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(request))
                await writer.drain()
        except (
            TimeoutError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            ConnectionError,
        ) as error:
            log(logging.DEBUG, "admin_request_dropped", reason=repr(error))
        finally:
            writer.close()

    def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        target = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET\n")
        if target == b"/metrics":
            return _response(HTTPStatus.OK, self._member.metrics.render(), "text/plain; version=0.0.4")
        if target == b"/livez":
            return _response(HTTPStatus.OK, b"live\n")
        if target == b"/readyz":
            if is_ready(self._member):
                return _response(HTTPStatus.OK, b"ready\n")
            return _response(HTTPStatus.SERVICE_UNAVAILABLE, self._why_not_ready())
        return _response(HTTPStatus.NOT_FOUND, b"try /metrics, /livez or /readyz\n")

    def _why_not_ready(self) -> bytes:
        if self._member.is_stopping():
            return b"stopping\n"
        if self._member.replica.state.leader is None:
            return b"no leader is known: is a majority of the members up and connected?\n"
        return b"catching up with the log\n"


def _response(status: HTTPStatus, body: bytes, content_type: str = "text/plain") -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {content_type}; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body

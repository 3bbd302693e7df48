"""A TCP proxy in front of one address, to cut whoever goes through it off from what is behind it.

Rule of this file: bytes pass unchanged and in order, or they do not pass; what is cut is said by the name
of the method that cuts.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, on, 0 s: the close is an RST


class Proxy:
    """`async with Proxy(target) as proxy`: connect to `proxy.address` instead of to `target`."""

    def __init__(self, target: str, port: int) -> None:
        self.target = target
        self.address = f"{HOST}:{port}"
        self._port = port
        self._server: asyncio.Server | None = None
        self._sides: set[_Side] = set()
        self._dialling: set[asyncio.Task[None]] = set()
        self.is_passing = True

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_listening()
        for task in self._dialling:
            task.cancel()
        if self._dialling:
            await asyncio.wait(self._dialling)
        self.reset()

    # -----------------------------------------------------------------------------------------
    # What a test does

    def reset(self) -> None:
        """Break every connection with an RST. New ones are served."""
        for side in list(self._sides):
            side.break_off()

    def refuse(self) -> None:
        """Break every connection, and refuse new ones."""
        self._stop_listening()
        self.reset()

    def black_hole(self) -> None:
        """Let nothing pass, without a word: connections stay, and new ones are accepted."""
        self.is_passing = False
        for side in self._sides:
            side.update_reading()

    async def resume(self) -> None:
        """Serve again; what a black hole held back comes out now."""
        self.is_passing = True
        for side in list(self._sides):
            side.update_reading()
        if self._server is None:
            await self._listen()

    @property
    def connection_count(self) -> int:
        return len(self._sides) // 2

    # -----------------------------------------------------------------------------------------
    # Connections

    async def _listen(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(self._accept, HOST, self._port)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _accept(self) -> _Side:
        return _Side(self, dials=True)

    def dial(self, side: _Side) -> None:
        task = asyncio.get_running_loop().create_task(self._dial(side))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _dial(self, side: _Side) -> None:
        host, port = self.target.rsplit(":", 1)
        other = _Side(self, dials=False)
        try:
            await asyncio.get_running_loop().create_connection(lambda: other, host, int(port))
        except OSError:
            side.break_off()  # What is behind us is down: the one in front sees the same.
            return
        side.join(other)

    def opened(self, side: _Side) -> None:
        self._sides.add(side)

    def closed(self, side: _Side) -> None:
        self._sides.discard(side)


class _Side(asyncio.Protocol):
    """One of the two connections that a proxied connection consists of."""

    def __init__(self, proxy: Proxy, *, dials: bool) -> None:
        self._proxy = proxy
        self._dials = dials
        self._transport: asyncio.Transport | None = None
        self._other: _Side | None = None
        self._other_is_full = False
        self._is_closed = False

    def join(self, other: _Side) -> None:
        self._other, other._other = other, self
        if self._is_closed:
            other.break_off()
        self.update_reading()
        other.update_reading()

    def update_reading(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._other is not None and self._proxy.is_passing and not self._other_is_full:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def break_off(self) -> None:
        transport = self._transport
        if transport is None or self._is_closed:
            return
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()

    # --- called by asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._proxy.opened(self)
        self.update_reading()
        if self._dials:
            self._proxy.dial(self)

    def data_received(self, data: bytes) -> None:
        assert self._other is not None
        assert self._other._transport is not None
        self._other._transport.write(data)

    def eof_received(self) -> bool:
        if self._other is not None and self._other._transport is not None:
            self._other._transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other._other_is_full = True
            self._other.update_reading()

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other._other_is_full = False
            self._other.update_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_closed = True
        self._proxy.closed(self)
        if self._other is None:
            return
        if error is not None:
            self._other.break_off()
        elif self._other._transport is not None:
            self._other._transport.close()

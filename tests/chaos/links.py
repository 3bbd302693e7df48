"""Faulty TCP links: every connection to a member goes through a gate that can cut, delay, slice and break it.

A gate stands in front of one port of one member. In front of a peer port it reads the greeting of each
connection, so every *directed* link between two members has rules of its own.

Rule of this file: bytes pass unchanged and in order, or the connection is broken: this is TCP.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from google.protobuf.message import DecodeError

from coordproto.v1 import peer_pb2

HOST = "127.0.0.1"
QUEUE_BYTES_MAX = 1 << 20
GREETING_BYTES_MAX = 4096
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, on, 0 s: the close is an RST


@dataclass(slots=True)
class Traffic:
    """How bytes pass in one direction.

    Attributes:
        is_held: Nothing passes, without a word; what is held comes out later.
        delay_s: Every byte is so much later than without a gate.
        slice_bytes: Bytes leave in pieces of this size, one every `slice_every_s`; 0: as they came.
        break_after_bytes: So many more bytes pass, then the connection is reset; None: never.
    """

    is_held: bool = False
    delay_s: float = 0.0
    slice_bytes: int = 0
    slice_every_s: float = 0.0
    break_after_bytes: int | None = None


@dataclass(slots=True)
class Link:
    """The rules of one way from `source` to `target`, and the connections that they hold for."""

    source: str
    target: str
    is_refused: bool = False
    forward: Traffic = field(default_factory=Traffic)
    backward: Traffic = field(default_factory=Traffic)
    connections: dict[Connection, None] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.source}->{self.target}"

    def refuse(self) -> None:
        """Reset what is there, and whatever comes."""
        self.is_refused = True
        self.reset()

    def reset(self) -> None:
        """Break every connection with an RST. New ones are served."""
        for connection in list(self.connections):
            connection.break_off()

    def hold(self, *, forward: bool = True, backward: bool = True) -> None:
        """Let nothing pass, without a word."""
        self.forward.is_held |= forward
        self.backward.is_held |= backward
        self._update()

    def delay(self, seconds: float) -> None:
        self.forward.delay_s = self.backward.delay_s = seconds / 2

    def slice(self, size: int, every_s: float) -> None:
        for traffic in (self.forward, self.backward):
            traffic.slice_bytes, traffic.slice_every_s = size, every_s

    def break_after(self, size: int) -> None:
        """Break the connections somewhere in the middle of what is sent next."""
        self.forward.break_after_bytes = self.backward.break_after_bytes = size

    def half_open(self) -> None:
        """Whoever dialled sees a reset; the member behind the gate is told nothing."""
        for connection in list(self.connections):
            connection.orphan()

    def heal(self) -> None:
        self.is_refused = False
        self.forward = Traffic()
        self.backward = Traffic()
        for connection in list(self.connections):
            if connection.is_orphan:
                connection.break_off()
        self._update()

    def _update(self) -> None:
        for connection in list(self.connections):
            connection.update()


class Gate:
    """`async with Gate(target_address, port, link_of)`: connect to the port instead of to the target.

    `link_of` names the link of a connection by the first bytes; None while they do not suffice.
    """

    def __init__(self, target: str, port: int, link_of: Callable[[bytes], Link | None]) -> None:
        self.address = f"{HOST}:{port}"
        self.link_of = link_of
        self.target = target
        self.bytes_passed = 0
        self.connections: dict[Connection, None] = {}
        self._port = port
        self._dialling: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self).front, HOST, self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._dialling:
            task.cancel()
        if self._dialling:
            await asyncio.wait(self._dialling)
        for connection in list(self.connections):
            connection.break_off()

    def dial(self, connection: Connection) -> None:
        task = asyncio.get_running_loop().create_task(self._dial(connection))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _dial(self, connection: Connection) -> None:
        host, port = self.target.rsplit(":", 1)
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection.back, host, int(port))
        except OSError:
            connection.break_off()  # What is behind us is down: the one in front sees the same.


class Connection:
    """One proxied connection: the side in front, which dialled us, and the side behind, which we dial."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.link: Link | None = None
        self.is_orphan = False
        self.front = Side(self)
        self.back = Side(self)
        self.first_bytes = b""
        gate.connections[self] = None

    def traffic_from(self, side: Side) -> Traffic | None:
        if self.link is None:
            return None
        return self.link.forward if side is self.front else self.link.backward

    def other(self, side: Side) -> Side:
        return self.back if side is self.front else self.front

    def find_link(self, data: bytes) -> None:
        """Find out whose connection this is, then dial on."""
        self.first_bytes += data
        link = self.gate.link_of(self.first_bytes)
        if link is None:
            return
        self.link = link
        link.connections[self] = None
        if link.is_refused:
            self.break_off()
            return
        if self.first_bytes:
            self.back.queue_up(self.first_bytes, link.forward)
        self.gate.dial(self)

    def update(self) -> None:
        for side in (self.front, self.back):
            side.update_reading()
            side.flush()

    def orphan(self) -> None:
        self.is_orphan = True
        self.front.break_off()
        self.update()

    def break_off(self) -> None:
        self.is_orphan = False
        self.front.break_off()
        self.back.break_off()
        self.forget()

    def forget(self) -> None:
        self.gate.connections.pop(self, None)
        if self.link is not None:
            self.link.connections.pop(self, None)


class Side(asyncio.Protocol):
    """One of the two sockets of a proxied connection; `queue` is what waits to be written to it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.is_closed = False
        self.transport: asyncio.Transport | None = None
        self.queue: deque[tuple[float, bytes]] = deque()
        self.queued_bytes = 0
        self._is_full = False
        self._timer: asyncio.TimerHandle | None = None
        self._ends_after_queue = False

    # --- writing ---

    def queue_up(self, data: bytes, traffic: Traffic) -> None:
        """Take bytes that came from the other side."""
        now = asyncio.get_running_loop().time()
        size = traffic.slice_bytes or len(data)
        due = max(now + traffic.delay_s, self.queue[-1][0] if self.queue else 0.0)
        for start in range(0, len(data), size):
            self.queue.append((due, data[start : start + size]))
            due += traffic.slice_every_s
        self.queued_bytes += len(data)
        self.flush()

    def flush(self) -> None:
        """Write what is due, if anything may pass."""
        other = self.connection.other(self)
        traffic = self.connection.traffic_from(other)
        if self.transport is None or self.is_closed or traffic is None or traffic.is_held:
            return
        now = asyncio.get_running_loop().time()
        while self.queue and self.queue[0][0] <= now:
            _, data = self.queue.popleft()
            self.queued_bytes -= len(data)
            if not self._pass(data, traffic):
                return
        if self.queue and self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(self.queue[0][0], self._timer_rang)
        if not self.queue and self._ends_after_queue:
            self.transport.close()
        other.update_reading()

    def _pass(self, data: bytes, traffic: Traffic) -> bool:
        assert self.transport is not None
        left = traffic.break_after_bytes
        if left is not None and left < len(data):
            traffic.break_after_bytes = None
            self.transport.write(data[:left])
            self.connection.break_off()
            return False
        if left is not None:
            traffic.break_after_bytes = left - len(data)
        self.transport.write(data)
        self.connection.gate.bytes_passed += len(data)
        return True

    def _timer_rang(self) -> None:
        self._timer = None
        self.flush()

    # --- reading ---

    def update_reading(self) -> None:
        """Read from this socket only what the other side may be given soon."""
        transport = self.transport
        if transport is None or self.is_closed or transport.is_closing():
            return
        connection = self.connection
        if connection.link is None:
            return  # Its first bytes say whose it is.
        other = connection.other(self)
        traffic = connection.traffic_from(self)
        is_free = traffic is not None and not traffic.is_held and not other._is_full
        if is_free and not connection.is_orphan and other.queued_bytes < QUEUE_BYTES_MAX:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def break_off(self) -> None:
        self._stop_timer()
        if self.transport is None:
            self.is_closed = True  # A connection that is made after this is broken at once.
            return
        if self.is_closed:
            return
        connection: socket.socket = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- called by asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.is_closed:
            transport.abort()
            return
        if self.connection.link is None:
            self.connection.find_link(b"")
        self.connection.update()

    def data_received(self, data: bytes) -> None:
        connection = self.connection
        if connection.link is None:
            connection.find_link(data)
            return
        traffic = connection.traffic_from(self)
        assert traffic is not None
        connection.other(self).queue_up(data, traffic)

    def pause_writing(self) -> None:
        self._is_full = True
        self.connection.other(self).update_reading()

    def resume_writing(self) -> None:
        self._is_full = False
        self.connection.other(self).update_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """Whoever closes, closes both ways: neither members nor gRPC use half a connection."""
        self.is_closed = True
        self._stop_timer()
        connection = self.connection
        if connection.is_orphan and self is connection.front:
            return
        other = connection.other(self)
        if error is not None or other.transport is None:
            other.break_off()
        else:
            other.end_after_queue()
        if other.is_closed:
            connection.forget()

    def end_after_queue(self) -> None:
        self._ends_after_queue = True
        self.flush()


def greeted_from(first_bytes: bytes) -> str | None:
    """Return who dialled, from the greeting of a peer connection; None if there is not enough yet.

    Whoever does not speak the protocol of members is called "?".
    """
    if len(first_bytes) < 4:
        return None
    length = int.from_bytes(first_bytes[:4], "big")
    if not 0 < length <= GREETING_BYTES_MAX:
        return "?"
    if len(first_bytes) < 4 + length:
        return None
    try:
        frame = peer_pb2.PeerFrame.FromString(first_bytes[4 : 4 + length])
    except DecodeError:
        return "?"
    return str(getattr(frame.hello, "from")) or "?"

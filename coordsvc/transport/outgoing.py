"""The sending half of a link: dial a peer, greet, then write what is queued; again and again.

Rule of this file: what is sent together leaves in one write, at once unless the network holds it up, and
nothing is queued beyond the limit or for a link that is down.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

from coordsvc.transport.complaints import LOG, Complaints
from coordsvc.transport.framing import LENGTH_BYTES, FrameReader, FrameTooLarge, join_frames, with_length
from coordsvc.transport.handshake import (
    HELLO_BYTES_MAX,
    Admit,
    Greeted,
    Identity,
    RefusedByPeer,
    Unwelcome,
    read_hello,
)
from coordsvc.transport.interface import OnLinkUp, OnRefused
from coordsvc.transport.settings import LinkSettings
from coordsvc.transport.sockets import prepare_socket, was_closed_by_host

OnOutgoingDown = Callable[[str, bool], None]
"""(peer, closed_by_host): the link is down; the peer's host has closed or reset it, rather than we or the
network."""

OnNobodyThere = Callable[[str], None]
"""(peer): its host refuses the connection."""

_WRITE_BYTES = 256 * 1024  # about what one write to the socket is given


class OutgoingLink:
    """Frames to one peer."""

    def __init__(
        self,
        peer: str,
        address: tuple[str, int],
        *,
        identity: Identity,
        settings: LinkSettings,
        dice: random.Random,
        complaints: Complaints,
        on_link_up: OnLinkUp,
        on_link_down: OnOutgoingDown,
        ssl_context: ssl.SSLContext | None,
        admit: Admit = lambda _greeted: None,
        on_refused: OnRefused = lambda _peer, _cause, _index: None,
        on_nobody_there: OnNobodyThere = lambda _peer: None,
    ) -> None:
        self._peer = peer
        self._admit = admit
        self._on_refused = on_refused
        self._on_nobody_there = on_nobody_there
        self._address = address
        self._identity = identity
        self._settings = settings
        self._dice = dice
        self._complaints = complaints
        self._on_link_up = on_link_up
        self._on_link_down = on_link_down
        self._ssl_context = ssl_context
        self._connection: _Connection | None = None  # greeted, and not lost yet
        self._dial_now = asyncio.Event()
        self._failures = 0

    @property
    def address(self) -> tuple[str, int]:
        return self._address

    # --- sending ---

    @property
    def is_up(self) -> bool:
        return self._connection is not None and not self._connection.is_lost

    @property
    def queued_bytes(self) -> int:
        return self._connection.pending_bytes if self._connection is not None else 0

    def send(self, frames: Sequence[bytes]) -> bool:
        connection = self._connection
        if connection is None or connection.is_lost:
            return False
        for frame in frames:
            if len(frame) > self._settings.frame_bytes_max:
                self._complaints.warn(
                    f"size to {self._peer}",
                    f"a frame of {len(frame)} bytes to member '{self._peer}' was dropped: "
                    f"the limit is {self._settings.frame_bytes_max}",
                )
                return False
        count, size = self._that_fit(connection, frames)
        if count:
            connection.queue(frames[:count], size)
        if count < len(frames):
            self._complaints.warn(
                f"queue to {self._peer}",
                f"frames to member '{self._peer}' are dropped: {connection.pending_bytes} bytes wait "
                "already, the network or that member is too slow",
            )
            return False
        return True

    def _that_fit(self, connection: _Connection, frames: Sequence[bytes]) -> tuple[int, int]:
        """Return how many of the frames have room in the queue, and their bytes.

        The first ones go even if the last do not: what is sent again together, after a change of leader,
        may be more than the queue holds each time, and would never arrive.
        """
        room = self._settings.queue_bytes_max - connection.pending_bytes
        size = 0
        for count, frame in enumerate(frames):
            if size + LENGTH_BYTES + len(frame) > room:
                return count, size
            size += LENGTH_BYTES + len(frame)
        return len(frames), size

    def dial_now(self) -> None:
        """The peer has just been heard from: if the link is down, do not wait any longer."""
        self._dial_now.set()

    # --- the link's life ---

    async def run(self) -> None:
        """Keep the link up until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            started_s = loop.time()
            connection = _Connection(self._identity, self._peer, self._settings)
            try:
                greeted = await self._dial(connection)
                if greeted is not None:
                    await self._serve(connection, greeted)
            finally:
                self._connection = None
                connection.abort()
            if greeted is not None and loop.time() - started_s >= self._settings.link_proven_s:
                self._failures = 0
            else:
                self._failures += 1
            if greeted is None or self._failures:
                await self._wait_before_dialling()

    async def _dial(self, connection: _Connection) -> Greeted | None:
        """Connect and greet. Returns None, after saying why, if that failed."""
        self._dial_now.clear()
        host, port = self._address
        try:
            async with asyncio.timeout(self._settings.greeting_timeout_s):
                await self._connect(connection)
                greeted = await connection.greeted
            unwelcome = self._admit(greeted)
            if unwelcome is None:
                return greeted
            self._complain(f"member '{self._peer}' at {host}:{port} is not linked: {unwelcome}")
        except Unwelcome as error:
            if isinstance(error, RefusedByPeer):
                self._on_refused(self._peer, error.cause, error.configuration_index)
            self._complain(f"member '{self._peer}' at {host}:{port} is not linked: {error}")
        except TimeoutError:
            self._complain(f"member '{self._peer}' at {host}:{port} does not answer; still trying")
        except OSError as error:
            if isinstance(error, ConnectionRefusedError):
                self._on_nobody_there(self._peer)
            self._complain(f"cannot reach member '{self._peer}' at {host}:{port}: {error}; still trying")
        return None

    async def _connect(self, connection: _Connection) -> None:
        """Connect. Raises OSError, also for an address that nobody can look up."""
        host, port = self._address
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: connection, host, port, ssl=self._ssl_context)
        except ValueError as error:
            # `getaddrinfo` raises UnicodeError for a host that no name server could be asked for. The address
            # may be in the log: it must not end this member, and all others, whenever they start.
            raise OSError(f"{host!r} is no host: {error}") from error

    async def _serve(self, connection: _Connection, greeted: Greeted) -> None:
        if connection.is_lost:
            return
        self._connection = connection
        self._complaints.forget(f"dial {self._peer}")
        LOG.info("the link to member '%s' is up", self._peer)
        self._on_link_up(self._peer, greeted.client_address)
        closed_by_host = await self._wait_until_lost(connection)
        self._connection = None
        LOG.info("the link to member '%s' is down: %s", self._peer, connection.end)
        self._on_link_down(self._peer, closed_by_host)

    async def _wait_until_lost(self, connection: _Connection) -> bool:
        """Wait for the end of the link, or end it when the peer takes nothing any more."""
        taken_bytes, stalled_s = 0, 0.0
        interval_s = self._settings.stall_timeout_s / 4
        while True:
            done, _ = await asyncio.wait((connection.lost,), timeout=interval_s)
            if done:
                return connection.lost.result()
            progress = connection.taken_bytes > taken_bytes or not connection.pending_bytes
            stalled_s = 0.0 if progress else stalled_s + interval_s
            taken_bytes = connection.taken_bytes
            if stalled_s >= self._settings.stall_timeout_s:
                self._complain(
                    f"member '{self._peer}' takes nothing: {connection.pending_bytes} bytes have waited for "
                    f"{stalled_s:.0f} s; the link is closed and dialled again"
                )
                connection.abort()

    async def _wait_before_dialling(self) -> None:
        """Back off, doubling up to a limit, with jitter; less if the peer is heard from meanwhile."""
        settings = self._settings
        ceiling_s = min(settings.backoff_s_max, settings.backoff_s_min * 2 ** min(self._failures - 1, 16))
        delay_s = ceiling_s * self._dice.uniform(0.5, 1.0)
        try:
            async with asyncio.timeout(delay_s):
                await self._dial_now.wait()
                # Heard from: soon, but a peer that greets and hangs up must not make us spin.
                await asyncio.sleep(settings.backoff_s_min)
        except TimeoutError:
            return

    def _complain(self, text: str) -> None:
        self._complaints.warn(f"dial {self._peer}", text)


class _Connection(asyncio.Protocol):
    """One TCP connection that this member dialled."""

    def __init__(self, identity: Identity, peer: str, settings: LinkSettings) -> None:
        loop = asyncio.get_running_loop()
        self.greeted: asyncio.Future[Greeted] = loop.create_future()
        self.lost: asyncio.Future[bool] = loop.create_future()
        self.taken_bytes = 0
        self.end = ""  # why it was lost, for people
        self._identity = identity
        self._peer = peer
        self._settings = settings
        self._reader = FrameReader(HELLO_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._written_bytes = 0
        self._is_paused = False
        self._aborted_by_us = False

    @property
    def is_lost(self) -> bool:
        return self.lost.done()

    @property
    def pending_bytes(self) -> int:
        if self._transport is None:
            return 0
        waiting = self._transport.get_write_buffer_size()
        self.taken_bytes = self._written_bytes - waiting
        return self._queued_bytes + waiting

    def queue(self, frames: Sequence[bytes], size: int) -> None:
        self._queue += frames
        self._queued_bytes += size
        self._flush()

    def abort(self) -> None:
        self._aborted_by_us = True
        if self._transport is not None:
            self._transport.abort()

    # --- called by asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's streams are no subclass of it
        self._transport = transport
        prepare_socket(transport, self._settings)
        transport.set_write_buffer_limits(high=self._settings.write_bytes_high)
        transport.write(with_length(self._identity.hello_to(self._peer)))

    def data_received(self, data: bytes) -> None:
        if self.greeted.done():
            self.abort()  # after its greeting the other side has nothing to say on this connection
            return
        try:
            frames = self._reader.feed(data)
            if frames:
                self.greeted.set_result(read_hello(frames[0], self._identity, (self._peer,)))
        except (FrameTooLarge, Unwelcome) as error:
            self._fail_greeting(error if isinstance(error, Unwelcome) else Unwelcome(str(error)))
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        closed_by_host = not self._aborted_by_us and was_closed_by_host(error)
        self.end = "closed here" if self._aborted_by_us else str(error or "closed by the other side")
        if not self.lost.done():
            self.lost.set_result(closed_by_host)
        if not self.greeted.done():
            self._fail_greeting(ConnectionResetError("it closed the connection without a greeting"))

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._flush()

    # --- inside ---

    def _fail_greeting(self, error: Exception) -> None:
        self.greeted.set_exception(error)
        self.greeted.exception()  # seen: the dialler may have given up waiting for it

    def _flush(self) -> None:
        transport, queue = self._transport, self._queue
        if transport is None or transport.is_closing():
            return
        while queue and not self._is_paused:
            batch: list[bytes] = []
            size = 0
            while queue and size < _WRITE_BYTES:
                frame = queue.popleft()
                batch.append(frame)
                size += LENGTH_BYTES + len(frame)
            self._queued_bytes -= size
            self._written_bytes += size
            transport.write(join_frames(batch))

"""The receiving half of links: who dials in, whether it may, and what it sends.

Rule of this file: nobody is listened to before its greeting was found good, and nothing that a stranger
sends costs more than a few kilobytes and one line in the log.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import cast

from google.protobuf.message import DecodeError

from coordproto.v1 import peer_pb2
from coordsvc.codec.peer_messages import MalformedFrame
from coordsvc.transport.complaints import LOG, Complaints
from coordsvc.transport.framing import FrameReader, FrameTooLarge, with_length
from coordsvc.transport.handshake import (
    HELLO_BYTES_MAX,
    Admit,
    Greeted,
    Identity,
    Unwelcome,
    read_hello,
    refusal,
)
from coordsvc.transport.interface import OnFrames
from coordsvc.transport.settings import LinkSettings
from coordsvc.transport.sockets import prepare_socket, was_closed_by_host


class ListenError(Exception):
    """The address for peers cannot be used."""


class Listener:
    """Accepts links from the other members."""

    def __init__(
        self,
        listen: tuple[str, int] | socket.socket,
        *,
        identity: Identity,
        admit: Admit,
        settings: LinkSettings,
        complaints: Complaints,
        on_frames: OnFrames,
        on_greeted: Callable[[str], None],
        on_closed: Callable[[str], None],
        on_fault: Callable[[BaseException], None],
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.identity = identity
        self.admit = admit
        self.settings = settings
        self.complaints = complaints
        self.on_frames = on_frames
        self.on_fault = on_fault
        self._listen = listen
        self._on_greeted = on_greeted
        self._on_closed = on_closed
        self._ssl_context = ssl_context
        self._server: asyncio.Server | None = None
        self._strangers: set[_Connection] = set()
        self._links: dict[str, _Connection] = {}

    async def start(self) -> None:
        """Bind and accept.

        Raises:
            ListenError: The address is taken or not ours.
        """
        listen = partial(
            asyncio.get_running_loop().create_server,
            lambda: _Connection(self),
            ssl=self._ssl_context,
            ssl_handshake_timeout=self.settings.greeting_timeout_s if self._ssl_context else None,
        )
        try:
            if isinstance(self._listen, socket.socket):
                self._server = await listen(sock=self._listen)
            else:
                host, port = self._listen
                self._server = await listen(host, port)
        except OSError as error:
            raise ListenError(
                f"cannot listen for members on {self._listen}: {error}; is another server running there?"
            ) from error

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; the real port if 0 was asked for."""
        assert self._server is not None, "started"
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    def stop(self) -> None:
        """Accept no more and drop every connection."""
        if self._server is not None:
            self._server.close()
        for connection in (*self._strangers, *self._links.values()):
            connection.abort()

    @property
    def peers(self) -> tuple[str, ...]:
        """Who is linked to us now."""
        return tuple(self._links)

    def has_link_from(self, peer: str) -> bool:
        """Return whether this peer is linked to us now."""
        return peer in self._links

    def drop(self, peer: str) -> None:
        """End the link from this peer: it is no member any more. It hears so when it dials again."""
        connection = self._links.get(peer)
        if connection is not None:
            connection.abort()

    # --- called by connections ---

    def admit_stranger(self, connection: _Connection) -> bool:
        """Take in a connection that has yet to greet; False if too many are waiting."""
        if len(self._strangers) >= self.settings.strangers_max:
            return False
        self._strangers.add(connection)
        return True

    def admit_peer(self, connection: _Connection, greeted: Greeted) -> None:
        """Make a greeted connection the link from its peer, in the place of an older one."""
        self._strangers.discard(connection)
        older = self._links.get(greeted.name)
        if older is not None:
            older.abort()
        self._links[greeted.name] = connection
        LOG.info("member '%s' is linked to us", greeted.name)
        self._on_greeted(greeted.name)

    def forget(self, connection: _Connection, peer: str | None, *, closed_by_host: bool) -> None:
        """A connection has ended: it was a stranger's, or the link from `peer`."""
        self._strangers.discard(connection)
        if peer is None or self._links.get(peer) is not connection:
            return
        del self._links[peer]
        if closed_by_host:
            self._on_closed(peer)


class _Connection(asyncio.Protocol):
    """One TCP connection that was dialled by somebody."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._reader = FrameReader(HELLO_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._peer: str | None = None
        self._is_closing = False
        self._timer: asyncio.TimerHandle | None = None

    def abort(self) -> None:
        self._is_closing = True
        if self._transport is not None:
            self._transport.abort()

    # --- called by asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's streams are no subclass of it
        self._transport = transport
        settings = self._listener.settings
        prepare_socket(transport, settings)
        if not self._listener.admit_stranger(self):
            self._refuse(Unwelcome("too many connections without a greeting"))
            return
        late = Unwelcome(f"no greeting within {settings.greeting_timeout_s:g} s")
        self._timer = asyncio.get_running_loop().call_later(settings.greeting_timeout_s, self._refuse, late)

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        try:
            frames = self._reader.feed(data)
            if self._peer is None and frames:
                self._greet(frames.pop(0))
            if frames:
                self._deliver(frames)
        except Unwelcome as error:
            self._refuse(error)
        except (FrameTooLarge, MalformedFrame) as error:
            self._refuse(Unwelcome(str(error)))

    def connection_lost(self, error: Exception | None) -> None:
        closed_by_host = not self._is_closing and was_closed_by_host(error)
        self._is_closing = True
        self._stop_timer()
        self._listener.forget(self, self._peer, closed_by_host=closed_by_host)

    # --- inside ---

    def _greet(self, frame: bytes) -> None:
        listener = self._listener
        greeted = read_hello(frame, listener.identity)
        unwelcome = listener.admit(greeted)
        if unwelcome is not None:
            raise unwelcome
        self._stop_timer()
        self._peer = greeted.name
        self._reader.frame_bytes_max = listener.settings.frame_bytes_max
        self._write(listener.identity.hello_to(greeted.name))
        listener.admit_peer(self, greeted)

    def _deliver(self, frames: list[bytes]) -> None:
        assert self._peer is not None, "frames are taken from greeted peers only"
        try:
            parsed = [peer_pb2.PeerFrame.FromString(frame) for frame in frames]
        except DecodeError as error:
            raise MalformedFrame("a frame that is not one") from error
        try:
            self._listener.on_frames(self._peer, parsed)
        except MalformedFrame:
            raise
        except BaseException as error:
            # asyncio would log this and close the connection; it has to end the member.
            self._listener.on_fault(error)
            raise

    def _refuse(self, unwelcome: Unwelcome) -> None:
        """Close for a reason, telling it to the log and to the other side."""
        if self._is_closing or self._transport is None:
            return
        self._is_closing = True
        self._stop_timer()
        if self._peer is not None:
            who = subject = f"member '{self._peer}'"
        else:
            host = (self._transport.get_extra_info("peername") or ("unknown",))[0]
            who, subject = f"a connection from {host}", f"from {host}"
        self._listener.complaints.warn(subject, f"{who} is refused: {unwelcome}")
        self._write(refusal(unwelcome))
        self._transport.close()
        # A side that does not read cannot keep the connection.
        asyncio.get_running_loop().call_later(1.0, self._transport.abort)

    def _write(self, frame: bytes) -> None:
        assert self._transport is not None, "written to a made connection"
        self._transport.write(with_length(frame))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

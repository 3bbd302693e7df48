"""All links of one member: a listener for what comes in, one dialler for each peer. Peers come and go.

Rule of this file: composition only. Each pair of members has two connections, one for each direction.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NoReturn

from coordsvc.transport.complaints import Complaints
from coordsvc.transport.handshake import Admit, Identity, admit_named
from coordsvc.transport.interface import OnFrames, OnLinkDown, OnLinkUp, OnPeerGone, OnRefused
from coordsvc.transport.listener import Listener
from coordsvc.transport.outgoing import OutgoingLink
from coordsvc.transport.settings import LinkSettings


class PeerLinks:
    """Implements `PeerTransport` over asyncio streams. Made on the event loop's thread.

    Callbacks are called on the loop. See `interface.py` for what they may raise.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        listen: tuple[str, int] | socket.socket,
        peers: Mapping[str, tuple[str, int]],
        on_frames: OnFrames,
        on_link_up: OnLinkUp,
        on_link_down: OnLinkDown,
        dice: random.Random,
        admit: Admit | None = None,
        on_refused: OnRefused = lambda _peer, _cause, _index: None,
        on_peer_gone: OnPeerGone = lambda _peer: None,
        settings: LinkSettings | None = None,
        server_ssl: ssl.SSLContext | None = None,
        client_ssl: ssl.SSLContext | None = None,
    ) -> None:
        """`admit` decides who may be linked to us; without it, those that there is a link to."""
        assert identity.name not in peers, "a member has no link to itself"
        loop = asyncio.get_running_loop()
        settings = settings or LinkSettings()
        complaints = Complaints(loop.time)
        self._fault: asyncio.Future[NoReturn] = loop.create_future()
        self._is_listening = False
        self._outgoing: dict[str, OutgoingLink] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._on_link_down = on_link_down
        self._on_peer_gone = on_peer_gone
        admit = admit or admit_named(self._outgoing, identity.name)
        self._make_link = partial(
            OutgoingLink,
            identity=identity,
            settings=settings,
            dice=dice,
            complaints=complaints,
            on_link_up=on_link_up,
            on_link_down=self._link_ended,
            ssl_context=client_ssl,
            admit=admit,
            on_refused=on_refused,
            on_nobody_there=self._closed_by_host,
        )
        self._listener = Listener(
            listen,
            identity=identity,
            admit=admit,
            settings=settings,
            complaints=complaints,
            on_frames=on_frames,
            on_greeted=self._dial_back,
            on_closed=self._closed_by_host,
            on_fault=self._note_fault,
            ssl_context=server_ssl,
        )
        self.set_members(peers)

    def set_members(self, addresses: Mapping[str, tuple[str, int]]) -> None:
        """Keep links to these, at these addresses, and to nobody else. See `PeerTransport`."""
        for peer, link in list(self._outgoing.items()):
            if addresses.get(peer) != link.address:
                self._end_link(peer, link)
        for peer in self._listener.peers:
            if peer not in addresses:
                self._listener.drop(peer)
        for peer, address in addresses.items():
            if peer not in self._outgoing:
                self._outgoing[peer] = self._make_link(peer, address)
                self._start_dialling(peer)

    def _end_link(self, peer: str, link: OutgoingLink) -> None:
        was_up = link.is_up
        del self._outgoing[peer]
        dialling = self._dialling.pop(peer, None)
        if dialling is not None:
            dialling.cancel()
        if was_up:
            self._on_link_down(peer)

    def _start_dialling(self, peer: str) -> None:
        if self._tasks is not None:
            link = self._outgoing[peer]
            self._dialling[peer] = self._tasks.create_task(link.run(), name=f"link to {peer}")

    async def listen(self) -> tuple[str, int]:
        """Bind the address for peers, if `run` has not yet. Returns it, with the real port.

        Raises:
            ListenError: It cannot be used.
        """
        if not self._is_listening:
            self._is_listening = True
            await self._listener.start()
        return self._listener.address

    async def run(self) -> None:
        """Listen and dial until cancelled. An exception out of a callback ends it."""
        await self.listen()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for peer in self._outgoing:
                    self._start_dialling(peer)
                await self._fault
        finally:
            self._tasks = None
            self._listener.stop()

    def send(self, peer: str, frames: bytes | Sequence[bytes]) -> bool:
        """Queue one encoded PeerFrame or several. See `PeerTransport.send`."""
        link = self._outgoing.get(peer)
        if link is None:
            return False
        return link.send((frames,) if isinstance(frames, bytes) else frames)

    def queued_bytes(self, peer: str) -> int:
        """Return how many bytes wait to be taken by the network."""
        link = self._outgoing.get(peer)
        return link.queued_bytes if link is not None else 0

    def is_up(self, peer: str) -> bool:
        """Return whether frames can be sent to `peer` now."""
        link = self._outgoing.get(peer)
        return link is not None and link.is_up

    def _dial_back(self, peer: str) -> None:
        link = self._outgoing.get(peer)
        if link is not None:
            link.dial_now()

    def _link_ended(self, peer: str, closed_by_host: bool) -> None:
        self._on_link_down(peer)
        if closed_by_host:
            self._closed_by_host(peer)

    def _closed_by_host(self, peer: str) -> None:
        """Its host has closed a connection, or refuses one: say so unless another one stands."""
        if peer not in self._outgoing or self.is_up(peer) or self._listener.has_link_from(peer):
            return
        try:
            self._on_peer_gone(peer)
        except BaseException as error:
            # Said by the event loop, it would be logged and no more; it has to end the member.
            self._note_fault(error)
            raise

    def _note_fault(self, error: BaseException) -> None:
        if not self._fault.done():
            self._fault.set_exception(error)

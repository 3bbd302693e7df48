"""All links of one member: a listener for what comes in, one dialler for each peer.

Rule of this file: composition only. Each pair of members has two connections, one for each direction.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import NoReturn

from coordsvc.transport.complaints import Complaints
from coordsvc.transport.handshake import Identity
from coordsvc.transport.interface import OnFrames, OnLinkDown, OnLinkUp
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
        cluster_id: str,
        name: str,
        client_address: str,
        listen: tuple[str, int] | socket.socket,
        peers: Mapping[str, tuple[str, int]],
        on_frames: OnFrames,
        on_link_up: OnLinkUp,
        on_link_down: OnLinkDown,
        dice: random.Random,
        settings: LinkSettings | None = None,
        server_ssl: ssl.SSLContext | None = None,
        client_ssl: ssl.SSLContext | None = None,
    ) -> None:
        assert name not in peers, "a member has no link to itself"
        loop = asyncio.get_running_loop()
        settings = settings or LinkSettings()
        identity = Identity(cluster_id, name, client_address)
        complaints = Complaints(loop.time)
        self._fault: asyncio.Future[NoReturn] = loop.create_future()
        self._is_listening = False
        self._outgoing = {
            peer: OutgoingLink(
                peer,
                address,
                identity=identity,
                settings=settings,
                dice=dice,
                complaints=complaints,
                on_link_up=on_link_up,
                on_link_down=on_link_down,
                ssl_context=client_ssl,
            )
            for peer, address in peers.items()
        }
        self._listener = Listener(
            listen,
            identity=identity,
            peers=frozenset(peers),
            settings=settings,
            complaints=complaints,
            on_frames=on_frames,
            on_greeted=self._dial_back,
            on_fault=self._note_fault,
            ssl_context=server_ssl,
        )

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
                for peer, link in self._outgoing.items():
                    tasks.create_task(link.run(), name=f"link to {peer}")
                await self._fault
        finally:
            self._listener.stop()

    def send(self, peer: str, frames: bytes | Sequence[bytes]) -> bool:
        """Queue one encoded PeerFrame or several, all or none. See `PeerTransport.send`."""
        link = self._outgoing.get(peer)
        if link is None:
            return False
        return link.send((frames,) if isinstance(frames, bytes) else frames)

    def queued_bytes(self, peer: str) -> int:
        """Return how many bytes wait to be taken by the network."""
        return self._outgoing[peer].queued_bytes

    def is_up(self, peer: str) -> bool:
        """Return whether frames can be sent to `peer` now."""
        link = self._outgoing.get(peer)
        return link is not None and link.is_up

    def _dial_back(self, peer: str) -> None:
        self._outgoing[peer].dial_now()

    def _note_fault(self, error: BaseException) -> None:
        if not self._fault.done():
            self._fault.set_exception(error)

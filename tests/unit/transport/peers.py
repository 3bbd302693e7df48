"""Members with real sockets, and strangers, for tests of links.

Rule of this file: waiting is always for an event, never for time to pass.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from coordproto.v1 import peer_pb2
from coordsvc.transport.framing import with_length
from coordsvc.transport.handshake import Admit, Identity
from coordsvc.transport.links import PeerLinks
from coordsvc.transport.settings import LinkSettings

PATIENCE_S = 30.0
QUICK = LinkSettings(backoff_s_min=0.01, backoff_s_max=0.02)

Address = tuple[str, int]


def bound_socket(port: int = 0) -> socket.socket:
    """Bind a port of this host; it is taken, and refuses connections, until somebody listens on it."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def numbered(number: int, size: int = 0) -> bytes:
    """Encode a frame that can be told apart."""
    forward = peer_pb2.Forward(commands=[b"%d" % number, bytes(size)])
    return peer_pb2.PeerFrame(forward=forward).SerializeToString()


def number_of(frame: peer_pb2.PeerFrame) -> int:
    return int(frame.forward.commands[0])


def client_address_of(name: str) -> str:
    return f"clients-of-{name}:7400"


@dataclass
class Member:
    """One member's links, and what they told it."""

    name: str
    links: PeerLinks
    batches: list[tuple[str, list[peer_pb2.PeerFrame]]] = field(default_factory=list)
    ups: list[tuple[str, str]] = field(default_factory=list)
    downs: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    on_frames: Callable[[str, list[peer_pb2.PeerFrame]], None] | None = None
    refusals: list[tuple[str, int, int]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    event: asyncio.Event = field(default_factory=asyncio.Event)

    def numbers(self) -> list[int]:
        return [number_of(frame) for _, frames in self.batches for frame in frames]

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until one of the callbacks made `condition` true."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.event.clear()
                await self.event.wait()

    async def wait_up(self, count: int = 1) -> None:
        await self.wait(lambda: len(self.ups) >= count)


def make_member(
    name: str,
    listen: socket.socket,
    peers: dict[str, Address],
    *,
    cluster_id: str = "cluster",
    settings: LinkSettings = QUICK,
    admit: Admit | None = None,
    server_ssl: ssl.SSLContext | None = None,
    client_ssl: ssl.SSLContext | None = None,
) -> Member:
    member: Member

    def on_frames(peer: str, frames: list[peer_pb2.PeerFrame]) -> None:
        member.batches.append((peer, frames))
        member.event.set()
        if member.on_frames is not None:
            member.on_frames(peer, frames)

    def on_link_up(peer: str, client_address: str) -> None:
        member.ups.append((peer, client_address))
        member.event.set()

    def on_link_down(peer: str) -> None:
        member.downs.append(peer)
        member.event.set()

    def on_peer_gone(peer: str) -> None:
        member.gone.append(peer)
        member.event.set()

    def on_refused(peer: str, cause: int, configuration_index: int) -> None:
        member.refusals.append((peer, cause, configuration_index))
        member.event.set()

    links = PeerLinks(
        identity=Identity(cluster_id, name, client_address_of(name)),
        listen=listen,
        peers=peers,
        on_frames=on_frames,
        on_link_up=on_link_up,
        on_link_down=on_link_down,
        on_peer_gone=on_peer_gone,
        on_refused=on_refused,
        dice=random.Random(1),
        admit=admit,
        settings=settings,
        server_ssl=server_ssl,
        client_ssl=client_ssl,
    )
    member = Member(name, links)
    return member


def complaints_of(member: Member) -> list[str]:
    """Return a list, filled from now on, of all that the member complains about; each wakes `wait`."""
    complaints = member.links._listener.complaints
    heard: list[str] = []
    warn = complaints.warn

    def hear(subject: str, text: str) -> None:
        heard.append(text)
        member.event.set()
        warn(subject, text)

    complaints.warn = hear  # type: ignore[method-assign]  # a probe
    return heard


@asynccontextmanager
async def running(*members: Member) -> AsyncIterator[None]:
    """Run the members' links, and end them again."""
    for member in members:
        await member.links.listen()
        member.task = asyncio.create_task(member.links.run(), name=member.name)
    await asyncio.sleep(0)  # a task that is cancelled before its first step would clean nothing up
    try:
        yield
    finally:
        for member in members:
            await end(member)


async def end(member: Member) -> None:
    """Cancel a member's links, as the end of its process does."""
    if member.task is None or member.task.done():
        return
    member.task.cancel()
    await asyncio.wait((member.task,))


class Stranger:
    """A connection to a member that was made by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def greet(self, name: str, to: str, cluster_id: str = "cluster") -> peer_pb2.PeerFrame:
        """Greet as a member does, and return what is answered."""
        await self.send(with_length(Identity(cluster_id, name, "").hello_to(to)))
        return await self.read_frame()

    async def read_frame(self) -> peer_pb2.PeerFrame:
        async with asyncio.timeout(PATIENCE_S):
            length = int.from_bytes(await self.reader.readexactly(4), "big")
            return peer_pb2.PeerFrame.FromString(await self.reader.readexactly(length))

    async def read_to_the_end(self) -> bytes:
        """Wait until the other side has closed. Returns what it still said."""
        said = b""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while piece := await self.reader.read(65536):
                    said += piece
            except ConnectionResetError:
                return said
        return said


@asynccontextmanager
async def stranger(address: Address) -> AsyncIterator[Stranger]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield Stranger(reader, writer)
    finally:
        writer.transport.abort()


class Peer:
    """Plays member b, to whom member a dials: connections wait here for the test to serve them."""

    def __init__(self, listening: socket.socket) -> None:
        self.listening = listening
        self.dialled: asyncio.Queue[Stranger] = asyncio.Queue()

    async def next_connection(self) -> Stranger:
        async with asyncio.timeout(PATIENCE_S):
            return await self.dialled.get()

    async def next_link(self, name: str = "b", cluster_id: str = "cluster") -> Stranger:
        """Take the next connection and greet on it."""
        connection = await self.next_connection()
        hello = (await connection.read_frame()).hello
        assert (hello.cluster_id, getattr(hello, "from"), hello.to) == ("cluster", "a", "b")
        await connection.send(with_length(Identity(cluster_id, name, "clients-of-b:7400").hello_to("a")))
        return connection


@asynccontextmanager
async def dialling(settings: LinkSettings = QUICK) -> AsyncIterator[tuple[Member, Peer]]:
    peer = Peer(bound_socket())
    # A small window, so that a reader that does not read is felt soon.
    peer.listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    accepted: list[asyncio.StreamWriter] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        peer.dialled.put_nowait(Stranger(reader, writer))

    server = await asyncio.start_server(accept, sock=peer.listening, limit=8192)
    member = make_member("a", bound_socket(), {"b": peer.listening.getsockname()}, settings=settings)
    try:
        async with running(member):
            yield member, peer
    finally:
        server.close()
        for writer in accepted:
            writer.transport.abort()

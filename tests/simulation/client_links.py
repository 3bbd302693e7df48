"""Connections between clients and members, as a gRPC stream behaves: in order until it breaks.

A client calls `world.connect(name, member)` and sets the three callbacks of the link before it returns to
the world. `on_opened` says that the member has accepted (frames may be sent before that), `on_items` brings
encoded ServerItems, `on_closed` is called once at most, and last. What is on its way when a link breaks is
lost.

Rule of this file: it moves bytes and tells both ends what a network would tell them, no more: a cut or a
member that stands still looks like silence, and only somebody's patience ends that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from coordproto.v1 import coordination_pb2
from coordsvc.replica.connections import Connection
from coordsvc.replica.core import Replica
from tests.simulation.world import MICROSECOND, World

_LATENCY_NS_MIN = 50 * MICROSECOND
_UNREAD_MAX = 4  # server frames on their way, before the member waits for the client to read


class ClientHost(Protocol):
    """A member from outside. Handlers run when its process runs, never while it stands still."""

    name: str
    server_ends: dict[int, ServerEnd]  # by the number of the connection

    @property
    def replica(self) -> Replica: ...

    def is_listening(self) -> bool:
        """Whether the process is up and takes new clients."""

    def process(self) -> int:
        """A number that no two processes of a member share."""

    def feed(self, process: int, handler: Callable[[], None]) -> None:
        """Have the process of this number handle an input; nothing happens if it is gone."""

    def fresh_secret(self) -> bytes:
        """Make the secret of a new session."""


class Weather(Protocol):
    """What the fault plan says about the paths between clients and members."""

    def client_latency_ns(self, client: str, member: str, number: int) -> int:
        """How long the next thing takes beyond the least latency."""

    def is_client_cut(self, client: str, member: str) -> bool:
        """Whether nothing gets through at present."""


class CalmWeather:
    """Nothing goes wrong."""

    def client_latency_ns(self, client: str, member: str, number: int) -> int:
        return 0

    def is_client_cut(self, client: str, member: str) -> bool:
        return False


def _itself(member: str) -> str:
    return member


def _nothing_opened() -> None: ...


def _nothing_read(_items: list[bytes]) -> None: ...


def _nothing_closed(_reason: str) -> None: ...


class ClientLink:
    """The client's end of one connection."""

    def __init__(self, network: ClientNetwork, client: str, host: ClientHost, number: int) -> None:
        self.client = client
        self.member = host.name
        self.number = number
        self.frame_items_max = network.frame_items_max
        self.is_open = True
        self.on_opened: Callable[[], None] = _nothing_opened
        self.on_items: Callable[[list[bytes]], None] = _nothing_read
        self.on_closed: Callable[[str], None] = _nothing_closed
        self._network = network
        self._up = _Pipe(network, client, host.name, f"{number}>")
        self._down = _Pipe(network, client, host.name, f"{number}<")
        self._end = ServerEnd(self, host)
        self._up.put(self._end.dial)

    def become(self, end: ServerEnd) -> None:
        """Have another end at the member, before anything was sent: that of a call and not of a stream."""
        self._end = end
        self._up.lose_all()
        self._up.put(end.dial)

    def send(self, frame: bytes) -> None:
        """Send one encoded ClientFrame; without effect once the link is closed."""
        if self.is_open:
            self._up.put(lambda: self._end.take(frame))

    def close(self) -> None:
        """Hang up. No callback follows; the member learns of it after a while."""
        if self.is_open:
            self._end_here()
            self._up.put(self._end.hung_up)

    def reset(self, reason: str) -> None:
        """The network breaks the connection: both ends are told, what is on its way is lost."""
        if not self.is_open and self._end.is_over:
            return
        self._up.lose_all()
        self._down.lose_all()
        self._up.put(self._end.hung_up)
        self._down.put(lambda: self.closed(reason))

    # What the server's end does.

    def opened(self) -> None:
        if self.is_open:
            self.on_opened()

    def items(self, items: list[bytes]) -> None:
        """The items have travelled to the client; it reads them, and the member may send more."""
        if self.is_open:
            self.on_items(items)
            self._up.put(self._end.was_read)

    def closed(self, reason: str) -> None:
        if self.is_open:
            self._end_here()
            self.on_closed(reason)

    def to_client(self, handler: Callable[[], None]) -> None:
        self._down.put(handler)

    def lose_unsent(self) -> None:
        self._down.lose_all()

    def _end_here(self) -> None:
        self.is_open = False
        self._network.forget(self)


class ServerEnd:
    """The member's end of one connection: what `coordsvc.api.session_stream` does."""

    def __init__(self, link: ClientLink, host: ClientHost) -> None:
        self.is_over = False
        self._link = link
        self._host = host
        self._process = -1
        self._connection: Connection | None = None
        self._unread = 0
        self._waiting: deque[bytes] = deque()  # frames that were not read from the client yet

    def dial(self) -> None:
        link, host = self._link, self._host
        if not host.is_listening():
            self.is_over = True
            link.to_client(lambda: link.closed("refused"))
            return
        self._process = host.process()
        link.to_client(link.opened)

    def take(self, frame: bytes) -> None:
        """A frame has arrived at the member's host."""
        link, host = self._link, self._host
        if self.is_over:
            return
        if host.process() != self._process:
            self.is_over = True
            link.to_client(lambda: link.closed("connection reset by the member's host"))
            return
        host.feed(self._process, lambda: self._handle(frame))

    def hung_up(self) -> None:
        """The client has closed, or the network has broken the connection."""
        if not self.is_over:
            self.is_over = True
            self._host.feed(self._process, self._close_connection)

    def was_read(self) -> None:
        self._unread -= 1
        if self._unread < _UNREAD_MAX:
            self._host.feed(self._process, self.wake)

    def process_ended(self, *, is_told: bool) -> None:
        """The member's process is gone. With `is_told` its host says so to the client."""
        self.is_over = True
        self._link.lose_unsent()
        if is_told:
            link = self._link
            link.to_client(lambda: link.closed("the member's process has ended"))

    def wake(self) -> None:
        """The replica has something for this client, or has dropped it. Runs inside the member."""
        connection = self._connection
        if connection is None or self.is_over:
            return
        while self._unread < _UNREAD_MAX and connection.outgoing:
            self._send(connection.take())
            if connection.reads or connection.catch_up is not None:
                self._host.replica.taken(connection)
        if connection.is_closed and not connection.outgoing:
            self._finish()
            return
        while self._waiting and not self._is_paused(connection):
            self._feed_frame(self._waiting.popleft())

    def _send(self, items: list[bytes]) -> None:
        count = self._link.frame_items_max or len(items)
        for start in range(0, len(items), count):
            self._send_frame(items[start : start + count])

    def _send_frame(self, items: list[bytes]) -> None:
        self._unread += 1
        link = self._link
        link.to_client(lambda: link.items(items))

    def _finish(self) -> None:
        self.is_over = True
        link = self._link
        link.to_client(lambda: link.closed("the member has ended the connection"))
        self._forget()

    def _handle(self, encoded: bytes) -> None:
        if self.is_over:
            return
        if self._connection is None:
            frame = coordination_pb2.ClientFrame.FromString(encoded)
            assert frame.HasField("attach"), "the first frame attaches"
            self._connection = self._host.replica.open_connection(frame.attach, self._host.fresh_secret())
            self._host.server_ends[self._connection.number] = self
        else:
            self._waiting.append(encoded)
        self.wake()

    def _feed_frame(self, encoded: bytes) -> None:
        connection = self._connection
        if connection is not None and not connection.is_closed:
            frame = coordination_pb2.ClientFrame.FromString(encoded)
            self._host.replica.client_frame(connection, frame)

    def _is_paused(self, connection: Connection) -> bool:
        settings = self._host.replica.state.settings
        return (
            connection.outgoing_bytes > settings.pause_outgoing_bytes
            or connection.outstanding_bytes > settings.pause_outstanding_bytes
        )

    def _close_connection(self) -> None:
        if self._connection is not None:
            self._host.replica.close_connection(self._connection)
        self._forget()

    def _forget(self) -> None:
        if self._connection is not None:
            self._host.server_ends.pop(self._connection.number, None)


class _Pipe:
    """One direction: in order, each thing after its latency, everything waiting while the path is cut."""

    def __init__(self, network: ClientNetwork, client: str, member: str, name: str) -> None:
        self._network = network
        self._client = client
        self._member = member
        self._name = name
        self._queue: deque[Callable[[], None]] = deque()
        self._count = 0
        self._due_ns = 0
        self._generation = 0

    def put(self, arrive: Callable[[], None]) -> None:
        world, weather = self._network.world, self._network.weather
        self._count += 1
        extra_ns = weather.client_latency_ns(self._client, self._member, self._count)
        self._due_ns = max(self._due_ns, world.now_ns + _LATENCY_NS_MIN + extra_ns)
        self._queue.append(arrive)
        generation = self._generation
        world.at(self._due_ns - world.now_ns, lambda: self._deliver(generation))

    def lose_all(self) -> None:
        self._queue.clear()
        self._generation += 1

    def _deliver(self, generation: int) -> None:
        if generation != self._generation:
            return
        if self._network.weather.is_client_cut(self._client, self._member):
            self._network.when_uncut(self._client, lambda: self._deliver(generation))
            return
        self._queue.popleft()()


class ClientNetwork:
    """All connections between clients and members."""

    def __init__(self, world: World, hosts: Mapping[str, ClientHost], weather: Weather | None = None) -> None:
        self.world = world
        self.hosts = hosts
        self.weather: Weather = weather or CalmWeather()
        self.links: dict[int, ClientLink] = {}
        self.frame_items_max = 0  # what a member sends at once is split into frames of so many; 0: it is not
        self.led_to: Callable[[str], str] = _itself  # where the address of a member leads by now
        self._number = 0
        self._held: list[tuple[str, Callable[[], None]]] = []

    def connect(self, client: str, member: str) -> ClientLink:
        self._number += 1
        link = ClientLink(self, client, self.hosts[self.led_to(member)], self._number)
        self.links[self._number] = link
        return link

    def forget(self, link: ClientLink) -> None:
        self.links.pop(link.number, None)

    def when_uncut(self, client: str, deliver: Callable[[], None]) -> None:
        """Hold what has arrived at a cut; `uncut` lets it through."""
        self._held.append((client, deliver))

    def uncut(self) -> None:
        """Some path works again: everything tries once more, in order."""
        held, self._held = self._held, []
        for _, deliver in held:
            deliver()

"""A link in front of a member that a test can cut, hold, and let lose a request or a reply.

It is a gRPC server that passes every call on, so a fault hits whole messages: a request is applied, or it
never arrives; nothing is left to the size of a TCP segment.

Rule of this file: messages pass unchanged and in order, or the call ends. They are decoded only while a drop
waits for one that fits.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from coordproto.v1 import coordination_pb2
from coordsvc.testing.errors import TestServerError
from coordsvc.testing.ports import HOST, free_ports

_ATTACH = "/coordproto.v1.Session/Attach"
_UNARY_WRITES = {
    "/coordproto.v1.Coordination/Create": "create",
    "/coordproto.v1.Coordination/Set": "set",
    "/coordproto.v1.Coordination/Delete": "delete",
    "/coordproto.v1.Coordination/Txn": "transaction",
}
WRITE_KINDS = ("create", "set", "delete", "transaction")
READ_KINDS = ("get", "exists", "list_children", "sync", "watch")
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.enable_http_proxy", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
)

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(eq=False)
class Drop:
    """A request or reply that is to be lost. `happened` says whether that was so; `wait` waits for it."""

    kinds: tuple[str, ...]
    loses_reply: bool
    happened: bool = False
    is_taken: bool = False  # its request is on the way: by another link, if several wait for it
    _event: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> None:
        """Wait until the message was lost and its connection was cut."""
        await self._event.wait()

    def done(self) -> None:
        self.happened = True
        self._event.set()


def make_drop(kinds: tuple[str, ...], *, loses_reply: bool) -> Drop:
    """Make a drop of the next request of these kinds; of none: of every write."""
    unknown = [kind for kind in kinds if kind not in (*WRITE_KINDS, *READ_KINDS)]
    if unknown:
        known = ", ".join((*WRITE_KINDS, *READ_KINDS))
        raise ValueError(f"{unknown[0]!r} is no kind of request; choose of {known}")
    return Drop(kinds or WRITE_KINDS, loses_reply)


class FaultyLink:
    """`async with FaultyLink(target) as link`: clients connect to `link.address` instead of to `target`.

    Clients learn from a member where it is reached: give the member the link's address as its
    `--advertise-client`, or they go past the link when it is cut.

    Attributes:
        requests: How many messages came from clients; a message of a session may hold many operations.
        replies: How many messages were passed to clients.
    """

    def __init__(self, target: str, address: str = "") -> None:
        """Prepare the link; without an `address` it chooses a free port of this machine."""
        self.target = target
        self.address = address or f"{HOST}:{free_ports(1)[0]}"
        self.requests = 0
        self.replies = 0
        self._is_refusing = False
        self._passes = asyncio.Event()
        self._passes.set()
        self._calls: dict[_Call, None] = {}
        self._drops: list[Drop] = []
        self._server: grpc.aio.Server | None = None
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self.target, options=_OPTIONS)
        self._server = grpc.aio.server(handlers=[_Handler(self)], options=_OPTIONS)
        try:
            self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise TestServerError(f"cannot listen on {self.address}: {error}") from error
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        assert self._server is not None
        assert self._channel is not None
        await self._server.stop(0.2)
        await self._channel.close()

    # -----------------------------------------------------------------------------------------
    # What a test does

    @property
    def connection_count(self) -> int:
        """Return how many calls pass through now; an attached session is one."""
        return sum(not call.is_broken for call in self._calls)

    def cut(self) -> None:
        """Break every connection. Clients may connect again at once."""
        for call in self._calls:
            call.break_off()

    def refuse(self) -> None:
        """Break every connection, and refuse new ones until `accept`: the member is not reachable."""
        self._is_refusing = True
        self._passes.set()
        self.cut()

    def accept(self) -> None:
        """Let clients connect again, after `refuse`."""
        self._is_refusing = False

    def black_hole(self) -> None:
        """Let nothing pass, without a word, until `resume`: connections stay, and new ones are accepted."""
        self._passes.clear()

    def resume(self) -> None:
        """Let pass what `black_hole` held back, and all that follows."""
        self._passes.set()

    def drop_next_reply(self, *kinds: str) -> Drop:
        """Lose the answer to the next request: it is applied, and the connection breaks with its answer.

        Args:
            kinds: Which requests count: of `WRITE_KINDS` and `READ_KINDS`; default: every write.
        """
        return self.arm(make_drop(kinds, loses_reply=True))

    def drop_next_request(self, *kinds: str) -> Drop:
        """Lose the next request: it never reaches the member, and the connection breaks.

        Args:
            kinds: As for `drop_next_reply`.
        """
        return self.arm(make_drop(kinds, loses_reply=False))

    def arm(self, drop: Drop) -> Drop:
        """Let a request that fits meet this drop, unless another link is sooner."""
        self._drops.append(drop)
        return drop

    # -----------------------------------------------------------------------------------------
    # Calls

    async def serve(self, method: str, context: Context) -> None:
        """Pass one call on, until it ends at either side or is broken."""
        if self._is_refusing:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the test's link refuses connections")
        assert self._channel is not None
        call = _Call(self, method, context, self._channel)
        self._calls[call] = None
        try:
            await call.run()
        finally:
            del self._calls[call]

    async def wait_passing(self) -> None:
        await self._passes.wait()

    def take_drop(self, method: str, message: bytes) -> tuple[Drop, _Awaited] | None:
        """Return the drop that this request is the next one for, and how its answer is known."""
        self._drops = [drop for drop in self._drops if not drop.is_taken]
        if not self._drops:
            return None
        awaited = _what_is_asked(method, message)
        drop = next((drop for drop in self._drops if awaited.kinds & set(drop.kinds)), None)
        if drop is None:
            return None
        drop.is_taken = True
        return drop, awaited


@dataclass(frozen=True)
class _Awaited:
    """The requests in one message: their kinds, and the numbers that their answers carry."""

    kinds: frozenset[str] = frozenset()
    sequences: frozenset[int] = frozenset()
    reads: frozenset[int] = frozenset()

    def is_answered_by(self, method: str, message: bytes) -> bool:
        if method != _ATTACH:
            return True
        items = coordination_pb2.ServerFrame.FromString(message).items
        return any(item.write.sequence in self.sequences or item.read.id in self.reads for item in items)


def _what_is_asked(method: str, message: bytes) -> _Awaited:
    if method != _ATTACH:
        kind = _UNARY_WRITES.get(method)
        return _Awaited(frozenset((kind,) if kind else ()))
    try:
        frame = coordination_pb2.ClientFrame.FromString(message)
    except DecodeError:
        return _Awaited()
    writes = frame.writes.writes
    kinds = [write.WhichOneof("op") for write in writes] + [read.WhichOneof("op") for read in frame.reads]
    sequences = range(frame.first_sequence, frame.first_sequence + len(writes))
    reads = frozenset(read.id for read in frame.reads)
    return _Awaited(frozenset(str(kind) for kind in kinds), frozenset(sequences), reads)


class _Call:
    """One call on its way through the link: two tasks that carry messages, until one of them ends."""

    def __init__(self, link: FaultyLink, method: str, context: Context, channel: grpc.aio.Channel) -> None:
        self._link = link
        self._method = method
        self._context = context
        self._broken = asyncio.Event()
        self._losing: tuple[Drop, _Awaited] | None = None
        multi_callable: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
        remaining: float | None = context.time_remaining()
        metadata = tuple(
            (key, value) for key, value in context.invocation_metadata() or () if key != "user-agent"
        )
        self._upstream = multi_callable(timeout=remaining, metadata=metadata)

    @property
    def is_broken(self) -> bool:
        """Whether nothing passes any more; the client hears so before the call has ended here."""
        return self._broken.is_set()

    def break_off(self) -> None:
        self._broken.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        forward = loop.create_task(self._forward(), name="link to the member")
        backward = loop.create_task(self._backward(), name="link to the client")
        broken = loop.create_task(self._broken.wait(), name="link is whole")
        tasks = (forward, backward, broken)
        try:
            await asyncio.wait((backward, broken), return_when=asyncio.FIRST_COMPLETED)
            was_broken = self._broken.is_set()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            failures = [task.exception() for task in tasks if not task.cancelled()]
            if not self._upstream.done():
                self._upstream.cancel()
        for failure in failures:
            if failure is not None and not was_broken:
                raise failure
        if was_broken:
            await self._context.abort(grpc.StatusCode.UNAVAILABLE, "the test's link was cut")
        await self._pass_end()

    async def _forward(self) -> None:
        """Carry messages to the member. Whatever ends its side is told by `_backward`."""
        while (message := await self._context.read()) is not grpc.aio.EOF:
            await self._link.wait_passing()
            self._link.requests += 1
            if self._losing is None:
                self._losing = self._link.take_drop(self._method, message)
                if self._losing is not None and not self._losing[0].loses_reply:
                    self._lose()
                    return
            try:
                await self._upstream.write(message)
            except (grpc.RpcError, asyncio.InvalidStateError):
                return
        try:
            await self._upstream.done_writing()
        except (grpc.RpcError, asyncio.InvalidStateError):
            return

    async def _backward(self) -> None:
        while True:
            try:
                message = await self._upstream.read()
            except grpc.RpcError:
                return
            if not isinstance(message, bytes):
                return
            await self._link.wait_passing()
            if self._losing is not None and self._losing[1].is_answered_by(self._method, message):
                self._lose()
                return
            self._link.replies += 1
            await self._context.write(message)

    def _lose(self) -> None:
        assert self._losing is not None
        self._losing[0].done()
        self._broken.set()

    async def _pass_end(self) -> None:
        """End the call at the client as the member has ended it."""
        code = await self._upstream.code()
        if code is grpc.StatusCode.OK:
            return
        details = await self._upstream.details()
        await self._context.abort(code, details or "", tuple(await self._upstream.trailing_metadata() or ()))


class _Handler(grpc.GenericRpcHandler):
    """Every method there is, as a stream of bytes both ways: on the wire a single message is one, too."""

    def __init__(self, link: FaultyLink) -> None:
        self._link = link

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = str(handler_call_details.method)

        async def serve(_requests: object, context: Context) -> None:
            await self._link.serve(method, context)

        return grpc.stream_stream_rpc_method_handler(serve)

"""One unary or streaming call without a session stream, on the machinery that serves sessions.

A call opens a connection without a session, sends it one frame, and reads the items that come back: there
is no second path for reads, watches or writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self

import grpc.aio

from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.api.gateway import Arguments, ClientHandle, Gateway, Result
from coordsvc.api.status import abort
from coordsvc.codec.results import encode_failure
from coordsvc.statemachine.results import ErrorCode, Failure

DEFAULT_TIMEOUT_S = 10.0
_READ_ID = 1
WATCH_ID = 1


class CallFailedError(Exception):
    """The call ends with this error."""

    def __init__(self, error: data_pb2.Error) -> None:
        super().__init__(error.message)
        self.error = error


def call_failed(code: ErrorCode, message: str, leader_hint: str = "") -> CallFailedError:
    return CallFailedError(encode_failure(Failure(code, message), leader_hint))


class Call:
    """`async with Call(gateway, context) as call`: a connection for the length of one call.

    Inside, a CallFailedError and a deadline that passes end the call with the right status.
    """

    def __init__(self, gateway: Gateway, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._gateway = gateway
        self._context = context
        self._items: list[coordination_pb2.ServerItem] = []
        self._writing = False

    async def __aenter__(self) -> Self:
        if self._gateway.is_stopping():
            refusal = Failure(ErrorCode.SHUTTING_DOWN, "this member is stopping; use another one")
            await abort(self._context, encode_failure(refusal))
        self.handle = ClientHandle(self._gateway, self.feed(self._gateway.replica.open_call))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        was_sent = self._writing and self._gateway.replica.was_sent(self.handle.connection)
        self.handle.close()
        if was_sent and isinstance(error, CallFailedError | TimeoutError):
            await abort(self._context, self._unknown_outcome(error))
        elif isinstance(error, CallFailedError):
            await abort(self._context, error.error)
        elif isinstance(error, TimeoutError):
            await abort(self._context, self._timeout_error())

    def _unknown_outcome(self, error: CallFailedError | TimeoutError) -> data_pb2.Error:
        """Nothing that ends the wait for a write on its way may sound as if it could be repeated (C3)."""
        why = error.error.message if isinstance(error, CallFailedError) else "no answer in time"
        message = f"{why}: the write may or may not have been applied; read before you repeat it"
        return encode_failure(
            Failure(ErrorCode.UNKNOWN_OUTCOME, message), self._gateway.replica.state.leader_hint()
        )

    def _timeout_error(self) -> data_pb2.Error:
        state = self._gateway.replica.state
        if state.leader is None:
            message = (
                "the cluster has no leader now (no majority of its members is up and connected); try again"
            )
            return encode_failure(Failure(ErrorCode.NO_LEADER, message))
        return encode_failure(Failure(ErrorCode.REQUEST_TIMEOUT, "no answer in time"), state.leader_hint())

    def feed(
        self, take_in: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Give the replica an input. See `Gateway.feed`."""
        return self._gateway.feed(take_in, *args, **kwargs)

    def deadline_s(self) -> float:
        """How long this call may wait: what the client gave, at most; less a little for the answer."""
        remaining: float | None = self._context.time_remaining()
        if remaining is None:
            return DEFAULT_TIMEOUT_S
        return max(0.0, remaining * 0.95)

    async def next_item(self) -> coordination_pb2.ServerItem:
        """Wait for the next item. An error item, and the end of the connection, fail the call."""
        while not self._items:
            received = await self.handle.receive()
            if not received:
                raise call_failed(ErrorCode.SHUTTING_DOWN, "this member ended the call; try another one")
            self._items = [coordination_pb2.ServerItem.FromString(item) for item in received]
        item = self._items.pop(0)
        if item.WhichOneof("item") == "error":
            raise CallFailedError(item.error)
        return item

    @property
    def has_more(self) -> bool:
        """Whether items that belong together with the last one may still be to be taken."""
        return bool(self._items or self.handle.connection.outgoing)

    def reopen(self, attach: coordination_pb2.Attach) -> None:
        """Become the connection of a session: this call's items are then the answer to the attach."""
        self.handle.close()
        secret = self._gateway.fresh_secret()
        connection = self.feed(self._gateway.replica.open_connection, attach, secret)
        self.handle = ClientHandle(self._gateway, connection)

    async def read(self, read: coordination_pb2.Read) -> data_pb2.ReadResult:
        """Carry out one read and return its result; a failed one fails the call."""
        read.id = _READ_ID
        self.handle.send(coordination_pb2.ClientFrame(reads=[read]))
        async with asyncio.timeout(self.deadline_s()):
            item = await self.next_item()
        result = item.read
        if result.WhichOneof("result") == "error":
            raise CallFailedError(result.error)
        return result

    async def write_result(self) -> data_pb2.WriteResult:
        """Wait for the result of the write that was submitted."""
        self._writing = True
        try:
            async with asyncio.timeout(self.deadline_s()):
                item = await self.next_item()
        except TimeoutError:
            if not self.handle.connection.outgoing:
                raise
            item = await self.next_item()  # It came together with the deadline, and is waited for no more.
        self._writing = False
        result = item.write
        if result.WhichOneof("result") == "error":
            raise CallFailedError(result.error)
        return result

    async def check_secret(self, session_id: int, secret: bytes) -> int:
        """Refuse an ended session or a wrong secret, after a linearizable look. Returns its timeout."""
        await self.read(coordination_pb2.Read(sync=data_pb2.Sync()))
        timeout_ms = self._gateway.replica.session_timeout_ms(session_id, secret)
        if timeout_ms is None:
            message = (
                f"session {session_id:#x} is unknown or has ended, or its secret is wrong; open a new one"
            )
            raise call_failed(ErrorCode.SESSION_EXPIRED, message)
        return timeout_ms

    async def deliveries(self, watch: data_pb2.Watch) -> AsyncIterator[coordination_pb2.ServerItem]:
        """Set a watch and yield what comes: deliveries, and one `read` item once it has caught up."""
        watch.watch_id = WATCH_ID
        self.handle.send(
            coordination_pb2.ClientFrame(reads=[coordination_pb2.Read(id=_READ_ID, watch=watch)])
        )
        while True:
            item = await self.next_item()
            if item.read.HasField("error"):
                raise CallFailedError(item.read.error)
            yield item

"""What the gRPC services need of the member behind them, and the handle of one client on it.

Rule of this file: the services see `Gateway` only; the runtime implements it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

from coordproto.v1 import coordination_pb2
from coordsvc.replica.changes import Change, ChangeRequest
from coordsvc.replica.connections import Connection
from coordsvc.replica.core import Replica
from coordsvc.statemachine.results import ErrorCode, Failure

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Gateway(Protocol):
    """A running member. Everything runs on its event loop."""

    replica: Replica
    handles: dict[int, ClientHandle]
    frame_bytes_max: int
    cluster_id: str

    def feed(
        self, take_in: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Give the replica an input, and let it speak soon.

        A failure in there, of the disk above all, ends the member: gRPC would end only the call.
        """

    def is_stopping(self) -> bool:
        """Whether this member takes no new clients."""

    def fresh_secret(self) -> bytes:
        """Make the secret of a new session."""

    def status(self) -> coordination_pb2.StatusResponse:
        """Describe this member."""

    async def transfer_leadership(self, member: str) -> str:
        """Hand leadership over and return who leads then. Raises TransferRefusedError."""

    async def change_membership(self, change: Change, *, force: bool, within_s: float) -> ChangeRequest:
        """Change the membership, as the leader; the request has an outcome. Raises ChangeRefusedError."""


class ChangeRefusedError(Exception):
    """The membership was not changed, or it is not known whether it was; `failure` says which, and why."""

    def __init__(self, failure: Failure, leader_hint: str = "") -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.leader_hint = leader_hint


class TransferRefusedError(Exception):
    """Leadership was not handed over; `failure` says why."""

    def __init__(self, message: str, code: ErrorCode = ErrorCode.INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.failure = Failure(code, message)


@dataclass(slots=True)
class _Pause:
    outgoing_bytes: int
    outstanding_bytes: int


class ClientHandle:
    """One client's connection, with the waiting that the pure core cannot do."""

    def __init__(self, gateway: Gateway, connection: Connection) -> None:
        self.connection = connection
        self._gateway = gateway
        self._event = asyncio.Event()
        self._unpaused = asyncio.Event()
        settings = gateway.replica.state.settings
        self._pause = _Pause(settings.pause_outgoing_bytes, settings.pause_outstanding_bytes)
        gateway.handles[connection.number] = self

    def wake(self) -> None:
        """Something changed for this client."""
        self._event.set()
        self._unpaused.set()

    async def receive(self) -> list[bytes]:
        """Wait for items to send, in order. An empty list means that the connection is over."""
        connection = self.connection
        while not connection.outgoing:
            if connection.is_closed:
                return []
            self._event.clear()
            await self._event.wait()
        items = connection.take()
        self._unpaused.set()
        if connection.reads or connection.catch_up is not None:
            self._gateway.feed(self._gateway.replica.taken, connection)
        return items

    def send(self, frame: coordination_pb2.ClientFrame) -> None:
        """Hand a frame of the client to the replica."""
        self._gateway.feed(self._gateway.replica.client_frame, self.connection, frame)

    def is_paused(self) -> bool:
        """Whether to stop reading from the client: it is too far ahead of us, or does not read."""
        connection = self.connection
        return not connection.is_closed and (
            connection.outgoing_bytes > self._pause.outgoing_bytes
            or connection.outstanding_bytes > self._pause.outstanding_bytes
        )

    async def wait_unpaused(self) -> None:
        """Wait until something was sent to the client or applied for it."""
        self._unpaused.clear()
        if self.is_paused():
            await self._unpaused.wait()

    def close(self) -> None:
        """The client has gone, or the call is answered."""
        self._gateway.handles.pop(self.connection.number, None)
        self._gateway.feed(self._gateway.replica.close_connection, self.connection)

"""The real asynchronous client in a simulated process: its streams lead through the virtual network.

Rule of this file: it replaces what leaves the process (the stream, the clock, random names, the host's name)
and nothing else.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from coordclient import clock as client_clock
from coordclient.client import AsyncClient
from coordclient.driver import SessionDriver
from coordclient.errors import ConnectionLostError, CoordError
from coordclient.pipeline import Operation
from coordclient.recipes import contenders
from coordclient.session import SessionCore
from coordsvc.codec.results import join_items
from tests.simulation.clients.notebook import Call, Notebook
from tests.simulation.clients.session_client import address_of, member_at
from tests.simulation.clients.simulated_loop import SimulatedLoop


class SimulatedConnection:
    """Takes the place of `coordclient.connection.Connection`."""

    def __init__(self, loop: SimulatedLoop, endpoint: str) -> None:
        self.endpoint = endpoint
        self._loop = loop
        self._frames: deque[bytes] = deque()
        self._ended = ""
        self._waiter: asyncio.Future[None] | None = None
        self._link = loop.world.connect(loop.name, member_at(endpoint))
        self._link.on_items = self._arrived
        self._link.on_closed = self._closed

    def _arrived(self, items: list[bytes]) -> None:
        self._frames.append(join_items(items))
        self._wake()

    def _closed(self, reason: str) -> None:
        self._ended = reason
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def send(self, frame: bytes) -> None:
        if self._ended or self._loop.is_dead:
            raise ConnectionLostError(f"{self.endpoint}: {self._ended}")
        self._link.send(frame)
        await asyncio.sleep(0)

    async def receive(self) -> bytes:
        while not self._frames:
            if self._ended or self._loop.is_dead:
                raise ConnectionLostError(f"{self.endpoint}: {self._ended}")
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._frames.popleft()

    async def close(self) -> None:
        self._ended = self._ended or "closed"
        self._link.close()


class RecordingDriver(SessionDriver):
    """Writes down what the client asks and is answered, and which sessions it has."""

    def __init__(
        self, core: SessionCore, endpoints: Sequence[str], loop: SimulatedLoop, notebook: Notebook
    ) -> None:
        dice = random.Random(loop.world.draw("client endpoints", loop.name))
        super().__init__(
            core, endpoints, connect=lambda endpoint: SimulatedConnection(loop, endpoint), dice=dice
        )
        self._simulated_loop = loop
        self._notebook = notebook
        self._count = 0  # of what was asked
        self._order = 0  # of what was answered
        self._session = 0
        self._open: dict[Operation, Call] = {}

    def submit(self, operation: Operation) -> None:
        request = operation.write if operation.write is not None else operation.read
        assert request is not None, "an operation writes or reads"
        if operation.write is not None or not _sets_a_stream(operation):
            self._count += 1
            loop = self._simulated_loop
            call = Call(loop.name, self._count, request, loop.world.now_ns)
            self._open[operation] = call
            self._notebook.calls.append(call)
        super().submit(operation)

    def _hand_out(self) -> None:
        if self.core.session_id:
            self._session = self.core.session_id
        loop = self._simulated_loop
        for operation, outcome in self.core.pipeline.completed:
            call = self._open.pop(operation, None)
            if call is None or loop.is_dead:
                continue
            self._order += 1
            call.order = self._order
            call.completed_ns = loop.world.now_ns
            call.outcome = outcome
            self._note_place(call, operation)
            if isinstance(outcome, CoordError):
                call.may_have_been_applied = outcome.may_have_been_applied
        super()._hand_out()

    def _note_place(self, call: Call, operation: Operation) -> None:
        if operation.sequence:
            call.session = self._session
            call.sequence = operation.sequence if operation.write is not None else 0

    def note_open_calls(self) -> None:
        """The process ends, or the recording does: what was sent and not answered may have happened."""
        for operation, call in self._open.items():
            self._note_place(call, operation)
            call.may_have_been_applied = operation.may_have_been_applied
        self._open.clear()


class SimulatedAsyncClient(AsyncClient):
    """`AsyncClient`, except for the way to the members."""

    def __init__(
        self, loop: SimulatedLoop, members: Sequence[str], notebook: Notebook, *, session_timeout: float
    ) -> None:
        endpoints = [address_of(member) for member in members]
        super().__init__(endpoints, session_timeout=session_timeout, name=loop.name)
        self._simulated_loop = loop
        self._notebook = notebook
        self._recorder: RecordingDriver | None = None

    def _make_driver(self, core: SessionCore) -> SessionDriver:
        self._recorder = RecordingDriver(core, self._endpoints, self._simulated_loop, self._notebook)
        return self._recorder

    def note_open_calls(self) -> None:
        if self._recorder is not None:
            self._recorder.note_open_calls()


def _sets_a_stream(operation: Operation) -> bool:
    return operation.read is not None and operation.read.WhichOneof("op") == "watch"


class _RepeatableNames:
    """What `uuid.uuid4` is, for one process."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self._count = 0

    def uuid4(self) -> SimpleNamespace:
        self._count += 1
        draw = self._loop.world.draw
        high, low = draw("name", self._loop.name, self._count), draw("name", self._loop.name, -self._count)
        return SimpleNamespace(hex=f"{high << 64 | low:032x}")


def surround(loop: SimulatedLoop) -> None:
    """Let the SDK see the simulated clock and repeatable names while this loop runs."""
    spaces: list[tuple[dict[str, Any], str, object]] = [
        (vars(client_clock), "now", loop.time),
        (vars(contenders), "uuid", _RepeatableNames(loop)),
        (vars(contenders), "_details", lambda name: {"client": name}),
    ]
    loop.surroundings = spaces

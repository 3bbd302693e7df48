"""The asyncio shell around the session core: connects, feeds frames in, carries frames and answers out.

Rule of this file: it decides nothing about the session. Everything that was submitted in one pass of the
event loop leaves in one frame, because the writer runs after it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from typing import Protocol

from google.protobuf.message import DecodeError

from coordclient import clock
from coordclient.connection import Connection
from coordclient.endpoints import Endpoints
from coordclient.errors import ConnectionLostError
from coordclient.pipeline import Operation
from coordclient.session import SessionCore
from coordclient.states import State
from coordproto.v1 import coordination_pb2, data_pb2

logger = logging.getLogger("coordclient.session")

CLOSE_SECONDS_MAX = 2.0
STEADY_SECONDS = 1.0  # a connection that lasted this long, or answered anything, was a success
TIMER_SECONDS_MIN = 0.005

Listener = Callable[[State], None]


class FrameStream(Protocol):
    """What carries frames to and from one member: `Connection`, or a simulated one."""

    endpoint: str

    async def send(self, frame: bytes) -> None: ...  # pragma: no cover
    async def receive(self) -> bytes: ...  # pragma: no cover
    async def close(self) -> None: ...  # pragma: no cover


class SessionDriver:
    """Keeps one client's session attached to some member, until it is closed."""

    def __init__(
        self,
        core: SessionCore,
        endpoints: str | Iterable[str],
        *,
        connect: Callable[[str], FrameStream] = Connection,
        dice: random.Random | None = None,
    ) -> None:
        """Prepare the driver.

        Args:
            connect: Makes the stream to an endpoint; simulations have their own.
            dice: For the order of endpoints and the pauses; simulations have their own.
        """
        self.core = core
        self.endpoints = Endpoints(endpoints, dice or random.Random())
        self._connect = connect
        self.endpoint = ""
        self.last_failure = ""
        self._loop = asyncio.get_running_loop()
        self._listeners: list[Listener] = []
        self._is_wanted = asyncio.Event()  # something may be ready to be sent
        self._is_broken = asyncio.Event()
        self._is_closed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = float("inf")
        self._runner: asyncio.Task[None] | None = None

    # -----------------------------------------------------------------------------------------
    # For the client

    def start(self) -> None:
        self._runner = self._loop.create_task(self._run(), name="coordclient session")
        self._runner.add_done_callback(self._runner_ended)

    def submit(self, operation: Operation) -> None:
        """Queue an operation; its waiter, a future, is given the answer or a `CoordError` as its result."""
        self.core.submit(operation)
        self._is_wanted.set()
        if operation.deadline < self._armed_for:
            self._arm()

    def wake(self) -> None:
        """Something other than an operation may be ready to be sent."""
        self._is_wanted.set()

    def add_listener(self, listener: Listener) -> None:
        """Call `listener` on the loop at every change of state. It must not block or raise."""
        self._listeners.append(listener)

    def remove_listener(self, listener: Listener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    @property
    def listener_count(self) -> int:
        return len(self._listeners)

    async def close(self) -> None:
        """End the session, if a member can be told in time, and everything that goes with it."""
        try:
            if self.core.is_attached:
                self.core.close()
                self._is_wanted.set()
                async with asyncio.timeout(CLOSE_SECONDS_MAX):
                    await self._is_closed.wait()
        except TimeoutError:
            logger.info("the session could not be closed in time; it will expire by itself")
        finally:
            self._stop()
        runner, self._runner = self._runner, None
        if runner is not None:
            await asyncio.wait([runner])

    def _stop(self) -> None:
        self.core.give_up()
        self._hand_out()
        if self._timer is not None:
            self._timer.cancel()
        if self._runner is not None:
            self._runner.cancel()

    def _runner_ended(self, runner: asyncio.Task[None]) -> None:
        if runner.cancelled() or runner.exception() is None:
            return
        logger.critical("the session's task failed; the client is closed", exc_info=runner.exception())
        self._stop()

    # -----------------------------------------------------------------------------------------
    # Connections

    async def _run(self) -> None:
        failed = ""
        while self.core.state is not State.CLOSED:
            endpoint, pause = self.endpoints.next(avoid=failed)
            if pause:
                await asyncio.sleep(pause)
            attached_at = None
            answers = self.core.answers
            connection = self._connect(endpoint)
            try:
                await self._attach(connection)
                attached_at = clock.now()
                await self._serve(connection)
            except ConnectionLostError as error:
                self.last_failure = error.message
                if error.code == data_pb2.LIMIT_EXCEEDED:
                    self.core.frame_refused(error.message)
                logger.debug("connection to %s ended: %s", endpoint, error)
            finally:
                await connection.close()
            failed = endpoint
            if attached_at is None:
                self.core.attach_failed()
            elif self.core.answers > answers or clock.now() - attached_at > STEADY_SECONDS:
                self.endpoints.succeeded()
            self._hand_out()

    async def _attach(self, connection: FrameStream) -> None:
        core = self.core
        attempt_s = self.endpoints.patience(core.timeout_s)
        self._is_broken.clear()
        try:
            async with asyncio.timeout(attempt_s):
                await connection.send(core.attach_frame(clock.now()))
                while not core.is_attached:
                    self._take_in(await connection.receive())
                    if core.broken:
                        raise ConnectionLostError(f"{connection.endpoint}: {core.broken}")
        except TimeoutError:
            raise ConnectionLostError(f"{connection.endpoint}: no answer within {attempt_s:g} s") from None
        self.endpoint = connection.endpoint

    async def _serve(self, connection: FrameStream) -> None:
        """Carry frames both ways until the connection ends or must be given up."""
        tasks = [
            self._loop.create_task(self._read(connection), name="coordclient reader"),
            self._loop.create_task(self._write(connection), name="coordclient writer"),
            self._loop.create_task(self._wait_until_broken(), name="coordclient watchdog"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            ends = [task.exception() for task in tasks if not task.cancelled()]
            if isinstance(ends[0] if ends else None, ConnectionLostError):
                self.last_failure = str(ends[0])
            self.core.connection_lost()
            self._hand_out()
        for error in ends:
            if error is not None:
                raise error

    async def _wait_until_broken(self) -> None:
        await self._is_broken.wait()
        raise ConnectionLostError(self.core.broken)

    async def _read(self, connection: FrameStream) -> None:
        while True:
            self._take_in(await connection.receive())

    async def _write(self, connection: FrameStream) -> None:
        core = self.core
        is_wanted = self._is_wanted
        is_wanted.set()
        while True:
            await is_wanted.wait()
            is_wanted.clear()
            while (frame := core.take_frame(clock.now())) is not None:
                self._arm()
                await connection.send(frame)

    # -----------------------------------------------------------------------------------------
    # In and out of the core

    def _take_in(self, data: bytes) -> None:
        try:
            frame = coordination_pb2.ServerFrame.FromString(data)
        except DecodeError as error:
            raise ConnectionLostError(f"{self.endpoint} sent a frame that makes no sense: {error}") from error
        core = self.core
        known = core.endpoints
        core.receive(frame, clock.now())
        if core.endpoints is not known:
            self.endpoints.learn(core.endpoints)
        self._hand_out()
        if core.wants_to_send:
            self._is_wanted.set()  # Answers make room for operations that wait.

    def _hand_out(self) -> None:
        """Carry out what the core has decided: states first, then events, then answers."""
        core = self.core
        if core.transitions:
            transitions, core.transitions = core.transitions, []
            for state in transitions:
                self._announce(state)
        if core.deliveries:
            deliveries, core.deliveries = core.deliveries, []
            for record, event in deliveries:
                record.sink(event)
        for operation, outcome in core.take_completed():
            waiter = operation.waiter
            if isinstance(waiter, asyncio.Future) and not waiter.done():
                waiter.set_result(outcome)
        if core.broken:
            self._is_broken.set()
        if core.next_wakeup() < self._armed_for:
            self._arm()

    def _announce(self, state: State) -> None:
        core = self.core
        if state is State.CONNECTED:
            logger.info("connected: session %#x, attached to member %s", core.session_id, core.member)
        elif state is State.CLOSED:
            logger.debug("closed")
            self._is_closed.set()
        else:
            logger.warning("%s: %s", state.value, core.broken or self.last_failure or "connection lost")
        for listener in list(self._listeners):
            listener(state)

    # -----------------------------------------------------------------------------------------
    # Time

    def _arm(self) -> None:
        """Make sure that the core is told the time when it needs it. A timer that comes early is fine."""
        wakeup = self.core.next_wakeup()
        if wakeup >= self._armed_for or self.core.state is State.CLOSED:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = wakeup
        delay = max(wakeup - clock.now(), TIMER_SECONDS_MIN)
        self._timer = self._loop.call_later(delay, self._timer_rang)

    def _timer_rang(self) -> None:
        self._timer = None
        self._armed_for = float("inf")
        self.core.tick(clock.now())
        self._hand_out()
        self._is_wanted.set()
        self._arm()

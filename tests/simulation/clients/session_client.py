"""A client made of the SDK's pure session core, on the virtual network and a clock of its own.

It does what `coordclient.driver` does (choose an endpoint, attach, give up after a while, back off, carry
frames and answers) without asyncio, and can be paused and killed like a process.

Rule of this file: it decides nothing about the session; the core does. Everything that was submitted before
`flush` leaves in one frame, as everything does that was submitted in one pass of the event loop.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Protocol

from coordclient.driver import STEADY_SECONDS, TIMER_SECONDS_MIN
from coordclient.endpoints import Endpoints
from coordclient.errors import CoordError
from coordclient.pipeline import Answer, Operation
from coordclient.session import SessionCore
from coordclient.states import State
from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.codec.results import join_items
from tests.simulation.client_links import ClientLink
from tests.simulation.clients.client_clock import ClientClock
from tests.simulation.world import SECOND, World

_CLIENT_PORT = 7400


def address_of(member: str) -> str:
    """Return the address under which clients reach a member of the simulation."""
    return f"{member}:{_CLIENT_PORT}"


def member_at(address: str) -> str:
    return address.partition(":")[0]


class SessionUser(Protocol):
    """Who is told what comes out of a session."""

    def state_changed(self, state: State) -> None: ...

    def answered(self, operation: Operation, outcome: Answer | CoordError) -> None: ...


class SessionClient:
    """One process with one session core, and the sessions that follow each other in it."""

    def __init__(
        self,
        world: World,
        name: str,
        members: Sequence[str],
        user: SessionUser,
        *,
        timeout_ms: int,
        clock: ClientClock,
    ) -> None:
        self.world = world
        self.name = name
        self.clock = clock
        self.core = SessionCore(timeout_ms=timeout_ms, client_name=name)
        self.is_paused = False
        self.is_dead = False
        self.is_told = False  # whatever changes now, a member has said so
        self.renewed_ns = 0  # when the newest request was sent that a member answered as a renewal
        self.close_sent_ns: int | None = None
        self._user = user
        self._fired: dict[int, None] = {}  # one-shot watches that have fired on this connection
        self._sent_ns: dict[int, int] = {}  # pings without an answer, by number
        self._attach_sent_ns = 0
        dice = random.Random(world.draw("client endpoints", name))
        self._endpoints = Endpoints([address_of(member) for member in members], dice)
        self._link: ClientLink | None = None
        self._attached_at: float | None = None
        self._answers_before = 0
        self._failed = ""
        self._endpoint = ""
        self._armed_for = math.inf
        self._alarm = 0  # only the latest timer rings
        self._attempt = 0
        self._inbox: list[Callable[[], None]] = []  # what reaches a paused process

    # -----------------------------------------------------------------------------------------
    # For the workload

    def start(self) -> None:
        self._connect_next()

    def submit(self, operation: Operation) -> None:
        self.core.submit(operation)

    def flush(self) -> None:
        """Send what was submitted, as far as that is possible now."""
        if not self.is_paused and not self.is_dead:
            self._settle()

    def close(self) -> None:
        """End the session once everything that was submitted has been sent."""
        if self.is_dead or self.core.state is State.CLOSED:
            return
        self.close_sent_ns = self.world.now_ns
        self.core.close()
        self.flush()

    def give_up(self) -> None:
        """Let go of the session without a word to anybody, as a client does whose close takes too long."""
        if self.is_dead or self.core.state is State.CLOSED:
            return
        self.core.give_up()
        self._settle()

    def break_connection(self) -> None:
        """The network breaks the connection: what is on its way is lost, and both ends are told."""
        if self._link is not None:
            self._link.reset("reset on the way")

    def pause(self) -> None:
        """The process stands still; its clock and the network do not."""
        self.is_paused = True

    def resume(self) -> None:
        if not self.is_paused or self.is_dead:
            return
        self.is_paused = False
        inbox, self._inbox = self._inbox, []
        for handler in inbox:
            self._run(handler)

    def kill(self) -> None:
        """The process is gone. Its host hangs up for it."""
        self.is_dead = True
        self._inbox.clear()
        if self._link is not None:
            self._link.close()
            self._link = None

    # -----------------------------------------------------------------------------------------
    # The process

    def _later(self, delay_ns: int, handler: Callable[[], None]) -> None:
        self.world.at(delay_ns, lambda: self._run(handler))

    def _run(self, handler: Callable[[], None]) -> None:
        """Have the process do something: now, or when it runs again."""
        if self.is_dead:
            return
        if self.is_paused:
            self._inbox.append(handler)
            return
        handler()

    def _settle(self) -> None:
        """Hand out what the core has decided, then send what it wants sent."""
        core = self.core
        self._hand_out()
        if core.state is State.CLOSED:
            self._hang_up()
            return
        link = self._link
        if link is None:
            self._arm()
            return
        if core.broken:
            self._connection_ended(core.broken)
            return
        now = self.clock.now()
        while (frame := core.take_frame(now)) is not None:
            link.send(frame)
            ping = core._renewal._number
            if ping not in self._sent_ns:
                self._sent_ns[ping] = self.world.now_ns
        self._arm()

    def _hand_out(self) -> None:
        """States first, then events, then answers; what they cause is handed out too."""
        core = self.core
        while True:
            transitions, core.transitions = core.transitions, []
            for state in transitions:
                self.world.trace(self.name, state.value, core.session_id)
                self._user.state_changed(state)
            deliveries, core.deliveries = core.deliveries, []
            for record, event in deliveries:
                record.sink(event)
            completed = core.take_completed()
            for operation, outcome in completed:
                self._user.answered(operation, outcome)
            if not transitions and not deliveries and not completed:
                return

    # -----------------------------------------------------------------------------------------
    # Connections

    def _connect_next(self) -> None:
        if self.core.state is State.CLOSED:
            return
        self._endpoint, pause_s = self._endpoints.next(avoid=self._failed)
        if pause_s:
            self._later(int(pause_s / self.clock.rate * SECOND), self._connect)
        else:
            self._connect()

    def _connect(self) -> None:
        core = self.core
        if core.state is State.CLOSED:
            return
        self._attempt += 1
        attempt = self._attempt
        self._attached_at = None
        self._fired.clear()
        self._answers_before = core.answers
        link = self._link = self.world.connect(self.name, member_at(self._endpoint))
        self.world.trace(self.name, "connect", self._endpoint, attempt)
        link.on_items = lambda items: self._run(lambda: self._received(attempt, items))
        link.on_closed = lambda reason: self._run(lambda: self._closed(attempt, reason))
        self._attach_sent_ns = self.world.now_ns
        link.send(core.attach_frame(self.clock.now()))
        patience_s = self._endpoints.patience(core.timeout_s)
        self._later(int(patience_s / self.clock.rate * SECOND), lambda: self._attach_is_overdue(attempt))
        self._arm()

    def _attach_is_overdue(self, attempt: int) -> None:
        if attempt == self._attempt and self._link is not None and self._attached_at is None:
            self._connection_ended("no answer to the attach")

    def _received(self, attempt: int, items: list[bytes]) -> None:
        if attempt != self._attempt or self._link is None:
            return
        core = self.core
        frame = coordination_pb2.ServerFrame.FromString(join_items(items))
        known = core.endpoints
        for item in frame.items:
            if item.HasField("delivery"):
                self._count_firings(item.delivery)
        core.receive(frame, self.clock.now())
        if core.endpoints is not known:
            self._endpoints.learn(core.endpoints)
        for item in frame.items:
            if item.pong:
                self.renewed_ns = max(self.renewed_ns, self._sent_ns.get(item.pong, 0))
        if core.is_attached and self._attached_at is None:
            self._attached_at = self.clock.now()
            self.renewed_ns = max(self.renewed_ns, self._attach_sent_ns)
        self.is_told = True
        self._settle()
        self.is_told = False

    def _count_firings(self, delivery: data_pb2.Delivery) -> None:
        """W1, on the wire: the core would not tell the program of a second firing."""
        records = self.core.watches._records
        for watch_id in delivery.watch_ids:
            assert watch_id not in self._fired, f"W1: one-shot watch {watch_id} of {self.name} fires twice"
            record = records.get(watch_id)
            if record is not None and record.is_once:
                self._fired[watch_id] = None

    def _closed(self, attempt: int, reason: str) -> None:
        if attempt == self._attempt and self._link is not None:
            self._connection_ended(reason)

    def _connection_ended(self, reason: str) -> None:
        core = self.core
        self._hang_up()
        self.world.trace(self.name, "disconnected", reason)
        self._failed = self._endpoint
        if self._attached_at is None:
            core.attach_failed()
        else:
            core.connection_lost()
            lasted_s = self.clock.now() - self._attached_at
            if core.answers > self._answers_before or lasted_s > STEADY_SECONDS:
                self._endpoints.succeeded()
        self._hand_out()
        self._arm()
        self._connect_next()

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    # -----------------------------------------------------------------------------------------
    # Time

    def _arm(self) -> None:
        wakeup = self.core.next_wakeup()
        if wakeup >= self._armed_for or self.core.state is State.CLOSED:
            return
        self._armed_for = wakeup
        self._alarm += 1
        alarm = self._alarm
        earliest = self.clock.now() + TIMER_SECONDS_MIN
        self._later(self.clock.delay_ns(max(wakeup, earliest)), lambda: self._timer_rang(alarm))

    def _timer_rang(self, alarm: int) -> None:
        if alarm != self._alarm or self.core.state is State.CLOSED:
            return
        self._armed_for = math.inf
        self.core.tick(self.clock.now())
        self._settle()

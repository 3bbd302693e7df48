"""One process of a simulated application: a session client, its operations, watches and sessions.

Rule of this file: it submits what it is told to, and writes down what it asked and was told. Events and
answers are numbered by one counter, in the order in which they reached the process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from coordclient.errors import CoordError
from coordclient.pipeline import Answer, Operation
from coordclient.states import State
from coordclient.types import Event
from coordclient.watch_records import (
    ONCE_CHILDREN,
    ONCE_DATA,
    ONCE_EXISTS,
    STREAM,
    STREAM_RECURSIVE,
    WatchRecord,
)
from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.statemachine.types import Stat
from tests.checkers import history
from tests.simulation.clients.client_clock import ClientClock
from tests.simulation.clients.drawing import Bits, Drawing, Memory
from tests.simulation.clients.notebook import Call, Notebook
from tests.simulation.clients.session_client import SessionClient
from tests.simulation.clients.unary_calls import UnaryCall
from tests.simulation.clients.workload import Workload
from tests.simulation.world import SECOND, World

_CLOSE_NS = 3 * SECOND
_CALL_SECONDS_MAX = 8
_GIVEN_UP = "the service refuses what this session sends"  # how the session core begins to say so
_ONCE = {"get": ONCE_DATA, "exists": ONCE_EXISTS, "list_children": ONCE_CHILDREN}


class Life:
    """From the start of a process to its end."""

    def __init__(
        self, world: World, workload: Workload, name: str, members: Sequence[str], notebook: Notebook
    ) -> None:
        self.world = world
        self.name = name
        self.has_ended = False
        self._workload = workload
        self._notebook = notebook
        self._order = 0
        self._asked = 0
        self._memory = Memory()
        self._drawing = Drawing(workload, self._memory)
        self._open: dict[Operation, Call] = {}
        self._setting: dict[Operation, history.WatchRecord] = {}
        self._watches: list[tuple[WatchRecord, history.WatchRecord]] = []
        self._calls: dict[int, UnaryCall] = {}
        self._members = members
        self._session: history.SessionRecord | None = None
        self._finishing = ""
        bits = Bits(world.draw("life", name))
        self._closes = bits.percent(workload.close_percent)
        clock = ClientClock(world, offset_s=float(bits.below(100_000)), rate=1 + (bits.below(41) - 20) / 1000)
        timeout_ms = workload.session_timeout_ms
        self.client = SessionClient(world, name, members, self, timeout_ms=timeout_ms, clock=clock)
        self.client.start()

    @property
    def is_over(self) -> bool:
        return self.client.is_dead or self.client.core.state is State.CLOSED

    @property
    def is_leaving(self) -> bool:
        return bool(self._finishing)

    @property
    def pending_count(self) -> int:
        return len(self._open) + len(self._setting) + len(self._calls)

    # -----------------------------------------------------------------------------------------
    # Doing

    def plant(self) -> None:
        """Make the top-level nodes, below which everything happens."""
        for number in range(self._workload.roots):
            write = self._drawing.plant(number, f"{self.name}#root{number}".encode())
            self._submit(write, Operation(math.inf, write=write))

    def perform(self, number: int, bits: Bits) -> None:
        """Submit one operation; `client.flush` sends it."""
        workload = self._workload
        if workload.anonymous_percent and bits.percent(workload.anonymous_percent):
            self._call_without_session(number, bits)
            return
        if workload.streams and bits.below(8) == 0:
            self._touch_streams(bits)
        request = self._drawing.draw(bits, f"{self.name}#{number}".encode())
        deadline = math.inf
        if workload.deadline_ms and bits.below(4):
            deadline = self.client.clock.now() + (1 + bits.below(workload.deadline_ms)) / 1000
        if isinstance(request, data_pb2.Write):
            self._submit(request, Operation(deadline, write=request))
            return
        if bits.below(4) == 0:
            request.min_zxid = self._notebook.newest_zxid
        operation = Operation(deadline, read=request)
        self._perhaps_leave_a_watch(request, operation, bits)
        self._submit(request, operation)

    def _call_without_session(self, number: int, bits: Bits) -> None:
        request = self._drawing.draw_anonymous(bits, f"{self.name}#{number}".encode())
        self._asked += 1
        call = Call(self.name, self._asked, request, self.world.now_ns)
        member = self._members[bits.below(len(self._members))]
        within_ns = (1 + bits.below(_CALL_SECONDS_MAX)) * SECOND
        unary = UnaryCall(
            self.world,
            self._notebook,
            call,
            member,
            within_ns=within_ns,
            ended=lambda: self._call_ended(call),
        )
        self._calls[call.number] = unary

    def _call_ended(self, call: Call) -> None:
        self._calls.pop(call.number, None)
        if self._finishing and not self.pending_count:
            self._finish_further()

    def _submit(self, request: data_pb2.Write | coordination_pb2.Read, operation: Operation) -> None:
        self._asked += 1
        call = Call(self.name, self._asked, request, self.world.now_ns)
        self._open[operation] = call
        self._notebook.calls.append(call)
        self.client.submit(operation)

    # -----------------------------------------------------------------------------------------
    # Watches

    def _perhaps_leave_a_watch(self, read: coordination_pb2.Read, operation: Operation, bits: Bits) -> None:
        kind = read.WhichOneof("op")
        if kind not in _ONCE or not bits.percent(self._workload.once_percent):
            return
        path = str(getattr(read, kind).path)
        operation.watch, noted = self._new_watch(path, _ONCE[kind], with_values=False, since=None)
        read.watch_id = operation.watch.watch_id
        self._setting[operation] = noted

    def _new_watch(
        self, path: str, kind: data_pb2.WatchKind.ValueType, *, with_values: bool, since: int | None
    ) -> tuple[WatchRecord, history.WatchRecord]:
        session = self._session.session if self._session is not None else 0
        noted = history.WatchRecord(
            self.name,
            session,
            len(self._watches),
            path,
            int(kind),
            self.world.now_ns,
            with_values=with_values,
            since=since,
        )
        record = WatchRecord(path, kind, lambda event: self._told(noted, event), with_values, since)
        self._watches.append((record, noted))
        self._notebook.watches.append(noted)
        self.client.core.watches.add(record)
        return record, noted

    def _touch_streams(self, bits: Bits) -> None:
        """Set one more stream, or end one."""
        streams = [entry for entry in self._watches if not entry[0].is_once and entry[1].cancelled_ns is None]
        if len(streams) >= self._workload.streams:
            if bits.below(2):
                self._cancel(*streams[bits.below(len(streams))])
            return
        root = f"/r{bits.below(self._workload.roots)}"
        is_recursive = bits.below(2) == 0
        path = root if is_recursive or bits.below(2) else f"{root}/a"
        since = self.client.core.last_zxid if bits.below(3) == 0 else None
        kind = STREAM_RECURSIVE if is_recursive else STREAM
        record, noted = self._new_watch(path, kind, with_values=bits.below(2) == 0, since=since)
        read = coordination_pb2.Read(watch=record.message())
        operation = Operation(math.inf, read=read, watch=record)
        self._setting[operation] = noted
        self.client.submit(operation)

    def _cancel(self, record: WatchRecord, noted: history.WatchRecord) -> None:
        self._note_completeness(record, noted)
        noted.cancelled_ns = self.world.now_ns
        self.client.core.cancel_watch(record)

    def _note_completeness(self, record: WatchRecord, noted: history.WatchRecord) -> None:
        """Every event stands before the answers that show a later state (promise G6)."""
        if noted.set_ns is not None and noted.cancelled_ns is None:
            noted.complete_to = max(noted.complete_to, self.client.core._answered_zxid)

    def _told(self, noted: history.WatchRecord, event: Event) -> None:
        self._order += 1
        stat = event.stat
        noted.events.append(
            history.WatchEvent(
                int(event.type),
                event.path,
                event.zxid,
                self.world.now_ns,
                event.value,
                Stat(*(getattr(stat, name) for name in Stat.__slots__)) if stat is not None else None,
                self._order,
            )
        )

    # -----------------------------------------------------------------------------------------
    # Being told

    def answered(self, operation: Operation, outcome: Answer | CoordError) -> None:
        self._order += 1
        call = self._open.pop(operation, None)
        if call is not None:
            call.completed_ns = self.world.now_ns
            call.order = self._order
            call.outcome = outcome
            self._note_place(call, operation)
            self.world.trace(self.name, "answer", call.number, type(outcome).__name__, call.sequence)
        noted = self._setting.pop(operation, None)
        if isinstance(outcome, CoordError):
            if outcome.message.startswith(_GIVEN_UP):
                self._notebook.failures.append(f"{self.name} gave its session up: {outcome.message}")
            if call is not None:
                call.may_have_been_applied = outcome.may_have_been_applied
        elif not outcome.HasField("error"):
            self._learn(call, outcome)
            if noted is not None:
                noted.set_ns = self.world.now_ns
                noted.set_zxid = outcome.zxid
        if self._finishing and not self.pending_count:
            self._finish_further()

    def _note_place(self, call: Call, operation: Operation) -> None:
        if operation.sequence and self._session is not None:
            call.session = self._session.session
            call.sequence = operation.sequence if operation.write is not None else 0

    def _learn(self, call: Call | None, outcome: Answer) -> None:
        notebook, memory = self._notebook, self._memory
        if outcome.zxid > notebook.newest_zxid:
            notebook.newest_zxid = outcome.zxid
        if call is None:
            return
        request = call.request
        kind = outcome.WhichOneof("result")
        if isinstance(outcome, data_pb2.ReadResult):
            if kind == "node":
                memory.note(outcome.node.path, outcome.node.stat)
        elif kind == "created":
            memory.note(outcome.created.path, outcome.created.stat)
        elif kind == "set" and isinstance(request, data_pb2.Write):
            memory.note(request.set.path, outcome.set)

    def state_changed(self, state: State) -> None:
        client, now_ns = self.client, self.world.now_ns
        core = client.core
        noted = self._session
        if state is State.CONNECTED:
            if noted is None or noted.session != core.session_id:
                timeout_ms = round(core.timeout_s * 1000)
                noted = history.SessionRecord(self.name, core.session_id, timeout_ms, now_ns)
                self._session = noted
                self._notebook.sessions.append(noted)
        elif noted is not None and state is State.SUSPENDED:
            noted.suspended_ns.append(now_ns)
        elif noted is not None and state is State.LOST:
            noted.lost_ns = now_ns
            noted.lost_by_word = client.is_told
        elif noted is not None and client.close_sent_ns is not None:
            noted.closed_ns = now_ns if client.is_told else None
        self.note_renewal()
        if state is State.CLOSED:
            self._end()

    def note_renewal(self) -> None:
        """Write down until when the client holds its session for alive."""
        client, noted = self.client, self._session
        if noted is not None and client.close_sent_ns is not None:
            noted.close_sent_ns = client.close_sent_ns  # Also if it is told that the session was over.
        if noted is not None and noted.lost_ns is None:
            noted.renewed_ns = client.renewed_ns
            valid_s = client.core.valid_until
            if valid_s > -math.inf:
                noted.valid_until_ns = client.clock.world_ns(valid_s)

    # -----------------------------------------------------------------------------------------
    # Ending

    def finish(self) -> None:
        """Nothing more will be asked: wait for what is under way, look once more, and perhaps close."""
        self._finishing = "waiting"
        if not self.pending_count:
            self._finish_further()

    def _finish_further(self) -> None:
        world = self.world
        if self._finishing == "waiting":
            self._finishing = "looking"
            sync = coordination_pb2.Read(sync=data_pb2.Sync())
            self._submit(sync, Operation(math.inf, read=sync))
            world.at(0, self.client.flush)
        elif self._finishing == "looking" and not self._closes:
            self._finishing = "done"
            self._end()
        elif self._finishing == "looking":
            self._finishing = "closing"
            world.at(0, self.client.close)
            world.at(_CLOSE_NS, self.client.give_up)

    def leave(self) -> None:
        """Close the session in the middle of everything; what was sent before must be carried out before."""
        if not self._finishing:
            self._finishing = "closing"
            self.client.close()
            self.world.at(_CLOSE_NS, self.client.give_up)

    def kill(self) -> None:
        """The process dies: what was under way has no outcome."""
        self.client.kill()
        for call in list(self._calls.values()):
            call.give_up()
        if self._session is not None and self._session.lost_ns is None:
            self._session.stopped_ns = self.world.now_ns
        self._end()

    def _end(self) -> None:
        if self.has_ended:
            return
        self.has_ended = True
        self.note_renewal()
        for operation, call in self._open.items():
            self._note_place(call, operation)
            call.may_have_been_applied = operation.may_have_been_applied
        for record, noted in self._watches:
            self._note_completeness(record, noted)
            if self.is_over and noted.cancelled_ns is None:
                noted.cancelled_ns = self.world.now_ns

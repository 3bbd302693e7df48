"""The SDK's client, with a recorder looking over its shoulder.

Rule of this file: it changes nothing of what the client does; it only looks, at the places where the session
core numbers operations, takes answers and events in, and is renewed.
"""

from __future__ import annotations

import asyncio
from typing import Any

from coordclient import AsyncClient
from coordclient.driver import SessionDriver
from coordclient.errors import CoordError
from coordclient.pipeline import Answer, Operation, Pipeline
from coordclient.renewal import Renewal
from coordclient.session import SessionCore
from coordclient.states import State
from coordclient.types import Event
from coordclient.watch_records import WatchRecord, WatchTable
from coordproto.v1 import coordination_pb2, data_pb2
from tests.chaos.recorder import Recorder, now_ns


class RecordedPipeline(Pipeline):
    """Tells the recorder which number an operation has got, and how it ended."""

    def __init__(self, core: SessionCore, recorder: Recorder) -> None:
        super().__init__()
        self._core = core
        self._recorder = recorder

    def _number(self, operation: Operation) -> None:
        super()._number(operation)
        self._recorder.numbered(operation, self._core.session_id)

    def _settle(self, operation: Operation, outcome: Answer | CoordError) -> None:
        if not operation.is_settled:
            self._recorder.settled(operation, outcome)
        super()._settle(operation, outcome)


class RecordedWatchTable(WatchTable):
    """Tells the recorder of each event that is news to a watch."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def deliver(self, delivery: data_pb2.Delivery) -> tuple[Event, list[WatchRecord]]:
        event, told = super().deliver(delivery)
        for record in told:
            self._recorder.event(record, event)
        return event, told


class RecordedRenewal(Renewal):
    """Tells the recorder until when the session is believed to live."""

    def __init__(self, timeout_s: float, core: SessionCore, recorder: Recorder) -> None:
        super().__init__(timeout_s)
        self._core = core
        self._recorder = recorder
        self.was_valid_until = self.valid_until

    def attached(self, timeout_s: float, now: float) -> None:
        session = self._core.session_id
        if not self._recorder.sessions or self._recorder.sessions[-1].session != session:
            self._recorder.session_opened(session, timeout_s)
        super().attached(timeout_s, now)

    def _extend(self, sent_at: float) -> None:
        super()._extend(sent_at)
        self.was_valid_until = self.valid_until
        self._recorder.renewed(self._core.session_id, sent_at, self.valid_until)


class RecordingClient(AsyncClient):
    """An AsyncClient whose operations, events and sessions are written down."""

    def __init__(self, recorder: Recorder, endpoints: str, **options: Any) -> None:  # those of AsyncClient
        super().__init__(endpoints, name=recorder.client, **options)
        self.recorder = recorder
        self._renewal: RecordedRenewal | None = None

    async def _wait_connected(self, driver: SessionDriver) -> None:
        if self._renewal is None:
            # The driver's task exists and has not run yet: nothing has happened so far.
            core = driver.core
            core.pipeline = RecordedPipeline(core, self.recorder)
            core.watches = RecordedWatchTable(self.recorder)
            core._renewal = self._renewal = RecordedRenewal(core.timeout_s, core, self.recorder)
            driver.add_listener(self._state_changed)
        await super()._wait_connected(driver)

    def _state_changed(self, state: State) -> None:
        if not self.recorder.sessions:
            return
        session = self.recorder.sessions[-1]
        if state is State.SUSPENDED:
            session.suspended_ns.append(now_ns())
        elif state is State.LOST:
            assert self._renewal is not None
            session.lost_ns = now_ns()
            session.lost_by_word = session.lost_ns < self._renewal.was_valid_until * 1e9
        elif state is State.CLOSED:
            assert self._core is not None
            self.recorder.closed(self._core._answered_zxid)
            if session.close_sent_ns is not None and self._core.broken == "the session was closed":
                session.closed_ns = now_ns()
            else:
                session.stopped_ns = now_ns()

    async def close(self) -> None:
        core = self._core
        if core is not None and core.is_attached and self.recorder.sessions:
            self.recorder.sessions[-1].close_sent_ns = self.recorder.sessions[-1].close_sent_ns or now_ns()
        await super().close()

    # -----------------------------------------------------------------------------------------
    # Operations and watches

    async def _perform(self, operation: Operation) -> Answer:
        self.recorder.called(operation, self.session_id)
        try:
            return await super()._perform(operation)
        except asyncio.CancelledError:
            self.recorder.abandoned(operation)
            raise

    async def _read_unattached(
        self, driver: SessionDriver, read: coordination_pb2.Read, deadline: float
    ) -> data_pb2.ReadResult:
        invoked_ns = now_ns()
        try:
            result = await super()._read_unattached(driver, read, deadline)
        except CoordError as error:
            self.recorder.read_outside(read, invoked_ns, error)
            raise
        self.recorder.read_outside(read, invoked_ns, result)
        return result

    def cancel_watch(self, record: WatchRecord) -> None:
        self._note_cancelled(record)
        super().cancel_watch(record)

    def _note_cancelled(self, record: WatchRecord) -> None:
        answered_zxid = self._core._answered_zxid if self._core is not None else 0
        self.recorder.watch_cancelled(record, answered_zxid if record.is_set else 0)

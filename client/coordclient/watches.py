"""Watch streams: events as an iterator, bounded in memory and without gaps.

Rule of this file: a stream never loses an event. When its reader is slow it takes its watch off the
service, and sets it again, from the last event that it has, once the reader has caught up. If the history
needed for that is gone, the reader gets a RESYNC event.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Protocol, Self

from coordclient.callbacks import Callback, Callbacks
from coordclient.errors import ClientClosedError, CoordError, SessionExpiredError
from coordclient.states import State
from coordclient.types import Event
from coordclient.watch_records import STREAM, STREAM_RECURSIVE, WatchRecord

logger = logging.getLogger("coordclient.watches")

BUFFER_EVENTS_MAX = 1000


class WatchHost(Protocol):
    """What a stream needs of its client."""

    callbacks: Callbacks

    async def set_stream(self, record: WatchRecord, *, timeout: float | None) -> int:
        """Set the watch on the service; return the transaction after which it sees everything."""
        ...  # pragma: no cover

    def cancel_watch(self, record: WatchRecord) -> None: ...  # pragma: no cover
    def add_internal_listener(self, listener: Callable[[State], None]) -> None: ...  # pragma: no cover
    def remove_internal_listener(self, listener: Callable[[State], None]) -> None: ...  # pragma: no cover
    def full_path(self, path: str) -> str: ...  # pragma: no cover
    def relative_event(self, event: Event) -> Event: ...  # pragma: no cover


class WatchStream:
    """The events at a path, in order. Use it with `async with`, `async for`, or `await` it to start it.

    Attributes:
        path: What is watched.
        zxid: After the start: the stream has everything after this transaction.
    """

    def __init__(
        self,
        host: WatchHost,
        path: str,
        *,
        recursive: bool = False,
        with_values: bool = True,
        since: int | None = None,
        buffer_size: int = BUFFER_EVENTS_MAX,
        callback: Callback[Event] | None = None,
    ) -> None:
        self.path = path
        self.zxid = 0
        self._host = host
        self._record = WatchRecord(
            path=host.full_path(path),
            kind=STREAM_RECURSIVE if recursive else STREAM,
            sink=self._take,
            with_values=with_values,
            since=since,
        )
        self._buffer: deque[Event] = deque()
        self._buffer_size = buffer_size
        self._news = asyncio.Event()
        self._subscriber = host.callbacks.subscriber(callback) if callback is not None else None
        self._is_started = False
        self._is_paused = False
        self._is_closed = False
        self._failure: CoordError | None = None

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "paused" if self._is_paused else "running"
        return f"<WatchStream {self.path} {state} buffered={len(self._buffer)}>"

    @property
    def is_drained(self) -> bool:
        """Return whether everything that has arrived was read, and the service has been told to send on."""
        return not self._buffer and not self._is_paused

    async def start(self, *, timeout: float | None = None) -> Self:
        """Set the watch. Everything that happens after the return is seen."""
        if self._is_started:
            return self
        self._is_started = True
        self._host.add_internal_listener(self._state_changed)
        try:
            self.zxid = await self._set(timeout)
        except BaseException:
            self._end()
            raise
        return self

    async def _set(self, timeout: float | None) -> int:
        while True:
            try:
                return await self._host.set_stream(self._record, timeout=timeout)
            except SessionExpiredError:
                # A stream does not belong to a session: it is set again on the next one.
                continue

    async def close(self) -> None:
        """End the stream. Idempotent; a reader that waits is released."""
        self._end()
        if self._subscriber is not None:
            await self._subscriber.close()

    def _end(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._host.remove_internal_listener(self._state_changed)
        self._host.cancel_watch(self._record)
        self._news.set()

    # -----------------------------------------------------------------------------------------
    # From the session

    def _take(self, event: Event) -> None:
        if self._is_closed:
            return
        subscriber = self._subscriber
        if subscriber is not None:
            subscriber.push(self._host.relative_event(event))
            if len(subscriber.waiting) >= self._buffer_size and not self._is_paused:
                self._pause()
                subscriber.when_drained = self._go_on_calling
            return
        self._buffer.append(self._host.relative_event(event))
        self._news.set()
        if len(self._buffer) >= self._buffer_size and not self._is_paused:
            self._pause()

    def _pause(self) -> None:
        """The reader is slow: have the service keep what is still to come."""
        self._is_paused = True
        self._host.cancel_watch(self._record)

    def _state_changed(self, state: State) -> None:
        if state is not State.CLOSED or self._is_closed:
            return
        if self._subscriber is not None:
            self._end()
            return
        self._failure = ClientClosedError()
        self._news.set()

    # -----------------------------------------------------------------------------------------
    # For the reader

    async def batch(self) -> list[Event]:
        """Return all events that have arrived, at least one; an empty list once the stream is closed."""
        await self.start()
        while not self._buffer:
            if self._is_closed:
                return []
            if self._failure is not None:
                raise self._failure
            if self._is_paused:
                await self.go_on()
                continue
            self._news.clear()
            await self._news.wait()
        events = list(self._buffer)
        self._buffer.clear()
        return events

    async def go_on(self) -> None:
        """If the stream was paused because its reader was slow: set it again, now that all is read."""
        if not self._is_paused or self._buffer:
            return
        self._is_paused = False  # From here on: the replay may fill the buffer anew.
        try:
            await self._set(math.inf)
        except BaseException:
            self._is_paused = True
            raise

    def unread(self, events: list[Event]) -> None:
        """Put events back that a batch had taken."""
        self._buffer.extendleft(reversed(events))
        self._news.set()

    async def __anext__(self) -> Event:
        if not self._buffer:
            events = await self.batch()
            if not events:
                raise StopAsyncIteration
            self.unread(events)
        return self._buffer.popleft()

    def __aiter__(self) -> Self:
        return self

    def __await__(self) -> Generator[object, None, Self]:
        return self.start().__await__()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _go_on_calling(self) -> None:
        """The callback, which was slow, has been told everything."""
        try:
            await self.go_on()
        except CoordError as error:
            if not isinstance(error, ClientClosedError):
                logger.error("the watch of %s could not be set again, and has ended: %s", self.path, error)
            self._end()

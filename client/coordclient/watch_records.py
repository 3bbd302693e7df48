"""What the session core remembers of its watches, so that each resumes without a gap or a repeat.

Rule of this file: pure. A watch is complete up to `since`; of the transaction after that it may have
been told some events, which are skipped when the service replays that transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from coordclient.types import Event, EventType, event_from_wire
from coordproto.v1 import data_pb2

STREAM = data_pb2.STREAM
STREAM_RECURSIVE = data_pb2.STREAM_RECURSIVE
ONCE_DATA = data_pb2.ONCE_DATA
ONCE_EXISTS = data_pb2.ONCE_EXISTS
ONCE_CHILDREN = data_pb2.ONCE_CHILDREN
_ONCE_KINDS = frozenset({ONCE_DATA, ONCE_EXISTS, ONCE_CHILDREN})


@dataclass(slots=True, eq=False)
class WatchRecord:
    """One watch.

    Attributes:
        sink: Takes each event; called by the shell, never by the core. It must not block or raise.
        since: Everything up to this transaction has been told. None: from the moment it is set.
        is_set: The service has said that the watch is set.
    """

    path: str
    kind: data_pb2.WatchKind.ValueType
    sink: Callable[[Event], None]
    with_values: bool = False
    since: int | None = None
    watch_id: int = 0
    is_set: bool = False
    is_once: bool = field(init=False)
    _zxid: int = 0  # of the latest event on this connection
    _count: int = 0  # how many events that transaction has had on this connection
    _skip_zxid: int = 0
    _skip_count: int = 0

    def __post_init__(self) -> None:
        self.is_once = self.kind in _ONCE_KINDS

    def accept(self, event: Event) -> bool:
        """Take note of an event. Return whether it is news to the watcher."""
        zxid = event.zxid
        if event.type is EventType.RESYNC:
            self.since = max(self.since or 0, zxid)
            return True
        if self.since is not None and zxid <= self.since:
            return False
        if zxid != self._zxid:
            self._zxid = zxid
            self._count = 1
        else:
            self._count += 1
        return zxid != self._skip_zxid or self._count > self._skip_count

    def settle(self, answered_zxid: int) -> None:
        """The connection or the watch ends: fix the place to resume from.

        Every event up to `answered_zxid` had arrived, if the watch was set.
        """
        known = [self._zxid - 1] if self._zxid else []
        if self.is_set:
            known.append(answered_zxid)
        if self.since is not None:
            known.append(self.since)
        if not known:
            return
        self.since = max(known)
        if self._zxid > self.since:
            if self._skip_zxid != self._zxid:
                self._skip_zxid = self._zxid
                self._skip_count = 0
            self._skip_count = max(self._skip_count, self._count)
        self._zxid = self._count = 0

    def message(self) -> data_pb2.Watch:
        """Return the watch as the service wants to see it."""
        return data_pb2.Watch(
            watch_id=self.watch_id,
            path=self.path,
            kind=self.kind,
            with_values=self.with_values,
            since=self.since,
        )


class WatchTable:
    """All watches of a client, set and about to be set."""

    def __init__(self) -> None:
        self._records: dict[int, WatchRecord] = {}
        self._last_id = 0
        self._cancelled: list[int] = []

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: WatchRecord) -> None:
        """Number a watch that is about to be set."""
        self._last_id += 1
        record.watch_id = self._last_id
        record.is_set = False
        self._records[record.watch_id] = record

    def answered(self, record: WatchRecord, zxid: int) -> None:
        """The service has set the watch at this state."""
        if record.watch_id not in self._records:
            return
        record.is_set = True
        record.since = zxid if record.since is None else record.since

    def forget(self, record: WatchRecord) -> None:
        """The watch was never set, or does not matter any more."""
        self._records.pop(record.watch_id, None)

    def cancel(self, record: WatchRecord, answered_zxid: int) -> None:
        """Take a watch off the service. A stream can be set again later, where it stopped."""
        if self._records.pop(record.watch_id, None) is None:
            return
        record.settle(answered_zxid)
        record.is_set = False
        self._cancelled.append(record.watch_id)

    def deliver(self, delivery: data_pb2.Delivery) -> tuple[Event, list[WatchRecord]]:
        """Return an event and the watches to which it is news."""
        event = event_from_wire(delivery.event)
        records = self._records
        told = []
        for watch_id in delivery.watch_ids:
            record = records.get(watch_id)
            if record is None:
                # Set after its cancellation had passed it by: cancel it again.
                self._cancelled.append(watch_id)
                continue
            if not record.accept(event):
                continue
            if record.is_once:
                del records[watch_id]
            told.append(record)
        return event, told

    @property
    def has_cancelled(self) -> bool:
        """Return whether the service is to be told of watches that nobody wants any more."""
        return bool(self._cancelled)

    def take_cancelled(self) -> list[int]:
        cancelled = self._cancelled
        if cancelled:
            self._cancelled = []
        return cancelled

    def detached(self, answered_zxid: int) -> None:
        """The connection is gone, and with it what the service knew of the watches."""
        for record in self._records.values():
            record.settle(answered_zxid)
        self._cancelled.clear()

    def to_resume(self) -> list[data_pb2.Watch]:
        return [record.message() for record in self._records.values() if record.is_set]

    def clear(self) -> None:
        self._records.clear()
        self._cancelled.clear()

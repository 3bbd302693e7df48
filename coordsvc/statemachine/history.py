"""The newest changes, kept so that watches can resume and change feeds can follow.

Rule of this file: whole transactions come and whole transactions go, and when they go depends only on the
transactions themselves, not on how they were grouped into commits: all members keep the same ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from coordsvc.statemachine.changes import Change
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.layout import HISTORY, history_key, history_position
from coordsvc.statemachine.records import (
    Meta,
    changes_part,
    decode_change,
    encode_change,
    join_changes,
    split_changes,
)
from coordsvc.statemachine.store import Store
from coordsvc.statemachine.types import Limits

_BYTES_BITS = 40  # of a weight: number of changes above, bytes below
_BYTES_MASK = (1 << _BYTES_BITS) - 1


class History:
    """Changes by zxid. zxids have no gaps, so a queue of weights is all the index that trimming needs.

    What one commit recorded is one record, under its newest zxid; it is deleted when all of it is trimmed.
    """

    __slots__ = (
        "_limits",
        "_outdated",
        "_parts",
        "_store",
        "_stored",
        "_weights",
        "bytes",
        "changes",
        "first_zxid",
    )

    def __init__(self, store: Store, limits: Limits, meta: Meta) -> None:
        self.first_zxid = meta.history_first_zxid  # the oldest one kept; one past the newest if none is
        self.changes = 0
        self.bytes = 0
        self._store = store
        self._limits = limits
        self._parts: list[bytes] = []  # of the record that the next commit writes
        self._stored: deque[int] = deque()  # the newest zxid of each record, ascending
        self._outdated: list[bytes] = []
        self._weights: deque[int] = deque()
        self._load(meta)

    def _load(self, meta: Meta) -> None:
        zxid = self.first_zxid - 1
        for key, record in self._store.scan(*HISTORY):
            newest = history_position(key)
            for zxid, change in split_changes(f"the history up to {newest}", record):
                self._load_change(zxid, change)
            if zxid != newest or newest < self.first_zxid:
                raise CorruptStateError(f"the history up to transaction {newest} is out of place")
            self._stored.append(newest)
        if (self.changes, self.bytes) != (meta.history_changes, meta.history_bytes):
            raise CorruptStateError(
                f"the history has {self.changes} changes in {self.bytes} bytes, "
                f"and should have {meta.history_changes} in {meta.history_bytes}"
            )
        if self.first_zxid + len(self._weights) != meta.zxid + 1:
            raise CorruptStateError(f"the history does not end with transaction {meta.zxid}")

    def _load_change(self, zxid: int, change: bytes) -> None:
        if zxid < self.first_zxid:
            return  # Trimmed, but not yet all that it is stored with.
        expected = self.first_zxid + len(self._weights)
        if zxid == expected:
            self._weights.append(0)
        elif zxid != expected - 1 or not self._weights:
            raise CorruptStateError(f"the history has a change of transaction {zxid} out of place")
        self._weights[-1] += (1 << _BYTES_BITS) + len(change)
        self.changes += 1
        self.bytes += len(change)

    def append(self, zxid: int, changes: list[Change]) -> None:
        """Record the transaction that follows the newest one, and let old ones go."""
        size = 0
        parts = self._parts
        for change in changes:
            record = encode_change(change)
            parts.append(changes_part(zxid, record))
            parts.append(record)
            size += len(record)
        self._weights.append((len(changes) << _BYTES_BITS) + size)
        self.changes += len(changes)
        self.bytes += size
        while self.changes > self._limits.history_changes or self.bytes > self._limits.history_bytes:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        weight = self._weights.popleft()
        self.changes -= weight >> _BYTES_BITS
        self.bytes -= weight & _BYTES_MASK
        stored = self._stored
        if stored and stored[0] == self.first_zxid:
            self._outdated.append(history_key(stored.popleft()))
        self.first_zxid += 1

    def since(self, zxid: int, limit: int, bytes_max: int) -> list[Change] | None:
        """Return the changes after `zxid`, as whole transactions; None if some of them are gone.

        It stops at the first transaction that reaches `limit` changes or `bytes_max` bytes in all.
        """
        first = max(zxid, 0) + 1
        if first < self.first_zxid:
            return None
        found: list[Change] = []
        room = bytes_max
        newest = first - 1
        for record in self._records(first):
            for position, data in split_changes(f"the history from {first}", record):
                if position < first:
                    continue
                if position != newest and (len(found) >= max(limit, 1) or room <= 0):
                    return found
                newest = position
                found.append(decode_change(f"a change of transaction {position}", position, data))
                room -= len(data)
        return found

    def _records(self, first: int) -> Iterator[bytes]:
        """Yield the records that hold `first` and what follows, also the one not written yet."""
        for _, record in self._store.scan(history_key(first), HISTORY[1]):
            yield record
        if self._parts:
            yield join_changes(self._parts)

    def flush(self, puts: list[tuple[bytes, bytes]], deletes: list[bytes]) -> None:
        """Hand over what is to be written, and go on as if it were."""
        newest = self.first_zxid + len(self._weights) - 1
        if self._parts and newest >= self.first_zxid:
            puts.append((history_key(newest), join_changes(self._parts)))
            self._stored.append(newest)
        deletes.extend(self._outdated)
        self._parts.clear()
        self._outdated.clear()

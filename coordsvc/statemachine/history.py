"""The newest changes, kept so that watches can resume and change feeds can follow.

Rule of this file: whole transactions come and whole transactions go, and when they go depends only on the
transactions themselves, not on how they were grouped into commits: all members keep the same ones.
"""

from __future__ import annotations

from collections import deque

from coordsvc.statemachine.changes import Change
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.layout import HISTORY, history_key, history_position
from coordsvc.statemachine.records import Meta, decode_change, encode_change
from coordsvc.statemachine.store import Store
from coordsvc.statemachine.types import Limits

_BYTES_BITS = 40  # of a weight: number of changes above, bytes below
_BYTES_MASK = (1 << _BYTES_BITS) - 1


class History:
    """Changes by zxid. zxids have no gaps, so a queue of weights is all the index that trimming needs."""

    __slots__ = ("_limits", "_pending", "_store", "_trimmed", "_weights", "bytes", "changes", "first_zxid")

    def __init__(self, store: Store, limits: Limits, meta: Meta) -> None:
        self.first_zxid = meta.history_first_zxid  # the oldest one kept; one past the newest if none is
        self.changes = 0
        self.bytes = 0
        self._store = store
        self._limits = limits
        self._pending: dict[bytes, bytes] = {}
        self._trimmed: list[bytes] = []
        self._weights: deque[int] = deque()
        self._load(meta)

    def _load(self, meta: Meta) -> None:
        for key, record in self._store.scan(*HISTORY):
            zxid, number = history_position(key)
            expected = self.first_zxid + len(self._weights)
            if number == 0 and zxid == expected:
                self._weights.append(0)
            elif not self._weights or zxid != expected - 1 or number != self._weights[-1] >> _BYTES_BITS:
                raise CorruptStateError(f"the history has change {number} of transaction {zxid} out of place")
            self._weights[-1] += (1 << _BYTES_BITS) + len(record)
            self.changes += 1
            self.bytes += len(record)
        if (self.changes, self.bytes) != (meta.history_changes, meta.history_bytes):
            raise CorruptStateError(
                f"the history has {self.changes} changes in {self.bytes} bytes, "
                f"and should have {meta.history_changes} in {meta.history_bytes}"
            )
        if self.first_zxid + len(self._weights) != meta.zxid + 1:
            raise CorruptStateError(f"the history does not end with transaction {meta.zxid}")

    def append(self, zxid: int, changes: list[Change]) -> None:
        """Record the transaction that follows the newest one, and let old ones go."""
        size = 0
        pending = self._pending
        for number, change in enumerate(changes):
            record = encode_change(change)
            pending[history_key(zxid, number)] = record
            size += len(record)
        self._weights.append((len(changes) << _BYTES_BITS) + size)
        self.changes += len(changes)
        self.bytes += size
        while self.changes > self._limits.history_changes or self.bytes > self._limits.history_bytes:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        weight = self._weights.popleft()
        count = weight >> _BYTES_BITS
        for number in range(count):
            key = history_key(self.first_zxid, number)
            if self._pending.pop(key, None) is None:
                self._trimmed.append(key)
        self.changes -= count
        self.bytes -= weight & _BYTES_MASK
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
        start = history_key(first, 0)
        pending = (item for item in self._pending.items() if item[0] >= start)
        for source in (self._store.scan(start, HISTORY[1]), pending):
            for key, record in source:
                position, number = history_position(key)
                if position != newest and (len(found) >= max(limit, 1) or room <= 0):
                    return found
                newest = position
                found.append(decode_change(f"change {number} of transaction {position}", position, record))
                room -= len(record)
        return found

    def flush(self, puts: list[tuple[bytes, bytes]], deletes: list[bytes]) -> None:
        """Hand over what is to be written, and go on as if it were."""
        puts.extend(self._pending.items())
        deletes.extend(self._trimmed)
        self._pending.clear()
        self._trimmed.clear()

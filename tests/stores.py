"""An in-memory store with LevelDB's order and atomic writes, for tests and simulations.

Rule of this file: it does what `coordsvc.statemachine.store` promises, and nothing more.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence

_BULK = 1000  # from here on sorting once is cheaper than inserting one by one


class MemoryStore:
    """A sorted dictionary. `writes` counts the batches."""

    def __init__(self, records: dict[bytes, bytes] | None = None) -> None:
        self.records: dict[bytes, bytes] = dict(records or {})
        self.writes = 0
        self._keys = sorted(self.records)

    def get(self, key: bytes) -> bytes | None:
        return self.records.get(key)

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        keys = self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, stop)]
        return iter([(key, self.records[key]) for key in keys])

    def keys(self, start: bytes, stop: bytes) -> Iterator[bytes]:
        return iter(self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, stop)])

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes]) -> None:
        put_keys = {key for key, _ in puts}
        assert len(put_keys) == len(puts), "a key is put twice in one write"
        assert put_keys.isdisjoint(deletes), "a key is put and deleted in one write"
        new = [key for key in put_keys if key not in self.records]
        gone = [key for key in dict.fromkeys(deletes) if key in self.records]
        self.records.update(puts)
        for key in gone:
            del self.records[key]
        self._reorder(new, gone)
        self.writes += 1

    def _reorder(self, new: list[bytes], gone: list[bytes]) -> None:
        if len(new) + len(gone) > _BULK:
            self._keys = sorted(self.records)
            return
        for key in gone:
            del self._keys[bisect_left(self._keys, key)]
        for key in new:
            insort(self._keys, key)

    def copy(self) -> MemoryStore:
        """Return a snapshot: another store with the same records."""
        return MemoryStore(self.records)

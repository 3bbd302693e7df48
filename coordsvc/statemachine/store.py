"""The seam between the state machine and whatever keeps its records.

In a server that is LevelDB (`coordsvc.storage`); in tests and in the simulator a sorted dictionary.

Crash contract: `write` is atomic. After a crash the store holds the effect of some prefix of the
writes made so far, never a gap. The applied index is among the records of each batch, so the log
replays exactly what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol


class Records(Protocol):
    """An ordered map from bytes to bytes that is only read."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the records with `start <= key < stop` in ascending order, as of the call."""


class Store(Records, Protocol):
    """The same, with writes."""

    def keys(self, start: bytes, stop: bytes) -> Iterator[bytes]:
        """Yield the keys of `scan`, without the cost of the values."""

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes]) -> None:
        """Apply all at once. No key is in both lists. Not waited for the disk."""

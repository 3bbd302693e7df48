"""Changes on their way to a follower of the history: many in a message, and an honest mark of progress.

Rule of this file: `zxid` never names a transaction of which a change is still to come, so a client that
resumes from it misses nothing.
"""

from __future__ import annotations

from coordproto.v1 import coordination_pb2, data_pb2

_PAGE_BYTES = 256 << 10  # gRPC clients accept 4 MiB by default, and one value may have 1 MiB
_CHANGE_BYTES = 200  # about what a change takes beside its value


class HistoryPage:
    """Gathers changes. `since`: everything up to here was sent before."""

    def __init__(self, since: int) -> None:
        self._complete = self._newest = max(since, 0)
        self._changes: list[data_pb2.Change] = []
        self._bytes = 0

    @property
    def is_empty(self) -> bool:
        return not self._changes

    @property
    def is_full(self) -> bool:
        return self._bytes >= _PAGE_BYTES

    def add(self, event: data_pb2.Event) -> None:
        """Take in the next change."""
        if event.zxid > self._newest:
            self._complete = self._newest
            self._newest = event.zxid
        self._bytes += _CHANGE_BYTES + len(event.value)
        self._changes.append(
            data_pb2.Change(
                type=event.type, path=event.path, zxid=event.zxid, value=event.value, stat=event.stat
            )
        )

    def take(self, *, is_whole: bool) -> coordination_pb2.HistoryResponse:
        """Return what has gathered. `is_whole`: the last change ends its transaction."""
        if is_whole:
            self._complete = self._newest
        response = coordination_pb2.HistoryResponse(changes=self._changes, zxid=self._complete)
        self._changes = []
        self._bytes = 0
        return response

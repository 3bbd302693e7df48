"""Watches that come back: what they missed, replayed from the history. Promise G6.

Rule of this file: while a connection catches up, *all* its events come from the history, so they reach
it in zxid order and none comes twice. A watch whose history is gone is told so, once, with RESYNC.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coordsvc.statemachine.changes import Change
from coordsvc.watch.registry import ONCE_KINDS, RESYNC_EVENT, Audience, Firing, Watch, WatchRegistry


@dataclass(slots=True)
class CatchUp:
    """The replay for one connection. `cursor`: changes up to this zxid have been replayed."""

    cursor: int
    registry: WatchRegistry = field(default_factory=WatchRegistry)
    waiting: list[Watch] = field(default_factory=list)  # their `since` lies beyond the cursor

    def add(self, watch: Watch) -> None:
        """Take a watch in; its events begin after `watch.since`."""
        if watch.since > self.cursor:
            self.waiting.append(watch)
        else:
            self.registry.add(watch)

    def replay(self, changes: list[Change]) -> list[Firing]:
        """Replay the next changes, which begin after the cursor and end with a whole transaction."""
        firings: list[Firing] = []
        start = 0
        while start < len(changes):
            zxid = changes[start].zxid
            assert zxid > self.cursor, "W4: history is replayed in zxid order"
            end = start
            while end < len(changes) and changes[end].zxid == zxid:
                end += 1
            self._admit(zxid - 1)
            firings += self.registry.match(changes[start:end])
            self.cursor = zxid
            start = end
        return firings

    def _admit(self, zxid: int) -> None:
        if not self.waiting:
            return
        still_waiting = []
        for watch in self.waiting:
            if watch.since <= zxid:
                self.registry.add(watch)
            else:
                still_waiting.append(watch)
        self.waiting = still_waiting

    def skip_to(self, oldest: int) -> list[Firing]:
        """History up to `oldest` is gone: tell every watch that needed it, and go on from there."""
        assert oldest > self.cursor, "there is history to skip"
        told = []
        for watch in self.watches():
            if watch.since >= oldest:
                continue
            has_once = watch.kind in ONCE_KINDS
            audience = Audience(watch.connection, watch.with_values, [watch], has_once)
            told.append(Firing(audience, RESYNC_EVENT, watch.path, oldest, None))
            watch.since = oldest
            if has_once:
                self.remove(watch)  # It has had its one event: whoever set it reads again.
        self.cursor = oldest
        return told

    def rewind(self, since: int) -> None:
        """A watch joins that needs older changes: go back, without telling the others anything twice."""
        if since >= self.cursor:
            return
        for watch in self.registry.watches():
            watch.since = max(watch.since, self.cursor)
            self.registry.remove(watch)
            self.waiting.append(watch)
        self.cursor = since

    def remove(self, watch: Watch) -> None:
        self.registry.remove(watch)
        if watch in self.waiting:
            self.waiting.remove(watch)

    def watches(self) -> list[Watch]:
        """Return every watch that is still to be moved to the live registry."""
        return [*self.registry.watches(), *self.waiting]

"""Events on their way to clients: live ones as changes are applied, missed ones from the history.

Owns the watch registry and each connection's catch-up. Promise G6: an event stands in a connection's queue
before any answer that shows a later state, and events come in zxid order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from coordsvc.codec import results
from coordsvc.replica.connections import NOT_SET, Connection, ConnectionState, PendingRead
from coordsvc.replica.state import ReplicaState
from coordsvc.statemachine.changes import Change
from coordsvc.watch.catchup import CatchUp
from coordsvc.watch.registry import ONCE_KINDS, Audience, Firing, Watch

_EventKey = tuple[int, str, int, int, bool]


class Delivery:
    def __init__(self, state: ReplicaState, caught_up: Callable[[Connection], None]) -> None:
        self._state = state
        self._caught_up = caught_up

    def fire(self, changes: list[Change]) -> None:
        """Tell the live watches what one write did."""
        registry = self._state.registry
        if registry.count:
            self._deliver(registry.match(changes))

    def _deliver(self, firings: Iterable[Firing]) -> None:
        """Queue events. One event for many watches is encoded once, and sent once per connection."""
        encoded: dict[_EventKey, bytes] = {}
        connections = self._state.connections
        for firing in firings:
            audience = firing.audience
            # A transaction may change one node more than once: each of its changes is an event of its own.
            change = id(firing.change)
            key = (firing.event_type, firing.path, firing.zxid, change, audience.with_values)
            event = encoded.get(key)
            if event is None:
                event = encoded[key] = results.encode_event(
                    firing.event_type,
                    firing.path,
                    firing.zxid,
                    firing.change,
                    with_value=audience.with_values,
                )
            connection = connections.get(audience.connection)
            if connection is None:
                continue
            if audience.has_once:
                _forget_once(connection, audience)
            if not audience.encoded_ids:
                audience.encoded_ids = results.encode_watch_ids(
                    [watch.watch_id for watch in audience.watches]
                )
            connection.push(results.delivery_item(audience.encoded_ids, event))
            self._state.mark(connection)
            self._state.check_slow(connection)

    # -----------------------------------------------------------------------------------------
    # Watches come and go

    def add_live(self, connection: Connection, watch: Watch) -> None:
        """Set a watch that needs no history: from this very state on."""
        watch.since = self._state.machine.zxid
        connection.watches[watch.watch_id] = watch
        if connection.catch_up is not None:
            connection.catch_up.add(watch)
        else:
            self._state.registry.add(watch)

    def confirm_watch(self, read: PendingRead) -> None:
        """Tell the client that its watch is set."""
        zxid = self._state.machine.zxid if read.set_zxid == NOT_SET else read.set_zxid
        read.connection.push(results.watching_item(read.read_id, zxid))
        self._state.mark(read.connection)

    def remove(self, connection: Connection, watch_id: int) -> None:
        watch = connection.watches.pop(watch_id, None)
        if watch is None:
            return
        self._state.registry.remove(watch)
        if connection.catch_up is not None:
            connection.catch_up.remove(watch)

    def replay(self, connection: Connection, watches: list[Watch]) -> None:
        """Replay for these watches what came after their `since`, then go on live.

        The connection's live watches join the replay, so that its events stay in zxid order.
        """
        state = self._state
        if connection.catch_up is None:
            zxid = state.machine.zxid
            connection.catch_up = CatchUp(cursor=min([zxid, *(watch.since for watch in watches)]))
            for watch in connection.watches.values():
                state.registry.remove(watch)
                watch.since = zxid
                connection.catch_up.add(watch)
            connection.state = ConnectionState.CATCHING_UP
            state.catching_up[connection.number] = connection
        else:
            connection.catch_up.rewind(min(watch.since for watch in watches))
        for watch in watches:
            connection.watches[watch.watch_id] = watch
            connection.catch_up.add(watch)

    def replay_all(self, since: int) -> None:
        """The tree was replaced by a snapshot: every watch gets what lies between from its history."""
        for connection in list(self._state.connections.values()):
            if connection.watches and connection.catch_up is None:
                watches = list(connection.watches.values())
                for watch in watches:
                    self._state.registry.remove(watch)
                    watch.since = since
                connection.watches.clear()
                self.replay(connection, watches)

    def step(self, connection: Connection) -> None:
        """Replay one slice of history for a connection that catches up, unless its client is behind."""
        catch_up = connection.catch_up
        if catch_up is None:
            return
        if connection.unread_bytes > self._state.settings.pause_outgoing_bytes:
            del self._state.catching_up[connection.number]  # `taken` goes on when the client has read.
            return
        machine = self._state.machine
        if catch_up.cursor < machine.zxid:
            changes = machine.history(catch_up.cursor, self._state.settings.catch_up_changes)
            if changes is None:
                self._deliver(catch_up.skip_to(machine.oldest_history_zxid - 1))
                return
            self._deliver(catch_up.replay(changes))
            if connection.is_closed or catch_up.cursor < machine.zxid:
                return
        self._finish(connection, catch_up)

    def taken(self, connection: Connection) -> None:
        """The client has read what was queued for it: replay more."""
        if connection.catch_up is not None and not connection.is_closed:
            self._state.catching_up[connection.number] = connection

    def _finish(self, connection: Connection, catch_up: CatchUp) -> None:
        state = self._state
        connection.catch_up = None
        del state.catching_up[connection.number]
        for watch in catch_up.watches():
            watch.since = max(watch.since, catch_up.cursor)
            state.registry.add(watch)
        for read in connection.watching_replies:
            self.confirm_watch(read)
        connection.watching_replies.clear()
        connection.release_held()
        connection.state = ConnectionState.LIVE
        state.mark(connection)
        self._caught_up(connection)


def _forget_once(connection: Connection, audience: Audience) -> None:
    """The one-shot watches of this connection have had their event."""
    for watch in audience.watches:
        if watch.kind in ONCE_KINDS:
            connection.watches.pop(watch.watch_id, None)

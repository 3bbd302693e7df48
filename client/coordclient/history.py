"""The change feed: everything that changed, in order, as far back as the service keeps it.

Rule of this file: a feed is a recursive stream that begins in the past, so it misses and repeats nothing,
over any number of connections and sessions. Where changes are gone it says so with HistoryTrimmedError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from coordclient.errors import HistoryTrimmedError
from coordclient.types import Event, EventType
from coordclient.watches import WatchStream

BUFFER_EVENTS_MAX = 10_000


async def history(
    stream: WatchStream, *, since: int | None, until: int | None, timeout: float | None
) -> AsyncIterator[Event]:
    """Yield the changes that a stream replays, and with `until` None those that follow.

    Args:
        since: Where the stream begins. None: with the oldest change that is kept.
        until: The last transaction that is wanted.
    """
    may_begin_later = since is None
    async with stream:
        await stream.start(timeout=timeout)
        while True:
            if until is not None:
                # A stream is set only when everything up to the present has been replayed.
                await stream.go_on()
                if stream.is_drained:
                    return
            for event in await stream.batch():
                if event.type is EventType.RESYNC and not may_begin_later:
                    raise HistoryTrimmedError(
                        f"changes up to transaction {event.zxid} are no longer kept: read the present state"
                    )
                may_begin_later = False
                if event.type is EventType.RESYNC:
                    continue
                if until is not None and event.zxid > until:
                    return
                yield event

"""The states of a client, and what each means for one who holds a lock or leads.

Rule of this file: words only. `session.py` decides which state holds.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """What a client knows about its session.

    The order is fixed: CONNECTED, then SUSPENDED and CONNECTED any number of times with the same session,
    then LOST exactly once, then CONNECTED with a new session. CLOSED is the end.
    """

    #: The leader has renewed the session lately. A holder works, a waiter waits.
    CONNECTED = "connected"

    #: No member answers, or the client is not connected yet. The session may be alive. Until `valid_until`
    #: nobody else can hold what this client holds: start nothing new, finish or stop what is not fenced
    #: before then. Requests wait for the connection to come back.
    SUSPENDED = "suspended"

    #: The session is gone, or must be taken to be gone: ephemeral nodes, locks and leadership are lost.
    #: Stop now. Requests that were under way fail with `SessionExpiredError`; later ones wait for the new
    #: session, which the client opens by itself.
    LOST = "lost"

    #: The client has been closed and its session ended.
    CLOSED = "closed"

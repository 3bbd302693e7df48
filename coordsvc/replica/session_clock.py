"""When sessions expire: the leader's deadlines. Promise G7, invariants S2 and S3.

Rule of this file: only the leader keeps it, on its own monotonic clock; a new leader gives every session
its full timeout; a leader that was asleep gives back the time it slept.
"""

from __future__ import annotations

import heapq


class SessionClock:
    """Deadlines by session. The heap holds one slot per session, moved lazily when it comes up."""

    def __init__(self) -> None:
        self._deadline_ms: dict[int, int] = {}
        self._timeout_ms: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []
        self._dying: dict[int, None] = {}  # their end is on its way through the log
        self._is_kept = False

    def restart(self, timeouts_ms: dict[int, int], now_ms: int) -> None:
        """We became leader: everybody gets a full timeout from now."""
        self._is_kept = True
        self._dying.clear()
        self._timeout_ms = dict(timeouts_ms)
        self._deadline_ms = {session_id: now_ms + timeout for session_id, timeout in timeouts_ms.items()}
        self._heap = [(deadline, session_id) for session_id, deadline in self._deadline_ms.items()]
        heapq.heapify(self._heap)

    def stop(self) -> None:
        """We lead no longer: we decide nothing."""
        self.restart({}, 0)
        self._is_kept = False

    def start_session(self, session_id: int, timeout_ms: int, now_ms: int) -> None:
        if not self._is_kept:
            return
        known = session_id in self._timeout_ms
        self._timeout_ms[session_id] = timeout_ms
        self._deadline_ms[session_id] = now_ms + timeout_ms
        if not known:
            heapq.heappush(self._heap, (now_ms + timeout_ms, session_id))

    def touch(self, session_id: int, now_ms: int) -> bool:
        """The session was heard from; False if that comes too late, because its end has been proposed.

        An unknown session is ignored: it may have ended a moment ago, or not have begun here yet.
        """
        if session_id in self._dying:
            return False
        timeout_ms = self._timeout_ms.get(session_id)
        if timeout_ms is not None:
            self._deadline_ms[session_id] = now_ms + timeout_ms
        return True

    def end_session(self, session_id: int) -> None:
        self._timeout_ms.pop(session_id, None)
        self._deadline_ms.pop(session_id, None)
        self._dying.pop(session_id, None)

    def extend_all(self, extra_ms: int) -> None:
        """We were asleep for this long: nobody could renew meanwhile."""
        for session_id in self._deadline_ms:
            self._deadline_ms[session_id] += extra_ms

    def expired(self, now_ms: int) -> list[int]:
        """Return the sessions whose time is up. Each comes back after another timeout unless it ends."""
        due: list[int] = []
        heap = self._heap
        while heap and heap[0][0] <= now_ms:
            _, session_id = heapq.heappop(heap)
            deadline_ms = self._deadline_ms.get(session_id)
            if deadline_ms is None:
                continue
            if deadline_ms <= now_ms:
                due.append(session_id)
                self._dying[session_id] = None
                # Proposals can be lost with a leadership; if this one is, it is made again.
                deadline_ms = now_ms + self._timeout_ms[session_id]
                self._deadline_ms[session_id] = deadline_ms
            heapq.heappush(heap, (deadline_ms, session_id))
        return due

"""Threads for callbacks that may block: as many as are blocked at a time, used again, gone when idle.

Rule of this file: there is no limit, because a callback that never returns must hold up nobody else; and
every thread is a daemon, because such a callback must not keep the program from ending.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable

IDLE_SECONDS = 1.0  # a thread that had nothing to do for so long ends

Work = Callable[[], None]


class CallbackThreads:
    """Runs functions in threads; starts one only if no other is idle."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle = 0  # threads that wait for work, and that nobody has promised any
        self._work: queue.SimpleQueue[Work] = queue.SimpleQueue()

    async def run(self, work: Work) -> None:
        """Run `work`, which does not raise, in a thread, and wait for it; if cancelled it runs on."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def work_and_tell() -> None:
            work()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_finish, done)

        with self._lock:
            is_idle = self._idle > 0
            if is_idle:
                self._idle -= 1
        if is_idle:
            self._work.put(work_and_tell)
        else:
            name = "coordclient callback"
            threading.Thread(target=self._serve, args=(work_and_tell,), name=name, daemon=True).start()
        await done

    def _serve(self, work: Work) -> None:
        while True:
            work()
            with self._lock:
                self._idle += 1
            try:
                work = self._work.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._idle > 0:
                        self._idle -= 1
                        return
                work = self._work.get()  # Promised to us a moment ago: it is on its way.


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)

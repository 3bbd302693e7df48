"""The faults of a link, for threads.

Rule of this file: it only waits; `FaultyLink` does the work, on the event loop of its server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from coordsvc.testing.link import Drop, FaultyLink
from coordsvc.testing.threads import LoopThread

T = TypeVar("T")


class LostMessage:
    """A request or reply that is to be lost."""

    def __init__(self, thread: LoopThread, drop: Drop) -> None:
        self._thread = thread
        self._drop = drop

    @property
    def happened(self) -> bool:
        """Return whether it was lost already."""
        return self._drop.happened

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it was lost; False if that takes longer than `timeout` seconds."""
        return self._thread.run(_wait(self._drop, timeout))


async def _wait(drop: Drop, timeout: float | None) -> bool:
    try:
        async with asyncio.timeout(timeout):
            await drop.wait()
    except TimeoutError:
        return False
    return True


class Link:
    """What stands between clients and one member. See `FaultyLink` for what each fault does."""

    def __init__(self, thread: LoopThread, link: FaultyLink) -> None:
        self._thread = thread
        self._link = link

    @property
    def address(self) -> str:
        return self._link.address

    @property
    def requests(self) -> int:
        """Return how many messages came from clients."""
        return self._link.requests

    @property
    def replies(self) -> int:
        """Return how many messages were passed to clients."""
        return self._link.replies

    @property
    def connection_count(self) -> int:
        """Return how many calls pass through now; an attached session is one."""
        return self._link.connection_count

    def cut(self) -> None:
        """Break every connection. Clients may connect again at once."""
        self._do(self._link.cut)

    def refuse(self) -> None:
        """Break every connection, and refuse new ones until `accept`: the member is not reachable."""
        self._do(self._link.refuse)

    def accept(self) -> None:
        """Let clients connect again, after `refuse`."""
        self._do(self._link.accept)

    def black_hole(self) -> None:
        """Let nothing pass, without a word, until `resume`."""
        self._do(self._link.black_hole)

    def resume(self) -> None:
        """Let pass what `black_hole` held back, and all that follows."""
        self._do(self._link.resume)

    def drop_next_reply(self, *kinds: str) -> LostMessage:
        """Lose the answer to the next request (of these kinds; default: every write), which is applied."""
        return LostMessage(self._thread, self._do(lambda: self._link.drop_next_reply(*kinds)))

    def drop_next_request(self, *kinds: str) -> LostMessage:
        """Lose the next request (of these kinds; default: every write): it never reaches the member."""
        return LostMessage(self._thread, self._do(lambda: self._link.drop_next_request(*kinds)))

    def _do(self, action: Callable[[], T]) -> T:
        async def on_the_loop() -> T:
            return action()

        return self._thread.run(on_the_loop())

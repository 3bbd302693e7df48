"""The face of the recipes for threads: the same names as for asyncio, without `await`.

Rule of this file: it only waits. Every decision is taken by the asyncio recipes; each recipe's own file
has its two faces side by side. A thread cannot be cancelled: who holds something in a thread asks
`held.check()` or waits for `held.lost`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from coordclient.operations import Operations
from coordclient.portal import Portal
from coordclient.recipes.grants import Grant
from coordclient.recipes.signals import BlockingSignal, Signal

T = TypeVar("T")
G = TypeVar("G", bound=Grant)


class BlockingFace(Protocol):
    """What the recipes need of a `Client`."""

    @property
    def portal(self) -> Portal: ...  # pragma: no cover

    @property
    def asynchronous(self) -> Operations: ...  # pragma: no cover


def abandon(grant: Grant | None) -> None:
    """Undo what came too late for the thread that had asked for it: for `Portal.run(undo=...)`."""
    if grant is not None:
        grant.abandon()


def iterate(portal: Portal, source: AsyncIterator[T]) -> Iterator[T]:
    """Iterate over an asynchronous generator from a thread."""

    busy = asyncio.Lock()  # A step that was interrupted ends before the source is closed.

    async def step() -> tuple[bool, T | None]:
        async with busy:
            try:
                return True, await anext(source)
            except StopAsyncIteration:
                return False, None

    async def close() -> None:
        async with busy:
            closer = getattr(source, "aclose", None)
            if closer is not None:
                await closer()

    try:
        while True:
            is_there, item = portal.run(step())
            if not is_there:
                return
            yield item  # type: ignore[misc]  # None only where T allows it
    finally:
        portal.run(close())


class BlockingGrant(Generic[G]):
    """A held lock or term, for threads. Usable as `guard=` on every write.

    At the end of `with` it is given back; if it was lost meanwhile, `LockLostError` comes out.
    """

    def __init__(self, portal: Portal, grant: G) -> None:
        self._portal = portal
        self._grant = grant
        self._lost = self._signal(grant.lost)

    def _signal(self, signal: Signal) -> BlockingSignal:
        return BlockingSignal(self._portal, self._grant.callbacks, signal)

    def __repr__(self) -> str:
        # Its class is what tells the reader whether to await.
        return repr(self._grant).replace(type(self._grant).__name__, type(self).__name__, 1)

    @property
    def path(self) -> str:
        """Return the path of the node that stands for the grant. Who deletes it takes the grant away."""
        return self._grant.path

    @property
    def token(self) -> int:
        """Return a number (64 bits) larger than that of every earlier holder: pass it to what you protect."""
        return self._grant.token

    @property
    def guard(self) -> tuple[str, int]:
        """Return `(path, czxid)`: a write with this guard is refused once the grant is gone."""
        return self._grant.guard

    @property
    def valid_until(self) -> float:
        """Return until when nobody else can hold this, on the clock of `coordclient.clock.now`."""
        return self._grant.valid_until

    @property
    def remaining(self) -> float:
        """Return for how many seconds from now the grant is certain; 0 if it is not."""
        return self._grant.remaining

    @property
    def lost(self) -> BlockingSignal:
        """Whether it has been lost: `if held.lost`, `.wait(timeout)`, `.add_callback(function)`."""
        return self._lost

    @property
    def is_released(self) -> bool:
        """Return whether it has been given back by us, which is not the same as lost."""
        return self._grant.is_released

    def check(self) -> None:
        """Raise LockLostError unless the grant is certain at this moment. Asks nobody: cheap."""
        if not self._grant.is_released and not self._grant.lost and self._grant.remaining > 0:
            return
        self._grant.check()

    def release(self) -> None:
        """Give the grant back, and wait for that, `request_timeout` seconds at most. Idempotent."""
        if not self._grant.is_released:
            self._portal.run(self._grant.release())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # By the clock: after a stop of the process this thread may run before the loop has said so.
        is_lost = not self._grant.is_released and self._grant.remaining <= 0
        lost = self._grant.error() if is_lost else None
        self.release()
        if lost is not None and kind is None:
            raise lost

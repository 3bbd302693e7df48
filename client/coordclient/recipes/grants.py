"""What a holder holds: a node of its own that nobody else can have, a token, and word of its loss.

Rule of this file: a grant is lost at the latest when the session's `valid_until` has passed on the local
clock, whether or not anybody could be reached to say so.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from coordclient import clock, forks
from coordclient.callbacks import Callbacks
from coordclient.errors import ClientClosedError, LockLostError, SessionExpiredError
from coordclient.operations import Operations
from coordclient.recipes.signals import Signal
from coordclient.states import State
from coordclient.types import Event, EventType, Stat
from coordclient.watch_records import WatchRecord

NOT_VALID = float("-inf")


class Loss(Signal):
    """Whether a grant has been lost: true once it is, and then for good.

    Also true in a child that was forked from the holder's process: the child does not hold it.
    """

    def __bool__(self) -> bool:
        return super().__bool__() or self._generation != forks.generation()


class Grant:
    """A held lock or a term of leadership. Usable as `guard=` on every write.

    With `async with` the body is cancelled when the grant is lost, and `LockLostError` comes out.

    Attributes:
        path: The node that stands for the grant.
        token: A number larger than that of every earlier holder: pass it on to what you protect.
        lost: Whether it has been lost.
    """

    def __init__(
        self, client: Operations, path: str, czxid: int, session_id: int, *, token: int | None = None
    ) -> None:
        """For recipes: a grant for which the node that transaction `czxid` created stands.

        Args:
            token: Where grants do not come in the order of creation: the transaction that granted this one.
        """
        self.path = path
        self.token = czxid if token is None else token
        self._czxid = czxid
        self.lost = Loss()
        self._client = client
        self._session_id = session_id
        self._record: WatchRecord | None = None
        self._is_released = False
        self._body: asyncio.Task[object] | None = None
        self._has_cancelled_body = False
        self._cancelling_before = 0

    def __repr__(self) -> str:
        state = "released" if self._is_released else "lost" if self.lost else "held"
        return f"<{type(self).__name__} {self.path} token={self.token} {state}>"

    # -----------------------------------------------------------------------------------------
    # Asking

    @property
    def guard(self) -> tuple[str, int]:
        """Return `(path, czxid)`: a write with this guard is refused once the grant is gone."""
        return self.path, self._czxid

    @property
    def valid_until(self) -> float:
        """Return until when nobody else can hold this, on the clock of `coordclient.clock.now`."""
        if self.lost or self._is_released or self._client.session_id != self._session_id:
            return NOT_VALID
        return self._client.valid_until

    @property
    def remaining(self) -> float:
        """Return for how many seconds from now the grant is certain; 0 if it is not."""
        return max(0.0, self.valid_until - clock.now())

    @property
    def session_id(self) -> int:
        """Return the session that the grant belongs to."""
        return self._session_id

    @property
    def is_released(self) -> bool:
        """Return whether it has been given back by us, which is not the same as lost."""
        return self._is_released

    @property
    def callbacks(self) -> Callbacks:
        """For recipes: how the client calls the application."""
        return self._client.callbacks

    def check(self) -> None:
        """Raise LockLostError unless the grant is certain at this moment. Asks nobody: cheap."""
        if self._is_released:
            raise LockLostError(f"{self.path} has been released", path=self.path, token=self.token)
        if self.lost or clock.now() >= self.valid_until:
            raise self.error()

    def error(self) -> LockLostError:
        """Return the error that says how the grant was lost."""
        reason = self.lost.reason or "its session could not be renewed in time"
        if self._client.is_forked:
            reason = "this process was forked from the one that holds it"
        return LockLostError(f"{self.path} was lost: {reason}", path=self.path, token=self.token)

    async def wait_lost(self) -> None:
        """Return when the grant is lost."""
        await self.lost.happens()

    # -----------------------------------------------------------------------------------------
    # Watching over it

    @property
    def is_watched(self) -> bool:
        """For recipes: whether the end of the node would be told; for a moment after a change it is not."""
        return self._record is not None

    async def watch_over(self) -> bool:
        """For recipes: begin to watch the node. Return whether it is ours and there."""
        self._client.add_internal_listener(self._state_changed)
        try:
            return await self._arm()
        except BaseException:
            self._stop_watching()
            raise

    async def _arm(self) -> bool:
        record = self._client.one_shot(self.path, self._node_changed)
        stat = await self._client.exists_with(self.path, record, timeout=float("inf"))
        if self._is_released:
            self._client.cancel_watch(record)
            return False
        self._record = record
        is_ours = stat is not None and stat.czxid == self._czxid and stat.ephemeral_owner == self._session_id
        if not is_ours:
            self.lose("its node was deleted")
        elif stat is not None:
            await self._seen(stat)
        return is_ours

    async def _seen(self, stat: Stat) -> None:
        """For recipes: the node is there, and this is its state."""

    async def _arm_again(self) -> None:
        try:
            await self._arm()
        except (SessionExpiredError, ClientClosedError):
            return  # The listener has said so.

    def _node_changed(self, event: Event) -> None:
        if self._is_released or self.lost:
            return
        if event.type is EventType.DELETED:
            self.lose("its node was deleted")
        else:
            self._record = None
            self._client.janitor.start(self._arm_again(), "watch over a grant")

    def _state_changed(self, state: State) -> None:
        if state is State.LOST:
            self.lose("its session is gone")
        elif state is State.CLOSED:
            self.lose("the client was closed")

    def lose(self, reason: str) -> None:
        """For recipes: the grant is gone."""
        self._stop_watching()
        if not self._is_released:
            self.lost.set(reason)

    def _stop_watching(self) -> None:
        self._client.remove_internal_listener(self._state_changed)
        if self._record is not None:
            self._client.cancel_watch(self._record)
            self._record = None

    # -----------------------------------------------------------------------------------------
    # Giving it back

    def abandon(self) -> asyncio.Task[None] | None:
        """Give the grant back without waiting. What is begun here is finished by the client's janitor."""
        if self._is_released:
            return None
        self._is_released = True
        self._stop_watching()
        return self._client.janitor.start(self._remove(), "release")

    async def release(self) -> None:
        """Give the grant back. Idempotent; once begun, it is carried out even if the caller is cancelled."""
        task = self.abandon()
        if task is not None:
            await asyncio.wait([task], timeout=self._client.request_timeout)

    async def _remove(self) -> None:
        """Delete what stands for the grant. What went with its session need not be deleted."""
        if self._client.session_id != self._session_id:
            return
        try:
            await self._client.delete(self.path, missing_ok=True, timeout=float("inf"))
        except (SessionExpiredError, ClientClosedError):
            return

    # -----------------------------------------------------------------------------------------
    # With

    async def __aenter__(self) -> Self:
        assert self._body is None, "a grant is entered once"
        self._body = asyncio.current_task()
        assert self._body is not None
        self._cancelling_before = self._body.cancelling()
        self.lost.add_callback(self._cancel_body)
        return self

    def _cancel_body(self) -> None:
        if self._body is not None:
            self._has_cancelled_body = True
            self._body.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        body = self._body
        assert body is not None
        if not self._is_released and clock.now() >= self.valid_until:
            # The process was stopped, or the loop was blocked, and nobody had the time to say so.
            self.lose("its session could not be renewed in time")
        self._body = None
        self.lost.remove_callback(self._cancel_body)
        if not self._has_cancelled_body:
            await self.release()
            return
        self.abandon()
        is_cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
        if not is_cancelled:
            # Our cancellation may not have been delivered yet; it must not come out somewhere else.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        if body.uncancel() > self._cancelling_before:
            raise asyncio.CancelledError  # Somebody else wants this task to end, too.
        if kind is None or is_cancelled:
            raise self.error() from None

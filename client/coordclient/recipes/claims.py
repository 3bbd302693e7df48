"""Claims: an item of a work queue in the hands of one consumer, and the four ways in which that ends.

Acknowledged, given back, rejected, or lost. Each of the first three is one transaction that checks the
claim's node, so that exactly one of them happens, and only while the claim is still there.

Rule of this file: a claim that is lost is never said to be acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType

from coordclient.errors import (
    ClientClosedError,
    CoordError,
    LockLostError,
    RequestError,
    RequestTimeoutError,
    SessionExpiredError,
)
from coordclient.operations import Operations
from coordclient.recipes.deadlines import FOREVER
from coordclient.recipes.faces import BlockingGrant
from coordclient.recipes.grants import Grant
from coordclient.recipes.queue_backlog import Backlog
from coordclient.recipes.queue_names import Envelope, delay_ms_of, pack
from coordclient.recipes.receipts import (
    ChangedError,
    Fill,
    MissingFolderError,
    NotAppliedError,
    commit,
    commit_with_receipt,
)
from coordclient.transactions import TransactionBuilder
from coordclient.types import Created

REASON_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True)
class ClaimedItem:
    """The item of a claim: its node, and what that holds."""

    path: str
    czxid: int
    envelope: Envelope
    attempts_max: int


class AsyncClaim(Grant):
    """An item of a work queue that is ours to work on. Usable as `guard=` on every write.

    `async with claim:` acknowledges at the end of the body. If the body raises, the item is given back and
    the error comes out; if it is cancelled, the item is given back without counting the attempt. When the
    claim is lost, the body is cancelled and `LockLostError` comes out.

    1. It guarantees that nobody else has the item while the claim is valid, and that whichever of
       `acknowledge`, `give_back` and `reject` returns has happened, and no other.
    2. While the connection is SUSPENDED the claim stays until `valid_until`; calls wait.
    3. When the session is LOST the claim is lost, and the item goes to somebody else.

    Attributes:
        token: A number larger than that of every earlier claim of this queue.
    """

    def __init__(self, client: Operations, created: Created, item: ClaimedItem, backlog: Backlog) -> None:
        """For `AsyncWorkQueue`: the claim for which a node stands."""
        super().__init__(client, created.path, created.stat.czxid, created.stat.ephemeral_owner)
        self._item = item
        self._backlog = backlog

    @property
    def id(self) -> str:
        """Return what `put` returned for the item."""
        return self._item.envelope.id

    @property
    def value(self) -> bytes:
        """Return what was put."""
        return self._item.envelope.value

    @property
    def priority(self) -> int:
        """Return the item's priority: the lower, the sooner."""
        return self._item.envelope.priority

    @property
    def attempt(self) -> int:
        """Return how many times the item has been claimed, this time included."""
        return self._item.envelope.attempts

    # -----------------------------------------------------------------------------------------
    # Ending it

    async def acknowledge(self) -> None:
        """The work is done: delete the item. Once begun, it is carried out even if the caller is cancelled.

        Raises:
            LockLostError: The claim is gone, or was ended before; the item was not deleted by this call.
            RequestTimeoutError: Not answered within the client's `request_timeout`; it may still be done.
            RequestError: The service refused it; the claim is given up, and somebody else gets the item.
            OutcomeUnknownError: Nobody could be asked for about an hour.
        """
        await self._end(self._delete)

    async def give_back(self, *, delay: float = 0.0, reason: str = "") -> None:
        """The work has failed: let somebody else try. Raises the same errors as `acknowledge`.

        After the last of `attempts_max` attempts the item becomes a dead letter.

        Args:
            delay: Seconds, by the service's clock, before which nobody gets the item; it then stands behind
                those that are there by then. Without a delay it keeps its place.
            reason: What went wrong; kept with the item.
        """
        delay_ms = delay_ms_of(delay, self.path)
        way: Callable[[Envelope, TransactionBuilder], None] = self._return
        if self._item.envelope.attempts >= self._item.attempts_max:
            way = self._bury
        elif delay_ms:
            way = partial(self._delay, delay_ms)
        await self._end(*self._with_and_without(reason, way))

    async def reject(self, reason: str) -> None:
        """Nobody should try again: make it a dead letter. Raises the same errors as `acknowledge`."""
        await self._end(*self._with_and_without(reason, self._bury))

    def _with_and_without(
        self, reason: str, way: Callable[[Envelope, TransactionBuilder], None]
    ) -> tuple[Fill, Fill]:
        """Return a way to end the claim, and what to do if the item becomes too large by the reason."""
        envelope = self._item.envelope
        return partial(way, replace(envelope, reason=reason[:REASON_CHARACTERS_MAX])), partial(way, envelope)

    def _delete(self, transaction: TransactionBuilder) -> None:
        self._delete_claim(transaction)
        transaction.check(self._item.path, czxid=self._item.czxid)
        transaction.delete(self._item.path, recursive=True)

    def _bury(self, envelope: Envelope, transaction: TransactionBuilder) -> None:
        self._delete(transaction)
        self._backlog.add_dead(transaction, envelope)

    def _delay(self, delay_ms: int, envelope: Envelope, transaction: TransactionBuilder) -> None:
        self._delete(transaction)
        self._backlog.add(transaction, envelope.priority, delay_ms, pack(envelope))

    def _return(self, envelope: Envelope, transaction: TransactionBuilder) -> None:
        self._delete_claim(transaction)
        transaction.check(self._item.path, czxid=self._item.czxid)
        transaction.set(self._item.path, pack(envelope))

    def _delete_claim(self, transaction: TransactionBuilder) -> None:
        path, czxid = self.guard
        transaction.check(path, czxid=czxid)
        transaction.delete(path)

    async def _end(self, *ways: Fill) -> None:
        """End the claim by the first of these that is not refused; the janitor cares for it."""
        if self.lost:
            raise self.error()
        if self._is_released:
            raise LockLostError(f"{self.path} has been ended before", path=self.path, token=self.token)
        self._is_released = True
        self._stop_watching()
        ending = self._client.janitor.start(self._carry_out(list(ways)), "end of a claim")
        await asyncio.wait([ending], timeout=self._client.request_timeout)
        if not ending.done():
            error = RequestTimeoutError(
                f"the end of the claim was not answered within {self._client.request_timeout:g} s and may"
                " still be carried out",
                path=self.path,
            )
            error.may_have_been_applied = True
            raise error
        if ending.cancelled():
            raise ClientClosedError
        ending.result()

    async def _carry_out(self, ways: list[Fill]) -> None:
        while True:
            try:
                await commit_with_receipt(self._client, self._backlog.layout.receipts, ways[0])
            except MissingFolderError:
                await self._backlog.ensure()
            except NotAppliedError:
                raise self._lost_now("its session is gone") from None
            except ChangedError:
                await self._leave()
                raise self._lost_now("its node or its item was deleted") from None
            except RequestError:
                if len(ways) == 1:
                    await self._leave()  # Else nobody would get the item as long as this session lasts.
                    raise
                del ways[0]
            else:
                return

    def _lost_now(self, reason: str) -> LockLostError:
        self.lost.set(reason)
        return self.error()

    async def _remove(self) -> None:
        """Undo the claim: the item is there for others, and the attempt does not count."""
        if self._client.session_id != self._session_id:
            return
        envelope = replace(self._item.envelope, attempts=self._item.envelope.attempts - 1)
        await self._leave(partial(self._return, envelope))

    async def _leave(self, *first: Fill) -> None:
        """End the claim by the first way that is open; what is left then is to delete its node."""
        try:
            for fill in (*first, self._delete_claim):
                if await self._try_to(fill):
                    return
        except (SessionExpiredError, ClientClosedError):
            return  # The service deletes the node.

    async def _try_to(self, fill: Fill) -> bool:
        transaction = self._client.transaction(timeout=FOREVER)
        fill(transaction)
        try:
            await commit(transaction)
        except ChangedError:
            return False
        return True

    # -----------------------------------------------------------------------------------------
    # With

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_released or self.lost or (kind is not None and not issubclass(kind, Exception)):
            await super().__aexit__(kind, error, trace)
            return
        self.lost.remove_callback(self._cancel_body)  # From here on a loss is an error of the call.
        self._body = None
        if kind is None:
            await self.acknowledge()
            return
        try:
            await self.give_back(reason=f"{kind.__name__}: {error}")
        except CoordError as failed:
            if error is not None:
                error.add_note(f"and its item could not be given back: {failed}")


# ---------------------------------------------------------------------------------------------
# For threads


class Claim(BlockingGrant[AsyncClaim]):
    """An item of a work queue that is ours to work on, for threads.

    `with claim:` acknowledges at the end of the body. If the body raises, the item is given back and the
    error comes out. If the claim was lost meanwhile, `LockLostError` comes out.

    1. Nobody else has the item while the claim is valid.
    2. While the connection is SUSPENDED the claim stays until `valid_until`.
    3. When the session is LOST the claim is lost, `lost` says so, and the item goes to somebody else.
    """

    @property
    def id(self) -> str:
        """Return what `put` returned for the item."""
        return self._grant.id

    @property
    def value(self) -> bytes:
        """Return what was put."""
        return self._grant.value

    @property
    def priority(self) -> int:
        """Return the item's priority: the lower, the sooner."""
        return self._grant.priority

    @property
    def attempt(self) -> int:
        """Return how many times the item has been claimed, this time included."""
        return self._grant.attempt

    def acknowledge(self) -> None:
        """The work is done: delete the item. LockLostError if the claim is gone."""
        self._portal.run(self._grant.acknowledge())

    def give_back(self, *, delay: float = 0.0, reason: str = "") -> None:
        """The work has failed: let somebody else try, after `delay` seconds by the service's clock."""
        self._portal.run(self._grant.give_back(delay=delay, reason=reason))

    def reject(self, reason: str) -> None:
        """Nobody should try again: make it a dead letter."""
        self._portal.run(self._grant.reject(reason))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_released:
            return
        if kind is None:
            self.acknowledge()
        elif not issubclass(kind, Exception) or self._grant.lost:
            self.release()
        else:
            try:
                self.give_back(reason=f"{kind.__name__}: {error}")
            except CoordError as failed:
                if error is not None:
                    error.add_note(f"and its item could not be given back: {failed}")

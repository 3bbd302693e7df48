"""WorkQueue: items that are claimed, worked on, and acknowledged; what is not acknowledged comes back.

A claim is an ephemeral node beside the item. It goes when it is acknowledged, together with the item, or
when it is given back, or with the session of a consumer that died: then the next consumer gets the item.
Each claim counts as an attempt; what has failed too often is laid aside as a dead letter.

Rule of this file: the service decides who holds a claim. Whatever ends one is a transaction that checks it.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from functools import partial

from coordclient.errors import (
    CoordError,
    InvalidArgumentError,
    LimitExceededError,
    NoNodeError,
    RecipeTimeoutError,
)
from coordclient.operations import Operations
from coordclient.recipes.claims import AsyncClaim, Claim, ClaimedItem
from coordclient.recipes.deadlines import FOREVER, deadline
from coordclient.recipes.faces import BlockingFace
from coordclient.recipes.grants import Grant
from coordclient.recipes.queue_backlog import Backlog
from coordclient.recipes.queue_names import (
    Envelope,
    Layout,
    check_priority,
    check_root,
    dead_order,
    delay_ms_of,
    pack,
    unpack,
)
from coordclient.recipes.receipts import ChangedError, commit
from coordclient.transactions import TransactionBuilder
from coordclient.types import Created, Guard, Node

ATTEMPTS_MAX = 5


@dataclass(frozen=True, slots=True)
class ClaimInfo:
    """Somebody who works on an item.

    Attributes:
        id: The item's.
        token: The claim's fencing token.
        attempt: How many times the item has been claimed, this time included.
        since_ms: When it was claimed, in ms since the epoch, by the service's clock.
    """

    id: str
    path: str
    token: int
    attempt: int
    session_id: int
    client: str = ""
    host: str = ""
    process_id: int = 0
    since_ms: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item that was laid aside: rejected, or failed too often.

    Attributes:
        attempts: How many times it was claimed.
        reason: How it came here.
    """

    id: str
    value: bytes
    attempts: int
    reason: str


class AsyncWorkQueue:
    """A queue whose items come back unless acknowledged, for up to some 10,000 small ones; no message broker.

    1. It guarantees that an item that was put is worked on until somebody acknowledges it (at least once), by
       one consumer at a time, the lowest priority number first and then in the order of the puts; an item
       that is given back keeps its place, unless with a delay. A claim's `token` grows with every claim: pass
       it on, or use the claim as `guard=`, so that a consumer that has lost its claim does no harm.
       After `attempts_max` attempts that failed, crashes included, the item becomes a dead letter.
    2. While the connection is SUSPENDED calls wait, and a claim stays: nobody else gets the item before
       `valid_until`.
    3. When the session is LOST its claims are lost: the body of `async with claim` is cancelled,
       LockLostError comes out, and others get the items. `acknowledge` raises LockLostError unless it has
       deleted the item.

    The object is only a description: any number of tasks may use it at once. All users of one path should
    give the same `attempts_max`; each goes by its own.
    """

    def __init__(self, client: Operations, path: str, *, attempts_max: int = ATTEMPTS_MAX) -> None:
        """Describe a work queue; does no I/O."""
        if attempts_max < 1:
            raise InvalidArgumentError(f"attempts_max is {attempts_max}, and must be 1 at least", path=path)
        self.path = check_root(path)
        self.attempts_max = attempts_max
        self._client = client
        self._layout = Layout(path)
        self._backlog = Backlog(client, self._layout, has_claims=True)

    def __repr__(self) -> str:
        return f"<AsyncWorkQueue {self.path}>"

    async def put(
        self, value: bytes, *, priority: int = 100, delay: float = 0.0, guard: Guard | None = None
    ) -> str:
        """Put an item and return its id.

        Args:
            priority: 0 to 999; the lower, the sooner.
            delay: Seconds, by the service's clock, before which nobody gets it.
            guard: A held lock or term: refused with GuardFailedError if that is gone.

        Raises:
            RequestTimeoutError: Not answered within the client's `request_timeout`; the item may be put all
                the same, as it may if the call is cancelled.
        """
        check_priority(priority, self.path)
        envelope = Envelope(uuid.uuid4().hex, value, priority=priority)
        await self._backlog.put(envelope, delay_ms_of(delay, self.path), guard)
        return envelope.id

    # -----------------------------------------------------------------------------------------
    # Claiming

    async def claim(self, *, timeout: float | None = None) -> AsyncClaim:
        """Claim the first item; wait for one if there is none.

        A call that is cancelled, or whose time is over, leaves no claim, and counts as no attempt.

        Raises:
            RecipeTimeoutError: There was nothing to claim within `timeout` seconds.
        """
        if timeout is None or timeout > 0:
            async with deadline(timeout, self.path):
                return await self._backlog.first(self._claim)
        claim = await self.try_claim()
        if claim is None:
            raise RecipeTimeoutError(f"there is nothing to claim at {self.path}", path=self.path)
        return claim

    async def try_claim(self) -> AsyncClaim | None:
        """Claim the first item; None if there is none.

        Raises:
            RecipeTimeoutError: The service did not answer within the client's `request_timeout`.
        """
        async with deadline(self._client.request_timeout, self.path):
            return await self._backlog.try_first(self._claim)

    async def consume(self) -> AsyncIterator[AsyncClaim]:
        """Yield claims without end, each when it is asked for: no more are held than are worked on.

        async for claim in queue.consume():
            async with claim:
                await work(claim.value)
        """
        while True:
            yield await self.claim()

    async def _claim(self, name: str) -> AsyncClaim | None:
        return await self._backlog.obtain(self._claiming(name), Grant.release)

    async def _claiming(self, name: str) -> AsyncClaim | None:
        path = f"{self._layout.ready}/{name}"
        try:
            node = await self._client.get(path, timeout=FOREVER)
        except NoNodeError:
            return None
        envelope = unpack(name, node.value)
        if envelope.attempts >= self.attempts_max:
            await self._bury(node, envelope)
            return None
        envelope = replace(envelope, attempts=envelope.attempts + 1)
        transaction = self._client.transaction(timeout=FOREVER)
        transaction.check(path, version=node.stat.version, czxid=node.stat.czxid)
        transaction.set(path, pack(envelope))
        details = _details(self._client.name, envelope)
        transaction.create(f"{self._layout.claims}/{name}", details, ephemeral=True)
        results = await self._backlog.attempt(commit(transaction))
        if results is None:
            return None
        created = results[-1]
        assert isinstance(created, Created)
        item = ClaimedItem(path, node.stat.czxid, envelope, self.attempts_max)
        claim = AsyncClaim(self._client, created, item, self._backlog)
        try:
            return claim if await claim.watch_over() else None
        except CoordError:
            claim.abandon()
            raise

    async def _bury(self, node: Node, envelope: Envelope) -> None:
        """Lay an item aside whose last attempt ended without a word."""
        reason = f"the consumer of attempt {envelope.attempts} was lost"
        if envelope.reason:
            reason += f"; an attempt before it ended with: {envelope.reason}"
        try:
            await self._lay_aside(node, replace(envelope, reason=reason))
        except LimitExceededError:
            await self._lay_aside(node, envelope)  # It is too large for a reason.

    async def _lay_aside(self, node: Node, envelope: Envelope) -> None:
        name = node.path.rpartition("/")[2]
        transaction = self._client.transaction(timeout=FOREVER)
        transaction.check(node.path, version=node.stat.version, czxid=node.stat.czxid)
        transaction.check(f"{self._layout.claims}/{name}", absent=True)
        transaction.delete(node.path, recursive=True)
        self._backlog.add_dead(transaction, envelope)
        await self._backlog.attempt(commit(transaction))

    # -----------------------------------------------------------------------------------------
    # Looking

    async def size(self) -> int:
        """Return how many items there are: those that wait, are delayed, or are claimed; no dead letters."""
        async with deadline(self._client.request_timeout, self.path):
            return await self._backlog.count()

    async def claims(self) -> list[ClaimInfo]:
        """Return who works on what, the oldest claim first."""
        found = [_claim_info(node) for node in await self._nodes(self._layout.claims)]
        return sorted(found, key=lambda claim: claim.token)

    async def dead_letters(self) -> list[DeadLetter]:
        """Return the items that were laid aside, the oldest first."""
        letters = []
        for _, envelope in await self._dead():
            letters.append(DeadLetter(envelope.id, envelope.value, envelope.attempts, envelope.reason))
        return letters

    async def _nodes(self, folder: str) -> list[Node]:
        try:
            return await self._client.get_children_nodes(folder)
        except NoNodeError:
            return []

    async def _dead(self) -> list[tuple[Node, Envelope]]:
        found = []
        for node in await self._nodes(self._layout.dead):
            name = node.path.rpartition("/")[2]
            order = dead_order(name)
            if order is not None:
                found.append((order, node, unpack(name, node.value)))
        return [(node, envelope) for _, node, envelope in sorted(found, key=lambda letter: letter[0])]

    # -----------------------------------------------------------------------------------------
    # Dead letters

    async def redeliver(self, id: str) -> bool:  # noqa: A002  # the word for it everywhere else
        """Put a dead letter back into the queue, as if it were new; return whether there was one."""
        return await self._dispose(id, is_redelivered=True)

    async def discard(self, id: str) -> bool:  # noqa: A002  # the word for it everywhere else
        """Delete a dead letter for good; return whether there was one of this id."""
        return await self._dispose(id, is_redelivered=False)

    async def _dispose(self, item_id: str, *, is_redelivered: bool) -> bool:
        for node, envelope in await self._dead():
            if envelope.id != item_id:
                continue
            try:
                await self._backlog.carry_out(partial(self._replace_dead, node, envelope, is_redelivered))
            except ChangedError:
                return False  # Somebody else was faster.
            return True
        return False

    def _replace_dead(
        self, node: Node, envelope: Envelope, is_redelivered: bool, transaction: TransactionBuilder
    ) -> None:
        transaction.check(node.path, czxid=node.stat.czxid)
        transaction.delete(node.path, recursive=True)
        if is_redelivered:
            fresh = replace(envelope, attempts=0, reason="")
            self._backlog.add(transaction, envelope.priority, 0, pack(fresh))


def _details(client_name: str, envelope: Envelope) -> bytes:
    """Return what a claim's node says, for people."""
    details = {
        "id": envelope.id,
        "attempt": envelope.attempts,
        "client": client_name,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": round(time.time() * 1000),
    }
    return json.dumps(details).encode()


def _claim_info(node: Node) -> ClaimInfo:
    """Describe a claim. Its details are for people, so those that cannot be read are left out."""
    try:
        details = json.loads(node.value)
    except ValueError:
        details = None
    if not isinstance(details, dict):
        details = {}
    attempt, process_id = details.get("attempt"), details.get("pid")
    return ClaimInfo(
        id=str(details.get("id", "")),
        path=node.path,
        token=node.stat.czxid,
        attempt=attempt if isinstance(attempt, int) else 0,
        session_id=node.stat.ephemeral_owner,
        client=str(details.get("client", "")),
        host=str(details.get("host", "")),
        process_id=process_id if isinstance(process_id, int) else 0,
        since_ms=node.stat.ctime,
    )


# ---------------------------------------------------------------------------------------------
# For threads


class WorkQueue:
    """A queue whose items come back unless acknowledged, for threads; see `AsyncWorkQueue`.

    1. An item is worked on until somebody acknowledges it, by one consumer at a time.
    2. While the connection is SUSPENDED calls wait, and a claim stays until its `valid_until`.
    3. When the session is LOST its claims are lost: `claim.lost` says so, and LockLostError comes out at the
       end of `with claim`, or of `acknowledge`.
    """

    def __init__(self, client: BlockingFace, path: str, *, attempts_max: int = ATTEMPTS_MAX) -> None:
        """Describe a work queue; does no I/O."""
        self.path = path
        self._portal = client.portal
        self._queue = AsyncWorkQueue(client.asynchronous, path, attempts_max=attempts_max)

    def __repr__(self) -> str:
        return f"<WorkQueue {self.path}>"

    def put(
        self, value: bytes, *, priority: int = 100, delay: float = 0.0, guard: Guard | None = None
    ) -> str:
        """Put an item and return its id; see `AsyncWorkQueue.put`."""
        return self._portal.run(self._queue.put(value, priority=priority, delay=delay, guard=guard))

    def claim(self, *, timeout: float | None = None) -> Claim:
        """Claim the first item; RecipeTimeoutError if there is none within `timeout` seconds."""
        return Claim(self._portal, self._portal.run(self._queue.claim(timeout=timeout), undo=Grant.abandon))

    def try_claim(self) -> Claim | None:
        """Claim the first item; None if there is none."""
        claim = self._portal.run(self._queue.try_claim(), undo=_abandon)
        return None if claim is None else Claim(self._portal, claim)

    def consume(self) -> Iterator[Claim]:
        """Yield claims without end, each when it is asked for; use each with `with`."""
        while True:
            yield self.claim()

    def size(self) -> int:
        """Return how many items there are: those that wait, are delayed, or are claimed."""
        return self._portal.run(self._queue.size())

    def claims(self) -> list[ClaimInfo]:
        """Return who works on what, the oldest claim first."""
        return self._portal.run(self._queue.claims())

    def dead_letters(self) -> list[DeadLetter]:
        """Return the items that were laid aside, the oldest first."""
        return self._portal.run(self._queue.dead_letters())

    def redeliver(self, id: str) -> bool:  # noqa: A002  # the word for it everywhere else
        """Put a dead letter back into the queue, as if it were new; return whether there was one."""
        return self._portal.run(self._queue.redeliver(id))

    def discard(self, id: str) -> bool:  # noqa: A002  # the word for it everywhere else
        """Delete a dead letter for good; return whether there was one of this id."""
        return self._portal.run(self._queue.discard(id))


def _abandon(claim: AsyncClaim | None) -> None:
    if claim is not None:
        claim.abandon()

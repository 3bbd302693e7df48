"""Queue: items in the order of their priority, each taken by one consumer, for good.

An item is a node; taking it is one transaction that deletes it, if it is still as it was read. Whoever
gets an item has it alone, and nobody gets it again: if the consumer dies with it, it is gone. Where that is
too little, `work_queue.py` has items that come back.

Rule of this file: an item that was taken reaches its caller, or is put back in its place.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

from coordclient.errors import NoNodeError, RecipeTimeoutError
from coordclient.operations import Operations
from coordclient.recipes.deadlines import FOREVER, deadline
from coordclient.recipes.faces import BlockingFace
from coordclient.recipes.queue_backlog import Backlog
from coordclient.recipes.queue_names import (
    Envelope,
    Layout,
    check_priority,
    check_root,
    delay_ms_of,
    put_back_name,
    unpack,
)
from coordclient.recipes.receipts import commit_with_receipt
from coordclient.transactions import TransactionBuilder
from coordclient.types import Guard, Node


@dataclass(frozen=True, slots=True)
class QueueItem:
    """An item of a queue.

    Attributes:
        id: What `put` returned.
        value: What was put.
        priority: The lower, the sooner.
        token: The transaction that took it: larger than that of every item taken before. 0 after `peek`.
    """

    id: str
    value: bytes
    priority: int
    token: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """An item that has been taken, and what it takes to put it back."""

    item: QueueItem
    name: str
    raw: bytes


class AsyncQueue:
    """A queue at a path, for work lists of up to some 10,000 small items; it is no message broker.

    1. It guarantees that an item that was put is taken by one caller, at most once; the lowest priority
       number first, and within one priority in the order of the puts. Both hold through lost connections
       and lost sessions: `put` puts once, and `get` knows whether it has taken. An item is lost only with a
       consumer that dies after taking it, or if the service cannot be reached for about an hour at that very
       moment: then `OutcomeUnknownError` says so. A delayed item becomes ready by the service's clock, never
       early; it stands behind those that were ready before. Idle consumers stand in line, first come first
       served, and a new item wakes one of them; when one dies while it is the first, the others may wait
       for its session to expire.
    2. While the connection is SUSPENDED all calls wait, within their timeouts.
    3. When the session is LOST, a consumer that waits queues up again in the next session, behind the others.
       An item that was taken stays taken.

    The object is only a description: any number of tasks may use it at once.
    """

    def __init__(self, client: Operations, path: str) -> None:
        """Describe a queue; does no I/O."""
        self.path = check_root(path)
        self._client = client
        self._layout = Layout(path)
        self._backlog = Backlog(client, self._layout, has_claims=False)

    def __repr__(self) -> str:
        return f"<AsyncQueue {self.path}>"

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

    async def get(self, *, timeout: float | None = None) -> QueueItem:
        """Take the first item, for good; wait for one if there is none.

        A call that is cancelled, or whose time is over, has taken nothing: what it may just have got is put
        back in its place.

        Raises:
            RecipeTimeoutError: There was nothing to take within `timeout` seconds.
        """
        return (await self.take(timeout)).item

    async def take(self, timeout: float | None) -> Taken:
        """For the face for threads: like `get`, with what it needs to put the item back."""
        if timeout is None or timeout > 0:
            async with deadline(timeout, self.path):
                return await self._backlog.first(self._take)
        taken = await self.try_take()
        if taken is None:
            raise RecipeTimeoutError(f"there is nothing to take at {self.path}", path=self.path)
        return taken

    async def try_get(self) -> QueueItem | None:
        """Take the first item, for good; None if there is none.

        Raises:
            RecipeTimeoutError: The service did not answer within the client's `request_timeout`.
        """
        taken = await self.try_take()
        return None if taken is None else taken.item

    async def try_take(self) -> Taken | None:
        """For the face for threads: like `try_get`, with what it needs to put the item back."""
        async with deadline(self._client.request_timeout, self.path):
            return await self._backlog.try_first(self._take)

    async def peek(self) -> QueueItem | None:
        """Return the item that would be taken next, and leave it there; None if there is none."""
        async with deadline(self._client.request_timeout, self.path):
            node = await self._backlog.try_first(self._read)
        if node is None:
            return None
        envelope = unpack(node.path.rpartition("/")[2], node.value)
        return QueueItem(envelope.id, envelope.value, envelope.priority)

    async def size(self) -> int:
        """Return how many items there are, delayed ones included."""
        async with deadline(self._client.request_timeout, self.path):
            return await self._backlog.count()

    # -----------------------------------------------------------------------------------------
    # Taking

    async def _read(self, name: str) -> Node | None:
        try:
            return await self._client.get(f"{self._layout.ready}/{name}", timeout=FOREVER)
        except NoNodeError:
            return None

    async def _take(self, name: str) -> Taken | None:
        return await self._backlog.obtain(self._taking(name), self._put_back)

    async def _taking(self, name: str) -> Taken | None:
        node = await self._read(name)
        if node is None:
            return None

        def fill(transaction: TransactionBuilder) -> None:
            transaction.check(node.path, version=node.stat.version, czxid=node.stat.czxid)
            transaction.delete(node.path, recursive=True)

        commit = commit_with_receipt(self._client, self._layout.receipts, fill)
        receipt = await self._backlog.attempt(commit)
        if receipt is None:
            return None
        envelope = unpack(name, node.value)
        item = QueueItem(envelope.id, envelope.value, envelope.priority, receipt.zxid)
        return Taken(item, name, node.value)

    # -----------------------------------------------------------------------------------------
    # Putting back

    def put_back(self, taken: Taken | None) -> asyncio.Task[None] | None:
        """For the face for threads: what was taken came too late for its caller."""
        if taken is None:
            return None
        return self._client.janitor.start(self._put_back(taken), "queue put back")

    async def _put_back(self, taken: Taken) -> None:
        path = f"{self._layout.ready}/{put_back_name(taken.name)}"
        await self._backlog.carry_out(lambda transaction: transaction.create(path, taken.raw))


# ---------------------------------------------------------------------------------------------
# For threads


class Queue:
    """A queue at a path, for threads; see `AsyncQueue` for what it guarantees.

    1. An item that was put is taken by one caller, at most once, by priority and then in order.
    2. While the connection is SUSPENDED all calls wait, within their timeouts.
    3. When the session is LOST, a consumer that waits queues up again in the next one.
    """

    def __init__(self, client: BlockingFace, path: str) -> None:
        """Describe a queue; does no I/O."""
        self.path = path
        self._portal = client.portal
        self._queue = AsyncQueue(client.asynchronous, path)

    def __repr__(self) -> str:
        return f"<Queue {self.path}>"

    def put(
        self, value: bytes, *, priority: int = 100, delay: float = 0.0, guard: Guard | None = None
    ) -> str:
        """Put an item and return its id; see `AsyncQueue.put`."""
        return self._portal.run(self._queue.put(value, priority=priority, delay=delay, guard=guard))

    def get(self, *, timeout: float | None = None) -> QueueItem:
        """Take the first item, for good; RecipeTimeoutError if there is none within `timeout` seconds.

        A call that is interrupted, by Ctrl-C for instance, puts back what it may just have got.
        """
        return self._portal.run(self._queue.take(timeout), undo=self._queue.put_back).item

    def try_get(self) -> QueueItem | None:
        """Take the first item, for good; None if there is none."""
        taken = self._portal.run(self._queue.try_take(), undo=self._queue.put_back)
        return None if taken is None else taken.item

    def peek(self) -> QueueItem | None:
        """Return the item that would be taken next, and leave it there; None if there is none."""
        return self._portal.run(self._queue.peek())

    def size(self) -> int:
        """Return how many items there are, delayed ones included."""
        return self._portal.run(self._queue.size())

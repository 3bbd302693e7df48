"""The items of one queue, and the line of consumers before them. `queue.py` and `work_queue.py` build on it.

Consumers that find nothing line up at a lock. Only the first of them watches the items; when it has taken
one it leaves the line, and the next looks. So a new item wakes one consumer, however many there are. The
line is not what keeps two consumers from one item: the transaction that takes it does.

Rule of this file: what has been taken is returned at once. Nothing is awaited in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from coordclient.errors import (
    ClientClosedError,
    CoordError,
    LockRevokedError,
    NoNodeError,
    RequestTimeoutError,
    SessionExpiredError,
)
from coordclient.operations import Operations
from coordclient.recipes.deadlines import FOREVER
from coordclient.recipes.lock import AsyncLock, AsyncLockHandle
from coordclient.recipes.queue_names import (
    Envelope,
    Layout,
    delay_ms_in,
    delayed_prefix,
    in_order,
    pack,
    priority_of,
    ready_prefix,
    sequence_of_delayed,
)
from coordclient.recipes.receipts import (
    ChangedError,
    Fill,
    MissingFolderError,
    NotAppliedError,
    Receipt,
    commit,
    commit_with_receipt,
    ensure_containers,
)
from coordclient.recipes.service_time import ServiceTime
from coordclient.transactions import TransactionBuilder
from coordclient.types import Event, EventType, Guard, Stat
from coordclient.watch_records import STREAM_RECURSIVE, WatchRecord

T = TypeVar("T")
Take = Callable[[str], Awaitable[T | None]]  # takes the ready item of this name; None: it has changed or gone
PAGE_ITEMS = 100
NOT_KNOWN = -1
UNDO_SECONDS = 1.0  # how long a cancelled caller is kept for what it had just taken to be given back


class Backlog:
    """The items of one queue."""

    def __init__(self, client: Operations, layout: Layout, *, has_claims: bool) -> None:
        self.layout = layout
        self._client = client
        self._has_claims = has_claims
        self._line = AsyncLock(client, layout.consumers)
        self._time = ServiceTime()
        self._due_ms: dict[str, int] = {}  # of delayed items, by name; a name is used once
        self._delayed_pzxid = NOT_KNOWN  # of their folder, when this was learnt or before

    # -----------------------------------------------------------------------------------------
    # Putting

    async def put(self, envelope: Envelope, delay_ms: int, guard: Guard | None) -> None:
        """Put an item, once, also if the session is lost meanwhile.

        Raises:
            RequestTimeoutError: Not answered within the client's `request_timeout`; it may still be put.
        """
        raw = pack(envelope)
        scope = asyncio.timeout(self._client.request_timeout)
        try:
            async with scope:
                await self.carry_out(
                    lambda transaction: self.add(transaction, envelope.priority, delay_ms, raw), guard
                )
        except TimeoutError as error:
            if isinstance(error, CoordError) or not scope.expired():
                raise
            timed_out = RequestTimeoutError(
                f"putting an item was not answered within {self._client.request_timeout:g} s and may still"
                " happen",
                path=self.layout.root,
            )
            timed_out.may_have_been_applied = True
            raise timed_out from None

    def add(self, transaction: TransactionBuilder, priority: int, delay_ms: int, raw: bytes) -> None:
        """Let a transaction create an item."""
        if delay_ms:
            prefix = f"{self.layout.delayed}/{delayed_prefix(priority, delay_ms)}"
        else:
            prefix = f"{self.layout.ready}/{ready_prefix(priority)}"
        transaction.create(prefix, raw, sequential=True)

    def add_dead(self, transaction: TransactionBuilder, envelope: Envelope) -> None:
        """Let a transaction lay an item aside."""
        transaction.create(f"{self.layout.dead}/d-", pack(envelope), sequential=True)

    async def carry_out(self, fill: Fill, guard: Guard | None = None) -> Receipt:
        """Carry a transaction out exactly once, in as many sessions as it takes; make what it stands on."""
        while True:
            try:
                return await commit_with_receipt(self._client, self.layout.receipts, fill, guard=guard)
            except NotAppliedError:
                continue
            except MissingFolderError:
                await self.ensure()

    async def ensure(self) -> None:
        """Make the containers."""
        with contextlib.suppress(SessionExpiredError, NoNodeError):  # Whoever needs them will ask again.
            await ensure_containers(self._client, self.layout.containers)

    # -----------------------------------------------------------------------------------------
    # Looking

    async def names(self, folder: str) -> list[str]:
        """Return what is in a folder; nothing if there is none."""
        try:
            return await self._client.get_children(folder, timeout=FOREVER)
        except NoNodeError:
            return []

    async def look(self) -> str | None:
        """Return the name of the first item that can be taken; None if there is none.

        Items whose time has come are among them.
        """
        layout = self.layout
        while True:
            folder, claimed, (names, has_more) = await asyncio.gather(
                self._client.exists(layout.delayed, timeout=FOREVER),
                self.names(layout.claims) if self._has_claims else _nothing(),
                self._page_of_ready(""),
            )
            if not await self._release_due(folder):
                break
        taken = set(claimed)
        while True:
            for name in in_order(names):
                if name not in taken:
                    return name
            if not has_more:
                return None
            names, has_more = await self._page_of_ready(names[-1])

    async def _page_of_ready(self, after: str) -> tuple[list[str], bool]:
        """Return the next names among the ready items: by name, which is their order."""
        try:
            return await self._client.page_of_children(
                self.layout.ready, after=after, limit=PAGE_ITEMS, timeout=FOREVER
            )
        except NoNodeError:
            return [], False

    async def count(self) -> int:
        """Return how many items there are: ready, delayed and claimed."""
        ready, delayed = await asyncio.gather(self.names(self.layout.ready), self.names(self.layout.delayed))
        return len(in_order(ready)) + sum(delay_ms_in(name) is not None for name in delayed)

    # -----------------------------------------------------------------------------------------
    # Delayed items

    async def _release_due(self, folder: Stat | None) -> bool:
        """Make those ready whose time has come. Return whether it is worth looking again."""
        await self._learn_due(folder)
        if not self._due_ms or self.seconds_until_due() > 0:
            return False
        try:
            now_ms = await self._time.ask(self._client, self.layout.delayed)
        except NoNodeError:
            self._due_ms.clear()
            return True
        due = [name for name, due_ms in self._due_ms.items() if due_ms <= now_ms]
        for name in sorted(due, key=lambda name: (self._due_ms[name], sequence_of_delayed(name))):
            await self._make_ready(name)
        if due:
            self._delayed_pzxid = NOT_KNOWN  # List them again, whoever has made them ready.
        return bool(due)

    async def _learn_due(self, folder: Stat | None) -> None:
        """Learn when each delayed item is due, by its creation and its name."""
        newest = 0 if folder is None else folder.pzxid
        if newest == self._delayed_pzxid:
            return  # No item has come or gone since.
        names = await self.names(self.layout.delayed)
        delays = {name: delay for name in names if (delay := delay_ms_in(name)) is not None}
        self._due_ms = {name: due for name, due in self._due_ms.items() if name in delays}
        for name, delay_ms in delays.items():
            if name in self._due_ms:
                continue
            stat = await self._client.exists(f"{self.layout.delayed}/{name}", timeout=FOREVER)
            if stat is not None:
                self._due_ms[name] = stat.ctime + delay_ms
        self._delayed_pzxid = newest

    def seconds_until_due(self) -> float:
        """Return when to look at the delayed items that we know of; infinity if there are none."""
        return self._time.seconds_until(min(self._due_ms.values())) if self._due_ms else math.inf

    async def _make_ready(self, name: str) -> None:
        path = f"{self.layout.delayed}/{name}"
        try:
            node = await self._client.get(path, timeout=FOREVER)
        except NoNodeError:
            return  # Somebody else has made it ready.
        transaction = self._client.transaction(timeout=FOREVER)
        transaction.check(path, czxid=node.stat.czxid)
        transaction.delete(path, recursive=True)
        transaction.create(
            f"{self.layout.ready}/{ready_prefix(priority_of(name))}", node.value, sequential=True
        )
        await self.attempt(commit(transaction))

    async def attempt(self, commit: Awaitable[T]) -> T | None:
        """Return a transaction's outcome; None if it was not carried out, and it is worth looking again."""
        try:
            return await commit
        except (ChangedError, NotAppliedError):
            return None
        except MissingFolderError:
            await self.ensure()
            return None

    # -----------------------------------------------------------------------------------------
    # Taking

    async def try_first(self, take: Take[T]) -> T | None:
        """Take the first item that can be taken; None if there is none."""
        while True:
            try:
                name = await self.look()
                if name is None:
                    return None
                taken = await take(name)
            except SessionExpiredError:
                continue
            if taken is not None:
                return taken

    async def first(self, take: Take[T]) -> T:
        """Take the first item as soon as there is one that nobody before us in the line wants."""
        taken = await self._without_waiting(take)
        while taken is None:
            try:
                await self._ensure_root()
                place = await self._line.acquire()
            except (LockRevokedError, SessionExpiredError):
                continue  # Somebody cleared the line: queue up again.
            try:
                taken = await self._first_of_line(place, take)
            finally:
                place.abandon()
        return taken

    async def _ensure_root(self) -> None:
        """Make the containers before the line does: what it makes above itself would stay for ever."""
        if await self._client.exists(self.layout.root, timeout=FOREVER) is None:
            await self.ensure()

    async def obtain(
        self, work: Coroutine[None, None, T | None], undo: Callable[[T], Coroutine[None, None, object]]
    ) -> T | None:
        """Take something by `work`, which the caller's cancellation does not stop; it is undone instead."""
        janitor = self._client.janitor
        taking = janitor.start(work, "taking from a queue")
        try:
            await asyncio.wait([taking])
        except asyncio.CancelledError:
            undoing = janitor.start(_undo(taking, undo), "giving back to a queue")
            # The caller often closes its client next, and with it the janitor.
            await asyncio.wait([undoing], timeout=UNDO_SECONDS)
            raise
        if taking.cancelled():
            raise ClientClosedError
        return taking.result()

    async def _without_waiting(self, take: Take[T]) -> T | None:
        """Take an item if nobody waits in line, and nobody takes it before us."""
        try:
            waiting, name = await asyncio.gather(self.names(self.layout.consumers), self.look())
            return None if waiting or name is None else await take(name)
        except SessionExpiredError:
            return None

    async def _first_of_line(self, place: AsyncLockHandle, take: Take[T]) -> T | None:
        """Wait for an item and take it. None: we have lost our place in the line."""
        wake = asyncio.Event()
        items = self._client.full_path(self.layout.items)

        def note(event: Event) -> None:
            if _is_news(event, items):
                wake.set()

        record = WatchRecord(items, STREAM_RECURSIVE, note)
        place.lost.add_callback(wake.set)
        is_watching = False
        try:
            while not place.lost:
                wake.clear()
                taken = await self.try_first(take)
                if taken is not None:
                    return taken
                if is_watching:
                    await self._wait(wake)
                else:
                    is_watching = await self._watch(record)
            return None
        finally:
            self._client.cancel_watch(record)
            place.lost.remove_callback(wake.set)

    async def _watch(self, record: WatchRecord) -> bool:
        """Begin to watch; the watch outlives the session."""
        try:
            await self._client.set_stream(record, timeout=FOREVER)
        except SessionExpiredError:
            return False
        return True

    async def _wait(self, wake: asyncio.Event) -> None:
        """Wait for news, or for a delayed item to be due."""
        seconds = self.seconds_until_due()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await wake.wait()


def _is_news(event: Event, items: str) -> bool:
    """Return whether there may be something to take: a new item, or a claim that has ended."""
    if event.type is EventType.RESYNC:
        return True
    folder, _, name = event.path[len(items) + 1 :].partition("/")
    return bool(name) and event.type is (EventType.DELETED if folder == "claims" else EventType.CREATED)


async def _undo(taking: asyncio.Task[T | None], undo: Callable[[T], Coroutine[None, None, object]]) -> None:
    await asyncio.wait([taking])
    if taking.cancelled() or taking.exception() is not None:
        return
    taken = taking.result()
    if taken is not None:
        await undo(taken)


async def _nothing() -> list[str]:
    return []

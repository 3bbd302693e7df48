"""Read-write lock: any number of readers, or one writer, in order of arrival.

Readers and writers queue below the same path. A writer waits for whoever is before it, a reader only for
the nearest writer before it; so all readers behind one writer come in together, and nobody overtakes a
writer that waits.

Rule of this file: who changes its kind keeps its position, in one transaction; nobody slips in between.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import ClassVar, Generic, TypeVar

from coordclient.errors import (
    AlreadyHeldError,
    ClientClosedError,
    LockTimeoutError,
    NoNodeError,
    SessionExpiredError,
)
from coordclient.operations import Operations
from coordclient.recipes.blocks import AsyncBlocks, Blocks
from coordclient.recipes.contenders import READ, WRITE, Contender, behind_writers, may_become_writer, token_of
from coordclient.recipes.contention import Contest, attempt, check_lock_delay, check_root
from coordclient.recipes.deadlines import FOREVER, deadline
from coordclient.recipes.faces import BlockingFace, BlockingGrant, abandon
from coordclient.recipes.holds import Hold, Level, find_hold, owner_or_task, owner_or_thread
from coordclient.recipes.places import Place


class _Handle(Level):
    """A read or write lock that is held."""

    def __init__(self, client: Operations, hold: Hold, contest: Contest) -> None:
        super().__init__(client, hold)
        self._contest = contest

    async def _settled(self, conversion: asyncio.Task[Place | None]) -> Place | None:
        """Wait for a conversion, which is carried out in any case; what nobody waits for is given back."""
        try:
            await asyncio.wait([conversion])
        except asyncio.CancelledError:
            self._client.janitor.start(_give_back(conversion), "abandoned conversion")
            raise
        if conversion.cancelled():
            raise ClientClosedError
        return conversion.result()


class AsyncReadHandle(_Handle):
    """A held read lock. Usable as `guard=`."""

    async def try_upgrade(self) -> AsyncWriteHandle | None:
        """Become a writer if that needs no waiting: if we are the only reader, and nobody is before us.

        Those who wait go on waiting. On success this handle is spent; the token of the new one is larger
        than all before, and smaller than those of everybody who waits. On None this handle is held as
        before. It never waits for other readers: two that did would wait for each other.

        Raises:
            LockLostError: It is not held any more.
        """
        self.check()
        hold = self._hold
        if hold.levels > 1:
            return None
        hold.forget()
        place = await self._settled(self._client.janitor.start(self._upgraded(hold), "upgrade"))
        if place is None:
            self.check()  # else it says that we still hold it
            return None
        contest = self._contest
        return AsyncWriteHandle(self._client, Hold(self._client, contest.root, hold.owner, place), contest)

    async def _upgraded(self, hold: Hold) -> Place | None:
        contest, place = self._contest, hold.place
        while not place.lost and not self._is_released:
            try:
                root = await self._client.get(contest.root, timeout=FOREVER)
            except (NoNodeError, SessionExpiredError):
                break  # Our own node is gone with it; the watch over that says so.
            found = await contest.standing()
            others = [pair for pair in found if pair[0].name != place.position.name]
            is_alone = may_become_writer(place.position, [position for position, _ in others])
            if len(others) == len(found) or not is_alone:
                break
            # Everybody else waits. Whoever has held so far came before the first of them.
            token = min((token_of(WRITE, node.stat.czxid) - 1 for _, node in others), default=None)
            successor = await place.become(WRITE, linger=contest.lock_delay, token=token, if_unchanged=root)
            if successor is not None:
                self.spend()
                return successor
        if not place.lost and not self._is_released:
            hold.remember()
        return None


class AsyncWriteHandle(_Handle):
    """A held write lock. Usable as `guard=`."""

    async def downgrade(self) -> AsyncReadHandle:
        """Become a reader. No writer comes in between, and readers that wait behind us are let in.

        This handle is spent; the new one has its token. If the caller is cancelled meanwhile,
        the lock is given back.

        Raises:
            LockLostError: It was not held any more.
        """
        self.check()
        hold, contest = self._hold, self._contest
        self.spend()
        hold.forget()
        work = hold.place.become(READ, linger=contest.lock_delay, token=hold.place.token)
        place = await self._settled(self._client.janitor.start(work, "downgrade"))
        assert place is not None, "nothing that a downgrade depends on can change"
        return AsyncReadHandle(self._client, Hold(self._client, contest.root, hold.owner, place), contest)


async def _give_back(conversion: asyncio.Task[Place | None]) -> None:
    await asyncio.wait([conversion])
    if not conversion.cancelled() and conversion.exception() is None:
        abandon(conversion.result())


H = TypeVar("H", AsyncReadHandle, AsyncWriteHandle)


class _Side(Generic[H]):
    """One side of a read-write lock: a lock like any other."""

    _handle_type: type[H]
    _kind: ClassVar[str]

    def __init__(self, client: Operations, path: str, timeout: float | None, lock_delay: float) -> None:
        self.path = path
        self._client = client
        self._timeout = timeout
        self._contest = Contest(client, path, self._kind, behind_writers, lock_delay=lock_delay)
        self._blocks: AsyncBlocks[H] = AsyncBlocks()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    async def acquire(self, *, timeout: float | None = None, owner: object = None) -> H:
        """Wait for it and return it.

        Args:
            timeout: In seconds. None: as long as it takes. 0 or less: only if that needs no waiting.
            owner: Who acquires it: anything hashable. By default the task that calls.

        Raises:
            LockTimeoutError: Not granted within `timeout` seconds; this client no longer waits.
            LockRevokedError: Somebody deleted our place in the queue.
            AlreadyHeldError: This owner would wait for itself for ever. Only a reader may read again.
        """
        owner = owner_or_task(owner)
        level = self._further_level(owner)
        if level is not None:
            return level
        if timeout is not None and timeout <= 0:
            handle = await self._try(owner)
        else:
            handle = await self._attempt(owner, timeout, may_wait=True)
        if handle is None:
            raise LockTimeoutError(f"{self.path} is held by somebody else", path=self.path)
        return handle

    async def try_acquire(self, *, owner: object = None) -> H | None:
        """Return it if that needs no waiting, else None."""
        owner = owner_or_task(owner)
        try:
            level = self._further_level(owner)
        except AlreadyHeldError:
            return None
        return await self._try(owner) if level is None else level

    def _further_level(self, owner: object) -> H | None:
        hold = find_hold(self._client, self.path, owner)
        if hold is None:
            return None
        if hold.place.position.kind == self._kind == READ:
            return self._handle_type(self._client, hold, self._contest)
        raise AlreadyHeldError(
            f"{self.path} is held by the same task or thread already, and it would wait for itself; use"
            " downgrade() or try_upgrade() of the handle it has",
            path=self.path,
        )

    async def _try(self, owner: object) -> H | None:
        if not await self._contest.has_room():
            return None
        return await self._attempt(owner, self._client.request_timeout, may_wait=False)

    async def _attempt(self, owner: object, timeout: float | None, *, may_wait: bool) -> H | None:
        async with deadline(timeout, self.path, LockTimeoutError):
            place = await attempt(self._contest, may_wait=may_wait)
        if place is None:
            return None
        hold = Hold(self._client, self.path, owner, place)
        return self._handle_type(self._client, hold, self._contest)

    async def __aenter__(self) -> H:
        return await self._blocks.enter(await self.acquire(timeout=self._timeout))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._blocks.leave(kind, error, trace)


class AsyncReadLock(_Side[AsyncReadHandle]):
    """The side of the readers: many at a time, none beside a writer.

    `lock.read()` of a lock makes it: `async with lock.read() as held:`, or `acquire()`.
    SUSPENDED and LOST mean what they do for `AsyncReadWriteLock`.
    """

    _handle_type = AsyncReadHandle
    _kind = READ


class AsyncWriteLock(_Side[AsyncWriteHandle]):
    """The side of the writers: one at a time, and nobody beside it.

    `lock.write()` of a lock makes it: `async with lock.write() as held:`, or `acquire()`.
    SUSPENDED and LOST mean what they do for `AsyncReadWriteLock`.
    """

    _handle_type = AsyncWriteHandle
    _kind = WRITE


class AsyncReadWriteLock:
    """A read-write lock at a path. The object is only a description: any number of tasks may use it at once.

    `async with lock.read() as held:` or `async with lock.write() as held:`; the body is cancelled when the
    lock is lost, and LockLostError comes out.

    1. It guarantees that the service grants it to any number of readers or to one writer at a time, in the
       order of arrival: readers that come after a writer wait for it, so writers are not starved. Tokens
       grow: of two that exclude each other, the later has the larger one (a writer that becomes a reader
       keeps its own). Writes with `guard=held` are refused once it is gone.
    2. While the connection is SUSPENDED, waiters keep their place. A holder holds on until
       `held.valid_until`: nobody that excludes it can be granted the lock before.
    3. When the session is LOST, so is the lock: `held.lost` is set, the body is cancelled. A waiter queues
       again, at the end, with what is left of its time.
    """

    def __init__(
        self, client: Operations, path: str, *, timeout: float | None = None, lock_delay: float = 0.0
    ) -> None:
        """Describe a read-write lock; does no I/O.

        Args:
            timeout: How many seconds `async with` waits at most; None: as long as it takes.
            lock_delay: For how many seconds the lock stays taken after a holder whose session has expired.
                Costs a write per grant.
        """
        check_root(path, "a lock")
        check_lock_delay(lock_delay, path)
        self.path = path
        self._client = client
        self._timeout = timeout
        self._lock_delay = lock_delay

    def __repr__(self) -> str:
        return f"<AsyncReadWriteLock {self.path}>"

    def read(self) -> AsyncReadLock:
        """Return the side of the readers."""
        return AsyncReadLock(self._client, self.path, self._timeout, self._lock_delay)

    def write(self) -> AsyncWriteLock:
        """Return the side of the writers."""
        return AsyncWriteLock(self._client, self.path, self._timeout, self._lock_delay)

    async def contenders(self) -> list[Contender]:
        """Return everybody who holds or waits, in order; `kind` is "read" or "write"."""
        return await Contest(self._client, self.path, READ, behind_writers).contenders()


# ---------------------------------------------------------------------------------------------
# For threads


class ReadHandle(BlockingGrant[AsyncReadHandle]):
    """A held read lock, for threads. Usable as `guard=`."""

    def try_upgrade(self) -> WriteHandle | None:
        """Become a writer if that needs no waiting; else None, and this handle is held as before."""
        grant = self._portal.run(self._grant.try_upgrade(), undo=abandon)
        return None if grant is None else WriteHandle(self._portal, grant)


class WriteHandle(BlockingGrant[AsyncWriteHandle]):
    """A held write lock, for threads. Usable as `guard=`."""

    def downgrade(self) -> ReadHandle:
        """Become a reader; no writer comes in between. This handle is spent."""
        return ReadHandle(self._portal, self._portal.run(self._grant.downgrade(), undo=abandon))


class ReadLock:
    """The side of the readers, for threads: many at a time, none beside a writer.

    `lock.read()` of a lock makes it: `with lock.read() as held:`, or `acquire()`.
    SUSPENDED and LOST mean what they do for `ReadWriteLock`.
    """

    def __init__(self, client: BlockingFace, lock: AsyncReadLock, timeout: float | None) -> None:
        self.path = lock.path
        self._portal = client.portal
        self._lock = lock
        self._timeout = timeout
        self._blocks: Blocks[ReadHandle] = Blocks()

    def __repr__(self) -> str:
        return f"<ReadLock {self.path}>"

    def acquire(self, *, timeout: float | None = None, owner: object = None) -> ReadHandle:
        """Wait for it and return it; LockTimeoutError after `timeout` seconds.

        `owner` is by default the thread that calls; AlreadyHeldError if it is the writer.
        """
        work = self._lock.acquire(timeout=timeout, owner=owner_or_thread(owner))
        return ReadHandle(self._portal, self._portal.run(work, undo=abandon))

    def try_acquire(self, *, owner: object = None) -> ReadHandle | None:
        """Return it if that needs no waiting, else None."""
        grant = self._portal.run(self._lock.try_acquire(owner=owner_or_thread(owner)), undo=abandon)
        return None if grant is None else ReadHandle(self._portal, grant)

    def __enter__(self) -> ReadHandle:
        return self._blocks.enter(self.acquire(timeout=self._timeout))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.leave(kind, error, trace)


class WriteLock:
    """The side of the writers, for threads: one at a time, and nobody beside it.

    `lock.write()` of a lock makes it: `with lock.write() as held:`, or `acquire()`.
    SUSPENDED and LOST mean what they do for `ReadWriteLock`.
    """

    def __init__(self, client: BlockingFace, lock: AsyncWriteLock, timeout: float | None) -> None:
        self.path = lock.path
        self._portal = client.portal
        self._lock = lock
        self._timeout = timeout
        self._blocks: Blocks[WriteHandle] = Blocks()

    def __repr__(self) -> str:
        return f"<WriteLock {self.path}>"

    def acquire(self, *, timeout: float | None = None, owner: object = None) -> WriteHandle:
        """Wait for it and return it; LockTimeoutError after `timeout` seconds.

        `owner` is by default the thread that calls; AlreadyHeldError if it holds the lock already.
        """
        work = self._lock.acquire(timeout=timeout, owner=owner_or_thread(owner))
        return WriteHandle(self._portal, self._portal.run(work, undo=abandon))

    def try_acquire(self, *, owner: object = None) -> WriteHandle | None:
        """Return it if that needs no waiting, else None."""
        grant = self._portal.run(self._lock.try_acquire(owner=owner_or_thread(owner)), undo=abandon)
        return None if grant is None else WriteHandle(self._portal, grant)

    def __enter__(self) -> WriteHandle:
        return self._blocks.enter(self.acquire(timeout=self._timeout))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.leave(kind, error, trace)


class ReadWriteLock:
    """A read-write lock at a path, for threads. The guarantees are those of `AsyncReadWriteLock`.

    `with lock.read() as held:` or `with lock.write() as held:`. A thread cannot be cancelled: when the lock
    is lost, `held.lost` is set and its callbacks are called, `held.check()` raises, and LockLostError comes
    out at the end of `with`.

    While the connection is SUSPENDED a waiter keeps its place and a holder holds on until
    `held.valid_until`; when the session is LOST, so is the lock, and a waiter queues again.
    """

    def __init__(
        self, client: BlockingFace, path: str, *, timeout: float | None = None, lock_delay: float = 0.0
    ) -> None:
        """Describe a read-write lock; the arguments are those of `AsyncReadWriteLock`."""
        self.path = path
        self._client = client
        self._timeout = timeout
        self._lock = AsyncReadWriteLock(client.asynchronous, path, lock_delay=lock_delay)

    def __repr__(self) -> str:
        return f"<ReadWriteLock {self.path}>"

    def read(self) -> ReadLock:
        """Return the side of the readers."""
        return ReadLock(self._client, self._lock.read(), self._timeout)

    def write(self) -> WriteLock:
        """Return the side of the writers."""
        return WriteLock(self._client, self._lock.write(), self._timeout)

    def contenders(self) -> list[Contender]:
        """Return everybody who holds or waits, in order; `kind` is "read" or "write"."""
        return self._client.portal.run(self._lock.contenders())

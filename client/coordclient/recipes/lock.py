"""Lock: one holder at a time, in order of arrival.

A contender is an ephemeral sequential node below the lock's path; the one with the lowest number holds
the lock, and every other watches only its nearest predecessor. The holder's token is the transaction
that made its node: tokens grow in the order of the grants, because numbers do.

Rule of this file: it knows owners and levels; the queue is in `contention`.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from coordclient.errors import AlreadyHeldError, LockTimeoutError
from coordclient.operations import Operations
from coordclient.recipes.blocks import AsyncBlocks, Blocks
from coordclient.recipes.contenders import LOCK, Contender, behind_all
from coordclient.recipes.contention import Contest, attempt, check_lock_delay, check_root
from coordclient.recipes.deadlines import deadline
from coordclient.recipes.faces import BlockingFace, BlockingGrant, abandon
from coordclient.recipes.holds import Hold, Level, find_hold, owner_or_task, owner_or_thread
from coordclient.recipes.signals import BlockingSignal, Signal


class AsyncLockHandle(Level):
    """A lock that is held, or one level of a reentrant one. It is a `Grant`.

    Usable as `guard=` on every write: the write is refused once the lock is not ours any more.

    Attributes:
        revoke_requested: Whether somebody has asked the holder to let go; `reason` says why. It is up to the
            holder: nothing is taken from it.
    """

    @property
    def revoke_requested(self) -> Signal:
        """Whether somebody has asked the holder to let go; `reason` says why. It need not comply."""
        return self._hold.place.revoke_requested

    async def wait_revoke_requested(self) -> str:
        """Return when somebody asks the holder to let go, with the reason given.

        Raises:
            LockLostError: The lock was lost first.
        """
        has_happened = asyncio.Event()
        signals = (self.revoke_requested, self.lost)
        for signal in signals:
            signal.add_callback(has_happened.set)
        try:
            await has_happened.wait()
        finally:
            for signal in signals:
                signal.remove_callback(has_happened.set)
        if not self.revoke_requested:
            raise self.error()
        return self.revoke_requested.reason


class AsyncLock:
    """A lock at a path. The object is only a description: any number of tasks may acquire it at once.

    `async with lock as held:` acquires and releases; the body is cancelled when the lock is lost, and
    LockLostError comes out.

    1. It guarantees that the service grants it to one contender at a time, in the order of arrival; that
       tokens grow from grant to grant; and that a write with `guard=held` is refused once the lock is gone.
       Whoever gives up, is cancelled or dies blocks nobody.
    2. While the connection is SUSPENDED, waiters keep their place. A holder holds on until
       `held.valid_until`: nobody else can be granted the lock before. It should begin nothing new.
    3. When the session is LOST, so is the lock: `held.lost` is set, the body is cancelled. A waiter queues
       again, at the end, with what is left of its time.
    """

    def __init__(
        self,
        client: Operations,
        path: str,
        *,
        timeout: float | None = None,
        reentrant: bool = False,
        lock_delay: float = 0.0,
    ) -> None:
        """Describe a lock; does no I/O.

        Args:
            timeout: How many seconds `async with` waits at most; None: as long as it takes.
            reentrant: Whether who holds it may acquire it again. It is free when every level is released.
            lock_delay: For how many seconds the lock stays taken after a holder whose session has expired,
                so that what it still had under way comes to its end first. A holder that releases it hands
                it over at once. Costs a write per grant.
        """
        check_root(path, "a lock")
        check_lock_delay(lock_delay, path)
        self.path = path
        self._client = client
        self._timeout = timeout
        self._is_reentrant = reentrant
        self._contest = Contest(client, path, LOCK, behind_all, lock_delay=lock_delay)
        self._blocks: AsyncBlocks[AsyncLockHandle] = AsyncBlocks()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    async def acquire(self, *, timeout: float | None = None, owner: object = None) -> AsyncLockHandle:
        """Wait for the lock and return it.

        Args:
            timeout: In seconds. None: as long as it takes. 0 or less: only if it is free.
            owner: Who acquires it: anything hashable. By default the task that calls.

        Raises:
            LockTimeoutError: Not granted within `timeout` seconds; this client no longer waits.
            LockRevokedError: Somebody deleted our place in the queue.
            AlreadyHeldError: This owner holds it, on this client, and it is not reentrant.
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

    async def try_acquire(self, *, owner: object = None) -> AsyncLockHandle | None:
        """Return the lock if it is free, else None. Waits for nobody who holds or wants it.

        For an owner that holds it already: a further level if the lock is reentrant, else None.
        """
        owner = owner_or_task(owner)
        try:
            level = self._further_level(owner)
        except AlreadyHeldError:
            return None
        return await self._try(owner) if level is None else level

    def _further_level(self, owner: object) -> AsyncLockHandle | None:
        hold = find_hold(self._client, self.path, owner)
        if hold is None:
            return None
        if not self._is_reentrant:
            raise AlreadyHeldError(
                f"{self.path} is held by the same task or thread already, and would never be granted to it"
                " again; use the handle it has, or make the lock with reentrant=True",
                path=self.path,
            )
        return AsyncLockHandle(self._client, hold)

    async def _try(self, owner: object) -> AsyncLockHandle | None:
        if not await self._contest.has_room():
            return None
        return await self._attempt(owner, self._client.request_timeout, may_wait=False)

    async def _attempt(
        self, owner: object, timeout: float | None, *, may_wait: bool
    ) -> AsyncLockHandle | None:
        async with deadline(timeout, self.path, LockTimeoutError):
            place = await attempt(self._contest, may_wait=may_wait)
        if place is None:
            return None
        return AsyncLockHandle(self._client, Hold(self._client, self.path, owner, place))

    async def contenders(self) -> list[Contender]:
        """Return the holder and everybody who waits, in order."""
        return await self._contest.contenders()

    async def request_revoke(self, reason: str = "") -> bool:
        """Ask the holder to let go; return whether there was one. Only the holder hears of it.

        It is told by `held.revoke_requested`, and need not comply.
        """
        for contender in await self.contenders():
            if contender.is_holder and contender.session_id:
                return await self._contest.ask_to_release(contender, reason)
        return False

    async def __aenter__(self) -> AsyncLockHandle:
        return await self._blocks.enter(await self.acquire(timeout=self._timeout))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._blocks.leave(kind, error, trace)


# ---------------------------------------------------------------------------------------------
# For threads


class LockHandle(BlockingGrant[AsyncLockHandle]):
    """A lock that is held, or one level of a reentrant one, for threads. It is a `BlockingGrant`."""

    @property
    def revoke_requested(self) -> BlockingSignal:
        """Whether somebody has asked the holder to let go; `reason` says why. It need not comply."""
        return self._signal(self._grant.revoke_requested)

    def wait_revoke_requested(self) -> str:
        """Return when somebody asks the holder to let go, with the reason given.

        Raises:
            LockLostError: The lock was lost first.
        """
        return self._portal.run(self._grant.wait_revoke_requested())


class Lock:
    """A lock at a path, for threads. The object is only a description: any number of threads may acquire it.

    `with lock as held:` acquires and releases. The guarantees are those of `AsyncLock`. A thread cannot be
    cancelled: when the lock is lost, `held.lost` is set and its callbacks are called, `held.check()` raises,
    and LockLostError comes out at the end of `with`.

    While the connection is SUSPENDED a waiter keeps its place and a holder holds on until
    `held.valid_until`; when the session is LOST, so is the lock, and a waiter queues again.
    """

    def __init__(
        self,
        client: BlockingFace,
        path: str,
        *,
        timeout: float | None = None,
        reentrant: bool = False,
        lock_delay: float = 0.0,
    ) -> None:
        """Describe a lock; the arguments are those of `AsyncLock`, `timeout` is for `with`."""
        self.path = path
        self._portal = client.portal
        self._lock = AsyncLock(client.asynchronous, path, reentrant=reentrant, lock_delay=lock_delay)
        self._timeout = timeout
        self._blocks: Blocks[LockHandle] = Blocks()

    def __repr__(self) -> str:
        return f"<Lock {self.path}>"

    def acquire(self, *, timeout: float | None = None, owner: object = None) -> LockHandle:
        """Wait for the lock and return it; LockTimeoutError after `timeout` seconds.

        `owner` is by default the thread that calls. AlreadyHeldError if it holds the lock, on this client,
        and the lock is not reentrant.
        """
        work = self._lock.acquire(timeout=timeout, owner=owner_or_thread(owner))
        return LockHandle(self._portal, self._portal.run(work, undo=abandon))

    def try_acquire(self, *, owner: object = None) -> LockHandle | None:
        """Return the lock if it is free, else None."""
        grant = self._portal.run(self._lock.try_acquire(owner=owner_or_thread(owner)), undo=abandon)
        return None if grant is None else LockHandle(self._portal, grant)

    def contenders(self) -> list[Contender]:
        """Return the holder and everybody who waits, in order."""
        return self._portal.run(self._lock.contenders())

    def request_revoke(self, reason: str = "") -> bool:
        """Ask the holder to let go; return whether there was one. It need not comply."""
        return self._portal.run(self._lock.request_revoke(reason))

    def __enter__(self) -> LockHandle:
        return self._blocks.enter(self.acquire(timeout=self._timeout))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.leave(kind, error, trace)

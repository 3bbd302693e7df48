"""Semaphore: a number of permits, given out in order of arrival, several at once if asked for.

The number stands in the root's value, made together with the root, so two programs that disagree about it
find out. A contender whose turn it is writes that down in its node, in a transaction that also checks the
number: that transaction is its token, because permits are not granted in the order of creation.

Rule of this file: a permit is held when that is written down, and not before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import TracebackType

from coordclient.errors import (
    BadVersionError,
    InvalidArgumentError,
    InvalidValueError,
    LockTimeoutError,
    MismatchError,
    NodeExistsError,
    NoNodeError,
)
from coordclient.operations import Operations
from coordclient.recipes.blocks import AsyncBlocks, Blocks
from coordclient.recipes.contenders import (
    PERMIT,
    Contender,
    Details,
    Obstacle,
    Position,
    behind_all,
    behind_permits,
    standing,
)
from coordclient.recipes.contention import (
    Contest,
    across_sessions,
    attempt,
    check_lock_delay,
    check_root,
)
from coordclient.recipes.deadlines import FOREVER, deadline
from coordclient.recipes.faces import BlockingFace, BlockingGrant, abandon
from coordclient.recipes.places import Place
from coordclient.types import Created, Node


class AsyncPermit(Place):
    """One or more permits of a semaphore that are held. Usable as `guard=`.

    Attributes:
        weight: How many.
        token: The transaction that granted them: it grows in the order of the grants.
    """

    @property
    def weight(self) -> int:
        """Return how many permits these are."""
        return self.position.weight


class _PermitContest(Contest):
    """One attempt to get `weight` of `permits` permits; `agree` comes first."""

    def __init__(
        self, client: Operations, root: str, permits: int, weight: int = 1, lock_delay: float = 0.0
    ) -> None:
        super().__init__(client, root, PERMIT, behind_all, lock_delay=lock_delay)
        self.weight = weight
        self._permits = permits  # what we were told
        self._limit = permits  # what the root says
        self._seen_root: Node | None = None

    def obstacle(self, mine: Position, others: Sequence[Position]) -> Obstacle | None:
        return behind_permits(mine, others, self._limit)

    def holders(self, positions: Sequence[Position]) -> list[Position]:
        return [position for position in positions if position.is_marked]

    def new_place(self, created: Created, details: Details) -> Place:
        return AsyncPermit(self.client, created, details)

    async def ensure_root(self) -> None:
        await self.agree()

    async def agree(self) -> None:
        """See that the semaphore has as many permits as we were told; make it if there is none."""
        value = _encoded(self._permits)
        while True:
            try:
                root = await self.client.get(self.root, timeout=FOREVER)
                if not root.value:  # made by hand, or by something else
                    await self.client.set(self.root, value, version=root.stat.version, timeout=FOREVER)
                    continue
            except NoNodeError:
                await self._make(value)
                continue
            except BadVersionError:
                continue
            limit = _decoded(root)
            if limit != self._permits:
                raise MismatchError(
                    f"{self.root} has {limit} permits, not {self._permits}; use the same number everywhere,"
                    " or resize() it",
                    path=self.root,
                )
            return

    async def _make(self, value: bytes) -> None:
        try:
            await self.client.create(self.root, value, container=True, parents=True, timeout=FOREVER)
        except NodeExistsError:
            return

    async def has_room(self) -> bool:
        await across_sessions(self.agree)
        self._limit = self._permits
        return await super().has_room()

    async def look(self) -> list[Position]:
        self._seen_root = root = await self.client.get(self.root, timeout=FOREVER)
        self._limit = _decoded(root)
        if self.weight > self._limit:
            raise MismatchError(
                f"{self.root} was resized to {self._limit} permits while {self.weight} were waited for",
                path=self.root,
            )
        nodes = await self.client.get_children_nodes(self.root, timeout=FOREVER)
        return [position for position, _ in standing(nodes)]

    async def confirm(self, place: Place) -> bool:
        """Write down that we hold, if the number of permits is what we decided by."""
        if place.details.is_marked:
            return True
        token = await place.mark(self._seen_root)
        if token is None:
            return False
        place.token = token
        return True


class AsyncSemaphore:
    """A semaphore at a path. The object is only a description: any number of tasks may acquire it at once.

    `async with semaphore as permit:` acquires one and releases it; the body is cancelled when it is lost, and
    LockLostError comes out. One task may acquire several, one after the other: each is a grant of its own.

    1. It guarantees that the permits held never weigh more than the semaphore has, as the service sees it;
       that they are granted in the order of arrival (a heavy one is not overtaken by light ones); that
       tokens grow from grant to grant; that a write with `guard=permit` is refused once it is gone.
       The number of permits is remembered as long as somebody holds or waits.
    2. While the connection is SUSPENDED, waiters keep their place. A holder holds on until
       `permit.valid_until`: nobody else can be granted its permits before.
    3. When the session is LOST, so are the permits: `permit.lost` is set, the body is cancelled. A waiter
       queues again, at the end, with what is left of its time.
    """

    def __init__(
        self,
        client: Operations,
        path: str,
        permits: int,
        *,
        timeout: float | None = None,
        lock_delay: float = 0.0,
    ) -> None:
        """Describe a semaphore; does no I/O.

        Args:
            permits: How many it has. Others who use it must say the same.
            timeout: How many seconds `async with` waits at most; None: as long as it takes.
            lock_delay: For how many seconds permits stay taken after a holder whose session has expired.
        """
        check_root(path, "a semaphore")
        check_lock_delay(lock_delay, path)
        self.path = path
        self.permits = _checked_permits(permits, path)
        self._client = client
        self._timeout = timeout
        self._lock_delay = lock_delay
        self._blocks: AsyncBlocks[AsyncPermit] = AsyncBlocks()

    def __repr__(self) -> str:
        return f"<AsyncSemaphore {self.path} permits={self.permits}>"

    async def acquire(self, weight: int = 1, *, timeout: float | None = None) -> AsyncPermit:
        """Wait for `weight` permits and return them as one grant.

        Args:
            timeout: In seconds. None: as long as it takes. 0 or less: only if that needs no waiting.

        Raises:
            LockTimeoutError: Not granted within `timeout` seconds; this client no longer waits.
            LockRevokedError: Somebody deleted our place in the queue.
            MismatchError: The semaphore has another number of permits, or now has less than `weight`.
        """
        if timeout is not None and timeout <= 0:
            permit = await self.try_acquire(weight)
        else:
            async with deadline(timeout, self.path, LockTimeoutError):
                contest = self._contest(weight)
                await across_sessions(contest.agree)
                permit = _permit(await attempt(contest))
        if permit is None:
            raise LockTimeoutError(f"{self.path} has no {weight} permits free", path=self.path)
        return permit

    async def try_acquire(self, weight: int = 1) -> AsyncPermit | None:
        """Return `weight` permits if they are free and nobody waits, else None."""
        contest = self._contest(weight)
        async with deadline(self._client.request_timeout, self.path, LockTimeoutError):
            if not await contest.has_room():
                return None
            return _permit(await attempt(contest, may_wait=False))

    def _contest(self, weight: int) -> _PermitContest:
        if not _is_count(weight):
            raise InvalidArgumentError(f"{weight!r} is no number of permits; at least 1", path=self.path)
        if weight > self.permits:
            raise InvalidArgumentError(
                f"{self.path} has {self.permits} permits: {weight} would never be granted", path=self.path
            )
        return _PermitContest(self._client, self.path, self.permits, weight, self._lock_delay)

    async def contenders(self) -> list[Contender]:
        """Return everybody who holds or waits, in order of arrival, with their weights."""
        return await _PermitContest(self._client, self.path, self.permits).contenders()

    async def resize(self, permits: int) -> None:
        """Change the number of permits, for everybody.

        With more, those who wait are granted theirs at once. With less, nobody loses what it holds; the
        next is granted when enough was given back. Programs that still say the former number are refused
        from now on, when they next acquire (MismatchError); those who wait go on waiting.
        """
        permits = _checked_permits(permits, self.path)
        while not await across_sessions(lambda: self._resized(permits)):
            pass
        self.permits = permits

    async def _resized(self, permits: int) -> bool:
        """Try once; False if somebody else was faster."""
        try:
            root = await self._client.get(self.path)
            await self._client.set(self.path, _encoded(permits), version=root.stat.version)
        except BadVersionError:
            return False
        except NoNodeError:
            try:
                await self._client.create(self.path, _encoded(permits), container=True, parents=True)
            except NodeExistsError:
                return False
        return True

    async def __aenter__(self) -> AsyncPermit:
        return await self._blocks.enter(await self.acquire(timeout=self._timeout))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._blocks.leave(kind, error, trace)


def _permit(place: Place | None) -> AsyncPermit | None:
    assert place is None or isinstance(place, AsyncPermit), "the contest makes them"
    return place


def _checked_permits(permits: int, path: str) -> int:
    if not _is_count(permits):
        raise InvalidArgumentError(f"a semaphore has at least one permit, not {permits!r}", path=path)
    return permits


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _encoded(permits: int) -> bytes:
    return json.dumps({"permits": permits}).encode()


def _decoded(root: Node) -> int:
    try:
        value = json.loads(root.value)
    except ValueError:
        value = None
    permits = value.get("permits") if isinstance(value, dict) else None
    if isinstance(permits, bool) or not isinstance(permits, int) or permits < 1:
        raise InvalidValueError(
            f"{root.path} holds {root.value[:40]!r}, which is no semaphore; use another path", path=root.path
        )
    return permits


# ---------------------------------------------------------------------------------------------
# For threads


class Permit(BlockingGrant[AsyncPermit]):
    """One or more permits that are held, for threads. Usable as `guard=`."""

    @property
    def weight(self) -> int:
        """Return how many permits these are."""
        return self._grant.weight


class Semaphore:
    """A semaphore at a path, for threads. The guarantees are those of `AsyncSemaphore`.

    `with semaphore as permit:` acquires one and releases it. A thread cannot be cancelled: when the permit
    is lost, `permit.lost` is set and its callbacks are called, `permit.check()` raises, and LockLostError
    comes out at the end of `with`.

    While the connection is SUSPENDED a waiter keeps its place and a holder holds on until
    `permit.valid_until`; when the session is LOST, so is the permit, and a waiter queues again.
    """

    def __init__(
        self,
        client: BlockingFace,
        path: str,
        permits: int,
        *,
        timeout: float | None = None,
        lock_delay: float = 0.0,
    ) -> None:
        """Describe a semaphore; the arguments are those of `AsyncSemaphore`."""
        self.path = path
        self._portal = client.portal
        self._semaphore = AsyncSemaphore(client.asynchronous, path, permits, lock_delay=lock_delay)
        self._timeout = timeout
        self._blocks: Blocks[Permit] = Blocks()

    def __repr__(self) -> str:
        return f"<Semaphore {self.path} permits={self.permits}>"

    @property
    def permits(self) -> int:
        """Return how many permits this program takes the semaphore to have."""
        return self._semaphore.permits

    def acquire(self, weight: int = 1, *, timeout: float | None = None) -> Permit:
        """Wait for `weight` permits and return them as one; LockTimeoutError after `timeout` seconds."""
        grant = self._portal.run(self._semaphore.acquire(weight, timeout=timeout), undo=abandon)
        return Permit(self._portal, grant)

    def try_acquire(self, weight: int = 1) -> Permit | None:
        """Return `weight` permits if they are free and nobody waits, else None."""
        grant = self._portal.run(self._semaphore.try_acquire(weight), undo=abandon)
        return None if grant is None else Permit(self._portal, grant)

    def contenders(self) -> list[Contender]:
        """Return everybody who holds or waits, in order of arrival, with their weights."""
        return self._portal.run(self._semaphore.contenders())

    def resize(self, permits: int) -> None:
        """Change the number of permits, for everybody. Nobody loses what it holds."""
        self._portal.run(self._semaphore.resize(permits))

    def __enter__(self) -> Permit:
        return self._blocks.enter(self.acquire(timeout=self._timeout))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.leave(kind, error, trace)

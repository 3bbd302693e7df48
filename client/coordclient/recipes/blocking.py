"""The recipes for threads: the same names, without `await`.

Rule of this file: it only waits. Every decision is taken by the asyncio recipes. A thread cannot be
cancelled: who holds a lock in a thread asks `held.check()` or waits for `held.lost`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from coordclient.operations import Operations
from coordclient.portal import Portal
from coordclient.recipes.election import AsyncElection, Term
from coordclient.recipes.grants import Grant, Loss
from coordclient.recipes.lock import AsyncLock, AsyncLockHandle, Contender
from coordclient.recipes.service_registry import AsyncRegistration, AsyncServiceRegistry
from coordclient.types import Instance, Leader

T = TypeVar("T")
G = TypeVar("G", bound=Grant)


class BlockingFace(Protocol):
    """What the recipes need of a `Client`."""

    @property
    def portal(self) -> Portal: ...  # pragma: no cover

    @property
    def asynchronous(self) -> Operations: ...  # pragma: no cover


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

    def __repr__(self) -> str:
        return repr(self._grant)

    @property
    def path(self) -> str:
        """Return the node that stands for the grant."""
        return self._grant.path

    @property
    def token(self) -> int:
        """Return a number larger than that of every earlier holder."""
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
    def lost(self) -> Loss:
        """Whether it has been lost: `if held.lost`, `held.lost.wait(timeout)`."""
        return self._grant.lost

    @property
    def is_released(self) -> bool:
        return self._grant.is_released

    def check(self) -> None:
        """Raise LockLostError unless the grant is certain at this moment. Asks nobody: cheap."""
        if not self._grant.is_released and not self._grant.lost and self._grant.remaining > 0:
            return
        self._grant.check()

    def release(self) -> None:
        """Give the grant back. Idempotent."""
        if not self._grant.is_released:
            self._portal.run(self._grant.release())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = self._grant.error() if self._grant.lost and not self._grant.is_released else None
        self.release()
        if lost is not None and kind is None:
            raise lost


class LockHandle(BlockingGrant[AsyncLockHandle]):
    """A held lock."""


class LeaderTerm(BlockingGrant[Term]):
    """A term of leadership."""

    def resign(self) -> None:
        """Give the leadership back."""
        self.release()


class Lock:
    """A lock at a path. The object is only a description: any number of threads may acquire it."""

    def __init__(self, client: BlockingFace, path: str, *, timeout: float | None = None) -> None:
        """Describe a lock; `timeout` is how many seconds `with` waits at most."""
        self.path = path
        self._portal = client.portal
        self._lock = AsyncLock(client.asynchronous, path)
        self._timeout = timeout
        self._entered: dict[int, list[LockHandle]] = {}

    def __repr__(self) -> str:
        return f"<Lock {self.path}>"

    def acquire(self, *, timeout: float | None = None) -> LockHandle:
        """Wait for the lock and return it; LockTimeoutError after `timeout` seconds."""
        grant = self._portal.run(self._lock.acquire(timeout=timeout), undo=Grant.abandon)
        return LockHandle(self._portal, grant)

    def try_acquire(self) -> LockHandle | None:
        """Return the lock if it is free, else None."""
        grant = self._portal.run(self._lock.try_acquire(), undo=_abandon)
        return None if grant is None else LockHandle(self._portal, grant)

    def contenders(self) -> list[Contender]:
        """Return the holder and everybody who waits, in order."""
        return self._portal.run(self._lock.contenders())

    def __enter__(self) -> LockHandle:
        handle = self.acquire(timeout=self._timeout)
        self._entered.setdefault(threading.get_ident(), []).append(handle)
        return handle

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        thread = threading.get_ident()
        handle = self._entered[thread].pop()
        if not self._entered[thread]:
            del self._entered[thread]
        handle.__exit__(kind, error, trace)


def _abandon(grant: Grant | None) -> None:
    if grant is not None:
        grant.abandon()


class Election:
    """An election at a path."""

    def __init__(self, client: BlockingFace, path: str, value: bytes = b"") -> None:
        """Describe an election; `value` is published when we lead."""
        self.path = path
        self._portal = client.portal
        self._election = AsyncElection(client.asynchronous, path, value)

    def __repr__(self) -> str:
        return f"<Election {self.path}>"

    def campaign(self, *, timeout: float | None = None) -> LeaderTerm:
        """Wait until we lead and return the term; LockTimeoutError after `timeout` seconds."""
        term = self._portal.run(self._election.campaign(timeout=timeout), undo=Grant.abandon)
        return LeaderTerm(self._portal, term)

    def lead(self, timeout: float | None = None) -> Leading:
        """Lead in the body of `with`: it begins when we are elected."""
        return Leading(self, timeout)

    def leader(self, *, timeout: float | None = None) -> Leader | None:
        """Return who leads, or None."""
        return self._portal.run(self._election.leader(timeout=timeout))

    def observe(self) -> Iterator[Leader | None]:
        """Yield who leads now, and then whenever that has changed."""
        return iterate(self._portal, self._election.observe())


class Leading:
    """The body of `with election.lead()`."""

    def __init__(self, election: Election, timeout: float | None) -> None:
        self._election = election
        self._timeout = timeout
        self._term: LeaderTerm | None = None

    def __enter__(self) -> LeaderTerm:
        assert self._term is None, "call lead() anew for every term"
        self._term = self._election.campaign(timeout=self._timeout)
        return self._term

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._term is not None
        self._term.__exit__(kind, error, trace)


class Registration:
    """An announced instance. Closing it, or `with`, takes it back."""

    def __init__(self, portal: Portal, registration: AsyncRegistration) -> None:
        self._portal = portal
        self._registration = registration
        self.id = registration.id
        self.path = registration.path

    def __repr__(self) -> str:
        return repr(self._registration)

    @property
    def is_registered(self) -> bool:
        """Return whether the node was made in the present session."""
        return self._registration.is_registered

    def update(
        self,
        *,
        payload: Mapping[str, Any] | None = None,  # JSON as the application chose it
        status: str | None = None,
        address: str | None = None,
        port: int | None = None,
    ) -> None:
        """Change what is announced."""
        self._portal.run(
            self._registration.update(payload=payload, status=status, address=address, port=port)
        )

    def close(self) -> None:
        """Take the instance back. Idempotent."""
        self._portal.run(self._registration.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ServiceRegistry:
    """Register, discover and watch instances of services."""

    def __init__(self, client: BlockingFace, root: str = "/services") -> None:
        self._portal = client.portal
        self._registry = AsyncServiceRegistry(client.asynchronous, root)

    def register(
        self,
        name: str,
        address: str,
        port: int,
        *,
        payload: Mapping[str, Any] | None = None,  # JSON as the application chose it
        id: str | None = None,  # noqa: A002  # the name that everybody would look for
        status: str = "UP",
    ) -> Registration:
        """Announce an instance until the registration is closed, also over lost sessions."""
        work = self._registry.register(name, address, port, payload=payload, id=id, status=status)
        registration = self._portal.run(work, undo=AsyncRegistration.give_up)
        return Registration(self._portal, registration)

    def discover(self, name: str, *, timeout: float | None = None) -> list[Instance]:
        """Return the instances of a service, sorted by id."""
        return self._portal.run(self._registry.discover(name, timeout=timeout))

    def watch(self, name: str) -> Iterator[tuple[Instance, ...]]:
        """Yield the instances of a service as they are now, and then whenever they have changed."""
        return iterate(self._portal, self._registry.watch(name))

"""Lock: one holder at a time, in order of arrival.

A contender is an ephemeral sequential node below the lock's path; the one with the lowest number holds
the lock, and every other watches only its nearest predecessor. The holder's token is the transaction
that made its node: tokens grow in the order of the grants, because numbers do.

Rule of this file: whoever stops waiting leaves nothing behind, however it stops.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType

from coordclient.errors import (
    ClientClosedError,
    CoordError,
    InvalidPathError,
    LockRevokedError,
    LockTimeoutError,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
)
from coordclient.operations import Operations
from coordclient.recipes.faces import BlockingFace, BlockingGrant
from coordclient.recipes.grants import Grant
from coordclient.states import State
from coordclient.types import Created, Event, Node

_CONTENDER = re.compile(r"[0-9a-f]{32}-lock-(\d{10,})\Z")
FOREVER = math.inf


class AsyncLockHandle(Grant):
    """A held lock."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who holds a lock or waits for it.

    Attributes:
        sequence: The place in the queue; the lowest holds the lock.
        token: The fencing token that it has, or will have.
    """

    path: str
    sequence: int
    token: int
    session_id: int
    client: str = ""
    host: str = ""
    process_id: int = 0
    since_ms: int = 0


def sequence_of(name: str) -> int | None:
    """Return a contender's number; None for a node that is no contender."""
    match = _CONTENDER.match(name)
    return int(match[1]) if match else None


class AsyncLock:
    """A lock at a path. The object is only a description: any number of tasks may acquire it at once.

    `async with lock as held:` acquires and releases; the body is cancelled when the lock is lost.
    """

    def __init__(self, client: Operations, path: str, *, timeout: float | None = None) -> None:
        """Describe a lock.

        Args:
            timeout: How many seconds `async with` waits at most; None: as long as it takes.
        """
        if path == "/" or not path.startswith("/"):
            raise InvalidPathError('a lock needs a path like "/locks/name"', path=path)
        self.path = path
        self._client = client
        self._timeout = timeout
        self._entered: dict[asyncio.Task[object] | None, list[AsyncLockHandle]] = {}

    def __repr__(self) -> str:
        return f"<AsyncLock {self.path}>"

    async def acquire(self, *, timeout: float | None = None) -> AsyncLockHandle:
        """Wait for the lock and return it.

        Raises:
            LockTimeoutError: Not granted within `timeout` seconds; this client no longer waits.
            LockRevokedError: Somebody deleted our place in the queue.
        """
        if timeout is not None and timeout <= 0:
            handle = await self.try_acquire()
        else:
            handle = await self._attempt(timeout, may_wait=True)
        if handle is None:
            raise LockTimeoutError(f"{self.path} is held by somebody else", path=self.path)
        return handle

    async def try_acquire(self) -> AsyncLockHandle | None:
        """Return the lock if it is free, else None. Waits for nobody who holds or wants it."""
        if await self._is_contended():
            return None
        return await self._attempt(self._client.request_timeout, may_wait=False)

    async def _attempt(self, timeout: float | None, *, may_wait: bool) -> AsyncLockHandle | None:
        attempt = Attempt(self._client, self.path)
        try:
            async with deadline(timeout, self.path):
                return await attempt.run(may_wait=may_wait)
        finally:
            attempt.end()

    async def _is_contended(self) -> bool:
        try:
            names = await self._client.get_children(self.path)
        except NoNodeError:
            return False
        return any(sequence_of(name) is not None for name in names)

    async def contenders(self) -> list[Contender]:
        """Return the holder and everybody who waits, in order."""
        try:
            nodes = await self._client.get_children_nodes(self.path)
        except NoNodeError:
            return []
        found = []
        for node in nodes:
            sequence = sequence_of(node.path.rpartition("/")[2])
            if sequence is not None:
                found.append(_contender(node, sequence))
        return sorted(found, key=lambda contender: contender.sequence)

    async def __aenter__(self) -> AsyncLockHandle:
        handle = await self.acquire(timeout=self._timeout)
        await handle.__aenter__()
        self._entered.setdefault(asyncio.current_task(), []).append(handle)
        return handle

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = asyncio.current_task()
        handles = self._entered[task]
        handle = handles.pop()
        if not handles:
            del self._entered[task]
        await handle.__aexit__(kind, error, trace)


class Attempt:
    """One attempt to get a lock: makes a contender, waits for its turn. `end` must be called in any case."""

    def __init__(self, client: Operations, root: str) -> None:
        self._client = client
        self._root = root
        self._wake = asyncio.Event()
        self._creation: asyncio.Task[Created] | None = None
        self._handle: AsyncLockHandle | None = None

    async def run(self, *, may_wait: bool = True) -> AsyncLockHandle | None:
        """Return the granted lock; None if it is not free and we may not wait."""
        while True:
            try:
                handle = await self._contend()
                if not await self._wait_for_turn(handle, may_wait=may_wait):
                    return None
            except SessionExpiredError:
                self.end()  # The contender went with its session: queue again in the next one.
                continue
            self._handle = self._creation = None  # From here on it belongs to the caller.
            return handle

    def end(self) -> None:
        """Leave the queue, unless the lock was granted. What is under way is removed when it is there."""
        creation, self._creation = self._creation, None
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.abandon()
        elif creation is not None:
            self._client.janitor.start(_remove_when_made(self._client, creation), "abandoned contender")

    async def _contend(self) -> AsyncLockHandle:
        """Make the contender. The work belongs to the janitor, so that no cancellation can orphan it."""
        creation = self._creation = self._client.janitor.start(self._create(), "lock contender")
        await asyncio.wait([creation])
        if creation.cancelled():
            raise ClientClosedError
        created = creation.result()
        stat = created.stat
        self._handle = AsyncLockHandle(self._client, created.path, stat.czxid, stat.ephemeral_owner)
        if not await self._handle.watch_over():
            raise self._gone(self._handle)
        return self._handle

    async def _create(self) -> Created:
        value = json.dumps(_details(self._client.name)).encode()
        # A new name for every attempt: a contender of an earlier one can never be taken for this one's.
        prefix = f"{self._root}/{uuid.uuid4().hex}-lock-"
        while True:
            try:
                return await self._client.create_node(
                    prefix, value, ephemeral=True, sequential=True, timeout=FOREVER
                )
            except NoNodeError:
                await _ensure_root(self._client, self._root)

    async def _wait_for_turn(self, handle: AsyncLockHandle, *, may_wait: bool) -> bool:
        client = self._client
        mine = sequence_of(handle.path.rpartition("/")[2])
        assert mine is not None, "we made this name"
        handle.lost.add_callback(self._wake.set)
        while True:
            self._wake.clear()
            try:
                names = await client.get_children(self._root, timeout=FOREVER)
            except NoNodeError:
                # The service removes a root when its last contender has gone, ours among them.
                raise self._gone(handle) from None
            if handle.lost:
                raise self._gone(handle)
            before = _nearest_before(mine, names)
            if before is None and client.is_session_valid:
                handle.lost.remove_callback(self._wake.set)
                return True
            if before is None:
                await self._wake.wait()  # The session is about to be given up: the loss will say so.
            elif may_wait:
                await self._wait_for(f"{self._root}/{before}")
            else:
                return False

    async def _wait_for(self, predecessor: str) -> None:
        """Return when the one before us has gone, or we have lost our place."""
        record = self._client.one_shot(predecessor, self._predecessor_changed)
        try:
            if await self._client.exists_with(predecessor, record, timeout=FOREVER) is not None:
                await self._wake.wait()
        finally:
            self._client.cancel_watch(record)

    def _predecessor_changed(self, _: Event) -> None:
        self._wake.set()

    def _gone(self, handle: AsyncLockHandle) -> CoordError:
        """Say why our contender is not there any more."""
        if self._client.state is State.CLOSED:
            return ClientClosedError()
        if self._client.session_id != handle.session_id:
            return SessionExpiredError(handle.lost.reason)
        return LockRevokedError(f"{handle.path} was deleted while it waited for the lock", path=handle.path)


# ---------------------------------------------------------------------------------------------
# For threads


class LockHandle(BlockingGrant[AsyncLockHandle]):
    """A held lock."""


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


# ---------------------------------------------------------------------------------------------
# The queue


@asynccontextmanager
async def deadline(timeout: float | None, path: str) -> AsyncIterator[None]:
    """Bound the body; LockTimeoutError comes out when the time is over."""
    scope = asyncio.timeout(None if timeout == FOREVER else timeout)
    try:
        async with scope:
            yield
    except TimeoutError:
        if not scope.expired():
            raise
        raise LockTimeoutError(f"{path} was not granted within {timeout:g} s", path=path) from None


def _nearest_before(mine: int, names: list[str]) -> str | None:
    """Return the contender just before ours, by number and not by name; None if ours is the first."""
    nearest = None
    nearest_sequence = -1
    for name in names:
        sequence = sequence_of(name)
        if sequence is not None and nearest_sequence < sequence < mine:
            nearest, nearest_sequence = name, sequence
    return nearest


async def _remove_when_made(client: Operations, creation: asyncio.Task[Created]) -> None:
    await asyncio.wait([creation])
    if creation.cancelled() or creation.exception() is not None:
        return  # Nothing was made, or it went with its session.
    await client.delete(creation.result().path, missing_ok=True, timeout=FOREVER)


async def _ensure_root(client: Operations, root: str) -> None:
    try:
        await client.create(root, container=True, parents=True, timeout=FOREVER)
    except NodeExistsError:
        return


def _details(client_name: str) -> dict[str, str | int]:
    return {
        "client": client_name,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": round(time.time() * 1000),
    }


def _contender(node: Node, sequence: int) -> Contender:
    """Describe a contender. Its details are for people, so those that cannot be read are left out."""
    try:
        details = json.loads(node.value)
    except ValueError:
        details = None
    if not isinstance(details, dict):
        details = {}
    return Contender(
        path=node.path,
        sequence=sequence,
        token=node.stat.czxid,
        session_id=node.stat.ephemeral_owner,
        client=str(details.get("client", "")),
        host=str(details.get("host", "")),
        process_id=details["pid"] if isinstance(details.get("pid"), int) else 0,
        since_ms=node.stat.ctime,
    )

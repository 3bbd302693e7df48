"""`AsyncClient`: the operations, with shortcuts to the recipes.

Rule of this file: shortcuts only. Recipes take a client, never the reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, TypeVar, overload

from coordclient.operations import Operations
from coordclient.recipes.atomic_commit import AsyncAtomicCommit
from coordclient.recipes.barrier import AsyncBarrier
from coordclient.recipes.config_value import NOTHING, AsyncConfigValue, decode_json, encode_json
from coordclient.recipes.counter import AsyncCounter
from coordclient.recipes.double_barrier import AsyncDoubleBarrier
from coordclient.recipes.election import AsyncElection
from coordclient.recipes.group import AsyncGroup
from coordclient.recipes.lock import AsyncLock
from coordclient.recipes.partitioner import AsyncPartitioner
from coordclient.recipes.queue import AsyncQueue
from coordclient.recipes.read_write_lock import AsyncReadWriteLock
from coordclient.recipes.semaphore import AsyncSemaphore
from coordclient.recipes.service_registry import AsyncServiceRegistry
from coordclient.recipes.tree_cache import AsyncTreeCache
from coordclient.recipes.work_queue import ATTEMPTS_MAX, AsyncWorkQueue

T = TypeVar("T")


class AsyncClient(Operations):
    """A client of the coordination service, for asyncio. `Client` is the same for threads."""

    def lock(
        self, path: str, *, timeout: float | None = None, reentrant: bool = False, lock_delay: float = 0.0
    ) -> AsyncLock:
        """Return the lock at a path; `timeout` is how long `async with` waits at most."""
        return AsyncLock(self, path, timeout=timeout, reentrant=reentrant, lock_delay=lock_delay)

    def read_write_lock(
        self, path: str, *, timeout: float | None = None, lock_delay: float = 0.0
    ) -> AsyncReadWriteLock:
        """Return the read-write lock at a path: any number of readers, or one writer."""
        return AsyncReadWriteLock(self, path, timeout=timeout, lock_delay=lock_delay)

    def semaphore(
        self, path: str, permits: int, *, timeout: float | None = None, lock_delay: float = 0.0
    ) -> AsyncSemaphore:
        """Return the semaphore at a path; all who use it must say the same `permits`."""
        return AsyncSemaphore(self, path, permits, timeout=timeout, lock_delay=lock_delay)

    def election(self, path: str, value: bytes = b"") -> AsyncElection:
        """Return the election at a path; `value`, an address for example, is published when we lead."""
        return AsyncElection(self, path, value)

    def barrier(self, path: str) -> AsyncBarrier:
        """Return the barrier at a path: everybody waits until somebody lifts it."""
        return AsyncBarrier(self, path)

    def double_barrier(self, path: str, parties: int) -> AsyncDoubleBarrier:
        """Return the double barrier at a path: `parties` begin together and end together."""
        return AsyncDoubleBarrier(self, path, parties)

    def counter(
        self, path: str, *, initial: int = 0, minimum: int | None = None, maximum: int | None = None
    ) -> AsyncCounter:
        """Return the counter at a path; what is added is counted once, between `minimum` and `maximum`."""
        return AsyncCounter(self, path, initial=initial, minimum=minimum, maximum=maximum)

    def queue(self, path: str) -> AsyncQueue:
        """Return the queue at a path; who gets an item takes it for good, unlike in a `work_queue`."""
        return AsyncQueue(self, path)

    def work_queue(self, path: str, *, attempts_max: int = ATTEMPTS_MAX) -> AsyncWorkQueue:
        """Return the work queue at a path; an item is claimed, and acknowledged when it is done."""
        return AsyncWorkQueue(self, path, attempts_max=attempts_max)

    def group(self, path: str) -> AsyncGroup:
        """Return the group at a path: who is there, and what they say of themselves."""
        return AsyncGroup(self, path)

    def partitioner(
        self, path: str, items: Iterable[str], *, name: str | None = None, settle: float = 1.0
    ) -> AsyncPartitioner:
        """Return the partitioner at a path, which divides `items` among its members."""
        return AsyncPartitioner(self, path, items, name=name, settle=settle)

    @overload
    def config(
        self, path: str, *, encode: Callable[[Any], bytes] = encode_json, default: Any = NOTHING
    ) -> AsyncConfigValue[Any]: ...  # pragma: no cover  # JSON as the application chose it

    @overload
    def config(
        self,
        path: str,
        *,
        decode: Callable[[bytes], T],
        encode: Callable[[T], bytes] = encode_json,
        default: T = NOTHING,
    ) -> AsyncConfigValue[T]: ...  # pragma: no cover

    def config(
        self,
        path: str,
        *,
        decode: Callable[[bytes], Any] = decode_json,
        encode: Callable[[Any], bytes] = encode_json,
        default: Any = NOTHING,
    ) -> AsyncConfigValue[Any]:
        """Return the value at a path, decoded and kept up to date; JSON unless `decode` says otherwise."""
        return AsyncConfigValue(self, path, decode=decode, encode=encode, default=default)

    def tree_cache(self, root: str) -> AsyncTreeCache:
        """Return a local copy of a node and everything below it, which keeps itself up to date."""
        return AsyncTreeCache(self, root)

    def atomic_commit(self, path: str) -> AsyncAtomicCommit:
        """Return the atomic commit at a path: all participants commit, or none."""
        return AsyncAtomicCommit(self, path)

    @cached_property
    def services(self) -> AsyncServiceRegistry:
        """The service registry of this client: `register`, `discover`, `watch`, `names` and `pool`."""
        return AsyncServiceRegistry(self)

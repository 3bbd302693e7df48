"""`Client`: the operations for threads, with shortcuts to the recipes.

Rule of this file: shortcuts only, the same as those of `AsyncClient`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, TypeVar, overload

from coordclient.blocking import BlockingOperations
from coordclient.recipes.atomic_commit import AtomicCommit
from coordclient.recipes.barrier import Barrier
from coordclient.recipes.config_value import NOTHING, ConfigValue, decode_json, encode_json
from coordclient.recipes.counter import Counter
from coordclient.recipes.double_barrier import DoubleBarrier
from coordclient.recipes.election import Election
from coordclient.recipes.group import Group
from coordclient.recipes.lock import Lock
from coordclient.recipes.partitioner import Partitioner
from coordclient.recipes.queue import Queue
from coordclient.recipes.read_write_lock import ReadWriteLock
from coordclient.recipes.semaphore import Semaphore
from coordclient.recipes.service_registry import ServiceRegistry
from coordclient.recipes.tree_cache import TreeCache
from coordclient.recipes.work_queue import ATTEMPTS_MAX, WorkQueue

T = TypeVar("T")


class Client(BlockingOperations):
    """A client of the coordination service, for threads. `AsyncClient` is the same for asyncio.

    Any number of threads may use one client, also from callbacks. Not for use inside a running event loop.
    """

    def lock(
        self, path: str, *, timeout: float | None = None, reentrant: bool = False, lock_delay: float = 0.0
    ) -> Lock:
        """Return the lock at a path; `timeout` is how long `with` waits at most."""
        return Lock(self, path, timeout=timeout, reentrant=reentrant, lock_delay=lock_delay)

    def read_write_lock(
        self, path: str, *, timeout: float | None = None, lock_delay: float = 0.0
    ) -> ReadWriteLock:
        """Return the read-write lock at a path: any number of readers, or one writer."""
        return ReadWriteLock(self, path, timeout=timeout, lock_delay=lock_delay)

    def semaphore(
        self, path: str, permits: int, *, timeout: float | None = None, lock_delay: float = 0.0
    ) -> Semaphore:
        """Return the semaphore at a path; all who use it must say the same `permits`."""
        return Semaphore(self, path, permits, timeout=timeout, lock_delay=lock_delay)

    def election(self, path: str, value: bytes = b"") -> Election:
        """Return the election at a path; `value`, an address for example, is published when we lead."""
        return Election(self, path, value)

    def barrier(self, path: str) -> Barrier:
        """Return the barrier at a path: everybody waits until somebody lifts it."""
        return Barrier(self, path)

    def double_barrier(self, path: str, parties: int) -> DoubleBarrier:
        """Return the double barrier at a path: `parties` begin together and end together."""
        return DoubleBarrier(self, path, parties)

    def counter(
        self, path: str, *, initial: int = 0, minimum: int | None = None, maximum: int | None = None
    ) -> Counter:
        """Return the counter at a path; what is added is counted once, between `minimum` and `maximum`."""
        return Counter(self, path, initial=initial, minimum=minimum, maximum=maximum)

    def queue(self, path: str) -> Queue:
        """Return the queue at a path; who gets an item takes it for good, unlike in a `work_queue`."""
        return Queue(self, path)

    def work_queue(self, path: str, *, attempts_max: int = ATTEMPTS_MAX) -> WorkQueue:
        """Return the work queue at a path; an item is claimed, and acknowledged when it is done."""
        return WorkQueue(self, path, attempts_max=attempts_max)

    def group(self, path: str) -> Group:
        """Return the group at a path: who is there, and what they say of themselves."""
        return Group(self, path)

    def partitioner(
        self, path: str, items: Iterable[str], *, name: str | None = None, settle: float = 1.0
    ) -> Partitioner:
        """Return the partitioner at a path, which divides `items` among its members."""
        return Partitioner(self, path, items, name=name, settle=settle)

    @overload
    def config(
        self, path: str, *, encode: Callable[[Any], bytes] = encode_json, default: Any = NOTHING
    ) -> ConfigValue[Any]: ...  # pragma: no cover  # JSON as the application chose it

    @overload
    def config(
        self,
        path: str,
        *,
        decode: Callable[[bytes], T],
        encode: Callable[[T], bytes] = encode_json,
        default: T = NOTHING,
    ) -> ConfigValue[T]: ...  # pragma: no cover

    def config(
        self,
        path: str,
        *,
        decode: Callable[[bytes], Any] = decode_json,
        encode: Callable[[Any], bytes] = encode_json,
        default: Any = NOTHING,
    ) -> ConfigValue[Any]:
        """Return the value at a path, decoded and kept up to date; JSON unless `decode` says otherwise."""
        return ConfigValue(self, path, decode=decode, encode=encode, default=default)

    def tree_cache(self, root: str) -> TreeCache:
        """Return a local copy of a node and everything below it, which keeps itself up to date."""
        return TreeCache(self, root)

    def atomic_commit(self, path: str) -> AtomicCommit:
        """Return the atomic commit at a path: all participants commit, or none."""
        return AtomicCommit(self, path)

    @cached_property
    def services(self) -> ServiceRegistry:
        """The service registry of this client: `register`, `discover`, `watch`, `names` and `pool`."""
        return ServiceRegistry(self)

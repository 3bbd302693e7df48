"""`AsyncClient`: the operations, with shortcuts to the recipes.

Rule of this file: shortcuts only. Recipes take a client, never the reverse.
"""

from __future__ import annotations

from functools import cached_property

from coordclient.operations import Operations
from coordclient.recipes.election import AsyncElection
from coordclient.recipes.lock import AsyncLock
from coordclient.recipes.service_registry import AsyncServiceRegistry


class AsyncClient(Operations):
    """A client of the coordination service, for asyncio. `Client` is the same for threads."""

    def lock(self, path: str, *, timeout: float | None = None) -> AsyncLock:
        """Return the lock at a path; `timeout` is how long `async with` waits at most."""
        return AsyncLock(self, path, timeout=timeout)

    def election(self, path: str, value: bytes = b"") -> AsyncElection:
        """Return the election at a path; `value` is published when we lead."""
        return AsyncElection(self, path, value)

    @cached_property
    def services(self) -> AsyncServiceRegistry:
        """The service registry."""
        return AsyncServiceRegistry(self)

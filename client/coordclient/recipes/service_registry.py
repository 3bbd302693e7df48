"""Service registry: who offers a service, where, and in which state.

An instance is an ephemeral node `/services/<name>/<id>` whose value is JSON. The registration keeps what
the application wants and what its health checks have found, and announces it again in every new session.

Rule of this file: consumers work on views, immutable tuples of instances; a view stays as it is while the
service cannot be reached.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from coordclient.errors import (
    NoNodeError,
)
from coordclient.operations import Operations
from coordclient.recipes.faces import BlockingFace, iterate
from coordclient.recipes.service_health import Health, checks_of
from coordclient.recipes.service_instances import (
    Instances,
    Record,
    Selection,
    checked_name,
    checked_status,
    checked_tags,
    instance_of,
)
from coordclient.recipes.service_picking import ROUND_ROBIN
from coordclient.recipes.service_pool import AsyncServicePool, ServicePool
from coordclient.recipes.service_registration import AsyncRegistration, Registration
from coordclient.recipes.service_views import follow
from coordclient.types import Instance, Status

logger = logging.getLogger("coordclient.recipes")

__all__ = ["AsyncRegistration", "AsyncServiceRegistry", "Registration", "ServiceRegistry"]

ROOT = "/services"


class AsyncServiceRegistry:
    """Register, discover and watch instances of services.

    1. It guarantees that an instance is found while its process lives and its registration is open, and at
       the latest one session timeout after the process has died it is gone; an id belongs to one
       registration at a time. The registry carries words, not requests: that an instance is PASSING says
       what its last health check saw, not that the next call will succeed.
    2. While the connection is SUSPENDED registrations stay, and changes are noted. Watches and pools keep
       the last view and say that it is stale.
    3. When the session is LOST its instances go, and are registered again in the next session with their
       present status. Watches and pools keep the last view until they have read a new one.
    """

    def __init__(self, client: Operations, root: str = ROOT) -> None:
        """Use the registry below `root`; does no I/O."""
        self.root = root
        self._client = client

    def _directory(self, name: str) -> str:
        return f"{self.root}/{checked_name(name, 'service')}"

    async def register(
        self,
        name: str,
        address: str,
        port: int,
        *,
        payload: Mapping[str, Any] | None = None,  # JSON as the application chose it
        id: str | None = None,  # noqa: A002  # the name that everybody would look for
        tags: Sequence[str] = (),
        weight: int = 1,
        status: Status = Status.PASSING,
        health: Health = None,
    ) -> AsyncRegistration:
        """Announce an instance until the registration is closed, also over lost sessions.

        Args:
            payload: Whatever else consumers should know: JSON types only.
            id: Unique among the instances of the service; made up if not given.
            tags: Words by which consumers choose.
            weight: The share of the work that pools give it, from 1 to 65535.
            status: What the program says of itself.
            health: A check, a function, or several of them, which run beside the instance until the
                registration is closed. The instance is then CRITICAL until each check has passed once, and
                afterwards has the worst status of its checks and of what the program says.

        Raises:
            InstanceTakenError: Another session has registered this id.
            InvalidArgumentError: An argument makes no sense; nothing was registered.
        """
        identifier = uuid.uuid4().hex if id is None else checked_name(id, "id")
        path = f"{self._directory(name)}/{identifier}"
        record = Record(
            address, port, dict(payload or {}), checked_tags(tags), weight, checked_status(status)
        )
        record.encode()
        registration = AsyncRegistration(self._client, path, record, checks_of(health))
        await registration.open()
        return registration

    async def discover(
        self, name: str, *, passing: bool = False, tags: Sequence[str] = (), timeout: float | None = None
    ) -> list[Instance]:
        """Return the instances of a service, sorted by id.

        Args:
            passing: Only those whose status is PASSING: as in Consul, WARNING is not enough.
            tags: Only those that have all of these.
        """
        selection = Selection(passing, checked_tags(tags))
        try:
            nodes = await self._client.get_children_nodes(self._directory(name), timeout=timeout)
        except NoNodeError:
            return []
        return selection.of(filter(None, map(instance_of, nodes)))

    async def names(self, *, timeout: float | None = None) -> list[str]:
        """Return the names of the services that have an instance, in whatever state, sorted."""
        try:
            nodes = await self._client.get_children_nodes(self.root, timeout=timeout)
        except NoNodeError:
            return []
        return [node.path.rpartition("/")[2] for node in nodes if node.stat.num_children]

    async def watch(
        self, name: str, *, passing: bool = False, tags: Sequence[str] = ()
    ) -> AsyncIterator[Instances]:
        """Yield the instances of a service as they are now, and then whenever they have changed.

        A view is a tuple of instances with one more attribute, `is_stale`. When the connection is suspended
        the last view comes once more, with `is_stale` set, and stays until a new one has been read. That
        nobody is left is told only after a majority of the cluster has confirmed it.

        Args:
            passing: Only those whose status is PASSING.
            tags: Only those that have all of these.
        """
        selection = Selection(passing, checked_tags(tags))
        async with aclosing(follow(self._client, self._directory(name), selection)) as views:
            async for view in views:
                yield view

    def pool(
        self,
        name: str,
        *,
        pick: str = ROUND_ROBIN,
        tags: Sequence[str] = (),
        eject_after: int = 3,
        eject_seconds: float = 10.0,
    ) -> AsyncServicePool:
        """Return a pool of the instances of a service, from which one is picked for each call.

        Args:
            pick: "round-robin", "random", "least-pending" or "sticky".
            tags: Only instances that have all of these.
            eject_after: So many failures in a row take an instance out for some time.
            eject_seconds: For how long the first time; doubled each time in a row, up to 32 times this.
        """
        return AsyncServicePool(
            self._client,
            self._directory(name),
            pick=pick,
            tags=checked_tags(tags),
            eject_after=eject_after,
            eject_seconds=eject_seconds,
        )


# ---------------------------------------------------------------------------------------------
# For threads


class ServiceRegistry:
    """Register, discover and watch instances of services, for threads.

    The guarantees are those of `AsyncServiceRegistry`: while the connection is SUSPENDED registrations stay
    and views say that they are stale; when the session is LOST its instances go, and are registered again
    in the next session.
    """

    def __init__(self, client: BlockingFace, root: str = ROOT) -> None:
        """Use the registry below `root`; does no I/O."""
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
        tags: Sequence[str] = (),
        weight: int = 1,
        status: Status = Status.PASSING,
        health: Health = None,
    ) -> Registration:
        """Announce an instance until the registration is closed, also over lost sessions."""
        work = self._registry.register(
            name,
            address,
            port,
            payload=payload,
            id=id,
            tags=tags,
            weight=weight,
            status=status,
            health=health,
        )
        registration = self._portal.run(work, undo=AsyncRegistration.give_up)
        return Registration(self._portal, registration)

    def discover(
        self, name: str, *, passing: bool = False, tags: Sequence[str] = (), timeout: float | None = None
    ) -> list[Instance]:
        """Return the instances of a service, sorted by id; `passing` leaves out all but PASSING ones."""
        return self._portal.run(self._registry.discover(name, passing=passing, tags=tags, timeout=timeout))

    def names(self, *, timeout: float | None = None) -> list[str]:
        """Return the names of the services that have an instance, in whatever state, sorted."""
        return self._portal.run(self._registry.names(timeout=timeout))

    def watch(self, name: str, *, passing: bool = False, tags: Sequence[str] = ()) -> Iterator[Instances]:
        """Yield the instances of a service as they are now, and then whenever they have changed."""
        return iterate(self._portal, self._registry.watch(name, passing=passing, tags=tags))

    def pool(
        self,
        name: str,
        *,
        pick: str = ROUND_ROBIN,
        tags: Sequence[str] = (),
        eject_after: int = 3,
        eject_seconds: float = 10.0,
    ) -> ServicePool:
        """Return a pool of the instances of a service, from which one is picked for each call."""
        pool = self._registry.pool(
            name, pick=pick, tags=tags, eject_after=eject_after, eject_seconds=eject_seconds
        )
        return ServicePool(self._portal, pool)

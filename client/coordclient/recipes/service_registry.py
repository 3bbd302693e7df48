"""Service registry: who offers a service, where, and in which state.

An instance is an ephemeral node `/services/<name>/<id>` whose value is JSON. The registration keeps what
the application wants, and makes the node again in every new session.

Rule of this file: consumers work on views, immutable tuples of instances; a view stays as it is while the
service cannot be reached.
"""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from coordclient.errors import InstanceTakenError, InvalidArgumentError, NoNodeError
from coordclient.operations import Operations
from coordclient.portal import Portal
from coordclient.recipes.faces import BlockingFace, iterate
from coordclient.recipes.registrations import Announcement
from coordclient.types import Event, EventType, Instance, Node

ROOT = "/services"
FOREVER = math.inf
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class _Record:
    """What an instance says about itself."""

    address: str
    port: int
    payload: Mapping[str, Any] = field(default_factory=dict)  # JSON as the application chose it
    status: str = "UP"

    def encode(self) -> bytes:
        content = {
            "schema": SCHEMA,
            "address": self.address,
            "port": self.port,
            "payload": dict(self.payload),
            "status": self.status,
        }
        try:
            return json.dumps(content, separators=(",", ":"), sort_keys=True).encode()
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(f"the payload cannot be written as JSON: {error}") from error


def instance_of(node: Node) -> Instance | None:
    """Read an instance from its node; None for a node that is none."""
    name, _, identifier = node.path.rpartition("/")
    try:
        content = json.loads(node.value)
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    address, port = content.get("address"), content.get("port")
    payload = content.get("payload") or {}
    if not isinstance(address, str) or not isinstance(port, int) or not isinstance(payload, dict):
        return None
    return Instance(
        name=name.rpartition("/")[2],
        id=identifier,
        address=address,
        port=port,
        payload=payload,
        status=str(content.get("status", "UP")),
        registered_at_ms=node.stat.ctime,
        token=node.stat.czxid,
    )


def _checked_name(name: str, what: str) -> str:
    if not name or "/" in name or name in (".", ".."):
        raise InvalidArgumentError(f'{what} {name!r} must be a name without "/"')
    return name


class AsyncServiceRegistry:
    """Register, discover and watch instances of services."""

    def __init__(self, client: Operations, root: str = ROOT) -> None:
        self.root = root
        self._client = client

    async def register(
        self,
        name: str,
        address: str,
        port: int,
        *,
        payload: Mapping[str, Any] | None = None,  # JSON as the application chose it
        id: str | None = None,  # noqa: A002  # the name that everybody would look for
        status: str = "UP",
    ) -> AsyncRegistration:
        """Announce an instance until the registration is closed, also over lost sessions.

        Args:
            id: Unique among the instances of the service; made up if not given.

        Raises:
            InstanceTakenError: Another session has registered this id.
        """
        if not 0 <= port < 65536:
            raise InvalidArgumentError(f"{port} is not a port")
        identifier = uuid.uuid4().hex if id is None else _checked_name(id, "id")
        directory = f"{self.root}/{_checked_name(name, 'service')}"
        record = _Record(address, port, dict(payload or {}), status)
        record.encode()
        registration = AsyncRegistration(self._client, directory, identifier, record)
        await registration.open()
        return registration

    async def discover(self, name: str, *, timeout: float | None = None) -> list[Instance]:
        """Return the instances of a service, sorted by id."""
        directory = f"{self.root}/{_checked_name(name, 'service')}"
        try:
            nodes = await self._client.get_children_nodes(directory, timeout=timeout)
        except NoNodeError:
            return []
        return [instance for instance in map(instance_of, nodes) if instance is not None]

    async def watch(self, name: str) -> AsyncIterator[tuple[Instance, ...]]:
        """Yield the instances of a service as they are now, and then whenever they have changed."""
        directory = f"{self.root}/{_checked_name(name, 'service')}"
        async with self._client.watch(directory, recursive=True) as events:
            view = _View(directory)
            view.reset(await self._snapshot(directory))
            known = view.instances()
            yield known
            while batch := await events.batch():
                if any(not view.apply(event) for event in batch):
                    view.reset(await self._snapshot(directory))
                present = view.instances()
                if present != known:
                    known = present
                    yield known

    async def _snapshot(self, directory: str) -> tuple[int, list[Node]]:
        """Return the nodes, and a transaction up to which they are certainly complete."""
        zxid = await self._client.sync(timeout=FOREVER)
        try:
            return zxid, await self._client.get_children_nodes(directory, timeout=FOREVER)
        except NoNodeError:
            return zxid, []


class _View:
    """The instances of one service, kept up to date by events."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._zxid = 0
        self._nodes: dict[str, Node] = {}

    def reset(self, snapshot: tuple[int, list[Node]]) -> None:
        self._zxid, nodes = snapshot
        self._nodes = {node.path: node for node in nodes}

    def apply(self, event: Event) -> bool:
        """Take in an event. False: the view must be read anew."""
        if event.type is EventType.RESYNC:
            return False
        if event.zxid <= self._zxid or event.path.rpartition("/")[0] != self._directory:
            return True
        known = self._nodes.get(event.path)
        if event.type is EventType.DELETED:
            if known is not None and event.stat is not None and known.stat.czxid <= event.stat.czxid:
                del self._nodes[event.path]
        elif event.stat is not None and (known is None or known.stat.mzxid <= event.stat.mzxid):
            self._nodes[event.path] = Node(event.path, event.value, event.stat)
        return True

    def instances(self) -> tuple[Instance, ...]:
        found = (instance_of(self._nodes[path]) for path in sorted(self._nodes))
        return tuple(instance for instance in found if instance is not None)


class AsyncRegistration:
    """An announced instance. Closing it, or `async with`, takes it back."""

    def __init__(self, client: Operations, directory: str, identifier: str, record: _Record) -> None:
        self.id = identifier
        self.path = f"{directory}/{identifier}"
        self._record = record
        self._announcement = Announcement(client, self.path, record.encode(), taken=InstanceTakenError)

    def __repr__(self) -> str:
        state = "closed" if self._announcement.is_closed else "registered" if self.is_registered else "absent"
        return f"<Registration {self.path} {state}>"

    @property
    def is_registered(self) -> bool:
        """Return whether the node was made in the present session."""
        return self._announcement.is_announced

    async def open(self) -> None:
        """Make the node for the first time."""
        await self._announcement.open()

    async def update(
        self,
        *,
        payload: Mapping[str, Any] | None = None,  # JSON as the application chose it
        status: str | None = None,
        address: str | None = None,
        port: int | None = None,
    ) -> None:
        """Change what is announced. While the service cannot be reached it is noted, and announced later."""
        changes: dict[str, Any] = {"payload": payload, "status": status, "address": address, "port": port}
        record = replace(self._record, **{key: value for key, value in changes.items() if value is not None})
        value = record.encode()
        if not self._announcement.is_closed:
            self._record = record  # First: a further change goes by this one.
        await self._announcement.update(value)

    async def close(self) -> None:
        """Take the instance back. Idempotent; once begun, it is carried out in any case."""
        await self._announcement.close()

    def give_up(self) -> asyncio.Task[None]:
        """Begin to take the instance back; the janitor finishes it."""
        return self._announcement.give_up()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


# ---------------------------------------------------------------------------------------------
# For threads


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

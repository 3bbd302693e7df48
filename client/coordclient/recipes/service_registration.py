"""A registration: one instance, announced with what the program wants and what its health checks found.

Rule of this file: what is announced is computed from two things that are kept apart, the program's word and
the monitor's verdict; the announcement itself, and its coming back, are in `registrations.py`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from coordclient.errors import ClientClosedError, InstanceTakenError, InvalidArgumentError, RequestError
from coordclient.operations import Operations
from coordclient.portal import Portal
from coordclient.recipes.registrations import Announcement
from coordclient.recipes.service_checks import Check
from coordclient.recipes.service_instances import Record, checked_status, checked_tags
from coordclient.recipes.service_monitor import HealthMonitor, worst
from coordclient.types import Status

logger = logging.getLogger("coordclient.recipes")


class AsyncRegistration:
    """An announced instance. Closing it, or `async with`, takes it back.

    1. It guarantees that the instance is announced in every session of the client, with what was last asked
       for and what its health checks have last found, until it is closed. Nothing that a health check does
       ends it.
    2. While the connection is SUSPENDED it stays announced, health checks go on, and changes are noted.
    3. When the session is LOST it goes, and comes back in the next session with its present status.

    A program that is asked to end, by SIGTERM for instance, calls `drain`, so that nobody is sent to an
    instance that is about to stop. The handler itself only says that it is time:
    `loop.add_signal_handler(signal.SIGTERM, stop.set)`, then `await stop.wait()` and `drain` in a task.

    Attributes:
        id: Unique among the instances of the service.
        path: The node that announces it.
    """

    def __init__(self, client: Operations, path: str, record: Record, checks: Sequence[Check] = ()) -> None:
        """For the registry: describe a registration; `open` carries it out."""
        self.id = path.rpartition("/")[2]
        self.path = path
        self._client = client
        self._wanted = record  # what the program says
        self._monitor = HealthMonitor(checks, self._health_changed) if checks else None
        self._announcing: asyncio.Task[None] | None = None
        value = self._announced().encode()
        self._announcement = Announcement(client, path, value, taken=InstanceTakenError)

    def __repr__(self) -> str:
        state = "closed" if self._announcement.is_closed else "registered" if self.is_registered else "absent"
        return f"<Registration {self.path} {state} {self.status.value}>"

    @property
    def is_registered(self) -> bool:
        """Return whether the node was made in the present session."""
        return self._announcement.is_announced

    @property
    def status(self) -> Status:
        """Return the status that is announced, or will be as soon as it can be."""
        return self._announced().status

    def _announced(self) -> Record:
        """Return what is to be announced: what the program says, and what its checks found."""
        wanted = self._wanted
        verdict = self._monitor.verdict if self._monitor is not None else None
        if verdict is None or worst([verdict.status, wanted.status]) is not verdict.status:
            return wanted
        return replace(wanted, status=verdict.status, note=verdict.note)

    async def open(self) -> None:
        """For the registry: announce it for the first time, and begin with the health checks."""
        await self._announcement.open()
        if self._monitor is not None:
            self._monitor.start(self._client.janitor)

    async def update(
        self,
        *,
        payload: Mapping[str, Any] | None = None,  # JSON as the application chose it
        status: Status | None = None,
        address: str | None = None,
        port: int | None = None,
        tags: Sequence[str] | None = None,
        weight: int | None = None,
    ) -> None:
        """Change what is announced. While the service cannot be reached it is noted, and announced later.

        Args:
            status: What the program says of itself; with health checks the worst of both counts.

        Raises:
            InvalidArgumentError: The registration is closed, or an argument makes no sense.
            RequestError: The service refused it, being too large for instance; nothing has changed.
        """
        asked = {
            "payload": None if payload is None else dict(payload),
            "status": None if status is None else checked_status(status),
            "address": address,
            "port": port,
            "tags": None if tags is None else checked_tags(tags),
            "weight": weight,
        }
        changes: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
        before, wanted = self._wanted, replace(self._wanted, **changes)
        wanted.encode()
        if not self._announcement.is_closed:
            self._wanted = wanted  # First: a further change, or a health check, goes by this one.
        try:
            await self._announcement.update(self._announced().encode())
        except RequestError:
            undone = {key: getattr(before, key) for key, value in changes.items()}
            self._wanted = replace(self._wanted, **undone)
            self._announce_soon()  # What a health check has found meanwhile was refused with it.
            raise

    async def set_status(self, status: Status) -> None:
        """Say how the instance is. DRAINING counts whatever the health checks find."""
        await self.update(status=status)

    async def drain(self, seconds: float) -> None:
        """Take the instance out of use: say DRAINING, wait, and close.

        Args:
            seconds: How long consumers have to notice, and calls under way to end. If the caller is
                cancelled while it waits, it closes at once.
        """
        if not 0 <= seconds < math.inf:
            raise InvalidArgumentError(f"{seconds!r} is not a finite number of seconds")
        if self._announcement.is_closed:
            return
        self._wanted = replace(self._wanted, status=Status.DRAINING, note="")
        try:
            self._announce_soon()  # Not `update`: the wait begins now, whether or not it can be announced.
            await asyncio.sleep(seconds)
        finally:
            await self.close()

    async def close(self) -> None:
        """Take the instance back, and end its health checks. Idempotent.

        Once begun, it is carried out even if the caller is cancelled.
        """
        if self._announcement.is_closed:
            return
        removing = self.give_up()
        if self._monitor is not None:
            await self._monitor.close()
        await asyncio.wait([removing], timeout=self._client.request_timeout)

    def give_up(self) -> asyncio.Task[None]:
        """For the registry: begin to close; the janitor finishes it."""
        if self._monitor is not None:
            self._monitor.stop()
        return self._announcement.give_up()

    # -----------------------------------------------------------------------------------------
    # Health

    def _health_changed(self) -> None:
        assert self._monitor is not None
        verdict = self._monitor.verdict
        logger.info("%s is %s: %s", self.path, verdict.status.value, verdict.note or "no note")
        self._announce_soon()

    def _announce_soon(self) -> None:
        """Announce what is wanted now, without waiting for it."""
        if self._announcement.is_closed:
            return
        if self._announcing is None or self._announcing.done():
            self._announcing = self._client.janitor.start(self._announce(), "announce the health")

    async def _announce(self) -> None:
        while not self._announcement.is_closed:
            value = self._announced().encode()
            if value == self._announcement.value:
                return
            try:
                await self._announcement.update(value)
            except ClientClosedError:
                return
            except RequestError as error:
                if value == self._announced().encode():  # Else it is known already, and taken back.
                    logger.warning("the health of %s could not be announced: %s", self.path, error)
                    return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


# ---------------------------------------------------------------------------------------------
# For threads


class Registration:
    """An announced instance. Closing it, or `with`, takes it back.

    Health checks run on the client's own event loop and never block it: plain functions have threads of
    their own. What is guaranteed, and what happens when the connection is suspended or the session is lost,
    is told at `AsyncRegistration`.
    """

    def __init__(self, portal: Portal, registration: AsyncRegistration) -> None:
        """For the registry."""
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

    @property
    def status(self) -> Status:
        """Return the status that is announced, or will be as soon as it can be."""
        return self._registration.status

    def update(
        self,
        *,
        payload: Mapping[str, Any] | None = None,  # JSON as the application chose it
        status: Status | None = None,
        address: str | None = None,
        port: int | None = None,
        tags: Sequence[str] | None = None,
        weight: int | None = None,
    ) -> None:
        """Change what is announced. While the service cannot be reached it is noted, and announced later."""
        self._portal.run(
            self._registration.update(
                payload=payload, status=status, address=address, port=port, tags=tags, weight=weight
            )
        )

    def set_status(self, status: Status) -> None:
        """Say how the instance is. DRAINING counts whatever the health checks find."""
        self._portal.run(self._registration.set_status(status))

    def drain(self, seconds: float) -> None:
        """Take the instance out of use: say DRAINING, wait `seconds`, and close.

        What a program does when SIGTERM comes: its handler sets an event, its main thread waits for that and
        calls this, with as many seconds as its requests take.
        """
        self._portal.run(self._registration.drain(seconds))

    def close(self) -> None:
        """Take the instance back, and end its health checks. Idempotent."""
        self._portal.run(self._registration.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""A pool: the instances of one service, always at hand, and one of them picked for each call.

Rule of this file: picking never waits and never asks the service; it goes by the last view, however old.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from types import TracebackType
from typing import Self

from coordclient import clock
from coordclient.errors import (
    ClientClosedError,
    ClientStateError,
    ForkedClientError,
    NoInstanceError,
    RecipeTimeoutError,
)
from coordclient.operations import Operations
from coordclient.portal import Portal
from coordclient.recipes.service_instances import Instances, Selection
from coordclient.recipes.service_picking import Key, Picker
from coordclient.recipes.service_views import follow
from coordclient.types import Instance


class Use:
    """One call to an instance: `with` or `async with` gives the instance, and counts the call.

    An exception that comes out of the block counts as a failure of the instance, a clean end as a success.
    A cancellation, or whatever else is no `Exception`, counts as neither. Keep errors that are not the
    instance's fault inside the block.
    """

    def __init__(self, picker: Picker, key: Key | None, check_open: Callable[[], None]) -> None:
        """For the pool."""
        self._picker = picker
        self._key = key
        self._check_open = check_open
        self._instance: Instance | None = None

    def __enter__(self) -> Instance:
        if self._instance is not None:
            raise ClientStateError("a use of a pool is entered once: call use() for each call")
        self._check_open()
        self._instance = self._picker.begin(self._key)
        return self._instance

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._instance is not None
        self._picker.end(self._instance)
        if error is None or isinstance(error, Exception):
            self._picker.report(self._instance, error)

    async def __aenter__(self) -> Instance:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class AsyncServicePool:
    """The instances of a service, kept up to date, one of them picked for each call.

        async with client.services.pool("api", pick="least-pending") as pool:
            with pool.use() as instance:
                await call(instance.address, instance.port)

    PASSING instances are picked; if there is none, those with a WARNING; CRITICAL and DRAINING ones never.
    An instance that fails `eject_after` times in a row is left out for `eject_seconds`, for longer if it
    goes on failing; if all have failed, none is left out (`is_panicking`).

    1. It guarantees that picking answers at once from the last view, and that "round-robin" gives each
       instance its share by weight, "random" on average, "least-pending" picks the one with the fewest
       calls under way (by weight; only calls within `use` count), and "sticky" the same instance for the
       same key, in every client, while that instance can be picked; when instances come or go, only the
       keys of those move.
    2. While the connection is SUSPENDED the last view goes on being used, and `is_stale` says so.
    3. When the session is LOST, the same, until a new view has been read in the next session.
    """

    def __init__(
        self,
        client: Operations,
        directory: str,
        *,
        pick: str,
        tags: tuple[str, ...],
        eject_after: int,
        eject_seconds: float,
        dice: random.Random | None = None,
    ) -> None:
        """For the registry: describe a pool; `async with` or `start` begins to follow the service."""
        self.name = directory.rpartition("/")[2]
        self._client = client
        self._directory = directory
        self._selection = Selection(tags=tags)
        self._picker = Picker(
            self.name,
            pick,
            eject_after=eject_after,
            eject_seconds=eject_seconds,
            now=clock.now,
            dice=dice or random.Random(),
        )
        self._following: asyncio.Task[None] | None = None
        self._news = asyncio.Event()  # there is another view, or the end
        self._has_view = False
        self._is_closed = False

    def __repr__(self) -> str:
        stale = " stale" if self.is_stale else ""
        return f"<ServicePool {self.name} instances={len(self.instances)}{stale}>"

    @property
    def instances(self) -> Instances:
        """Return the last view: all instances with the wanted tags, whatever their state."""
        return self._picker.instances

    @property
    def ejected(self) -> tuple[Instance, ...]:
        """Return the instances that are left out at present because they failed."""
        return self._picker.ejected()

    @property
    def is_stale(self) -> bool:
        """Return whether the view may be out of date: the service could not be reached since."""
        is_over = self._following is None or self._following.done() or self._client.is_forked
        return is_over or self.instances.is_stale

    @property
    def is_panicking(self) -> bool:
        """Return whether all instances fail, so that none is left out any more."""
        return self._picker.is_panicking

    # -----------------------------------------------------------------------------------------
    # Picking

    def pick(self, key: Key | None = None) -> Instance:
        """Return the instance for the next call. Asks nobody: cheap. Whoever can, uses `use` instead.

        Args:
            key: For "sticky": calls with the same key go to the same instance. Else it is ignored.

        Raises:
            NoInstanceError: There is none that could be used; the error says why.
        """
        self._check_open()
        return self._picker.pick(key)

    def use(self, key: Key | None = None) -> Use:
        """Return a context manager that picks an instance, and counts the call and its failure."""
        return Use(self._picker, key, self._check_open)

    def report(self, instance: Instance, error: BaseException | None = None) -> None:
        """Say how a call to an instance of `pick` has ended: with an error, or well. `use` does it itself."""
        self._picker.report(instance, error)

    def _check_open(self) -> None:
        if self._client.is_forked:
            raise ForkedClientError
        if self._is_closed:
            raise ClientStateError(f"the pool of {self.name!r} is closed: make a new one")
        if self._following is None:
            raise ClientStateError(f"the pool of {self.name!r} is not open: use it in a `with` statement")

    async def wait_for_instance(self, timeout: float | None = None) -> None:
        """Return as soon as there is an instance that can be picked.

        Args:
            timeout: Seconds; None: as long as it takes.

        Raises:
            RecipeTimeoutError: There was none in time; the message says what there was.
        """
        why = "it has no instance"
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self._news.clear()
                    self._check_open()
                    self._check_following()
                    try:
                        self._picker.check()
                        return
                    except NoInstanceError as error:
                        why = error.why
                    await self._news.wait()
        except TimeoutError:
            message = f"no instance of {self.name!r} could be used within {timeout:g} s: {why}"
            raise RecipeTimeoutError(message, path=self._directory) from None

    # -----------------------------------------------------------------------------------------
    # Following the service

    async def start(self, *, timeout: float | None = None) -> Self:
        """Begin to follow the service, and return once there is a first view, be it empty.

        Args:
            timeout: Seconds; None: the client's `request_timeout`.

        Raises:
            RecipeTimeoutError: The service could not be reached in time; the pool is closed.
        """
        if self._is_closed:
            self._check_open()
        if self._following is None:
            self._following = self._client.janitor.start(self._follow(), "service pool")
        seconds = self._client.request_timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(seconds):
                while not self._has_view:
                    self._news.clear()
                    self._check_following()
                    await self._news.wait()
        except TimeoutError:
            self.give_up()
            message = f"the instances of {self.name!r} could not be read within {seconds:g} s"
            raise RecipeTimeoutError(message, path=self._directory) from None
        except BaseException:
            self.give_up()
            raise
        return self

    async def close(self) -> None:
        """Follow the service no longer. Idempotent; instances cannot be picked any more."""
        self.give_up()
        if self._following is not None:
            await asyncio.wait([self._following])

    def give_up(self) -> None:
        """For the face for threads: begin to close."""
        self._is_closed = True
        self._news.set()
        if self._following is not None:
            self._following.cancel()

    async def _follow(self) -> None:
        try:
            async with aclosing(follow(self._client, self._directory, self._selection)) as views:
                async for view in views:
                    self._picker.take(view)
                    self._has_view = True
                    self._news.set()
        finally:
            self._news.set()

    def _check_following(self) -> None:
        """Raise why the service is not followed any more, the client having been closed for instance."""
        following = self._following
        if following is not None and following.done():
            if not following.cancelled():
                following.result()
            raise ClientClosedError

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


# ---------------------------------------------------------------------------------------------
# For threads


class ServicePool:
    """The instances of a service, kept up to date, one of them picked for each call, by any thread.

        with client.services.pool("api") as pool:
            with pool.use() as instance:
                call(instance.address, instance.port)

    What is guaranteed, and what happens when the connection is suspended or the session is lost, is told at
    `AsyncServicePool`.
    """

    def __init__(self, portal: Portal, pool: AsyncServicePool) -> None:
        """For the registry."""
        self._portal = portal
        self._pool = pool
        self.name = pool.name

    def __repr__(self) -> str:
        return repr(self._pool)

    @property
    def instances(self) -> Instances:
        """Return the last view: all instances with the wanted tags, whatever their state."""
        return self._pool.instances

    @property
    def ejected(self) -> tuple[Instance, ...]:
        """Return the instances that are left out at present because they failed."""
        return self._pool.ejected

    @property
    def is_stale(self) -> bool:
        """Return whether the view may be out of date: the service could not be reached since."""
        return self._pool.is_stale

    @property
    def is_panicking(self) -> bool:
        """Return whether all instances fail, so that none is left out any more."""
        return self._pool.is_panicking

    def pick(self, key: Key | None = None) -> Instance:
        """Return the instance for the next call. Asks nobody: cheap. Whoever can, uses `use` instead."""
        return self._pool.pick(key)

    def use(self, key: Key | None = None) -> Use:
        """Return a context manager that picks an instance, and counts the call and its failure."""
        return self._pool.use(key)

    def report(self, instance: Instance, error: BaseException | None = None) -> None:
        """Say how a call to an instance of `pick` has ended: with an error, or well. `use` does it itself."""
        self._pool.report(instance, error)

    def wait_for_instance(self, timeout: float | None = None) -> None:
        """Return as soon as there is an instance that can be picked; RecipeTimeoutError if not in time."""
        self._portal.run(self._pool.wait_for_instance(timeout))

    def start(self, *, timeout: float | None = None) -> Self:
        """Begin to follow the service, and return once there is a first view, be it empty."""
        self._portal.run(self._pool.start(timeout=timeout), undo=AsyncServicePool.give_up)
        return self

    def close(self) -> None:
        """Follow the service no longer. Idempotent; instances cannot be picked any more."""
        self._portal.run(self._pool.close())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

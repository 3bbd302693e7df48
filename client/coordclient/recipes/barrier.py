"""Barrier: a node that holds everybody up who waits, until somebody takes it away.

The barrier is up while its node exists. Who waits reads and arms a watch in one operation, and reads again
after whatever happens: an event of any kind, or a new connection.

Rule of this file: nothing but the absence of the node, as a linearizable read shows it, lets a waiter pass.
"""

from __future__ import annotations

import asyncio

from coordclient.errors import (
    CheckFailedError,
    GuardFailedError,
    InvalidPathError,
    NodeExistsError,
    NoNodeError,
    RecipeTimeoutError,
    SessionExpiredError,
    TransactionError,
)
from coordclient.operations import Operations
from coordclient.recipes.deadlines import FOREVER, deadline
from coordclient.recipes.faces import BlockingFace
from coordclient.states import State
from coordclient.types import Event


class AsyncBarrier:
    """A barrier at a path: `wait` returns when it is not up. The object is only a description.

    Guarantees: nobody passes while the barrier is up; everybody who waits passes once it has been lifted,
    even if nothing but a reconnection tells them so. One that is lifted and put up again quickly may be
    seen by a waiter as never lifted.

    SUSPENDED: who waits goes on waiting, and looks again when the connection is back.

    LOST: who waits goes on waiting in the next session. A barrier that was created with `ephemeral=True`
    is lifted by the loss of its creator's session; any other stays up until `lift`.
    """

    def __init__(self, client: Operations, path: str) -> None:
        """Describe the barrier whose node is `path`."""
        if path == "/" or not path.startswith("/"):
            raise InvalidPathError('a barrier needs a path like "/barriers/name"', path=path)
        self.path = path
        self._client = client

    def __repr__(self) -> str:
        return f"<AsyncBarrier {self.path}>"

    async def create(self, *, ephemeral: bool = False, value: bytes = b"") -> bool:
        """Put the barrier up. Return whether we did; False: it was up already.

        Args:
            ephemeral: It is lifted when this client's session ends, whether closed or lost.
            value: What its node holds, for people who look.
        """
        client = self._client
        ended_sessions: set[int] = set()
        while True:
            session_id = client.session_id
            try:
                await client.create(self.path, value, ephemeral=ephemeral, parents=True)
            except SessionExpiredError as error:
                if error.may_have_been_applied:
                    ended_sessions.add(session_id)
            except NodeExistsError:
                is_up = await self._take_over(ended_sessions, value, ephemeral=ephemeral)
                if is_up is not None:
                    return is_up
            else:
                return True

    async def _take_over(self, ended_sessions: set[int], value: bytes, *, ephemeral: bool) -> bool | None:
        """Decide whose the barrier is that is up already; None if it is up no more.

        Ours may have come from a session of ours that has ended, and would then soon go with it.
        """
        if not ended_sessions:
            return False
        client = self._client
        try:
            node = await client.get(self.path, timeout=FOREVER)
            if not ephemeral:
                return node.value == value and not node.stat.ephemeral_owner
            if node.stat.ephemeral_owner not in ended_sessions:
                return False
            transaction = client.transaction(timeout=FOREVER)
            transaction.check(self.path, czxid=node.stat.czxid)
            transaction.delete(self.path)
            transaction.create(self.path, value, ephemeral=True)
            await transaction.commit()
        except NoNodeError:
            return None
        except SessionExpiredError:
            ended_sessions.add(client.session_id)
            return None
        except TransactionError as error:
            if isinstance(error.cause, NoNodeError | CheckFailedError):
                return None
            raise
        return True

    async def lift(self) -> bool:
        """Let everybody pass. Return whether the barrier was up."""
        was_perhaps_up = False
        while True:
            try:
                stat = await self._client.exists(self.path)
                if stat is None:
                    return was_perhaps_up
                # Guarded: if this is given up with its session, and arrives all the same, it must not lift
                # what somebody has put up since.
                await self._client.delete(self.path, guard=(self.path, stat.czxid))
            except SessionExpiredError as error:
                was_perhaps_up |= error.may_have_been_applied
            except (NoNodeError, GuardFailedError):
                continue  # Somebody else was faster.
            else:
                return True

    async def is_up(self) -> bool:
        """Return whether the barrier is up at this moment."""
        return await self._client.exists(self.path) is not None

    async def wait(self, *, timeout: float | None = None) -> None:
        """Return when the barrier is not up; at once if it is not.

        Args:
            timeout: How many seconds to wait at most; None: as long as it takes. 0: only look.

        Raises:
            RecipeTimeoutError: It was still up after `timeout` seconds.
        """
        if timeout is not None and timeout <= 0:
            if await self.is_up():
                raise RecipeTimeoutError(f"the barrier {self.path} is up", path=self.path)
            return
        async with deadline(timeout, self.path):
            await wait_until_absent(self._client, self.path)


async def wait_until_absent(client: Operations, path: str) -> None:
    """Return when there is no node at a path. Looks again after every event and every reconnection."""
    wake = asyncio.Event()

    def event_came(_: Event) -> None:
        wake.set()

    def state_changed(state: State) -> None:
        if state is not State.SUSPENDED:
            wake.set()

    client.add_internal_listener(state_changed)
    try:
        while True:
            wake.clear()
            record = client.one_shot(path, event_came)
            try:
                if await client.exists_with(path, record, timeout=FOREVER) is None:
                    return
                await wake.wait()
            except SessionExpiredError:
                continue  # The next read waits for the next session.
            finally:
                client.cancel_watch(record)
    finally:
        client.remove_internal_listener(state_changed)


# ---------------------------------------------------------------------------------------------
# For threads


class Barrier:
    """A barrier at a path: `wait` returns when it is not up. The object is only a description.

    Guarantees and duties are those of `AsyncBarrier`: nobody passes while it is up; a waiter waits on
    through SUSPENDED and LOST; an ephemeral barrier is lifted by the loss of its creator's session.
    """

    def __init__(self, client: BlockingFace, path: str) -> None:
        """Describe the barrier whose node is `path`."""
        self._portal = client.portal
        self._barrier = AsyncBarrier(client.asynchronous, path)
        self.path = path

    def __repr__(self) -> str:
        return f"<Barrier {self.path}>"

    def create(self, *, ephemeral: bool = False, value: bytes = b"") -> bool:
        """Put the barrier up. Return whether we did; False: it was up already."""
        return self._portal.run(self._barrier.create(ephemeral=ephemeral, value=value))

    def lift(self) -> bool:
        """Let everybody pass. Return whether the barrier was up."""
        return self._portal.run(self._barrier.lift())

    def is_up(self) -> bool:
        """Return whether the barrier is up at this moment."""
        return self._portal.run(self._barrier.is_up())

    def wait(self, *, timeout: float | None = None) -> None:
        """Return when the barrier is not up; RecipeTimeoutError after `timeout` seconds."""
        self._portal.run(self._barrier.wait(timeout=timeout))

"""Election: one leader at a time, and everybody can see who.

Candidates queue like contenders of a lock. Who gets the lock publishes the `leader` node, in a
transaction that is guarded by its place in the queue; the term's token is the transaction that did it.
Observers watch that one node, and never the candidates.

Rule of this file: nobody leads whose `leader` node is not there, and none is left behind by one who
does not lead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import TracebackType

from coordclient.errors import (
    CheckFailedError,
    ClientClosedError,
    CompareFailedError,
    CoordError,
    GuardFailedError,
    InvalidPathError,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
    TransactionError,
)
from coordclient.operations import Operations
from coordclient.recipes.faces import BlockingFace, BlockingGrant, iterate
from coordclient.recipes.grants import Grant
from coordclient.recipes.lock import FOREVER, AsyncLockHandle, Attempt, deadline
from coordclient.types import Created, Leader

RECORD = "leader"


class Term(Grant):
    """A term of leadership. Usable as `guard=`: refused once somebody else has been published as leader."""

    def __init__(self, client: Operations, record: Created, handle: AsyncLockHandle) -> None:
        super().__init__(client, record.path, record.stat.czxid, record.stat.ephemeral_owner)
        self._handle = handle
        handle.lost.add_callback(self._place_lost)

    def _place_lost(self) -> None:
        self.lose(self._handle.lost.reason)

    async def resign(self) -> None:
        """Give the leadership back."""
        await self.release()

    async def _remove(self) -> None:
        self._handle.lost.remove_callback(self._place_lost)
        if self._client.session_id == self.session_id:  # else the record has gone with its session
            await withdraw(self._client, self.path, self.token)
        await self._handle.release()


class AsyncElection:
    """An election at a path. The object is only a description: any number of tasks may campaign at once."""

    def __init__(self, client: Operations, path: str, value: bytes = b"") -> None:
        """Describe an election.

        Args:
            value: What to publish when we lead: an address, a name.
        """
        if path == "/" or not path.startswith("/"):
            raise InvalidPathError('an election needs a path like "/elections/name"', path=path)
        self.path = path
        self.value = value
        self._client = client
        self._record = f"{path}/{RECORD}"

    def __repr__(self) -> str:
        return f"<AsyncElection {self.path}>"

    async def campaign(self, *, timeout: float | None = None) -> Term:
        """Wait until we lead and return the term.

        Raises:
            LockTimeoutError: Not elected within `timeout` seconds; this client is no candidate any more.
            LockRevokedError: Somebody deleted our place in the queue.
        """
        async with deadline(timeout, self.path):
            while True:
                attempt = Attempt(self._client, self.path)
                try:
                    handle = await attempt.run()
                finally:
                    attempt.end()
                assert handle is not None, "an attempt that may wait is granted"
                term = await self._take_office(handle)
                if term is not None:
                    return term

    def lead(self, timeout: float | None = None) -> Leading:
        """Lead in the body of `async with`: it begins when we are elected, and is cancelled on loss."""
        return Leading(self, timeout)

    async def leader(self, *, timeout: float | None = None) -> Leader | None:
        """Return who leads, or None."""
        try:
            node = await self._client.get(self._record, timeout=timeout)
        except NoNodeError:
            return None
        return Leader(node.value, node.stat.czxid)

    async def observe(self) -> AsyncIterator[Leader | None]:
        """Yield who leads now, and then whenever that has changed."""
        async with self._client.watch(self._record, with_values=False) as events:
            known = leader = await self.leader(timeout=FOREVER)
            yield leader
            while await events.batch():
                leader = await self.leader(timeout=FOREVER)
                if leader != known:
                    known = leader
                    yield leader

    async def _take_office(self, handle: AsyncLockHandle) -> Term | None:
        """Publish our record. None: we have lost our place meanwhile."""
        janitor = self._client.janitor
        publishing = janitor.start(self._publish(handle), "publish leader")
        term = None
        try:
            await asyncio.wait([publishing])
            if publishing.cancelled():
                raise ClientClosedError
            record = publishing.result()
            if record is None:
                return None
            candidate = Term(self._client, record, handle)
            if await candidate.watch_over():
                term = candidate
        except SessionExpiredError:
            return None
        finally:
            if term is None:
                janitor.start(self._undo(publishing, handle), "withdraw leader")
        return term

    async def _publish(self, handle: AsyncLockHandle) -> Created | None:
        client = self._client
        while True:
            stale = await client.exists(self._record, timeout=FOREVER)
            transaction = client.transaction(guard=handle, timeout=FOREVER)
            if stale is not None:
                transaction.check(self._record, czxid=stale.czxid)
                transaction.delete(self._record)
            transaction.create(self._record, self.value, ephemeral=True)
            try:
                created = (await transaction.commit())[-1]
            except GuardFailedError:
                return None
            except TransactionError as error:
                if isinstance(error.cause, NoNodeError | NodeExistsError | CheckFailedError):
                    continue  # The record has changed since we looked.
                raise
            assert isinstance(created, Created)
            return created

    async def _undo(self, publishing: asyncio.Task[Created | None], handle: AsyncLockHandle) -> None:
        """Leave nothing of a term that did not come about."""
        await asyncio.wait([publishing])
        try:
            if not publishing.cancelled() and publishing.exception() is None:
                record = publishing.result()
                if record is not None:
                    await withdraw(self._client, record.path, record.stat.czxid)
        finally:
            handle.abandon()


class Leading:
    """The body of `async with election.lead()`."""

    def __init__(self, election: AsyncElection, timeout: float | None) -> None:
        self._election = election
        self._timeout = timeout
        self._term: Term | None = None

    async def __aenter__(self) -> Term:
        assert self._term is None, "call lead() anew for every term"
        self._term = await self._election.campaign(timeout=self._timeout)
        return await self._term.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._term is not None
        await self._term.__aexit__(kind, error, trace)


# ---------------------------------------------------------------------------------------------
# For threads


class LeaderTerm(BlockingGrant[Term]):
    """A term of leadership."""

    def resign(self) -> None:
        """Give the leadership back."""
        self.release()


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

    def lead(self, timeout: float | None = None) -> BlockingLeading:
        """Lead in the body of `with`: it begins when we are elected."""
        return BlockingLeading(self, timeout)

    def leader(self, *, timeout: float | None = None) -> Leader | None:
        """Return who leads, or None."""
        return self._portal.run(self._election.leader(timeout=timeout))

    def observe(self) -> Iterator[Leader | None]:
        """Yield who leads now, and then whenever that has changed."""
        return iterate(self._portal, self._election.observe())


class BlockingLeading:
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


async def withdraw(client: Operations, path: str, token: int) -> None:
    """Delete a leader record, if it is still the one of this token."""
    transaction = client.transaction(timeout=FOREVER)
    transaction.compare(path, "czxid", "==", token)
    transaction.delete(path)
    try:
        await transaction.commit()
    except CompareFailedError:
        return
    except CoordError as error:
        if not isinstance(error, SessionExpiredError | ClientClosedError):
            raise

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
from dataclasses import replace
from types import TracebackType

from coordclient.errors import (
    AlreadyHeldError,
    CheckFailedError,
    ClientClosedError,
    CompareFailedError,
    CoordError,
    GuardFailedError,
    LockTimeoutError,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
    TransactionError,
)
from coordclient.operations import Operations
from coordclient.recipes.contenders import LOCK, Contender, behind_all
from coordclient.recipes.contention import Contest, across_sessions, attempt, check_root
from coordclient.recipes.deadlines import FOREVER, deadline
from coordclient.recipes.faces import BlockingFace, BlockingGrant, iterate
from coordclient.recipes.grants import Grant
from coordclient.recipes.places import Place
from coordclient.states import State
from coordclient.types import Created, Leader

RECORD = "leader"


class Term(Grant):
    """A term of leadership. Usable as `guard=`: refused once somebody else has been published as leader.

    Attributes:
        path: The record that says who leads.
        token: Larger than that of every earlier term.
    """

    def __init__(self, client: Operations, record: Created, place: Place) -> None:
        super().__init__(client, record.path, record.stat.czxid, record.stat.ephemeral_owner)
        self._place = place
        self._stepping_down: asyncio.Task[None] | None = None
        place.lost.add_callback(self._place_lost)
        self.lost.add_callback(self._step_down)

    def _place_lost(self) -> None:
        self.lose(self._place.lost.reason)

    def _step_down(self) -> None:
        """Nothing of a lost term may stand in the way of the next one, whether or not it is released."""
        if self._client.session_id == self.session_id and self._client.state is not State.CLOSED:
            self._stepping_down = self._client.janitor.start(self._clear_away(), "step down")

    async def resign(self) -> None:
        """Give the leadership back: the next candidate leads. Idempotent; the same as `release`."""
        await self.release()

    async def set_value(self, value: bytes) -> None:
        """Publish something else for the rest of this term. Observers are told; the token stays.

        Raises:
            LockLostError: We lead no more; nothing was published.
        """
        self.check()
        try:
            await self._client.set(self.path, value, guard=(self.guard, self._place.guard))
        except (GuardFailedError, NoNodeError):
            self.lose("its record or its place was deleted")
            raise self.error() from None
        except SessionExpiredError:
            self.lose("its session is gone")
            raise self.error() from None

    async def _remove(self) -> None:
        if self._stepping_down is None:
            await self._clear_away()
        else:
            await asyncio.wait([self._stepping_down])

    async def _clear_away(self) -> None:
        self._place.lost.remove_callback(self._place_lost)
        if self._client.session_id == self.session_id:  # else the record has gone with its session
            await withdraw(self._client, self.path, self.token)
        await self._place.release()


class AsyncElection:
    """An election at a path. The object is only a description: any number of tasks may campaign at once.

    1. It guarantees one leader at a time, as the service sees it, in the order in which the candidates came;
       that `leader()` and `observe()` show only who leads; that tokens grow from term to term; and that a
       write with `guard=term` is refused once the term is over.
    2. While the connection is SUSPENDED, candidates keep their place and the leader its office, until
       `term.valid_until`: nobody else can lead before. It should begin nothing new.
    3. When the session is LOST, so is the term: `term.lost` is set, the body of `lead()` is cancelled. A
       candidate queues again, at the end, with what is left of its time.
    """

    def __init__(self, client: Operations, path: str, value: bytes = b"") -> None:
        """Describe an election.

        Args:
            value: What to publish when we lead: an address, a name.
        """
        check_root(path, "an election")
        self.path = path
        self.value = value
        self._client = client
        self._contest = Contest(client, path, LOCK, behind_all)
        self._record = f"{path}/{RECORD}"

    def __repr__(self) -> str:
        return f"<AsyncElection {self.path}>"

    async def campaign(self, *, timeout: float | None = None) -> Term:
        """Wait until we lead and return the term.

        Raises:
            LockTimeoutError: Not elected within `timeout` seconds; this client is no candidate any more.
            LockRevokedError: Somebody deleted our place in the queue.
        """
        async with deadline(timeout, self.path, LockTimeoutError):
            while True:
                place = await attempt(self._contest)
                assert place is not None, "an attempt that may wait is granted"
                term = await self._take_office(place)
                if term is not None:
                    return term

    def lead(self, timeout: float | None = None) -> Leading:
        """Lead in the body of `async with`: it begins when we are elected, and is cancelled on loss.

        Args:
            timeout: In seconds; LockTimeoutError if we are not elected by then.
        """
        return Leading(self, timeout)

    async def leader(self, *, timeout: float | None = None) -> Leader | None:
        """Return who leads, or None."""
        try:
            node = await across_sessions(lambda: self._client.get(self._record, timeout=timeout))
        except NoNodeError:
            return None
        return Leader(node.value, node.stat.czxid)

    async def candidates(self) -> list[Contender]:
        """Return the leader, or who is about to lead, and everybody who waits, in order.

        Only the leader has a token, that of its term.
        """
        candidates = await self._contest.contenders()
        try:
            record = await self._client.get(self._record)
        except NoNodeError:
            return [replace(candidate, token=0) for candidate in candidates]
        token, leader = record.stat.czxid, record.stat.ephemeral_owner
        return [
            replace(
                candidate,
                token=token if candidate.is_holder and candidate.session_id == leader else 0,
            )
            for candidate in candidates
        ]

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

    async def _take_office(self, place: Place) -> Term | None:
        """Publish our record. None: we have lost our place meanwhile."""
        janitor = self._client.janitor
        publishing = janitor.start(self._publish(place), "publish leader")
        term = None
        try:
            await asyncio.wait([publishing])
            if publishing.cancelled():
                raise ClientClosedError
            record = publishing.result()
            if record is None:
                return None
            candidate = Term(self._client, record, place)
            if await candidate.watch_over():
                term = candidate
        except SessionExpiredError:
            return None
        finally:
            if term is None:
                janitor.start(self._undo(publishing, place), "withdraw leader")
        return term

    async def _publish(self, place: Place) -> Created | None:
        client = self._client
        while True:
            stale = await client.exists(self._record, timeout=FOREVER)
            transaction = client.transaction(guard=place, timeout=FOREVER)
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

    async def _undo(self, publishing: asyncio.Task[Created | None], place: Place) -> None:
        """Leave nothing of a term that did not come about."""
        await asyncio.wait([publishing])
        try:
            if not publishing.cancelled() and publishing.exception() is None:
                record = publishing.result()
                if record is not None:
                    await withdraw(self._client, record.path, record.stat.czxid)
        finally:
            place.abandon()


class Leading:
    """The body of `async with election.lead()`."""

    def __init__(self, election: AsyncElection, timeout: float | None) -> None:
        self._election = election
        self._timeout = timeout
        self._term: Term | None = None

    async def __aenter__(self) -> Term:
        _refuse_second(self._election.path, self._term)
        self._term = await self._election.campaign(timeout=self._timeout)
        return await self._term.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        term, self._term = self._term, None
        assert term is not None, "the body was entered"
        await term.__aexit__(kind, error, trace)


def _refuse_second(path: str, term: object) -> None:
    if term is not None:
        raise AlreadyHeldError(f"this block leads {path} already; call lead() for another one", path=path)


# ---------------------------------------------------------------------------------------------
# For threads


class LeaderTerm(BlockingGrant[Term]):
    """A term of leadership, for threads. Usable as `guard=`."""

    def set_value(self, value: bytes) -> None:
        """Publish something else for the rest of this term; LockLostError if we lead no more."""
        self._portal.run(self._grant.set_value(value))

    def resign(self) -> None:
        """Give the leadership back: the next candidate leads. Idempotent; the same as `release`."""
        self.release()


class Election:
    """An election at a path, for threads. The guarantees are those of `AsyncElection`.

    A thread cannot be cancelled: when the term is lost, `term.lost` is set and its callbacks are called,
    `term.check()` raises, and LockLostError comes out at the end of `with`.

    While the connection is SUSPENDED candidates keep their place and the leader its office until
    `term.valid_until`; when the session is LOST, so is the term, and a candidate queues again.
    """

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

    def candidates(self) -> list[Contender]:
        """Return the leader, or who is about to lead, and everybody who waits, in order."""
        return self._portal.run(self._election.candidates())

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
        _refuse_second(self._election.path, self._term)
        self._term = self._election.campaign(timeout=self._timeout)
        return self._term

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        term, self._term = self._term, None
        assert term is not None, "the body was entered"
        term.__exit__(kind, error, trace)


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

"""DoubleBarrier: several parties begin a round of work together, and end it together.

Rule of this file: whoever is told to have entered has been counted by the others, and whoever was counted
is either told so or leaves.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable
from types import TracebackType
from typing import Generic, TypeVar

from coordclient.errors import ClientStateError, InvalidArgumentError, InvalidPathError, RecipeTimeoutError
from coordclient.operations import Operations
from coordclient.recipes.barrier_entry import AsyncBarrierRound, Entry
from coordclient.recipes.deadlines import deadline
from coordclient.recipes.faces import BlockingFace, BlockingGrant
from coordclient.recipes.grants import Grant

R = TypeVar("R", bound="AsyncBarrierRound | BarrierRound")

UNDO_SECONDS = 1.0  # by how much `enter` may outlast its deadline to find out whether it has entered


class AsyncDoubleBarrier:
    """A double barrier at a path, for rounds without end. The object is only a description.

    `async with barrier as round:` enters and leaves; the body is cancelled if the session is lost.

    Guarantees: `enter` returns only once at least `parties` of them are in at the same moment, and then to
    all of these; one that timed out was not counted, or else has entered after all and says so. `leave`
    returns only once all who were in have left or died. Who comes to the next round early waits for it and
    disturbs nobody. If more than `parties` come at once, a round may have more.

    SUSPENDED: who waits goes on waiting, and is still counted.

    LOST: who waits to enter is counted anew in the next session, unless the round has begun already. Who
    has entered counts as having left: the round's `lost` is set, and the body of `async with` is cancelled.
    Who waits for the others to leave goes on waiting.
    """

    def __init__(self, client: Operations, path: str, parties: int) -> None:
        """Describe a double barrier; all must agree on `parties`, how many make a round."""
        if path == "/" or not path.startswith("/"):
            raise InvalidPathError('a double barrier needs a path like "/barriers/name"', path=path)
        if parties < 1:
            raise InvalidArgumentError(f"parties must be 1 or more, not {parties}", path=path)
        self.path = path
        self.parties = parties
        self._client = client
        self._entered: Entered[AsyncBarrierRound] = Entered(path)

    def __repr__(self) -> str:
        return f"<AsyncDoubleBarrier {self.path} parties={self.parties}>"

    async def enter(self, *, timeout: float | None = None) -> AsyncBarrierRound:
        """Wait until all parties are there, and return the round.

        Args:
            timeout: How many seconds to wait at most; None: as long as it takes.

        Raises:
            RecipeTimeoutError: The others did not come; we are not counted any more. Only if the service
                cannot be reached either, `may_have_been_applied` is true: we leave as soon as it can be.
            MismatchError: Others use this barrier at present with another number of parties.
            LockRevokedError: Somebody deleted our member while we waited.
        """
        entered = await self.enter_unnoted(timeout=timeout)
        self._entered.add(asyncio.current_task(), entered)
        return entered

    async def enter_unnoted(self, *, timeout: float | None = None) -> AsyncBarrierRound:
        """For the face for threads: enter; only the round that is returned can leave."""
        entry = Entry(self._client, self.path, self.parties)
        try:
            try:
                async with deadline(timeout, self.path):
                    return await entry.run()
            except RecipeTimeoutError as error:
                undo = entry.undo()
                await asyncio.wait([undo], timeout=UNDO_SECONDS)
                if undo.done() and not undo.cancelled():
                    entered = undo.result()
                    if entered is not None:
                        return entered
                else:
                    error.may_have_been_applied = True
                    entry.give_up()
                raise
        except RecipeTimeoutError:
            raise
        except BaseException:
            entry.abandon()
            raise

    async def leave(self, *, timeout: float | None = None) -> None:
        """Leave the round that this task entered last, and wait until all others have left, too.

        Args:
            timeout: How many seconds to wait for the others at most; None: as long as it takes.

        Raises:
            RecipeTimeoutError: Others are still in; we have left.
            ClientStateError: This object has entered no round.
        """
        await self._entered.take(asyncio.current_task()).leave(timeout=timeout)

    async def __aenter__(self) -> AsyncBarrierRound:
        entered = await self.enter()
        return await entered.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = self._entered.take(asyncio.current_task())
        await entered.__aexit__(kind, error, trace)
        if kind is None:
            await entered.leave()


class Entered(Generic[R]):
    """Which rounds were entered through one object, and by whom."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rounds: list[tuple[Hashable, R]] = []

    def add(self, owner: Hashable, entered: R) -> None:
        """Note a round; those that were left by their own `leave` or `release` are forgotten."""
        self._rounds = [(who, other) for who, other in self._rounds if not other.is_released]
        self._rounds.append((owner, entered))

    def take(self, owner: Hashable) -> R:
        """Return the last round of this owner, or else of anybody."""
        rounds = self._rounds
        if not rounds:
            raise ClientStateError(f"no round of {self._path} was entered with this object")
        index = max(range(len(rounds)), key=lambda index: (rounds[index][0] == owner, index))
        return rounds.pop(index)[1]


# ---------------------------------------------------------------------------------------------
# For threads


class BarrierRound(BlockingGrant[AsyncBarrierRound]):
    """A round that was entered, until it is left: `leave()` waits until all others have left, too."""

    @property
    def number(self) -> int:
        """Return which round it is. It grows from round to round, until nobody has come for an hour."""
        return self._grant.number

    def leave(self, *, timeout: float | None = None) -> None:
        """Leave, and wait until all others have left; RecipeTimeoutError after `timeout` seconds."""
        self._portal.run(self._grant.leave(timeout=timeout))


class DoubleBarrier:
    """A double barrier at a path, for rounds without end, for threads. The object is only a description.

    Guarantees and duties are those of `AsyncDoubleBarrier`; through SUSPENDED and LOST who waits goes on
    waiting. A thread is not cancelled when its session is lost while it is in: it asks `round.check()`.
    """

    def __init__(self, client: BlockingFace, path: str, parties: int) -> None:
        """Describe a double barrier; all must agree on `parties`, how many make a round."""
        self._portal = client.portal
        self._barrier = AsyncDoubleBarrier(client.asynchronous, path, parties)
        self._entered: Entered[BarrierRound] = Entered(path)
        self.path = path
        self.parties = parties

    def __repr__(self) -> str:
        return f"<DoubleBarrier {self.path} parties={self.parties}>"

    def enter(self, *, timeout: float | None = None) -> BarrierRound:
        """Wait until all parties are there, and return the round; RecipeTimeoutError after `timeout`."""
        grant = self._portal.run(self._barrier.enter_unnoted(timeout=timeout), undo=Grant.abandon)
        entered = BarrierRound(self._portal, grant)
        self._entered.add(threading.get_ident(), entered)
        return entered

    def leave(self, *, timeout: float | None = None) -> None:
        """Leave the round that this thread entered last, and wait until all others have left, too."""
        self._entered.take(threading.get_ident()).leave(timeout=timeout)

    def __enter__(self) -> BarrierRound:
        return self.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = self._entered.take(threading.get_ident())
        entered.__exit__(kind, error, trace)
        if kind is None:
            entered.leave()

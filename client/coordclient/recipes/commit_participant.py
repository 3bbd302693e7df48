"""One participant of atomic commits: prepares, votes, carries decisions out, and decides when it is time.

Rule of this file: a vote is recorded before it counts, and a decision is acknowledged only after it was
carried out; so after a crash everything that is open is found in the records, and begun again.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from coordclient.errors import (
    GuardFailedError,
    LockLostError,
    LockRevokedError,
    NoNodeError,
    OutcomeUnknownError,
    SessionExpiredError,
)
from coordclient.operations import Operations
from coordclient.recipes.commit_ledger import Ledger, events_within
from coordclient.recipes.commit_records import (
    REASON_CHARACTERS_MAX,
    CommitLayout,
    Proposal,
    Vote,
    pack_vote,
)
from coordclient.recipes.deadlines import FOREVER
from coordclient.recipes.lock import AsyncLock
from coordclient.recipes.receipts import ChangedError, MissingFolderError, commit
from coordclient.types import Event, EventType
from coordclient.watches import WatchStream

logger = logging.getLogger("coordclient.recipes")

Prepare = Callable[[Proposal], bool | Awaitable[bool]]
CarryOut = Callable[[Proposal], object]  # what a coroutine function returns is awaited


class CallbackFailedError(Exception):
    """The application's own function raised. Stays within the recipes."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the application does at each step."""

    prepare: Prepare
    commit: CarryOut
    abort: CarryOut


class Participation:
    """Takes part under one name, until it is cancelled."""

    def __init__(self, client: Operations, layout: CommitLayout, name: str, callbacks: Callbacks) -> None:
        self.name = name
        self._client = client
        self._layout = layout
        self._callbacks = callbacks
        self._ledger = Ledger(client, layout)
        self._lock = AsyncLock(client, f"{layout.participants}/{name}")
        self._open: dict[str, int] = {}  # proposals that are not decided, and until when
        self._news: set[str] = set()  # proposals that are to be looked at

    async def run(self) -> None:
        """Take part. Comes back only with the error of a callback."""
        while True:
            try:
                await self._ledger.ensure()  # What the lock makes above itself would stay for ever.
                async with self._lock as held:
                    await self._serve(held.guard)
            except CallbackFailedError as failed:
                raise failed.error from None
            except (LockLostError, LockRevokedError, GuardFailedError, SessionExpiredError):
                continue  # Begin again in the next session, with what the records say.

    async def _serve(self, guard: tuple[str, int]) -> None:
        async with self._client.watch(self._layout.proposals, recursive=True, with_values=False) as events:
            self._open.clear()
            self._news = set(await self._ledger.ids())
            while True:
                for proposal in await self._changed():
                    await self._handle(proposal, guard)
                await self._decide_overdue()
                if not self._news:
                    await self._wait(events)

    async def _changed(self) -> list[Proposal]:
        """Return the proposals with news that concern us, the oldest first."""
        news, self._news = self._news, set()
        found = []
        for proposal_id in news:
            proposal = await self._ledger.read(proposal_id)
            self._open.pop(proposal_id, None)
            if proposal is not None and self.name in proposal.participants:
                found.append(proposal)
        return sorted(found, key=lambda proposal: proposal.token)

    async def _handle(self, proposal: Proposal, guard: tuple[str, int]) -> None:
        if proposal.committed is None:
            self._open[proposal.id] = proposal.deadline_ms
            if self.name not in proposal.votes:
                await self._vote(proposal, guard)
            return
        if self.name not in proposal.acknowledged:
            await self._carry_out(proposal)
            with contextlib.suppress(NoNodeError):  # Somebody removed the record.
                await self._ledger.add_once(self._layout.done(proposal.id, self.name), b"", guard)
            self._news.add(proposal.id)
        elif proposal.is_finished:
            await self._ledger.remove(proposal)

    # -----------------------------------------------------------------------------------------
    # Voting, and carrying out

    async def _vote(self, proposal: Proposal, guard: tuple[str, int]) -> None:
        vote = await self._prepare(proposal)
        transaction = self._client.transaction(guard=guard, timeout=FOREVER)
        transaction.check(self._layout.proposal(proposal.id), czxid=proposal.token)
        transaction.check(self._layout.decision(proposal.id), absent=True)
        transaction.create(self._layout.vote(proposal.id, self.name), pack_vote(vote))
        try:
            await commit(transaction)
        except (ChangedError, MissingFolderError):
            self._news.add(proposal.id)  # Too late: it has been decided.

    async def _prepare(self, proposal: Proposal) -> Vote:
        """Ask the application for its vote; an error is a vote against."""
        try:
            answer = self._callbacks.prepare(proposal)
            vote = await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            logger.exception("participant %s could not prepare proposal %s", self.name, proposal.id)
            return Vote(False, f"{type(error).__name__}: {error}"[:REASON_CHARACTERS_MAX])
        return Vote(bool(vote))

    async def _carry_out(self, proposal: Proposal) -> None:
        callback = self._callbacks.commit if proposal.committed else self._callbacks.abort
        try:
            answer = callback(proposal)
            if inspect.isawaitable(answer):
                await answer
        except Exception as error:
            logger.exception("participant %s could not carry out proposal %s", self.name, proposal.id)
            raise CallbackFailedError(error) from error

    # -----------------------------------------------------------------------------------------
    # Time

    async def _decide_overdue(self) -> None:
        """Decide what its coordinator should have decided by now."""
        if self._seconds_until_overdue() > 0:
            return
        now_ms = await self._ledger.ask_time()
        for proposal_id in [known for known, deadline_ms in self._open.items() if deadline_ms <= now_ms]:
            proposal = await self._ledger.read(proposal_id)
            if proposal is not None and proposal.committed is None:
                with contextlib.suppress(OutcomeUnknownError):  # Somebody removed the record.
                    await self._ledger.settle(proposal, now_ms)
            self._news.add(proposal_id)

    def _seconds_until_overdue(self) -> float:
        return self._ledger.time.seconds_until(min(self._open.values())) if self._open else math.inf

    async def _wait(self, events: WatchStream) -> None:
        """Wait until something has changed, or it is time to decide."""
        for event in await events_within(events, self._seconds_until_overdue()):
            await self._note(event)

    async def _note(self, event: Event) -> None:
        if event.type is EventType.RESYNC:
            self._news.update(await self._ledger.ids())
            return
        proposal_id = self._layout.id_in(event.path)
        if proposal_id is not None:
            self._news.add(proposal_id)

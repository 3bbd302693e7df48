"""AtomicCommit: two-phase commit whose decision is a replicated record, so that no crash blocks anybody.

The coordinator records what is proposed, the participants record their votes, and the first who may decides:
commit if all have voted yes, abort if one has voted no or the deadline has passed. Anybody can do that by
reading the records; the coordinator only is the first to try.

Rule of this file: what is said to be decided is in the record.
"""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from coordclient.errors import (
    CoordError,
    InvalidArgumentError,
    OutcomeUnknownError,
    RequestTimeoutError,
    SessionExpiredError,
)
from coordclient.operations import Operations
from coordclient.recipes.commit_ledger import Ledger, events_within
from coordclient.recipes.commit_participant import Callbacks, CarryOut, Participation, Prepare
from coordclient.recipes.commit_records import (
    CommitLayout,
    Decision,
    Proposal,
    check_participant,
    check_participants,
    pack_proposal,
)
from coordclient.recipes.contention import across_sessions
from coordclient.recipes.faces import BlockingFace
from coordclient.recipes.receipts import MissingFolderError, NotAppliedError, commit_with_receipt
from coordclient.transactions import TransactionBuilder
from coordclient.watches import WatchStream

__all__ = ["AsyncAtomicCommit", "AtomicCommit", "Decision", "Proposal"]

T = TypeVar("T")
TIMEOUT_SECONDS_MAX = 86_400.0


class AsyncAtomicCommit:
    """Two-phase commit at a path: of each proposal all participants commit, or all abort.

    1. It guarantees that a proposal has one decision, which never changes: commit only if every participant
       has voted yes. Each participant's `commit` or `abort` is called at least once, again after a crash,
       until it has returned. A coordinator that crashes blocks nobody: participants decide by themselves once
       the proposal's deadline has passed by the service's clock, or `recover` does at any time. A participant
       that crashes finishes after its restart under the same name; its vote is kept. While it is away the
       others carry the decision out. The record of a proposal goes when all participants have acknowledged.
    2. While the connection is SUSPENDED everything waits; what others decide meanwhile is found afterwards.
    3. When the session is LOST, `propose` goes on in the next session. A participant's callback that runs
       is cancelled, and called again once its name is free: only one process takes part under a name.

    The object is only a description: any number of tasks may use it at once.
    """

    def __init__(self, client: Operations, path: str) -> None:
        """Describe where proposals are recorded; does no I/O."""
        self.path = path
        self._client = client
        self._layout = CommitLayout(path)
        self._ledger = Ledger(client, self._layout)

    def __repr__(self) -> str:
        return f"<AsyncAtomicCommit {self.path}>"

    # -----------------------------------------------------------------------------------------
    # The coordinator

    async def propose(
        self, participants: Iterable[str], value: bytes = b"", *, timeout: float = 30.0
    ) -> Decision:
        """Propose something to the participants and return what was decided. They may still be at it.

        A call that is cancelled aborts the proposal, unless it is decided already.

        Args:
            participants: Names under which `participate` runs, now or soon.
            value: What it is about; goes to the participants' callbacks.
            timeout: Seconds, by the service's clock, after which it is aborted unless all have voted.

        Raises:
            InvalidArgumentError: A name or the timeout makes no sense.
            RequestTimeoutError: The service could not be asked for `timeout` and the client's
                `request_timeout` together; the proposal may be committed all the same.
            OutcomeUnknownError: Somebody deleted the record of the proposal.
        """
        names = check_participants(participants, self.path)
        if not 0 < timeout <= TIMEOUT_SECONDS_MAX:
            raise InvalidArgumentError(f"a timeout of {timeout} s is out of range", path=self.path)
        proposal_id = uuid.uuid4().hex
        raw = pack_proposal(names, value, max(1, round(timeout * 1000)), self._client.name)
        is_decided = False
        scope = asyncio.timeout(timeout + self._client.request_timeout)
        try:
            async with scope:
                await self._record(proposal_id, raw)
                decision = await self._decided(proposal_id)
            is_decided = True
        except TimeoutError as error:
            if isinstance(error, CoordError) or not scope.expired():
                raise
            raise self._unanswered(proposal_id) from None
        finally:
            if not is_decided:
                self._client.janitor.start(self._give_up(proposal_id), "abandoned proposal")
        return decision

    def _unanswered(self, proposal_id: str) -> RequestTimeoutError:
        error = RequestTimeoutError(
            f"the service could not be reached for so long that it is not known what was decided on"
            f" proposal {proposal_id}",
            path=self._layout.proposal(proposal_id),
        )
        error.may_have_been_applied = True
        return error

    async def _record(self, proposal_id: str, raw: bytes) -> None:
        def fill(transaction: TransactionBuilder) -> None:
            transaction.check(self._layout.outcome(proposal_id), absent=True)  # It may be given up already.
            transaction.create(self._layout.proposal(proposal_id), raw)

        while True:
            try:
                await commit_with_receipt(self._client, self._layout.receipts, fill)
            except NotAppliedError:
                continue
            except MissingFolderError:
                await self._ledger.ensure()
            else:
                return

    async def _decided(self, proposal_id: str) -> Decision:
        """Wait for the votes, decide, and return what counts."""
        path = self._layout.proposal(proposal_id)
        async with self._client.watch(path, recursive=True, with_values=False) as events:
            while True:
                try:
                    decision = await self._look(proposal_id, events)
                except SessionExpiredError:
                    continue
                if decision is not None:
                    return decision

    async def _look(self, proposal_id: str, events: WatchStream) -> Decision | None:
        """Decide if it is time. None: something has changed, look again."""
        proposal = await self._ledger.read(proposal_id)
        if proposal is None or proposal.committed is not None:
            return await self._ledger.decision(proposal_id)
        time = self._ledger.time
        is_due = time.seconds_until(proposal.deadline_ms) <= 0
        now_ms = await self._ledger.ask_time() if is_due else 0
        decision = await self._ledger.settle(proposal, now_ms)
        if decision is None:
            await events_within(events, time.seconds_until(proposal.deadline_ms))
        return decision

    async def _give_up(self, proposal_id: str) -> None:
        """Abort what nobody coordinates any more, in as many sessions as it takes.

        If the client is closed before, the participants decide.
        """
        await across_sessions(lambda: self._ledger.abort(proposal_id, "its coordinator gave up"))

    # -----------------------------------------------------------------------------------------
    # The participant

    async def participate(self, name: str, prepare: Prepare, commit: CarryOut, abort: CarryOut) -> None:
        """Take part under a name, until cancelled; the callbacks are called one at a time.

        While another process takes part under the name, this waits for its end, ready to take its place.

        Args:
            name: Stays the same over restarts: it finds what was left open.
            prepare: `prepare(proposal)` returns the vote. True promises that `commit` will succeed, whatever
                happens, so what that takes must be on disk. False, or an error (which is logged), is a vote
                against. May be called again for a proposal if its vote could not be recorded.
            commit: `commit(proposal)` carries it out. May be called again after it has returned.
            abort: `abort(proposal)` undoes what `prepare` did. May be called again, and for a proposal that
                `prepare` has not seen.

        The callbacks may be coroutine functions. Plain ones run on the event loop and must not block.

        Raises:
            Exception: What `commit` or `abort` raised. It is called again by the next `participate`.
        """
        check_participant(name, self.path)
        callbacks = Callbacks(prepare, commit, abort)
        await Participation(self._client, self._layout, name, callbacks).run()

    # -----------------------------------------------------------------------------------------
    # Anybody

    async def recover(self) -> list[Decision]:
        """Finish what crashed coordinators left: decide what can be decided, remove what is carried out.

        Return what was decided by this. What has votes missing and time left is let be. Anybody may call
        this at any time; participants do the same by themselves after each proposal's deadline.
        """
        decided = []
        now_ms = 0
        for proposal in await self.proposals():
            if proposal.committed is None:
                now_ms = now_ms or await self._ledger.ask_time()
                with suppress(OutcomeUnknownError):  # Somebody removed the record.
                    decision = await self._ledger.settle(proposal, now_ms)
                    if decision is not None:
                        decided.append(decision)
            elif proposal.is_finished:
                await self._ledger.remove(proposal)
        return decided

    async def proposals(self) -> list[Proposal]:
        """Return the proposals that are not finished, the oldest first, with their votes and decisions."""
        found = [await self._ledger.read(proposal_id) for proposal_id in await self._ledger.ids()]
        known = [proposal for proposal in found if proposal is not None]
        return sorted(known, key=lambda proposal: proposal.token)


# ---------------------------------------------------------------------------------------------
# For threads


class AtomicCommit:
    """Two-phase commit at a path, for threads; see `AsyncAtomicCommit` for what it guarantees.

    1. Of each proposal all participants commit, or all abort; no crash blocks anybody.
    2. While the connection is SUSPENDED everything waits.
    3. When the session is LOST, `propose` and `participate` go on in the next session.
    """

    def __init__(self, client: BlockingFace, path: str) -> None:
        """Describe where proposals are recorded; does no I/O."""
        self.path = path
        self._portal = client.portal
        self._commit = AsyncAtomicCommit(client.asynchronous, path)

    def __repr__(self) -> str:
        return f"<AtomicCommit {self.path}>"

    def propose(self, participants: Iterable[str], value: bytes = b"", *, timeout: float = 30.0) -> Decision:
        """Propose something to the participants and return what was decided.

        The arguments and errors are those of `AsyncAtomicCommit.propose`.
        """
        return self._portal.run(self._commit.propose(participants, value, timeout=timeout))

    def participate(self, name: str, prepare: Prepare, commit: CarryOut, abort: CarryOut) -> None:
        """Take part under a name, until interrupted or the client is closed: then ClientClosedError.

        The callbacks are those of `AsyncAtomicCommit.participate`. They run one at a time, in a thread that
        may block and call the client. One that runs when the session is lost is waited for, and then called
        again.
        """

        async def prepare_in_thread(proposal: Proposal) -> bool:
            return await _in_thread(prepare, proposal)

        async def commit_in_thread(proposal: Proposal) -> None:
            await _in_thread(commit, proposal)

        async def abort_in_thread(proposal: Proposal) -> None:
            await _in_thread(abort, proposal)

        work = self._commit.participate(name, prepare_in_thread, commit_in_thread, abort_in_thread)
        self._portal.run(work)

    def recover(self) -> list[Decision]:
        """Decide what crashed coordinators left, and return that; see `AsyncAtomicCommit.recover`."""
        return self._portal.run(self._commit.recover())

    def proposals(self) -> list[Proposal]:
        """Return the proposals that are not finished, the oldest first."""
        return self._portal.run(self._commit.proposals())


async def _in_thread(function: Callable[[Proposal], T | Awaitable[T]], proposal: Proposal) -> T:
    """Call a callback in a thread. If cancelled, wait for its end all the same: two never run at once."""
    running = asyncio.create_task(asyncio.to_thread(function, proposal), name="coordclient participant")
    try:
        answer = await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
    return await answer if inspect.isawaitable(answer) else answer

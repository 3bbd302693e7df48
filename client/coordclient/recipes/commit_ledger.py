"""The replicated record of atomic commits: reading, deciding, removing. Coordinators, participants and
whoever recovers build on it.

Rule of this file: a decision is a node that is created once; who comes second takes what is there.
"""

from __future__ import annotations

import asyncio

from coordclient.errors import NodeExistsError, NoNodeError, OutcomeUnknownError, SessionExpiredError
from coordclient.operations import Operations
from coordclient.recipes.commit_records import (
    CommitLayout,
    Decision,
    Proposal,
    pack_decision,
    proposal_id_of,
    unpack_decision,
    unpack_proposal,
    verdict,
)
from coordclient.recipes.deadlines import FOREVER
from coordclient.recipes.receipts import ChangedError, MissingFolderError, commit, ensure_containers
from coordclient.recipes.service_time import ServiceTime
from coordclient.types import Event
from coordclient.watches import WatchStream

OUTCOME_SECONDS = 3600.0


class Ledger:
    """The records of all proposals at one path."""

    def __init__(self, client: Operations, layout: CommitLayout) -> None:
        self.layout = layout
        self.time = ServiceTime()
        self._client = client

    async def ids(self) -> list[str]:
        """Return the ids of all proposals."""
        try:
            names = await self._client.get_children(self.layout.proposals, timeout=FOREVER)
        except NoNodeError:
            return []
        return [proposal_id for name in names if (proposal_id := proposal_id_of(name)) is not None]

    async def read(self, proposal_id: str) -> Proposal | None:
        """Return a proposal as it is now; None if it is finished and removed, or is none of ours."""
        path = self.layout.proposal(proposal_id)
        try:
            # The node never changes, and its children are only added to.
            node, children = await asyncio.gather(
                self._client.get(path, timeout=FOREVER),
                self._client.get_children_nodes(path, timeout=FOREVER),
            )
        except NoNodeError:
            return None
        return unpack_proposal(node, children)

    async def ask_time(self) -> int:
        """Return the service's time in ms since the epoch."""
        while True:
            try:
                return await self.time.ask(self._client, self.layout.proposals)
            except NoNodeError:
                await self.ensure()

    async def ensure(self) -> None:
        """Make the containers."""
        try:
            await ensure_containers(self._client, self.layout.containers)
        except (SessionExpiredError, NoNodeError):
            return  # Whoever needs them will ask again.

    async def settle(self, proposal: Proposal, now_ms: float) -> Decision | None:
        """Decide if it is time; return what was decided, here or by another. None: it is too early."""
        decision = verdict(proposal, now_ms)
        return None if decision is None else await self.decide(proposal, decision)

    async def decide(self, proposal: Proposal, decision: Decision) -> Decision:
        """Record a decision, unless there is one; return the one that counts."""
        while True:
            transaction = self._client.transaction(timeout=FOREVER)
            transaction.check(self.layout.proposal(proposal.id), czxid=proposal.token)
            transaction.create(self.layout.decision(proposal.id), pack_decision(decision))
            try:
                await commit(transaction)
            except (ChangedError, MissingFolderError):
                return await self.decision(proposal.id)
            except SessionExpiredError:
                continue  # If ours was recorded, it is found there now.
            return decision

    async def abort(self, proposal_id: str, reason: str) -> Decision:
        """Abort a proposal, unless it is decided; one that is not recorded yet never will be.

        Return the decision that counts.
        """
        while True:
            proposal = await self.read(proposal_id)
            aborted = Decision(proposal_id, False, reason, {} if proposal is None else proposal.votes)
            if proposal is not None:
                return await self.decide(proposal, aborted)
            transaction = self._client.transaction(timeout=FOREVER)
            transaction.check(self.layout.proposal(proposal_id), absent=True)
            transaction.create(self.layout.outcome(proposal_id), pack_decision(aborted), ttl=OUTCOME_SECONDS)
            try:
                await commit(transaction)
            except MissingFolderError:
                await self.ensure()
            except ChangedError:
                # It has been recorded meanwhile, or it was decided and carried out before.
                if await self._client.exists(self.layout.outcome(proposal_id), timeout=FOREVER) is not None:
                    return await self.decision(proposal_id)
            else:
                return aborted

    async def decision(self, proposal_id: str) -> Decision:
        """Return what was decided on a proposal, also when it is finished and removed.

        Raises:
            OutcomeUnknownError: It was removed too long ago.
        """
        for path in (self.layout.decision(proposal_id), self.layout.outcome(proposal_id)):
            try:
                node = await self._client.get(path, timeout=FOREVER)
            except NoNodeError:
                continue
            decision = unpack_decision(proposal_id, node.value)
            if decision is not None:
                return decision
        raise OutcomeUnknownError(
            f"proposal {proposal_id} was decided, carried out and removed so long ago that nobody knows any"
            " more what was decided",
            path=self.layout.proposal(proposal_id),
        )

    async def remove(self, proposal: Proposal) -> None:
        """Remove a proposal that all have carried out; what was decided is kept for a while."""
        assert proposal.committed is not None, "only what is decided can be finished"
        decision = Decision(proposal.id, proposal.committed, proposal.reason, proposal.votes)
        path = self.layout.proposal(proposal.id)
        while True:
            transaction = self._client.transaction(timeout=FOREVER)
            transaction.check(path, czxid=proposal.token)
            transaction.delete(path, recursive=True)
            transaction.create(self.layout.outcome(proposal.id), pack_decision(decision), ttl=OUTCOME_SECONDS)
            try:
                await commit(transaction)
            except MissingFolderError:
                await self.ensure()
            except SessionExpiredError:
                continue
            except ChangedError:
                return  # Somebody else was faster.
            else:
                return

    async def add_once(self, path: str, value: bytes, guard: tuple[str, int]) -> None:
        """Add a node to a proposal that is there for good; nothing happens if it is there."""
        try:
            await self._client.create(path, value, guard=guard, timeout=FOREVER)
        except NodeExistsError:
            return


async def events_within(events: WatchStream, seconds: float) -> list[Event]:
    """Return the next events; none if there are none within so many seconds."""
    scope = asyncio.timeout(None if seconds == FOREVER else seconds)
    try:
        async with scope:
            return await events.batch()
    except TimeoutError:
        if not scope.expired():
            raise
        return []

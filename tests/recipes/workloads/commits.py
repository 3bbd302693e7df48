"""Workload of AtomicCommit: every process proposes to all, and takes part in all.

Rule of this file: a participant comes back under its name, also after it was killed: that is what its votes
are kept for.
"""

from __future__ import annotations

import asyncio
import contextlib

from coordclient.recipes.atomic_commit import AsyncAtomicCommit, Proposal
from tests.recipes.workloads.place import EXPECTED, Place

PARTICIPANTS = ("survivor-1", "survivor-2", "victim")
DECIDE_WITHIN_S = 2.0
NO_EVERY = 5
CALM_S = 0.1
FINISHED_WITHIN_S = 15.0


async def atomic_commit(place: Place) -> None:
    """Propose, vote, and carry out what was decided; in the end nothing may be left open."""
    shared = AsyncAtomicCommit(place.client, place.path)
    name = place.process.removesuffix("-again")

    def told(operation: str, proposal: Proposal) -> None:
        place.begin(operation, proposal=proposal.id, name=name).end()

    async def prepare(proposal: Proposal) -> bool:
        vote = not proposal.value.endswith(b"0") or name != "survivor-2"
        with place.begin("vote", proposal=proposal.id, name=name, yes=vote):
            return vote

    async def take_part() -> None:
        while True:
            with contextlib.suppress(*EXPECTED):
                await shared.participate(
                    name,
                    prepare,
                    lambda proposal: told("commit", proposal),
                    lambda proposal: told("abort", proposal),
                )

    taking_part = asyncio.create_task(take_part())

    async def propose(number: int) -> None:
        with place.begin("propose") as act:
            value = str(number % NO_EVERY).encode()
            decision = await shared.propose(PARTICIPANTS, value, timeout=DECIDE_WITHIN_S)
            act.note(proposal=decision.id, committed=decision.committed)
        await place.pause(CALM_S)

    await place.repeat(propose)
    await place.settle()
    with place.begin("final") as act:
        await until_finished(place, shared)
        act.note(open=[str(proposal) for proposal in await shared.proposals()])
    await place.leave()
    taking_part.cancel()
    await asyncio.wait([taking_part])
    if not taking_part.cancelled() and taking_part.exception() is not None:
        await taking_part


async def until_finished(place: Place, shared: AsyncAtomicCommit) -> None:
    """Return when all proposals have been carried out by everybody, or it takes too long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FINISHED_WITHIN_S):
            async with place.client.watch(place.path, recursive=True) as events:
                while not all(proposal.is_finished for proposal in await shared.proposals()):
                    await events.batch()

"""Carries out the plan: begins each fault at its time, ends it, and keeps the timeline.

Rule of this file: the two lanes know nothing of each other; whatever overlaps, overlaps.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.chaos.cluster import GatedCluster
from tests.chaos.link_faults import LinkTarget, link_fault
from tests.chaos.member_faults import MemberTarget, member_fault
from tests.chaos.membership_faults import membership_fault
from tests.chaos.plan import LINK_FAULTS, MEMBERSHIP_FAULTS, PlannedFault
from tests.processes.cluster import MemberProcess
from tests.processes.programs import Program


class Nemesis:
    """Attributes:
    counts: How often each kind of fault has begun.
    """

    def __init__(
        self,
        cluster: GatedCluster,
        programs: list[Program],
        start_again: Callable[[Program], Awaitable[Program]],
        tell: Callable[[str], None],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._programs = programs
        self._start_again = start_again
        self._tell = tell
        self._began = asyncio.get_running_loop().time()
        self._ends_s = 0.0

    @property
    def elapsed_s(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    async def run(self, plan: list[list[PlannedFault]]) -> None:
        """Carry out all lanes at once."""
        self._began = asyncio.get_running_loop().time()
        self._ends_s = max((fault.at_s + fault.lasts_s for lane in plan for fault in lane), default=0.0)
        async with asyncio.TaskGroup() as tasks:
            for number, lane in enumerate(plan):
                tasks.create_task(self._run_lane(lane), name=f"lane {number}")

    async def _run_lane(self, lane: list[PlannedFault]) -> None:
        for fault in lane:
            if self.elapsed_s > self._ends_s:
                return  # Faults before this one took longer than planned.
            await asyncio.sleep(fault.at_s - self.elapsed_s)
            dice = random.Random(fault.dice)
            leader = await self._leader(dice)
            self.counts[fault.kind] += 1
            if fault.kind in LINK_FAULTS:
                names = list(self._cluster.members)
                with link_fault(fault.kind, LinkTarget(self._cluster, leader.name, names, dice)) as told:
                    await self._last(fault, told)
            elif fault.kind in MEMBERSHIP_FAULTS:
                old = dice.choice(list(self._cluster))
                async with membership_fault(fault.kind, self._cluster, old) as told:
                    await self._last(fault, told)
            else:
                running = [member for member in self._cluster if member.is_running]
                target = MemberTarget(self._cluster, leader, running, self._programs, self._start_again, dice)
                async with member_fault(fault.kind, target) as told:
                    await self._last(fault, told)
            self._note(f"{fault.kind} ends")

    async def _last(self, fault: PlannedFault, told: str) -> None:
        self._note(f"{fault.kind} {told}")
        await asyncio.sleep(fault.lasts_s)

    async def _leader(self, dice: random.Random) -> MemberProcess:
        """Return who leads, as far as anybody says; else somebody, if possible one who runs."""
        leading = [status for status in await self._cluster.statuses() if status.role == "leader"]
        if leading:
            newest = max(leading, key=lambda status: status.term)
            if newest.member in self._cluster.members and self._cluster[newest.member].is_running:
                return self._cluster[newest.member]
        running = [member for member in self._cluster if member.is_running]
        return dice.choice(running or list(self._cluster))

    def _note(self, text: str) -> None:
        self._tell(f"{self.elapsed_s:7.1f} s  {text}")

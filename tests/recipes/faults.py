"""What is done to a run of the fault matrix, by name.

Rule of this file: a fault ends healed; what comes after it shows that everybody goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from coordsvc.testing.link import Drop
from tests.recipes.stage import SESSION_TIMEOUT_S, Stage

CUTS = 30
CUT_WITHIN_S = 0.2
BETWEEN_LEADERS_S = 0.2


async def kill(stage: Stage) -> None:
    """A participant dies without a word, and is started again."""
    await stage.kill("victim")
    await stage.start("victim-again")


async def pause(stage: Stage) -> None:
    """A participant sleeps until its sessions have expired, and goes on as if nothing had happened."""
    stage.victim.pause()
    await asyncio.sleep(SESSION_TIMEOUT_S * 1.75)
    stage.victim.resume()


async def leader_change(stage: Stage) -> None:
    """The leader hands over; then the next one dies, and a third is elected."""
    for _ in range(2):
        leader = await stage.cluster.wait_until_leader()
        target = (await stage.cluster.followers())[0]
        await stage.cluster.transfer_leadership(leader, target.name)
        await asyncio.sleep(BETWEEN_LEADERS_S)
    leader = await stage.cluster.wait_until_leader()
    await leader.kill()
    await stage.cluster.wait_until_leader()
    stage.cluster.start(leader)
    await stage.cluster.wait_until_ready(leader)


async def member_restart(stage: Stage) -> None:
    """Each member in turn is stopped and started again."""
    for member in list(stage.cluster):
        await member.stop()
        stage.cluster.start(member)
        await stage.cluster.wait_until_ready(member)


async def cut_before(stage: Stage) -> None:
    """Writes are lost on their way to a member, with their connections."""
    for number in range(CUTS):
        await happened(stage.links[number % 3].drop_next_request())


async def cut_after(stage: Stage) -> None:
    """Writes are applied, and their answers are lost, with their connections."""
    for number in range(CUTS):
        await happened(stage.links[number % 3].drop_next_reply())


async def happened(drop: Drop) -> None:
    """Wait until a message was lost. A member to which nobody is attached just now loses none for a while."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CUT_WITHIN_S):
            await drop.wait()


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done, and whether it needs links that can be broken."""

    strike: Callable[[Stage], Awaitable[None]]
    has_links: bool = False


FAULTS: dict[str, Fault] = {
    "kill": Fault(kill),
    "pause past the session": Fault(pause),
    "cut before applied": Fault(cut_before, has_links=True),
    "cut after applied": Fault(cut_after, has_links=True),
    "leader change": Fault(leader_change),
    "member restart": Fault(member_restart),
}

"""What is done to a run of the fault matrix, by name.

Rule of this file: a fault ends healed; what comes after it shows that everybody goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.recipes.stage import SESSION_TIMEOUT_S, Stage

Fault = Callable[[Stage], Awaitable[None]]

CUTS = 20
CUT_EVERY_S = 0.15


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
        await asyncio.sleep(CUT_EVERY_S)
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


FAULTS: dict[str, Fault] = {
    "kill": kill,
    "pause past the session": pause,
    "leader change": leader_change,
    "member restart": member_restart,
}

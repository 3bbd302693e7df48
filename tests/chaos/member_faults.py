"""Faults of members: crashes, loss of power, pauses, bad disks, clocks that jump, restarts, transfers.

Rule of this file: whoever is stopped by a fault runs again when the fault ends. A member whose disk failed
must have ended by itself before that (promise G9).
"""

from __future__ import annotations

import asyncio
import errno
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import grpc.aio

from tests.chaos.cluster import GatedCluster
from tests.processes.cluster import MemberProcess
from tests.processes.programs import Program

STOPS_WITHIN_S = 30.0  # a member whose disk has failed, on a slow machine
CLOCK_JUMPS_S = (3600, -3600, 30, -30, 86_400 * 400, -86_400 * 400, 1, -1)


@dataclass(slots=True)
class MemberTarget:
    """What a fault of members may choose from."""

    cluster: GatedCluster
    leader: MemberProcess
    members: list[MemberProcess]  # that run now
    programs: list[Program]
    start_again: Callable[[Program], Awaitable[Program]]  # another one in place of one that was killed
    dice: random.Random

    def one(self) -> MemberProcess:
        return self.dice.choice(self.members)

    def follower(self) -> MemberProcess:
        others = [member for member in self.members if member is not self.leader]
        return self.dice.choice(others or self.members)

    def majority(self) -> list[MemberProcess]:
        count = len(self.cluster.members) // 2 + 1
        return self.dice.sample(self.members, min(count, len(self.members)))


def _names(members: list[MemberProcess]) -> str:
    return " ".join(member.name for member in members)


@asynccontextmanager
async def member_fault(kind: str, target: MemberTarget) -> AsyncIterator[str]:
    """Members are at fault in the block. Yields which, for people."""
    if kind in _VICTIMS:
        victims = _VICTIMS[kind](target)
        fault = _killed(target.cluster, victims, loses_power=kind.startswith("power-loss"))
    elif kind in ("pause-leader", "pause-follower"):
        fault = _paused([target.leader if kind == "pause-leader" else target.follower()])
    elif kind == "pause-client":
        fault = _paused([target.dice.choice(target.programs)])
    elif kind == "kill-client":
        fault = _killed_client(target)
    elif kind == "restart-one":
        fault = _restarted(target.cluster, target.one())
    elif kind in _DISK_FAULTS:
        fault = _bad_disk(target.cluster, kind, target.one(), target.dice)
    elif kind == "clock-jumps":
        fault = _jumping_clock(target.cluster, target.one(), target.dice)
    else:
        assert kind == "transfer-leader", kind
        fault = _transferred(target)
    async with fault as told:
        yield told


_VICTIMS: dict[str, Callable[[MemberTarget], list[MemberProcess]]] = {
    "kill-one": lambda target: [target.one()],
    "kill-leader": lambda target: [target.leader],
    "kill-majority": lambda target: target.majority(),
    "kill-all": lambda target: list(target.members),
    "power-loss-one": lambda target: [target.one()],
    "power-loss-all": lambda target: list(target.members),
}
_DISK_FAULTS = {"disk-full": errno.ENOSPC, "write-fails": errno.EIO, "sync-fails": errno.EIO}


@asynccontextmanager
async def _killed(
    cluster: GatedCluster, victims: list[MemberProcess], *, loses_power: bool
) -> AsyncIterator[str]:
    """Crashed; with a loss of power, what was not synced is gone as well."""
    await asyncio.gather(*(member.kill() for member in victims))
    shortened = sum(cluster.disks[member.name].lose_unsynced() for member in victims) if loses_power else 0
    try:
        yield _names(victims) + (f", {shortened} files cut short" if loses_power else "")
    finally:
        cluster.restart(*victims)


@asynccontextmanager
async def _paused(sleepers: list[MemberProcess] | list[Program]) -> AsyncIterator[str]:
    for sleeper in sleepers:
        sleeper.pause()
    try:
        yield ", ".join(" ".join(sleeper.name.split()[:2]) for sleeper in sleepers)
    finally:
        for sleeper in sleepers:
            sleeper.resume()


@asynccontextmanager
async def _killed_client(target: MemberTarget) -> AsyncIterator[str]:
    """Its sessions expire, with all that they held; another process comes in its place."""
    program = target.dice.choice(target.programs)
    target.programs.remove(program)
    await program.kill()
    try:
        yield " ".join(program.name.split()[:2])
    finally:
        target.programs.append(await target.start_again(program))


@asynccontextmanager
async def _restarted(cluster: GatedCluster, member: MemberProcess) -> AsyncIterator[str]:
    """Stopped in good order."""
    code = await member.stop()
    has_just_started = code == -signal.SIGTERM
    assert code == 0 or has_just_started, f"member {member.name} stopped with {code} when asked to"
    try:
        yield member.name
    finally:
        cluster.restart(member)


@asynccontextmanager
async def _bad_disk(
    cluster: GatedCluster, kind: str, member: MemberProcess, dice: random.Random
) -> AsyncIterator[str]:
    disk = cluster.disks[member.name]
    before = cluster.disk_failures(member)
    after = dice.choice((0, 0, 1, 2, 5, 20))
    if kind == "sync-fails":
        disk.fail_sync(_DISK_FAULTS[kind], after=after)
    else:
        disk.fail_write(_DISK_FAULTS[kind], after=after)
    try:
        yield member.name
    finally:
        disk.heal()
    if cluster.disk_failures(member) > before:
        code = await member.exit_code(within_s=STOPS_WITHIN_S)
        assert code != 0, f"member {member.name} says that all was well when its disk failed"
        cluster.restart(member)


@asynccontextmanager
async def _jumping_clock(
    cluster: GatedCluster, member: MemberProcess, dice: random.Random
) -> AsyncIterator[str]:
    """The wall clock jumps, again and again, and is right at the end."""
    clock = cluster.clocks[member.name]

    async def jump() -> None:
        while True:
            clock.set_ahead(dice.choice(CLOCK_JUMPS_S))
            await asyncio.sleep(dice.uniform(0.05, 2.0))

    jumping = asyncio.create_task(jump())
    try:
        yield member.name
    finally:
        jumping.cancel()
        await asyncio.wait([jumping])
        clock.set_ahead(0)


@asynccontextmanager
async def _transferred(target: MemberTarget) -> AsyncIterator[str]:
    """Leadership is handed to another member, if that works out under the circumstances."""
    heir = target.follower()
    try:
        await target.cluster.transfer_leadership(target.leader, heir.name)
    except grpc.aio.AioRpcError as error:
        yield f"from {target.leader.name} to {heir.name}: {error.details()}"
        return
    yield f"from {target.leader.name} to {heir.name}"

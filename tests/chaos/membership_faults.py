"""Changes of the membership under way, whatever else goes on: members come, are promoted, replaced, removed.

A change whose answer is lost may have been made. So each one is stated as a goal, and asked for until the
leader says that the membership is so.

Rule of this file: no change is forced, and every fault leaves as many voters as it found.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from coordproto.v1 import coordination_pb2, coordination_pb2_grpc
from tests.chaos.cluster import GatedCluster
from tests.processes.cluster import MemberProcess
from tests.processes.conditions import eventually

CHANGED_WITHIN_S = 120.0  # links are cut and members are starting meanwhile
CALL_WITHIN_S = 10.0
PAUSE_S = 0.3
STOPS_WITHIN_S = 60.0
LOST_DISK = ("lost its disk", "exists already with another data directory")  # the latter: when it joins anew

Change = coordination_pb2.ChangeMembersRequest
Roles = dict[str, "coordination_pb2.MemberRole.ValueType"]


def _is_voter(name: str) -> Callable[[Roles], bool]:
    return lambda roles: roles.get(name) == coordination_pb2.VOTER


def _is_gone(name: str) -> Callable[[Roles], bool]:
    return lambda roles: name not in roles


class Operator:
    """Whoever changes the membership: one change at a time, until it is so."""

    def __init__(self, cluster: GatedCluster) -> None:
        self._cluster = cluster
        self._last_answer = ""

    async def achieve(self, goal: Callable[[Roles], bool], change: Change | None) -> None:
        """Ask for the change until the goal is reached; without a change, wait for it.

        Raises:
            AssertionError: It was not reached in time.
        """
        what = str(change).strip().replace("\n", " ") if change is not None else "joining"

        async def look() -> bool:
            return await self._is_reached(goal, change)

        try:
            await eventually(what, look, within_s=CHANGED_WITHIN_S)
        except AssertionError as error:
            raise AssertionError(f"{error}; the last answer was {self._last_answer}") from None

    async def _is_reached(self, goal: Callable[[Roles], bool], change: Change | None) -> bool:
        for status in await self._cluster.statuses():
            if status.role != "leader" or status.member not in self._cluster.members:
                continue
            channel = self._cluster.channel(self._cluster[status.member])
            stub: coordination_pb2_grpc.ClusterAsyncStub = coordination_pb2_grpc.ClusterStub(channel)
            try:
                known = await stub.Members(coordination_pb2.MembersRequest(), timeout=CALL_WITHIN_S)
                if not goal(_roles(known)) and change is not None:
                    known = await stub.ChangeMembers(change, timeout=CALL_WITHIN_S)
            except grpc.aio.AioRpcError as error:
                self._last_answer = f"{status.member}: {error.code().name} {error.details()}"
                await asyncio.sleep(PAUSE_S)
                continue
            if goal(_roles(known)):
                return True
        return False


def _roles(known: coordination_pb2.MembersResponse) -> Roles:
    return {member.name: member.role for member in known.members}


@asynccontextmanager
async def membership_fault(kind: str, cluster: GatedCluster, old: MemberProcess) -> AsyncIterator[str]:
    """A member comes for the length of the block, or takes the place of `old` for good."""
    operator = Operator(cluster)
    if kind == "lost-disk":
        await _lose_disk(cluster, old)
    new = await cluster.new_member()
    cluster.start_joiner(new)
    await operator.achieve(lambda roles: new.name in roles, None)
    if kind == "add-learner":
        yield f"{new.name} learns"
        await _remove(operator, cluster, new)
        return
    if kind == "add-voter":
        await operator.achieve(_is_voter(new.name), Change(promote=_promote(new.name)))
        yield f"{new.name} joins"
        await _remove(operator, cluster, new)
        return
    assert kind in ("replace-member", "lost-disk"), kind
    replace = coordination_pb2.ReplaceMember(name=old.name, by=new.name)
    await operator.achieve(
        lambda roles: _is_gone(old.name)(roles) and _is_voter(new.name)(roles), Change(replace=replace)
    )
    if kind == "lost-disk":
        cluster.forget(old)
    else:
        await _expect_end(cluster, old)
    yield f"{old.name} by {new.name}"


async def _lose_disk(cluster: GatedCluster, member: MemberProcess) -> None:
    """A member that has lost its disk is not let back in: it has forgotten its votes (decision 0012)."""
    await member.kill()
    shutil.rmtree(member.data_dir)
    cluster.restart(member)
    code = await member.exit_code(within_s=CHANGED_WITHIN_S)
    assert code == 1, f"member {member.name} came back without its disk, and ended with {code}"
    says_why = any(text in member.log_text() for text in LOST_DISK)
    assert says_why, f"{member.name} stops, and does not say why"


def _promote(name: str) -> coordination_pb2.PromoteMember:
    return coordination_pb2.PromoteMember(name=name)


async def _remove(operator: Operator, cluster: GatedCluster, member: MemberProcess) -> None:
    change = Change(remove=coordination_pb2.RemoveMember(name=member.name))
    member.exit_expected = True
    await operator.achieve(_is_gone(member.name), change)
    await _expect_end(cluster, member)


async def _expect_end(cluster: GatedCluster, member: MemberProcess) -> None:
    """A member that was removed stops by itself, and says why."""
    code = await member.exit_code(within_s=STOPS_WITHIN_S)
    assert code == 0, f"member {member.name} was removed, and ended with {code}"
    assert "it was removed from the cluster" in member.log_text(), f"{member.name} says why it stops"
    cluster.forget(member)

"""The membership changes while clients work. Issue 3, part 1, and lines 4 and 5 of what it must show."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc.aio
import pytest

from coordclient import AsyncClient, Consistency, State
from coordproto.v1 import data_pb2
from coordsvc.api.status import error_of
from tests.processes.cluster import ClusterProcesses
from tests.processes.conditions import eventually
from tests.processes.operators import Operator
from tests.processes.witness import Witness
from tests.processes.workload import CountingClients, stored_counts

pytestmark = pytest.mark.processes

WAIT_AT_MOST_S = 10.0  # a request of a client that takes longer fails, and with it the test


async def check_everything(cluster: ClusterProcesses, witness: Witness, final: dict[str, int]) -> None:
    """All members hold the same, every acknowledged write once, and the witness saw it all."""
    await cluster.wait_until_equal()
    async with AsyncClient(cluster.endpoints) as reader:
        assert await stored_counts(reader, list(final)) == final
        await witness.check(reader)


async def test_all_members_are_replaced_one_at_a_time_under_load(tmp_path: Path) -> None:
    """The clients were told of the first three members only, and none of these is left at the end."""
    async with ClusterProcesses(tmp_path) as cluster, Witness(cluster.endpoints) as witness:
        operator = Operator(cluster)
        async with CountingClients(cluster.endpoints, request_timeout=WAIT_AT_MOST_S) as clients:
            for old, new in (("a", "d"), ("b", "e"), ("c", "f")):
                await operator.replace(cluster[old], new)
                await clients.wait_for_progress()
            members = await operator.members()

        assert {name: found["role"] for name, found in members.items()} == dict.fromkeys("def", "voter")
        await check_everything(cluster, witness, clients.acknowledged)


async def test_a_cluster_grows_to_five_shrinks_to_one_and_grows_again_under_load(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path) as cluster, Witness(cluster.endpoints) as witness:
        operator = Operator(cluster)
        async with CountingClients(cluster.endpoints, request_timeout=WAIT_AT_MOST_S) as clients:
            for name in "de":
                await operator.add_voter(name)
            await clients.wait_for_progress()
            for name in "abce":
                await operator.remove(cluster[name])
            await clients.wait_for_progress()
            assert list(await operator.members()) == ["d"]
            for name in "fg":
                await operator.add_voter(name)
            await clients.wait_for_progress()
            members = await operator.members()

        assert {name: found["role"] for name, found in members.items()} == dict.fromkeys("dfg", "voter")
        await check_everything(cluster, witness, clients.acknowledged)


async def test_a_member_that_lost_its_disk_stops_and_is_replaced(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        operator = Operator(cluster)
        lost = (await cluster.followers())[0]
        await lost.stop()
        shutil.rmtree(lost.data_dir)

        cluster.start(lost)
        assert await lost.exit_code() == 1
        assert f"{lost.name} stops: it lost its disk" in lost.log_text()
        assert f"coordctl member replace {lost.name} NEW" in lost.log_text()

        await operator.join("d")
        await operator.done("member", "replace", lost.name, "d")
        cluster.retire(lost)
        await cluster.wait_until_equal()


async def test_a_change_that_costs_the_quorum_takes_force_and_waits_for_those_that_are_missing(
    tmp_path: Path,
) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        operator = Operator(cluster)
        leader = await cluster.wait_until_leader()
        dead, alive = await cluster.followers()
        await dead.kill()

        async def is_missed() -> bool:
            return not (await operator.members())[dead.name]["reachable"]

        await eventually("the leader misses it", is_missed)
        refused = await operator.coordctl("member", "remove", alive.name, at=leader)
        assert refused.exit_code == 1
        assert f"1 can be reached ({dead.name} not) and 2 are needed" in refused.stderr
        assert "--force" in refused.stderr

        alive.exit_expected = True
        forced = await operator.coordctl(
            "member", "remove", alive.name, "--force", "--timeout", "2s", at=leader
        )
        assert forced.exit_code == 6
        assert "at stake:" in forced.stderr
        # With the missing one back, whoever leads first decides whether the change comes about or is undone.
        cluster.start(dead)
        await cluster.wait_until_ready(dead)
        if alive.name in await operator.members():
            await operator.done("member", "remove", alive.name, at=dead)
        await operator.see_off(alive)
        assert sorted(await operator.members()) == sorted([leader.name, dead.name])
        await cluster.wait_until_equal()


async def test_leadership_goes_where_it_is_sent_and_a_leader_that_is_removed_hands_over(
    tmp_path: Path,
) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        operator = Operator(cluster)
        first = await cluster.wait_until_leader()
        second, third = await cluster.followers()
        async with AsyncClient(first.endpoint, request_timeout=WAIT_AT_MOST_S) as client:
            states: list[State] = []
            client.add_listener(states.append)
            said = await operator.done("leader", "transfer", second.name, at=third)
            assert said.startswith(f"{second.name} leads now, in term ")
            await client.create("/after-transfer", b"")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await cluster.transfer_leadership(third, third.name)
            error = error_of(refused.value)
            assert error is not None
            assert (error.code, error.leader_hint) == (data_pb2.NO_LEADER, second.endpoint)
            await operator.done("leader", "transfer", first.name, at=third)

            await operator.remove(first)
            await client.create("/after-removal", b"")

            assert states == [], "the client went on to another member, and nobody need know"
            assert "leadership_handed_over" in first.log_text()
        shown = await operator.done("leader", "show")
        assert shown.split()[1] in (second.name, third.name)


async def test_a_learner_serves_reads_watches_and_sessions_and_has_no_vote(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        operator = Operator(cluster)
        learner = await operator.join("d")
        async with AsyncClient(cluster["a"].endpoint) as writer, AsyncClient(learner.endpoint) as client:
            async with client.watch("/", recursive=True) as events:
                await client.create("/mine", b"1", ephemeral=True)
                await writer.create("/theirs", b"2")
                assert [(await anext(events)).path for _ in range(2)] == ["/mine", "/theirs"]
            assert (await client.get("/theirs")).value == b"2"
            assert (await client.get("/theirs", consistency=Consistency.STALE)).value == b"2"
            assert client.member == "d"
        found = (await operator.members())["d"]
        assert (found["role"], found["reachable"], found["client_address"]) == (
            "learner",
            True,
            learner.endpoint,
        )

        refused = await operator.coordctl("leader", "transfer", "d")
        assert refused.exit_code == 1
        assert "'d' is not a voting member" in refused.stderr
        await learner.kill()
        said = await operator.coordctl("status")
        assert said.exit_code == 1
        assert "3 of 3 answer; 1 more may fail; learner d does not answer" in said.stdout

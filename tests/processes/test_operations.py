"""What operators rely on: health, reflection, metrics, stopping in good order. Issue 2, deliverable 5."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from coordclient import AsyncClient, State
from tests.processes.cluster import ClusterProcesses, MemberProcess
from tests.processes.conditions import eventually

pytestmark = pytest.mark.processes

SERVICES = {"coordproto.v1.Coordination", "coordproto.v1.Session", "coordproto.v1.Cluster"}


async def http(member: MemberProcess, path: str) -> tuple[int, str]:
    """GET from the admin port; (status, body)."""

    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{member.admin_address}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(get)


async def test_a_member_says_how_it_is_on_every_way_there_is(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path, members=1) as cluster, AsyncClient(cluster.endpoints) as client:
        member = cluster["a"]
        await client.create("/a", b"1")
        channel = cluster.channel(member)

        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", *sorted(SERVICES)):
            watched = health.Watch(health_pb2.HealthCheckRequest(service=service))
            async with asyncio.timeout(10):
                while (await watched.read()).status != health_pb2.HealthCheckResponse.SERVING:
                    continue
            watched.cancel()

        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in reflection.ServerReflectionInfo(iter([question])):
            names = {service.name for service in answer.list_services_response.service}
            assert names >= SERVICES

        assert await http(member, "/livez") == (200, "live\n")
        assert await http(member, "/readyz") == (200, "ready\n")
        status, metrics = await http(member, "/metrics")
        assert status == 200
        for line in ("coordsvc_is_leader 1.0", "coordsvc_zxid 1.0", "coordsvc_sessions 1.0"):
            assert line in metrics.splitlines()
        assert (await http(member, "/nothing"))[0] == 404


async def test_a_member_without_a_majority_is_live_but_not_ready(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        leader = await cluster.wait_until_leader()
        for member in await cluster.followers():
            await member.kill()

        async def ready() -> tuple[int, str]:
            return await http(leader, "/readyz")

        await eventually("the member is not ready", ready, until=lambda answer: answer[0] == 503)
        assert "majority" in (await ready())[1]
        assert (await http(leader, "/livez"))[0] == 200


async def test_a_leader_that_is_stopped_hands_over_and_sends_its_clients_on(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        leader = await cluster.wait_until_leader()
        others = [member for member in cluster if member is not leader]
        async with AsyncClient(leader.endpoint) as client:
            states: list[State] = []
            client.add_listener(states.append)
            await client.create("/before", b"")
            code = await leader.stop()
            await client.create("/after", b"")

            assert code == 0
            assert states == [], "the client went on to another member, and nobody need know"
            assert (await cluster.wait_until_leader()) in others
            assert "leadership_not_handed_over" not in leader.log_text()

"""The cluster that users test with: it is up, each fault does what it says, and nothing is left of it."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from coordclient import AsyncClient, Client
from coordclient.cli import main as coordctl
from coordsvc.testing import AsyncCluster, Cluster, TestServerError

pytestmark = pytest.mark.processes


def test_members_can_be_paused_killed_restarted_and_cut_off() -> None:
    with Cluster() as cluster, Client(cluster.endpoints, session_timeout=3.0) as client:
        assert [member.name for member in cluster] == ["a", "b", "c"] == list(cluster.members)
        client.create("/a", b"0")

        leader = cluster.leader()
        leader.kill()
        assert client.set("/a", b"1").version == 1
        successor = cluster.leader()
        assert successor.name != leader.name
        leader.start()

        successor.pause()
        assert client.set("/a", b"2").version == 2
        assert cluster.leader().name != successor.name
        successor.resume()

        follower = cluster.followers()[0]
        follower.restart()
        assert "stopping" in follower.log_text()

        lost_reply, lost_request = cluster.drop_next_reply(), cluster.drop_next_request("delete")
        assert client.set("/a", b"3").version == 3
        client.delete("/a", version=3)
        assert lost_reply.happened
        assert lost_request.happened

        cluster.cut()
        assert client.exists("/a") is None


async def test_an_expired_session_loses_its_nodes_whichever_member_it_is_attached_to() -> None:
    async with AsyncCluster() as cluster:
        for member in cluster:
            async with AsyncClient(member.endpoint) as victim, AsyncClient(cluster.endpoints) as witness:
                created = await victim.create_node("/held", b"who", ephemeral=True, linger=60.0)
                expired = victim.session_id
                await cluster.expire_session(expired)
                grave = await witness.get("/held")
                assert (grave.value, grave.stat.ephemeral_owner) == (b"who", 0)
                assert grave.stat.czxid > created.stat.czxid
                await witness.delete("/held")
                with pytest.raises(TestServerError, match="there is no session"):
                    await cluster.expire_session(expired)


async def test_a_member_that_crashes_fails_the_block_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cluster = await AsyncCluster(1).__aenter__()
    pid = cluster["a"].pid
    process = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(select.select, [process], [], [])
    os.close(process)
    with pytest.raises(TestServerError, match=r"member a ended by itself; its last lines:\n.*coordsvc"):
        await cluster.__aexit__(None, None, None)
    assert os.listdir(tmp_path) == []


async def test_settings_that_the_server_refuses_are_told() -> None:
    with pytest.raises(TestServerError, match="election_ms must be a multiple of tick_ms"):
        async with AsyncCluster(1, election_ms=401):
            raise AssertionError("it cannot have started")


def test_any_member_takes_the_order_to_expire_a_session() -> None:
    with Cluster() as cluster:
        for member in cluster:
            with Client(cluster.endpoints) as victim, Client(cluster.endpoints) as witness:
                victim.create("/held", b"", ephemeral=True)
                session = f"{victim.session_id:#x}"
                arguments = ["--endpoints", member.endpoint, "session", "expire", session]
                result = CliRunner().invoke(coordctl, arguments)
                assert result.stdout == f"session {session} has ended, as if it had expired\n"
                assert witness.exists("/held") is None


def test_the_fixture_is_such_a_cluster(coord_cluster: Cluster) -> None:
    with Client(coord_cluster.endpoints, session_timeout=2.0) as client:
        client.create("/a", b"0")
        coord_cluster.leader().kill()
        assert client.set("/a", b"1").version == 1

"""A real server in the test process."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import pytest

from coordclient import AsyncClient, Client, EventType, GuardFailedError
from coordsvc.testing import AsyncServer, Server, TestServerError, running_server


async def test_it_serves_on_the_loop_of_the_test() -> None:
    async with running_server() as server, AsyncClient(server.endpoints) as client:
        await client.create("/a", b"1")
        assert (await client.get("/a")).value == b"1"


async def test_several_run_at_once_and_know_nothing_of_each_other() -> None:
    async with running_server() as one, running_server() as other:
        assert one.endpoints != other.endpoints
        async with AsyncClient(one.endpoints) as client, AsyncClient(other.endpoints) as stranger:
            await client.create("/a", b"")
            assert await stranger.exists("/a") is None


async def test_a_session_that_expires_takes_its_ephemerals_along() -> None:
    async with (
        running_server() as server,
        AsyncClient(server.endpoints) as victim,
        AsyncClient(server.endpoints) as witness,
    ):
        await victim.create("/mine", b"", ephemeral=True)
        expired = victim.session_id
        assert expired in server.session_ids()
        await server.expire_session(expired)
        assert await witness.exists("/mine") is None
        assert expired not in server.session_ids()


async def test_a_session_that_is_not_there_cannot_expire() -> None:
    async with running_server() as server:
        with pytest.raises(TestServerError, match="there is no session 0x2a"):
            await server.expire_session(42)


async def test_a_restart_keeps_the_data_the_address_and_the_sessions() -> None:
    async with running_server() as server, AsyncClient(server.endpoints) as client:
        await client.create("/kept", b"1", ephemeral=True)
        await server.restart()
        assert (await client.get("/kept")).value == b"1"


async def test_what_is_asked_of_a_stopped_server_is_refused() -> None:
    async with running_server() as server:
        await server.stop()
        assert not server.is_running
        with pytest.raises(TestServerError, match="start it again"):
            await server.expire_session(1)


async def test_a_server_that_ends_by_itself_fails_the_block() -> None:
    with pytest.raises(TestServerError, match="ended by itself: the disk is gone"):
        async with AsyncServer() as server:
            server._inside.member.fail(OSError("the disk is gone"))


async def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tasks = asyncio.all_tasks()
    async with running_server() as server:
        assert server.is_running
        assert os.listdir(tmp_path)
    assert os.listdir(tmp_path) == []
    assert {task for task in asyncio.all_tasks() - tasks if "coordsvc" in task.get_name()} == set()


async def test_settings_are_those_of_the_server() -> None:
    async with (
        running_server(session_timeout_ms_min=5_000) as server,
        AsyncClient(server.endpoints, session_timeout=0.2) as client,
    ):
        assert client.session_timeout == 5.0


async def test_sessions_may_be_short() -> None:
    async with running_server() as server, AsyncClient(server.endpoints, session_timeout=0.2) as client:
        assert client.session_timeout == 0.2


async def test_what_lingers_blocks_for_its_time_and_goes() -> None:
    async with (
        running_server() as server,
        AsyncClient(server.endpoints) as victim,
        AsyncClient(server.endpoints) as witness,
    ):
        created = await victim.create_node("/lock", b"who", ephemeral=True, linger=0.3)
        async with witness.watch("/lock") as events:
            await server.expire_session(victim.session_id)
            grave = await witness.get("/lock")
            assert (grave.value, grave.stat.ephemeral_owner) == (b"who", 0)
            with pytest.raises(GuardFailedError):
                await witness.create("/guarded", guard=("/lock", created.stat.czxid))
            seen = [(await anext(events)).type for _ in range(3)]
        assert seen == [EventType.DELETED, EventType.CREATED, EventType.DELETED]
        assert await witness.exists("/lock") is None


def test_it_serves_threads() -> None:
    with Server() as server, Client(server.endpoints) as client:
        client.create("/a", b"1", ephemeral=True)
        server.restart()
        assert client.get("/a").value == b"1"
        assert server.session_ids() == [client.session_id]
        expired = client.session_id
        server.expire_session(expired)
        assert expired not in server.session_ids()


def test_outside_of_its_block_a_server_says_so() -> None:
    with pytest.raises(TestServerError, match="in a `with` statement"):
        _ = Server().endpoints

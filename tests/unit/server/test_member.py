"""A member in this process: what ends it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.api.gateway import ClientHandle
from coordsvc.config import ServerConfig
from coordsvc.server.member import Member, MemberStopsError
from coordsvc.server.opening import open_member
from coordsvc.storage.errors import CorruptDataError


@pytest.fixture
def config(tmp_path: Path, unused_tcp_port: int) -> ServerConfig:
    return ServerConfig(data_dir=tmp_path / "data", peer_listen=f"127.0.0.1:{unused_tcp_port}")


async def read_root(handle: ClientHandle) -> coordination_pb2.ServerItem:
    read = coordination_pb2.Read(id=1, get=data_pb2.Get(path="/"))
    handle.send(coordination_pb2.ClientFrame(reads=[read]))
    (item,) = await handle.receive()
    return coordination_pb2.ServerItem.FromString(item)


async def test_a_lone_member_leads_at_once_and_answers(config: ServerConfig) -> None:
    member = Member(config, open_member(config))
    running = asyncio.create_task(member.run())
    handle = ClientHandle(member, member.feed(member.replica.open_call))
    assert (await read_root(handle)).read.node.path == "/"
    running.cancel()
    await asyncio.wait([running])
    await member.close()


async def test_a_disk_that_fails_under_a_clients_read_ends_the_member(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC turns what a handler raises into a status; that must not keep a member alive (G9)."""
    member = Member(config, open_member(config))
    running = asyncio.create_task(member.run())

    def damaged(_path: str) -> object:
        raise CorruptDataError("the file is damaged")

    monkeypatch.setattr(member.replica.state.machine, "get", damaged)
    handle = ClientHandle(member, member.feed(member.replica.open_call))
    stale = coordination_pb2.Read(id=1, get=data_pb2.Get(path="/"), consistency=data_pb2.STALE)
    with pytest.raises(CorruptDataError):
        handle.send(coordination_pb2.ClientFrame(reads=[stale]))
    with pytest.RaisesGroup(CorruptDataError, flatten_subgroups=True):
        await running
    await member.close()


async def test_a_member_that_must_stop_says_why(config: ServerConfig) -> None:
    member = Member(config, open_member(config))
    running = asyncio.create_task(member.run())
    member.replica.state.effects.stop = "its tree differs"
    member.changed()
    with pytest.RaisesGroup(
        pytest.RaisesExc(MemberStopsError, match="its tree differs"), flatten_subgroups=True
    ):
        await running
    await member.close()

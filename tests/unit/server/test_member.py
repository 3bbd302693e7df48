"""A member in this process: what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.api.gateway import ClientHandle, TransferRefusedError
from coordsvc.config import ServerConfig
from coordsvc.replica import membership
from coordsvc.replica.changes import AddMember, RemoveMember
from coordsvc.server.member import Member, MemberStopsError
from coordsvc.server.opening import open_member
from coordsvc.statemachine.results import ErrorCode
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


async def test_one_that_does_not_lead_refers_whoever_asks_it_for_a_transfer(config: ServerConfig) -> None:
    """The caller may ask again, elsewhere; what makes no sense is told apart from that."""
    alone = f"coordsvc-1={config.peer_listen}"
    follower = replace(config, initial_cluster=f"{alone},b=127.0.0.1:1,c=127.0.0.1:2")
    member = Member(follower, open_member(follower))
    with pytest.raises(TransferRefusedError, match="coordsvc-1 does not lead, nobody does") as refused:
        await member.transfer_leadership("")
    assert refused.value.failure.code is ErrorCode.NO_LEADER
    await member.close()


async def test_a_transfer_that_makes_no_sense_is_refused_for_good(config: ServerConfig) -> None:
    member = Member(config, open_member(config))
    running = asyncio.create_task(member.run())
    await read_root(ClientHandle(member, member.feed(member.replica.open_call)))
    with pytest.raises(TransferRefusedError, match="'z' is not a voting member") as refused:
        await member.transfer_leadership("z")
    assert refused.value.failure.code is ErrorCode.INVALID_ARGUMENT
    running.cancel()
    await asyncio.wait([running])
    await member.close()


async def test_an_address_in_the_log_that_nobody_can_look_up_ends_no_member(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It got there before such addresses were refused, and is found at each start until it is removed."""
    with monkeypatch.context() as earlier:
        earlier.setattr(membership, "explain_unfit", lambda *_args, **_named: None)
        async with serving(config) as (member, _):
            await member.change_membership(AddMember("d", "10.0.0..4:7401"), force=False, within_s=10.0)
    async with serving(config) as (member, complaint):
        said = await complaint
        assert said == (
            "cannot reach member 'd' at 10.0.0..4:7401: '10.0.0..4' is no host: "
            "encoding with 'idna' codec failed (UnicodeError: label empty or too long); still trying"
        )
        await member.change_membership(RemoveMember("d"), force=False, within_s=10.0)
        handle = ClientHandle(member, member.feed(member.replica.open_call))
        assert (await read_root(handle)).read.node.path == "/"


@asynccontextmanager
async def serving(config: ServerConfig) -> AsyncIterator[tuple[Member, asyncio.Future[str]]]:
    """A member that runs and leads, and the first complaint of its links. It fails the test if it ends."""
    member = Member(config, open_member(config))
    complaint: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def hear(subject: str, text: str) -> None:
        assert subject
        if not complaint.done():
            complaint.set_result(text)

    member.links._listener.complaints.warn = hear  # type: ignore[method-assign]  # a probe
    async with asyncio.timeout(30.0), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(member.run())
        await read_root(ClientHandle(member, member.feed(member.replica.open_call)))
        yield member, complaint
        assert not running.done()
        running.cancel()
    await member.close()

"""A large tree is verified while its member serves, a small one before; a damaged one ends it either way."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.api.gateway import ClientHandle
from coordsvc.config import ServerConfig
from coordsvc.raft.types import Entry, HardState
from coordsvc.server import opening, pacing
from coordsvc.server.member import Member
from coordsvc.server.opening import open_member
from coordsvc.server.verifying import TreeVerifier
from coordsvc.statemachine.commands import Create, Write
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.layout import node_key

NODES = 1000


@pytest.fixture
def config(tmp_path: Path, unused_tcp_port: int) -> ServerConfig:
    """Settings of a lone member that has a thousand nodes."""
    config = ServerConfig(data_dir=tmp_path / "data", peer_listen=f"127.0.0.1:{unused_tcp_port}")
    opened = open_member(config)
    machine = opened.replica.state.machine
    machine.begin(1, 1, 1)
    for number in range(NODES):
        machine.write(0, 0, Write(Create(f"/{number}", b"value")))
    machine.commit()
    opened.log.write(HardState(1, None, 1), [Entry(1, 1)], None, sync=True)
    opened.close()
    return config


@pytest.fixture
def is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand nodes are many, and every step is a short one."""
    monkeypatch.setattr(opening, "VERIFIED_BEFORE_SERVING_NODES", NODES)
    monkeypatch.setattr(pacing, "STEP_S", 0.0)


def lose_a_node(config: ServerConfig) -> None:
    opened = open_member(config)
    opened.tree.write([], [node_key("/7")])
    opened.close()


async def read_root(member: Member) -> str:
    handle = ClientHandle(member, member.feed(member.replica.open_call))
    read = coordination_pb2.Read(id=1, get=data_pb2.Get(path="/"))
    handle.send(coordination_pb2.ClientFrame(reads=[read]))
    (item,) = await handle.receive()
    return str(coordination_pb2.ServerItem.FromString(item).read.node.path)


def test_a_small_tree_that_is_damaged_is_refused_before_it_is_served(config: ServerConfig) -> None:
    lose_a_node(config)

    with pytest.raises(CorruptStateError, match="Z2"):
        open_member(config)


@pytest.mark.usefixtures("is_large")
async def test_a_large_tree_is_served_and_verified(
    config: ServerConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "coordsvc")
    member = Member(config, open_member(config))
    assert member.opened.verification is not None
    running = asyncio.create_task(member.run())

    assert await read_root(member) == "/"
    async with asyncio.timeout(30.0):
        await member.verifier.run()

    assert "tree_verified" in [record.message for record in caplog.records]
    running.cancel()
    await asyncio.wait([running])
    await member.close()


@pytest.mark.usefixtures("is_large")
async def test_a_large_tree_that_is_damaged_ends_its_member(config: ServerConfig) -> None:
    lose_a_node(config)
    member = Member(config, open_member(config))

    with pytest.RaisesGroup(pytest.RaisesExc(CorruptStateError, match="Z2"), flatten_subgroups=True):
        await member.run()
    await member.close()


@pytest.mark.usefixtures("is_large")
async def test_what_is_written_meanwhile_does_not_disturb(config: ServerConfig) -> None:
    opened = open_member(config)
    member = Member(config, opened)
    machine = opened.replica.state.machine
    machine.begin(2, 1, 2)
    machine.write(0, 0, Write(Create("/7/later", b"value")))
    machine.commit()

    await member.verifier.run()

    assert opened.verification is not None
    assert list(opened.verification.steps) == [], "it was read to the end"
    await member.close()


@pytest.mark.usefixtures("is_large")
async def test_verifying_ends_when_the_tree_is_replaced(config: ServerConfig) -> None:
    member = Member(config, open_member(config))
    verification = member.opened.verification
    assert verification is not None
    verifier = TreeVerifier(member, verification)
    running = asyncio.create_task(verifier.run())
    await asyncio.sleep(0)

    verifier.old_tree_gone()
    await member.background.submit(member.opened.tree.close)

    async with asyncio.timeout(30.0):
        await running
    await member.close()

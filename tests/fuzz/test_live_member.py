"""A running member gets thousands of hostile messages from clients and peers: it serves on, memory flat."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message

from coordproto.v1 import coordination_pb2, data_pb2, peer_pb2
from coordsvc.storage.data_directory import StoredIdentity, read_identity
from coordsvc.transport.framing import with_length
from tests.fuzz.hostile_bytes import absurd_message, mutated, rounds
from tests.processes.cluster import ClusterProcesses, MemberProcess
from tests.processes.raw_stream import RawStream, StreamEndedError
from tests.processes.workload import CountingClients

pytestmark = pytest.mark.processes

MIB = 1 << 20
REQUEST_TIMEOUT_S = 20.0
UNARY_ROUNDS = 5
STREAM_ROUNDS = 12
PEER_ROUNDS = 40
GROWTH_MAX = 64 * MIB
FAULTS = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS)
TAKES_AT_MOST_S = 1.0  # a call that waits, such as a watch, is given up then

SERVICES = {
    "coordproto.v1.Coordination": coordination_pb2.DESCRIPTOR.services_by_name["Coordination"],
    "coordproto.v1.Cluster": coordination_pb2.DESCRIPTOR.services_by_name["Cluster"],
}
# They do what they are told, also by strangers: the member would leave its cluster, or lose its lead.
OBEYED = {"ChangeMembers", "TransferLeadership", "Join"}


def requests(dice: random.Random) -> list[tuple[str, bytes]]:
    """An absurd, a mutated and a random request for every method."""
    made = []
    for service, descriptor in SERVICES.items():
        for method in descriptor.methods:
            if method.name in OBEYED:
                continue
            kind = getattr(coordination_pb2, method.input_type.name)
            absurd = absurd_message(dice, kind).SerializeToString()
            path = f"/{service}/{method.name}"
            made += [(path, absurd), (path, mutated(dice, absurd)), (path, dice.randbytes(50))]
    return made


async def call(channel: grpc.aio.Channel, path: str, data: bytes) -> str:
    """Make the call, take what it answers, and return how it ended: the status, and what a fault says."""
    stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(
        path, request_serializer=None, response_deserializer=None
    )
    answers = stream(data, timeout=TAKES_AT_MOST_S)
    try:
        async for _ in answers:
            pass
    except grpc.aio.AioRpcError as error:
        says = error.details() or ""
        # What gRPC itself says of a request that does not parse.
        is_ours = error.code() in FAULTS and "DecodeError" not in says
        return f"{path} {error.code()} {says}" if is_ours else error.code().name
    return "OK"


async def test_every_method_refuses_nonsense_with_a_status_that_says_so(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path, members=1) as cluster:
        member = cluster["a"]
        async with CountingClients(cluster.endpoints, request_timeout=REQUEST_TIMEOUT_S, count=1) as clients:
            before = member.memory_bytes
            seen = set()
            for dice in rounds(31, UNARY_ROUNDS):
                calls = [call(cluster.channel(member), path, data) for path, data in requests(dice)]
                seen |= set(await asyncio.gather(*calls))
            assert "INVALID_ARGUMENT" in seen
            assert [ended for ended in seen if ended.startswith("/")] == []
            await clients.wait_for_progress(3)
            assert member.memory_bytes - before < GROWTH_MAX


def hostile_frames(dice: random.Random) -> list[bytes]:
    """What one client sends: mostly well-formed, so that it gets far."""
    frames: list[bytes] = []
    for _ in range(dice.randint(1, 20)):
        frame: Message = absurd_message(dice, coordination_pb2.ClientFrame)
        assert isinstance(frame, coordination_pb2.ClientFrame)
        if dice.random() < 0.9:
            frame.ClearField("attach")
        if dice.random() < 0.5:
            frame.first_sequence = len(frames) + 1
        data = frame.SerializeToString()
        frames.append(mutated(dice, data) if dice.random() < 0.2 else data)
    return frames


async def play_hostile_client(member: MemberProcess, dice: random.Random) -> None:
    async with RawStream(member.endpoint) as stream:
        if dice.random() < 0.8:
            await stream.attach()
        for frame in hostile_frames(dice):
            await stream.send(frame)
        try:
            async with asyncio.timeout(dice.random() / 2):
                while True:
                    await stream.item()
        except (StreamEndedError, TimeoutError):
            return


async def test_streams_of_nonsense_disturb_no_other_client(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        member = await cluster.wait_until_leader()
        async with CountingClients(cluster.endpoints, request_timeout=REQUEST_TIMEOUT_S, count=1) as clients:
            before = member.memory_bytes
            for dice in rounds(32, STREAM_ROUNDS):
                await asyncio.gather(*(play_hostile_client(member, dice) for _ in range(4)))
            await clients.wait_for_progress(3)
            assert member.memory_bytes - before < GROWTH_MAX
        await cluster.wait_until_equal()


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[ClusterProcesses]:
    async with ClusterProcesses(tmp_path) as cluster:
        yield cluster


async def say_as_peer(member: MemberProcess, frames: list[bytes]) -> bytes:
    """Send to the port for members, and return what comes until the member hangs up or is silent."""
    host, port = member.peer_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = b""
    try:
        for frame in frames:
            writer.write(frame)
        await writer.drain()
        async with asyncio.timeout(0.2):
            while data := await reader.read(65536):
                answer += data
    except (ConnectionError, TimeoutError):
        return answer
    finally:
        writer.close()
    return answer


def greeting(dice: random.Random, identity: StoredIdentity, member: str) -> bytes:
    hello = peer_pb2.Hello(
        protocol=1, cluster_id=identity.cluster_id, to=member, member_id=identity.member_id
    )
    setattr(hello, "from", identity.member)
    data = peer_pb2.PeerFrame(hello=hello).SerializeToString()
    return with_length(mutated(dice, data) if dice.random() < 0.3 else data)


def hostile_peer_frame(dice: random.Random) -> bytes:
    """Everything but what consensus believes: its words are a member's word, and a lie there is obeyed."""
    frame = absurd_message(dice, peer_pb2.PeerFrame)
    assert isinstance(frame, peer_pb2.PeerFrame)
    if frame.WhichOneof("body") == "raft":
        setattr(frame.raft, "from", dice.choice(["", "nobody"]))
    if frame.WhichOneof("body") == "forward":
        frame.forward.commands.append(dice.randbytes(30))
    if dice.random() < 0.3:
        chunk = peer_pb2.SnapshotChunk(
            index=dice.randrange(-2, 5),
            number=dice.choice((0, 0, 1, 1 << 63)),
            data=dice.choice((b"", b"\x01", b"\x01" + b"\xff" * 8, b"\x02" + bytes(12))),
            last=dice.random() < 0.5,
        )
        frame = peer_pb2.PeerFrame(snapshot_chunk=chunk)
    data = frame.SerializeToString() or b"\0"
    return with_length(mutated(dice, data) if dice.random() < 0.05 else data)


async def test_peers_that_talk_nonsense_lose_their_link_and_nothing_else(trio: ClusterProcesses) -> None:
    member = await trio.wait_until_leader()
    identity = read_identity((await trio.followers())[0].data_dir)
    assert identity is not None
    async with CountingClients(trio.endpoints, request_timeout=REQUEST_TIMEOUT_S, count=1) as clients:
        answers = b""
        before = member.memory_bytes
        for dice in rounds(33, PEER_ROUNDS):
            frames = [hostile_peer_frame(dice) for _ in range(dice.randint(1, 20))]
            answers += await say_as_peer(member, [greeting(dice, identity, member.name), *frames])
        assert b"a frame that is not one" in answers, "some came past the greeting, and were refused after it"
        await clients.wait_for_progress(3)
        assert member.memory_bytes - before < GROWTH_MAX
    await trio.wait_until_equal()


async def test_a_log_entry_of_nonsense_cannot_come_from_a_client(trio: ClusterProcesses) -> None:
    """A write whose operation this version does not know is refused, and not logged as a riddle."""
    member = await trio.wait_until_leader()
    unknown = data_pb2.WriteBatch.FromString(b"\x0a\x04\xa2\x06\x01x")
    async with RawStream(member.endpoint) as stream:
        await stream.attach()
        await stream.send(coordination_pb2.ClientFrame(first_sequence=1, writes=unknown))
        item = await stream.item()
    assert item.write.error.code == data_pb2.ErrorCode.INVALID_ARGUMENT
    await trio.wait_until_equal()

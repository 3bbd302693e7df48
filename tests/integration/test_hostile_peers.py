"""Strangers, and peers gone mad, on the port for members. Issue 2, line 8."""

from __future__ import annotations

import asyncio
import random
import zlib
from pathlib import Path

import pytest

from coordproto.v1 import peer_pb2
from coordsvc.storage.data_directory import read_identity
from coordsvc.transport.framing import with_length
from tests.processes.cluster import ClusterProcesses, MemberProcess
from tests.processes.workload import CountingClients

pytestmark = pytest.mark.processes

MIB = 1 << 20
INT64_MAX = (1 << 63) - 1
BYSTANDER_S = 3.0
CLOSED_WITHIN_S = 8.0  # a greeting may take five seconds
RANDOM_BYTES = random.Random(8).randbytes(500)


def frame(**body: object) -> bytes:
    return with_length(peer_pb2.PeerFrame(**body).SerializeToString())  # type: ignore[arg-type]  # one body


def hello(cluster_id: str, source: str, target: str, protocol: int = 1, member_id: int = 0) -> bytes:
    greeting = peer_pb2.Hello(protocol=protocol, cluster_id=cluster_id, to=target, member_id=member_id)
    setattr(greeting, "from", source)
    return frame(hello=greeting)


async def answer_to(member: MemberProcess, *parts: bytes) -> bytes:
    """Send bytes to the port for members, and return what came until it was closed."""
    host, port = member.peer_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = b""
    try:
        async with asyncio.timeout(CLOSED_WITHIN_S):
            for part in parts:
                writer.write(part)
            await writer.drain()
            while data := await reader.read(65536):
                answer += data
    except ConnectionError:
        return answer
    finally:
        writer.close()
    return answer


async def test_strangers_on_the_members_port_are_refused_in_one_line(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        member = await cluster.wait_until_leader()
        status = await cluster.status(member)
        assert status is not None
        other = next(name for name in cluster.members if name != member.name)
        strangers = {
            b"bytes, where 1 to 4096 are allowed": RANDOM_BYTES,
            b"a frame of 4294967295 bytes": b"\xff\xff\xff\xff" + RANDOM_BYTES,
            b"a frame of 0 bytes": bytes(8),
            b"not the protocol of members": with_length(RANDOM_BYTES),
            b"no greeting within": hello(status.cluster_id, other, member.name)[:-5],
            b"wrong cluster": hello("another", other, member.name),
            b"wrong address": hello(status.cluster_id, other, "somebody"),
            b"wrong member": hello(status.cluster_id, "somebody", member.name),
            b"another data directory": hello(status.cluster_id, other, member.name, member_id=1),
            b"wrong peer protocol": hello(status.cluster_id, other, member.name, protocol=9),
        }
        async with CountingClients(cluster.endpoints, request_timeout=BYSTANDER_S):
            before = member.memory_bytes
            answers = await asyncio.gather(*(answer_to(member, data) for data in strangers.values()))
            for expected, answer in zip(strangers, answers, strict=True):
                assert expected in answer
            await asyncio.gather(*(answer_to(member, RANDOM_BYTES) for _ in range(200)))

            assert member.memory_bytes - before < 16 * MIB
            after = await cluster.status(member)
            assert after is not None
            assert after.term == status.term, "the leader was not disturbed"


async def test_a_peer_gone_mad_loses_its_link_and_ends_nobody(tmp_path: Path) -> None:
    """Someone with a good greeting sends what no member sends. The real member's link comes back."""
    async with ClusterProcesses(tmp_path) as cluster:
        leader = await cluster.wait_until_leader()
        follower = (await cluster.followers())[0]
        status = await cluster.status(leader)
        assert status is not None
        identity = read_identity(follower.data_dir)
        assert identity is not None
        greeting = hello(status.cluster_id, follower.name, leader.name, member_id=identity.member_id)
        refused = {
            b"a frame that is not one": with_length(RANDOM_BYTES),
            b"a frame of 4294967295 bytes": b"\xff\xff\xff\xff",
            b"unknown raft message type 99": frame(raft=peer_pb2.RaftMessage(type=99, to=leader.name)),
            b"names no sender": frame(raft=peer_pb2.RaftMessage(type=1, to=leader.name, term=1)),
            b"a forwarded command that is not one": frame(forward=peer_pb2.Forward(commands=[RANDOM_BYTES])),
        }
        ignored = (
            frame(confirm_response=peer_pb2.ConfirmResponse(round=INT64_MAX, index=INT64_MAX)),
            frame(digest=peer_pb2.DigestReport(index=INT64_MAX, digest=1)),
            frame(snapshot_status=peer_pb2.SnapshotStatus(index=1, failed=True)),
            frame(snapshot_chunk=peer_pb2.SnapshotChunk(index=5, number=7)),
            frame(snapshot_chunk=peer_pb2.SnapshotChunk(index=5, data=b"x")),
            frame(
                snapshot_chunk=peer_pb2.SnapshotChunk(
                    index=-5, data=RANDOM_BYTES, checksum=zlib.crc32(RANDOM_BYTES), last=True
                )
            ),
        )
        async with CountingClients(cluster.endpoints, request_timeout=10.0) as clients:
            for expected, data in refused.items():
                assert expected in await answer_to(leader, greeting + data)
            for data in ignored:
                await answer_to(leader, greeting + data)
            await clients.wait_for_progress()
        await cluster.wait_until_equal()

"""Clients that send nonsense, too much, or never read. Issue 2, line 8; promise G10.

Every test has clients beside the hostile one that count on: not one of their requests fails.
"""

from __future__ import annotations

import asyncio
import random
import resource
import socket
from collections.abc import Awaitable
from contextlib import AsyncExitStack, closing
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.rpc import status_pb2

from coordclient import AsyncClient
from coordproto.v1 import coordination_pb2, coordination_pb2_grpc, data_pb2
from tests.processes.cluster import ClusterProcesses, MemberProcess
from tests.processes.conditions import eventually
from tests.processes.raw_stream import Frame, RawStream
from tests.processes.workload import CountingClients

pytestmark = pytest.mark.processes

MIB = 1 << 20
BYSTANDER_S = 10.0  # longer than a busy machine is slow; a member that hangs does so for ever
INT64_MAX = (1 << 63) - 1
UINT64_MAX = (1 << 64) - 1
Attach = coordination_pb2.Attach
Read = coordination_pb2.Read
Code = data_pb2.ErrorCode


def writes(*batch: data_pb2.Write, first: int = 1) -> Frame:
    return Frame(first_sequence=first, writes=data_pb2.WriteBatch(writes=batch))


def create(path: str, value: bytes = b"") -> data_pb2.Write:
    return data_pb2.Write(create=data_pb2.Create(path=path, value=value))


def with_unknown_enum(message: bytes, field: int) -> bytes:
    """Add a value that an enum does not have, which our own messages refuse to hold."""
    return message + bytes([field << 3, 99])


RANDOM_BYTES = random.Random(8).randbytes(500)
FIRST_FRAMES: dict[str, tuple[Frame | bytes, data_pb2.ErrorCode.ValueType]] = {
    "random bytes": (RANDOM_BYTES, Code.MALFORMED),
    "nothing": (b"", Code.MALFORMED),
    "a truncated message": (
        Frame(attach=Attach(client_name="n" * 100)).SerializeToString()[:50],
        Code.MALFORMED,
    ),
    "operations first": (writes(create("/a")), Code.MALFORMED),
    "an unknown session": (Frame(attach=Attach(session_id=77, secret=b"x" * 16)), Code.SESSION_EXPIRED),
    "a negative session": (Frame(attach=Attach(session_id=-1)), Code.SESSION_EXPIRED),
    "more than a frame": (bytes(4 * MIB + 1), Code.LIMIT_EXCEEDED),
    "a watch named twice": (
        Frame(attach=Attach(watches=2 * [data_pb2.Watch(watch_id=1, path="/")])),
        Code.INVALID_ARGUMENT,
    ),
    "a watch of no path": (
        Frame(attach=Attach(watches=[data_pb2.Watch(watch_id=1, path="none")])),
        Code.INVALID_PATH,
    ),
    "too many watches": (
        Frame(attach=Attach(watches=[data_pb2.Watch(watch_id=n, path="/") for n in range(1, 10_002)])),
        Code.TOO_MANY_WATCHES,
    ),
}

LATER_FRAMES: dict[str, tuple[Frame | bytes, data_pb2.ErrorCode.ValueType]] = {
    "random bytes": (RANDOM_BYTES, Code.MALFORMED),
    "a second attach": (Frame(attach=Attach()), Code.MALFORMED),
    "a gap": (writes(create("/gap"), first=2), Code.SEQUENCE_GAP),
    "sequence zero": (writes(create("/gap"), first=0), Code.SEQUENCE_GAP),
    "the largest sequence": (writes(create("/gap"), first=UINT64_MAX), Code.SEQUENCE_GAP),
    "10,000 writes": (writes(*(10_000 * [create("/many")])), Code.LIMIT_EXCEEDED),
    "10,000 reads": (
        Frame(reads=[Read(id=n, get=data_pb2.Get(path="/")) for n in range(1, 10_001)]),
        Code.LIMIT_EXCEEDED,
    ),
    "more than a frame": (bytes(4 * MIB + 1), Code.LIMIT_EXCEEDED),
    "a read of nothing": (Frame(reads=[Read(id=1)]), Code.MALFORMED),
    "an unknown consistency": (
        Frame(
            reads=[
                Read.FromString(
                    with_unknown_enum(Read(id=1, get=data_pb2.Get(path="/")).SerializeToString(), field=3)
                )
            ]
        ),
        Code.MALFORMED,
    ),
    "a watch without id": (Frame(reads=[Read(id=1, watch=data_pb2.Watch(path="/"))]), Code.INVALID_ARGUMENT),
}

WRONG_WRITES = {
    "an empty write": (data_pb2.Write(), Code.INVALID_ARGUMENT),
    "a value above the limit": (create("/v", bytes(MIB + 1)), Code.LIMIT_EXCEEDED),
    "a path above the limit": (create("/" + "p" * 4096), Code.INVALID_PATH),
    "a path without slash": (create("p"), Code.INVALID_PATH),
    "a path with NUL": (create("/a\0"), Code.INVALID_PATH),
    "no path": (create(""), Code.INVALID_PATH),
    "the root": (data_pb2.Write(delete=data_pb2.Delete(path="/", recursive=True)), Code.INVALID_ARGUMENT),
    "the largest version": (
        data_pb2.Write(set=data_pb2.Set(path="/known", version=INT64_MAX)),
        Code.BAD_VERSION,
    ),
    "the smallest version": (
        data_pb2.Write(delete=data_pb2.Delete(path="/known", version=-INT64_MAX - 1)),
        Code.BAD_VERSION,
    ),
    "the largest TTL": (
        data_pb2.Write(create=data_pb2.Create(path="/t", mode=data_pb2.TTL, ttl_ms=INT64_MAX)),
        Code.INVALID_ARGUMENT,
    ),
    "an unknown mode": (
        data_pb2.Write(
            create=data_pb2.Create.FromString(
                with_unknown_enum(data_pb2.Create(path="/m").SerializeToString(), field=3)
            )
        ),
        Code.INVALID_ARGUMENT,
    ),
    "100,000 guards": (
        data_pb2.Write(
            set=data_pb2.Set(path="/known"), guards=100_000 * [data_pb2.Guard(path="/known", czxid=1)]
        ),
        Code.LIMIT_EXCEEDED,
    ),
    "129 operations in a transaction": (
        data_pb2.Write(
            transaction=data_pb2.Transaction(
                success=129 * [data_pb2.TransactionOp(get=data_pb2.Get(path="/"))]
            )
        ),
        Code.LIMIT_EXCEEDED,
    ),
}


async def refusal_of(member: MemberProcess, frame: Frame | bytes, *, attach: bool) -> data_pb2.Error:
    async with RawStream(member.endpoint) as stream:
        if attach:
            await stream.attach()
        await stream.send(frame)
        return await stream.refusal()


async def test_a_frame_that_breaks_the_rules_ends_its_stream_with_a_typed_error(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        follower = (await cluster.followers())[0]
        async with CountingClients(cluster.endpoints, request_timeout=BYSTANDER_S):
            for member in (await cluster.wait_until_leader(), follower):
                for name, (frame, expected) in FIRST_FRAMES.items():
                    error = await refusal_of(member, frame, attach=False)
                    assert (error.code, bool(error.message)) == (expected, True), f"first frame: {name}"
                for name, (frame, expected) in LATER_FRAMES.items():
                    error = await refusal_of(member, frame, attach=True)
                    assert (error.code, bool(error.message)) == (expected, True), f"later frame: {name}"


async def test_a_wrong_write_is_answered_in_its_place_and_its_session_goes_on(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        follower = (await cluster.followers())[0]
        async with (
            CountingClients(cluster.endpoints, request_timeout=BYSTANDER_S),
            RawStream(follower.endpoint) as stream,
        ):
            await stream.attach()
            await stream.send(writes(create("/known")))
            assert (await stream.item()).write.created.path == "/known"
            for sequence, (name, (write, expected)) in enumerate(WRONG_WRITES.items(), start=2):
                await stream.send(writes(write, first=sequence))
                result = (await stream.item()).write
                assert (result.sequence, result.error.code) == (sequence, expected), name
            await stream.send(writes(create("/after"), first=len(WRONG_WRITES) + 2))

            assert (await stream.item()).write.created.path == "/after"
        await cluster.wait_until_equal()


async def test_a_wrong_secret_neither_takes_a_session_over_nor_ends_it(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        leader = await cluster.wait_until_leader()
        follower = (await cluster.followers())[0]
        coordination = cluster.coordination(follower)
        async with RawStream(leader.endpoint) as owner:
            session_id = (await owner.attach()).session_id
            for secret in (b"", b"wrong", bytes(16), bytes(100_000)):
                stolen = Frame(attach=Attach(session_id=session_id, secret=secret))
                assert (await refusal_of(follower, stolen, attach=False)).code == Code.SESSION_EXPIRED
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await coordination.CloseSession(
                        coordination_pb2.CloseSessionRequest(session_id=session_id, secret=secret)
                    )
                assert typed_error(refused.value).code == Code.SESSION_EXPIRED
            await owner.send(writes(create("/still-mine")))

            assert (await owner.item()).write.created.path == "/still-mine"


def typed_error(failed: grpc.aio.AioRpcError) -> data_pb2.Error:
    """The detail that every status of ours carries."""
    details = dict(failed.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    error = data_pb2.Error()
    assert status_pb2.Status.FromString(details).details[0].Unpack(error)
    return error


async def test_unary_calls_with_wrong_arguments_get_typed_errors(tmp_path: Path) -> None:
    async with ClusterProcesses(tmp_path, members=1) as cluster:
        coordination = cluster.coordination(cluster["a"])
        header = coordination_pb2.SessionHeader(session_id=77, secret=b"x", sequence=1)
        calls: dict[str, tuple[Awaitable[object], data_pb2.ErrorCode.ValueType]] = {
            "a path without slash": (
                coordination.Get(coordination_pb2.GetRequest(get=data_pb2.Get(path="x"))),
                Code.INVALID_PATH,
            ),
            "no operation": (coordination.Create(coordination_pb2.CreateRequest()), Code.INVALID_PATH),
            "an unknown session": (
                coordination.Set(coordination_pb2.SetRequest(session=header)),
                Code.SESSION_EXPIRED,
            ),
            "an ephemeral without session": (
                coordination.Create(
                    coordination_pb2.CreateRequest(create=data_pb2.Create(path="/e", mode=data_pb2.EPHEMERAL))
                ),
                Code.SESSION_REQUIRED,
            ),
            "a value above the limit": (
                coordination.Create(
                    coordination_pb2.CreateRequest(create=data_pb2.Create(path="/v", value=bytes(MIB + 1)))
                ),
                Code.LIMIT_EXCEEDED,
            ),
            "a request above the limit": (
                coordination.Create(
                    coordination_pb2.CreateRequest(create=data_pb2.Create(path="/v", value=bytes(4 * MIB)))
                ),
                Code.LIMIT_EXCEEDED,
            ),
            "a negative page": (
                coordination.ListChildren(
                    coordination_pb2.ListChildrenRequest(
                        list_children=data_pb2.ListChildren(path="/", limit=-5)
                    )
                ),
                Code.INVALID_ARGUMENT,
            ),
        }
        for name, (call, expected) in calls.items():
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call
            assert typed_error(failed.value).code == expected, name


async def test_bytes_that_are_not_grpc_close_their_connection_and_nothing_else(tmp_path: Path) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    huge_frame = preface + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"
    requests = (RANDOM_BYTES, b"GET / HTTP/1.1\r\n\r\n", huge_frame + bytes(70_000), preface[:5])
    async with ClusterProcesses(tmp_path, members=1) as cluster:
        member = cluster["a"]
        async with CountingClients(cluster.endpoints, request_timeout=BYSTANDER_S):
            before = member.memory_bytes
            for address in (member.endpoint, member.admin_address):
                for request in 25 * requests:
                    await send_and_hang_up(address, request)

            assert member.memory_bytes - before < 16 * MIB


async def test_idle_connections_do_not_use_up_the_open_files(tmp_path: Path) -> None:
    """The member is started with a small soft limit, as many systems give it, and takes the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    cluster = ClusterProcesses(tmp_path, members=1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        cluster.start(cluster["a"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    async with cluster, AsyncExitStack() as stack:
        for address in (cluster["a"].endpoint, cluster["a"].admin_address):
            for _ in range(150):
                stack.enter_context(closing(connect_to(address)))
        client = await stack.enter_async_context(AsyncClient(cluster.endpoints))

        assert await client.create("/there-is-room") == "/there-is-room"


def connect_to(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=10.0)


async def send_and_hang_up(address: str, data: bytes) -> None:
    host, port = address.split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    except ConnectionError:
        writer.close()  # The server was quicker: that is what is wanted.


async def test_memory_stays_flat_under_a_flood_of_bad_frames(tmp_path: Path) -> None:
    """Frames near the limit, 400 MiB in all, each refused."""
    full_frame = writes(*(3 * [create("/f", bytes(MIB))]), first=5)
    async with ClusterProcesses(tmp_path, members=1) as cluster:
        member = cluster["a"]

        async def flood(count: int) -> None:
            for _ in range(count):
                await refusal_of(member, bytes(4 * MIB), attach=False)
                await refusal_of(member, full_frame, attach=True)

        async with CountingClients(cluster.endpoints, request_timeout=BYSTANDER_S):
            await flood(10)
            before = member.memory_bytes
            await flood(50)

            assert member.memory_bytes - before < 32 * MIB


async def test_a_client_that_never_reads_is_cut_off_and_costs_no_more_than_its_queue(tmp_path: Path) -> None:
    """100,000 events of 2 KiB each for two such clients: 200 MiB, of which 16 MiB each may wait."""
    async with ClusterProcesses(tmp_path, members=1) as cluster:
        member = cluster["a"]
        async with AsyncExitStack() as stack:
            writer = await stack.enter_async_context(AsyncClient(member.endpoint, request_timeout=60.0))
            bystanders = await stack.enter_async_context(
                CountingClients(cluster.endpoints, request_timeout=BYSTANDER_S)
            )
            await writer.create("/busy", b"")
            await write_many(writer)
            # Not opened before: a stream has ten seconds to attach, and on a busy machine that took longer.
            silent = await stack.enter_async_context(RawStream(member.endpoint))
            await silent.attach(Attach(timeout_ms=60_000))
            await silent.send(Frame(reads=[Read(id=1, watch=watch_of("/busy"))]))
            assert (await silent.item()).read.watching
            unary: coordination_pb2_grpc.CoordinationAsyncStub = cluster.coordination(member)
            stream = unary.Watch(coordination_pb2.WatchRequest(path="/busy", with_values=True))
            await stream.initial_metadata()
            before = member.memory_bytes
            await write_many(writer)

            assert member.memory_bytes - before < 64 * MIB
            await bystanders.wait_for_progress()
            assert (await silent.refusal()).code == Code.SLOW_CONSUMER
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                async for _ in stream:
                    pass
            assert typed_error(failed.value).code == Code.SLOW_CONSUMER

            async def connections() -> int:
                status = await cluster.status(member)
                return -1 if status is None else status.connections

            await eventually("its connection is gone", connections, until=lambda count: count == 4)


def watch_of(path: str) -> data_pb2.Watch:
    return data_pb2.Watch(watch_id=1, path=path, with_values=True)


async def write_many(client: AsyncClient) -> None:
    for _ in range(10):
        await asyncio.gather(*(client.set("/busy", bytes(2 << 10)) for _ in range(5_000)))

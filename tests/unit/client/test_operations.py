"""Operations: what each one sends and returns, and that they survive lost connections exactly once."""

from __future__ import annotations

import asyncio
import math

import pytest

from coordclient import (
    AsyncClient,
    BadVersionError,
    CompareFailedError,
    Consistency,
    GuardFailedError,
    InvalidArgumentError,
    InvalidPathError,
    LimitExceededError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RequestTimeoutError,
    Stat,
    TransactionError,
)
from coordclient.pipeline import FRAME_OPERATIONS_MAX
from coordclient.types import Checked, Created, Node
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import FakeServer


async def test_a_node_lives_from_create_to_delete(client: AsyncClient) -> None:
    assert await client.create("/app/config", b"v1", parents=True) == "/app/config"
    node = await client.get("/app/config")
    assert (node.path, node.value, node.stat.version) == ("/app/config", b"v1", 0)
    assert (await client.set("/app/config", b"v2", version=0)).version == 1
    stat = await client.exists("/app/config")
    assert stat is not None
    assert stat.version == 1
    assert await client.get_children("/app") == ["config"]
    assert await client.delete("/app", recursive=True) == 2
    assert await client.exists("/app") is None


async def test_refusals_are_exceptions_with_their_details(client: AsyncClient) -> None:
    await client.create("/a/b", parents=True)

    with pytest.raises(NoNodeError) as missing:
        await client.get("/nope")
    assert missing.value.path == "/nope"
    with pytest.raises(NodeExistsError):
        await client.create("/a")
    with pytest.raises(NotEmptyError):
        await client.delete("/a")
    with pytest.raises(BadVersionError) as wrong:
        await client.set("/a", b"", version=5)
    assert (wrong.value.expected, wrong.value.actual) == (5, 0)


async def test_any_version_may_be_said_in_two_ways(client: AsyncClient) -> None:
    await client.create("/a")

    assert (await client.set("/a", b"1", version=-1)).version == 1
    assert (await client.set("/a", b"2", version=None)).version == 2


async def test_sequential_and_ephemeral_nodes(client: AsyncClient) -> None:
    created = await client.create_node("/q-", sequential=True, ephemeral=True)

    assert created.path == "/q-0000000000"
    assert created.stat.ephemeral_owner == client.session_id


async def test_flags_that_exclude_each_other_are_refused_before_anything_is_sent(
    client: AsyncClient, server: FakeServer
) -> None:
    with pytest.raises(InvalidArgumentError):
        await client.create("/a", container=True, ephemeral=True)
    with pytest.raises(InvalidArgumentError):
        await client.create("/a", ttl=0)
    with pytest.raises(InvalidArgumentError):
        await client.create("/a", ttl=5, ephemeral=True)

    assert server.frames == []


async def test_a_value_that_no_frame_can_carry_is_refused(client: AsyncClient) -> None:
    with pytest.raises(LimitExceededError):
        await client.create("/a", b"x" * (5 << 20))


async def test_ensure_path_is_idempotent(client: AsyncClient, server: FakeServer) -> None:
    await client.ensure_path("/a/b/c")
    await client.ensure_path("/a/b/c")

    assert server.names("/a/b") == ["c"]


async def test_deleting_a_missing_node_can_be_fine(client: AsyncClient) -> None:
    assert await client.delete("/nope", missing_ok=True) == 0
    with pytest.raises(NoNodeError):
        await client.delete("/nope")


async def test_children_are_gathered_over_all_pages(client: AsyncClient, server: FakeServer) -> None:
    server.tree.page = 3
    await client.create("/a")
    for name in "hgfedcba":
        await client.create(f"/a/{name}", name.encode())

    assert await client.get_children("/a") == list("abcdefgh")
    nodes = await client.get_children_nodes("/a")
    assert [(node.path, node.value) for node in nodes] == [
        (f"/a/{name}", name.encode()) for name in "abcdefgh"
    ]


async def test_only_the_first_page_asks_the_leader_and_the_others_are_as_new(
    client: AsyncClient, server: FakeServer
) -> None:
    server.tree.page = 1
    await client.create("/a")
    await client.create("/a/b")
    await client.create("/a/c")
    newest = server.tree.zxid

    await client.get_children("/a")
    await client.get_children("/a", consistency=Consistency.STALE)

    reads = [(read.consistency, read.min_zxid >= newest) for frame in server.frames for read in frame.reads]
    linearizable, session, stale = 0, 1, 2
    assert [consistency for consistency, _ in reads] == [linearizable, session, stale, stale]
    assert reads[1][1]


async def test_consistency_and_min_zxid_are_passed_on(client: AsyncClient, server: FakeServer) -> None:
    await client.exists("/a", consistency=Consistency.STALE, min_zxid=0)
    await client.exists("/a", consistency=Consistency.SESSION, min_zxid=17)

    reads = [(read.consistency, read.min_zxid) for frame in server.frames for read in frame.reads]
    assert reads == [(2, 0), (1, 17)]


async def test_sync_returns_the_newest_transaction(client: AsyncClient, server: FakeServer) -> None:
    server.set("/a", b"1")

    assert await client.sync() == server.tree.zxid


async def test_a_guard_protects_a_write(client: AsyncClient) -> None:
    created = await client.create_node("/guard")
    await client.create("/a", guard=("/guard", created.stat.czxid))
    await client.delete("/guard")

    with pytest.raises(GuardFailedError):
        await client.set("/a", b"late", guard=[("/guard", created.stat.czxid)])
    with pytest.raises(InvalidArgumentError):
        await client.set("/a", b"late", guard="/guard")  # type: ignore[arg-type]  # that is what is tested


async def test_concurrent_operations_leave_in_few_frames_and_in_order(
    client: AsyncClient, server: FakeServer
) -> None:
    await client.create("/a")
    before = len(server.frames)
    stats = await asyncio.gather(*(client.set("/a", b"%d" % number) for number in range(200)))

    assert [stat.version for stat in stats] == list(range(1, 201))
    assert len(server.frames) - before == math.ceil(200 / FRAME_OPERATIONS_MAX)


# ---------------------------------------------------------------------------------------------
# Transactions


async def test_a_transaction_commits_at_the_end_of_its_block(client: AsyncClient) -> None:
    await client.create("/a", b"1")
    async with client.transaction() as transaction:
        transaction.check("/a", version=0)
        transaction.set("/a", b"2")
        transaction.create("/a/b-", sequential=True)
        transaction.get("/a")
        transaction.exists("/nope")
        transaction.get_children("/a")

    checked, stat, created, node, absent, names = transaction.results
    assert isinstance(checked, Checked)
    assert isinstance(stat, Stat)
    assert isinstance(created, Created)
    assert isinstance(node, Node)
    assert (stat.version, created.path, node.value) == (1, "/a/b-0000000000", b"2")
    assert absent is None
    assert names == ["b-0000000000"]
    assert transaction.succeeded is True


async def test_a_failed_transaction_raises_and_changes_nothing(client: AsyncClient) -> None:
    await client.create("/a", b"1")
    transaction = client.transaction()
    transaction.set("/a", b"2")
    transaction.check("/a", version=9)
    transaction.create("/b")
    with pytest.raises(TransactionError) as failed:
        await transaction.commit()

    assert failed.value.failed_index == 1
    assert failed.value.operation_codes == (0, 3, 10)
    assert isinstance(failed.value.cause, BadVersionError)
    assert (await client.get("/a")).value == b"1"


async def test_nothing_is_committed_when_the_block_raises(client: AsyncClient, server: FakeServer) -> None:
    async def fail() -> None:
        async with client.transaction() as transaction:
            transaction.create("/a")
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert server.frames == []


async def test_the_other_branch_is_taken_when_a_compare_fails(client: AsyncClient) -> None:
    await client.create("/a", b"1")
    async with client.transaction() as transaction:
        transaction.compare("/a", "value", "==", b"other")
        transaction.set("/a", b"2")
        transaction.otherwise.get("/a")

    assert transaction.succeeded is False
    (node,) = transaction.results
    assert isinstance(node, Node)
    assert node.value == b"1"


async def test_a_compare_that_fails_without_another_branch_raises(client: AsyncClient) -> None:
    transaction = client.transaction()
    transaction.compare("/a", "exists", "==", True)
    transaction.create("/b")
    with pytest.raises(CompareFailedError):
        await transaction.commit()

    assert await client.exists("/b") is None


# ---------------------------------------------------------------------------------------------
# Lost connections


async def test_a_write_lost_on_its_way_is_applied_once(client: AsyncClient, server: FakeServer) -> None:
    server.drop_before_apply = 1

    assert await client.create("/a-", sequential=True) == "/a-0000000000"
    assert server.names("/") == ["a-0000000000"]
    assert len(server.attaches) == 2


async def test_a_write_whose_answer_was_lost_is_applied_once(client: AsyncClient, server: FakeServer) -> None:
    server.drop_after_apply = 1

    assert await client.create("/a-", sequential=True) == "/a-0000000000"
    assert server.names("/") == ["a-0000000000"]


async def test_pipelined_writes_over_many_lost_connections_are_applied_once_and_in_order(
    connect: Connect, server: FakeServer
) -> None:
    client = await connect()
    await client.create("/a")
    session = server.sessions[client.session_id]

    async def write(number: int) -> Stat:
        if number % 100 == 0:
            server.drop_after_apply += 1
        if number % 100 == 50:
            server.drop_before_apply += 1
        return await client.set("/a", b"%d" % number)

    stats = []
    for first in range(0, 2000, 25):
        stats += await asyncio.gather(*(write(number) for number in range(first, first + 25)))

    assert [stat.version for stat in stats] == list(range(1, 2001))
    assert [write.set.value for write in session.applied[1:]] == [b"%d" % number for number in range(2000)]
    assert len(server.attaches) > 20


async def test_reads_are_sent_again(client: AsyncClient, server: FakeServer) -> None:
    await client.create("/a", b"1")
    server.drop_after_apply = 1

    assert (await client.get("/a")).value == b"1"


async def test_a_request_times_out_by_its_own_deadline(client: AsyncClient, server: FakeServer) -> None:
    server.holds_answers = True
    with pytest.raises(RequestTimeoutError) as failed:
        await client.create("/a", timeout=0.05)
    assert failed.value.may_have_been_applied
    assert isinstance(failed.value, TimeoutError)
    server.release_answers()

    await client.create("/b", timeout=5)
    assert server.names("/") == ["a", "b"]


async def test_a_cancelled_call_does_not_disturb_the_others(client: AsyncClient, server: FakeServer) -> None:
    server.holds_answers = True
    first = asyncio.create_task(client.create("/a"))
    second = asyncio.create_task(client.create("/b"))
    await eventually(lambda: server.frames)
    first.cancel()
    await asyncio.wait([first])
    server.release_answers()

    assert await second == "/b"


# ---------------------------------------------------------------------------------------------
# Namespaces


async def test_all_paths_lie_below_the_namespace(connect: Connect, server: FakeServer) -> None:
    server.set("/prod", b"")
    client = await connect(namespace="/prod")

    assert await client.create("/a", b"1") == "/a"
    assert (await client.get("/a")).path == "/a"
    assert await client.get_children("/") == ["a"]
    assert server.names("/prod") == ["a"]
    with pytest.raises(NoNodeError) as missing:
        await client.get("/nope")
    assert missing.value.path == "/nope"
    with pytest.raises(InvalidPathError):
        await client.get("nope")
    async with client.watch("/a") as events:
        await client.set("/a", b"2")
        assert (await anext(events)).path == "/a"

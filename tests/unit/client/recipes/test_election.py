"""Election: one leader at a time, published where everybody can see it, and nothing left of who resigned."""

from __future__ import annotations

import asyncio

import pytest

from coordclient import (
    AlreadyHeldError,
    AsyncClient,
    AsyncElection,
    GuardFailedError,
    InvalidPathError,
    Leader,
    LockLostError,
    LockTimeoutError,
    Term,
)
from coordproto.v1 import data_pb2
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import ClientFrame, FakeServer

PATH = "/elections/a"
RECORD = f"{PATH}/leader"


async def candidate(election: AsyncElection, server: FakeServer, count: int) -> asyncio.Task[Term]:
    """Start to campaign; return when the election's node has `count` children."""
    task = asyncio.create_task(election.campaign())
    await eventually(lambda: len(server.names(PATH)) == count)
    return task


async def test_the_leader_is_published(client: AsyncClient, server: FakeServer) -> None:
    election = client.election(PATH, value=b"host-7")
    assert await election.leader() is None
    async with election.lead() as term:
        record = server.tree.nodes[RECORD]
        assert (record.value, record.stat.ephemeral_owner) == (b"host-7", client.session_id)
        assert await election.leader() == Leader(b"host-7", term.token)
        assert term.token == record.stat.czxid
        term.check()

    assert await election.leader() is None
    assert server.names(PATH) == []


async def test_tokens_grow_from_term_to_term(connect: Connect) -> None:
    tokens = []
    for _ in range(3):
        client = await connect()
        async with client.election(PATH).lead() as term:
            tokens.append(term.token)

    assert tokens == sorted(set(tokens))


async def test_the_next_candidate_leads_when_the_leader_resigns(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(), await connect()
    term = await first.election(PATH, b"1").campaign()
    task = await candidate(second.election(PATH, b"2"), server, 3)
    await term.resign()
    following = await task

    assert await first.election(PATH).leader() == Leader(b"2", following.token)
    assert following.token > term.token


async def test_the_next_candidate_leads_when_the_session_of_the_leader_ends(
    connect: Connect, server: FakeServer
) -> None:
    first, second = await connect(), await connect()
    term = await first.election(PATH, b"1").campaign()
    task = await candidate(second.election(PATH, b"2"), server, 3)
    server.expire(first.session_id)
    await task
    await eventually(lambda: term.lost)

    assert await second.election(PATH).leader() == Leader(b"2", task.result().token)


async def test_the_body_is_cancelled_when_the_leadership_is_lost(
    client: AsyncClient, server: FakeServer
) -> None:
    async def lead() -> None:
        async with client.election(PATH).lead():
            server.expire(client.session_id)
            await asyncio.Event().wait()

    with pytest.raises(LockLostError):
        await lead()


@pytest.mark.parametrize("what", ["record", "place"])
async def test_whose_record_or_place_was_deleted_leads_no_more(
    client: AsyncClient, server: FakeServer, what: str
) -> None:
    term = await client.election(PATH).campaign()
    names = [name for name in server.names(PATH) if (name == "leader") == (what == "record")]
    server.delete(f"{PATH}/{names[0]}")
    await term.wait_lost()
    await term.resign()

    assert server.names(PATH) == []


async def test_a_deposed_leader_cannot_write(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(), await connect()
    await first.create("/a")
    term = await first.election(PATH).campaign()
    await first.set("/a", b"1", guard=term)
    task = await candidate(second.election(PATH), server, 3)
    contenders = await first.lock(PATH).contenders()
    server.delete(contenders[0].path)
    await task

    with pytest.raises(GuardFailedError):
        await first.set("/a", b"2", guard=term)


async def test_a_record_that_a_deposed_leader_left_is_replaced(
    client: AsyncClient, server: FakeServer
) -> None:
    server.set(RECORD, b"stale")
    async with client.election(PATH, b"new").lead() as term:
        assert await client.election(PATH).leader() == Leader(b"new", term.token)


async def test_a_campaign_ends_in_time_and_leaves_nothing(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(), await connect()
    async with first.election(PATH).lead():
        with pytest.raises(LockTimeoutError):
            async with second.election(PATH).lead(timeout=0.05):
                pass
        await eventually(lambda: len(server.names(PATH)) == 2)


async def test_observers_see_every_leader(connect: Connect, server: FakeServer) -> None:
    observer, first, second = await connect(), await connect(), await connect()
    seen: list[Leader | None] = []

    async def observe() -> None:
        async for leader in observer.election(PATH).observe():
            seen.append(leader)  # noqa: PERF401  # it never ends

    task = asyncio.create_task(observe())
    await eventually(lambda: seen == [None])
    one = await first.election(PATH, b"1").campaign()
    await eventually(lambda: seen[1:] == [Leader(b"1", one.token)])
    server.drop_connections()
    await one.resign()
    await eventually(lambda: seen[2:] == [None])
    two = await second.election(PATH, b"2").campaign()
    await eventually(lambda: seen[3:] == [Leader(b"2", two.token)])
    task.cancel()
    await asyncio.wait([task])


async def test_a_cancelled_candidate_leaves_nothing_wherever_it_is_cancelled(
    client: AsyncClient, server: FakeServer
) -> None:
    frames = 0
    while True:
        frames += 1
        task = asyncio.create_task(client.election(PATH, b"x").campaign())
        left = frames

        def count(frame: ClientFrame, task: asyncio.Task[Term] = task) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                task.cancel()

        server.on_frame = count
        await asyncio.wait([task])
        server.on_frame = None
        if not task.cancelled():
            await task.result().resign()
        await eventually(lambda: client.janitor.task_count == 0)
        await client.sync()
        assert server.names(PATH) == [], f"cancelled after {frames} frames"
        if not task.cancelled():
            break
    assert frames >= 5, "several places were tried"


async def test_whose_place_goes_while_it_takes_office_queues_again(
    connect: Connect, server: FakeServer
) -> None:
    client = await connect()

    def delete_place_before_publishing(frame: ClientFrame) -> None:
        if any(write.WhichOneof("op") == "transaction" and write.guards for write in frame.writes.writes):
            server.on_frame = None
            (name,) = server.names(PATH)
            server.write(data_pb2.Write(delete=data_pb2.Delete(path=f"{PATH}/{name}")))

    server.on_frame = delete_place_before_publishing
    term = await client.election(PATH, b"1").campaign()

    term.check()
    assert await client.election(PATH).leader() == Leader(b"1", term.token)


def test_the_root_is_no_election() -> None:
    with pytest.raises(InvalidPathError):
        AsyncClient("a:1").election("/")


async def test_leaving_a_term_that_went_with_its_session_does_not_wait_for_the_service(
    connect: Connect, server: FakeServer
) -> None:
    """Its record has gone with the session, so nothing is left to be withdrawn: nobody need be reached."""
    client = await connect(session_timeout=0.5, request_timeout=60.0)
    term = await client.election(PATH).campaign()
    await server.stop()
    await term.wait_lost()

    async with asyncio.timeout(20):
        await term.resign()
    assert client.janitor.task_count == 0


# ---------------------------------------------------------------------------------------------
# Candidates, values, further terms


async def test_candidates_are_listed_in_order(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(name="one"), await connect(name="two")
    term = await first.election(PATH).campaign()
    task = await candidate(second.election(PATH), server, 3)
    candidates = await second.election(PATH).candidates()

    assert [(c.client, c.is_holder) for c in candidates] == [("one", True), ("two", False)]
    await term.resign()
    await (await task).resign()
    assert await first.election(PATH).candidates() == []


async def test_a_leader_may_publish_something_else_and_observers_are_told(
    connect: Connect, server: FakeServer
) -> None:
    observer, client = await connect(), await connect()
    term = await client.election(PATH, b"starting").campaign()
    seen: list[Leader | None] = []

    async def observe() -> None:
        async for leader in observer.election(PATH).observe():
            seen.append(leader)  # noqa: PERF401  # it never ends

    task = asyncio.create_task(observe())
    await eventually(lambda: len(seen) == 1)
    await term.set_value(b"ready")
    await eventually(lambda: len(seen) == 2)
    task.cancel()
    await asyncio.wait([task])

    assert seen == [Leader(b"starting", term.token), Leader(b"ready", term.token)]
    await client.sync()
    term.check()
    await client.create("/a", guard=term)
    await term.resign()
    assert await observer.election(PATH).leader() is None


@pytest.mark.parametrize("what", ["record", "place"])
async def test_who_leads_no_more_publishes_nothing(
    client: AsyncClient, server: FakeServer, what: str
) -> None:
    """Also if it has not heard of its loss: the service refuses."""
    term = await client.election(PATH, b"old").campaign()

    def delete_before_it_arrives(frame: ClientFrame) -> None:
        if any(write.HasField("set") for write in frame.writes.writes):
            server.on_frame = None
            (name,) = [name for name in server.names(PATH) if (name == "leader") == (what == "record")]
            server.delete(f"{PATH}/{name}")

    server.on_frame = delete_before_it_arrives
    with pytest.raises(LockLostError):
        await term.set_value(b"new")
    assert term.lost
    with pytest.raises(LockLostError):
        await term.set_value(b"newer")
    await term.resign()
    assert server.names(PATH) == []


async def test_one_block_may_lead_again_but_not_twice_at_once(client: AsyncClient) -> None:
    leading = client.election(PATH).lead()
    async with leading as first:
        with pytest.raises(AlreadyHeldError):
            await leading.__aenter__()
        first.check()
    async with leading as second:
        assert second.token > first.token


async def test_a_deposed_leader_that_resigns_leaves_the_new_record_alone(
    connect: Connect, server: FakeServer
) -> None:
    first, second = await connect(), await connect()
    term = await first.election(PATH, b"1").campaign()
    task = await candidate(second.election(PATH, b"2"), server, 3)
    server.delete((await first.election(PATH).candidates())[0].path)
    following = await task
    await term.resign()
    await first.sync()

    assert await first.election(PATH).leader() == Leader(b"2", following.token)
    following.check()


async def test_an_observer_goes_on_when_its_session_ends_in_the_middle_of_a_read(
    connect: Connect, server: FakeServer
) -> None:
    observer, client = await connect(), await connect()
    seen: list[Leader | None] = []

    def expire_before_it_reads(frame: ClientFrame) -> None:
        if any(read.HasField("get") for read in frame.reads):
            server.on_frame = None
            server.expire(observer.session_id)

    async def observe() -> None:
        async for leader in observer.election(PATH).observe():
            seen.append(leader)  # noqa: PERF401  # it never ends

    server.on_frame = expire_before_it_reads
    task = asyncio.create_task(observe())
    await eventually(lambda: seen == [None])
    term = await client.election(PATH, b"1").campaign()
    await eventually(lambda: seen[1:] == [Leader(b"1", term.token)])
    task.cancel()
    await asyncio.wait([task])

    assert server.on_frame is None


async def test_who_publishes_while_its_session_ends_has_lost(client: AsyncClient, server: FakeServer) -> None:
    term = await client.election(PATH, b"old").campaign()

    def expire_before_it_arrives(frame: ClientFrame) -> None:
        if any(write.HasField("set") for write in frame.writes.writes):
            server.on_frame = None
            server.expire(client.session_id)

    server.on_frame = expire_before_it_arrives
    with pytest.raises(LockLostError, match="session"):
        await term.set_value(b"new")


@pytest.mark.parametrize("what", ["record", "place"])
async def test_a_lost_term_keeps_nobody_from_leading_even_if_it_is_never_released(
    connect: Connect, server: FakeServer, what: str
) -> None:
    former = await connect()
    election = former.election(PATH, b"old")
    term = await election.campaign()
    (name,) = [name for name in server.names(PATH) if (name == "leader") == (what == "record")]
    server.delete(f"{PATH}/{name}")
    await term.wait_lost()
    await eventually(lambda: server.names(PATH) == [])

    async with election.lead(timeout=10):
        assert await election.leader() is not None


async def test_candidates_show_the_token_of_the_term_and_none_before(
    connect: Connect, server: FakeServer
) -> None:
    first, second = await connect(), await connect()
    term = await first.election(PATH).campaign()
    waiting = await candidate(second.election(PATH), server, 3)

    assert [who.token for who in await first.election(PATH).candidates()] == [term.token, 0]
    server.delete(RECORD)
    assert [who.token for who in await first.election(PATH).candidates()] == [0, 0]
    waiting.cancel()

"""Partitioner: every item is owned by somebody, none by two, and no more than must be changes hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from coordclient import (
    AsyncClient,
    ClientStateError,
    GuardFailedError,
    InvalidArgumentError,
    InvalidPathError,
    LockLostError,
    State,
)
from coordclient.errors import MemberNameTakenError, MismatchError
from coordclient.recipes.group import AsyncGroup
from coordclient.recipes.partition_holdings import Holdings
from coordclient.recipes.partition_plan import fingerprint_of, payload_of
from coordclient.recipes.partitioner import (
    Assigned,
    AsyncPartitioner,
    AsyncPartitionHandle,
    Revoked,
)
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import Code, FakeServer
from tests.unit.client.recipes.partition_workers import (
    ITEMS,
    PATH,
    Begin,
    beginning,
    changes_of,
    next_change,
    partitioner,
    plan,
    tokens,
)


@pytest.fixture
async def begin() -> AsyncIterator[Begin]:
    async with beginning() as begin_one:
        yield begin_one


# ---------------------------------------------------------------------------------------------
# Dividing


async def test_one_alone_owns_everything(client: AsyncClient, server: FakeServer, begin: Begin) -> None:
    worker = begin(partitioner(client, "a"))
    await eventually(lambda: worker.works_on(set(ITEMS)))

    assert {item: handle.token for item, handle in worker.member.owned.items()} == tokens(server)
    assert list(worker.member.owned) == sorted(ITEMS)


async def test_members_that_come_and_go_share_and_move_no_more_than_they_must(
    connect: Connect, begin: Begin
) -> None:
    first, second = begin(partitioner(await connect(), "a")), begin(partitioner(await connect(), "b"))
    both = plan("a", "b")
    await eventually(lambda: first.works_on(both["a"]) and second.works_on(both["b"]))
    third = begin(partitioner(await connect(), "c"))
    three = plan("a", "b", "c")
    assert three["c"]
    await eventually(lambda: third.works_on(three["c"]))
    assert first.works_on(three["a"])
    assert second.works_on(three["b"])
    await third.end()
    await eventually(lambda: first.works_on(both["a"]) and second.works_on(both["b"]))

    # Who kept an item has worked on it without a break.
    for worker, name in ((first, "a"), (second, "b")):
        assert all(len(worker.tokens[item]) == 1 for item in three[name])


async def test_what_a_dead_member_had_goes_to_the_others_with_larger_tokens(
    connect: Connect, server: FakeServer, begin: Begin
) -> None:
    dying = await connect()
    first, second = begin(partitioner(await connect(), "a")), begin(partitioner(dying, "b"))
    both = plan("a", "b")
    await eventually(lambda: first.works_on(both["a"]) and second.works_on(both["b"]))
    before = tokens(server)
    server.refuse_attaches = [Code.NO_LEADER] * 1000
    server.expire(dying.session_id)
    await eventually(lambda: first.works_on(set(ITEMS)))
    after = tokens(server)

    assert all(after[item] > before[item] for item in both["b"])
    assert all(after[item] == before[item] for item in both["a"])


async def test_a_member_that_has_lost_its_session_stops_and_joins_again(
    connect: Connect, server: FakeServer, begin: Begin
) -> None:
    client = await connect()
    worker = begin(partitioner(client, "a"))
    await eventually(lambda: worker.works_on(set(ITEMS)))
    before = tokens(server)
    former = client.session_id
    server.expire(former)
    await eventually(lambda: worker.works_on(set()))
    await eventually(lambda: worker.works_on(set(ITEMS)))

    assert all(worker.tokens[item] == sorted({before[item], tokens(server)[item]}) for item in ITEMS)
    assert worker.member.owned[ITEMS[0]].session_id == client.session_id != former


async def test_a_member_that_cannot_join_again_owns_nothing(
    connect: Connect, server: FakeServer, begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    """Another has taken its name while it was without a session."""
    client, other = await connect(), await connect()
    worker = begin(partitioner(client, "a"))
    await eventually(lambda: worker.works_on(set(ITEMS)))
    server.refuse_attaches = [Code.NO_LEADER] * 1000
    server.expire(client.session_id)
    await eventually(lambda: worker.works_on(set()))
    group = AsyncGroup(other, f"{PATH}/members")
    membership = await group.join("a", payload_of(fingerprint_of(ITEMS)))
    server.refuse_attaches.clear()
    await eventually(lambda: "waiting until it goes" in caplog.text)
    for _ in range(50):
        await client.sync()
    assert len(worker.begun) == len(ITEMS)
    assert tokens(server) == {}
    await membership.leave()

    await eventually(lambda: worker.works_on(set(ITEMS)))


async def test_a_suspended_member_keeps_what_it_owns(
    connect: Connect, server: FakeServer, begin: Begin
) -> None:
    client = await connect(session_timeout=30)
    worker = begin(partitioner(client, "a"))
    await eventually(lambda: worker.works_on(set(ITEMS)))
    server.refuse_attaches = [Code.NO_LEADER] * 1000
    server.drop_connections()
    await eventually(lambda: client.state is State.SUSPENDED)
    assert worker.works_on(set(ITEMS))
    assert worker.member.owned[ITEMS[0]].remaining > 0
    server.refuse_attaches.clear()
    await eventually(lambda: client.state is State.CONNECTED)
    await client.sync()

    assert len(worker.begun) == len(ITEMS)


async def test_a_handle_guards_writes(connect: Connect, server: FakeServer, begin: Begin) -> None:
    client, other = await connect(), await connect()
    worker = begin(partitioner(client, "a"))
    await eventually(lambda: worker.works_on(set(ITEMS)))
    handle = worker.member.owned["item-3"]
    await other.create("/output", b"", guard=handle)
    server.delete(handle.path)

    with pytest.raises(GuardFailedError):
        await other.set("/output", b"late", guard=handle)
    await eventually(lambda: handle.lost)
    with pytest.raises(LockLostError):
        handle.check()


async def test_an_item_whose_lock_somebody_deleted_is_acquired_again(
    client: AsyncClient, server: FakeServer, begin: Begin
) -> None:
    worker = begin(partitioner(client, "a"))
    await eventually(lambda: worker.works_on(set(ITEMS)))
    lost = worker.member.owned["item-3"]
    server.delete(lost.path)
    await eventually(lambda: len(worker.tokens["item-3"]) == 2)

    assert lost.revoke_requested
    assert worker.tokens["item-3"][1] > lost.token
    assert all(len(worker.tokens[item]) == 1 for item in ITEMS if item != "item-3")


async def test_a_lost_item_is_not_acquired_again_before_the_work_on_it_has_ended(
    client: AsyncClient, server: FakeServer, begin: Begin
) -> None:
    worker = begin(partitioner(client, "a"))
    await eventually(lambda: worker.works_on(set(ITEMS)))
    worker.may_stop.clear()
    lost = worker.member.owned["item-3"]
    server.delete(lost.path)
    await eventually(lambda: lost.revoke_requested)
    for _ in range(3):
        await client.sync()
    assert server.names(f"{PATH}/items/item-3") == []
    worker.may_stop.set()

    await eventually(lambda: len(worker.tokens["item-3"]) == 2)


async def test_an_item_that_is_wanted_again_at_once_is_acquired(
    client: AsyncClient, server: FakeServer
) -> None:
    """A member came and went while the acquisition was under way."""
    holdings = Holdings(client, f"{PATH}/items")
    for wanted in ({"a"}, set[str](), {"a"}):
        holdings.want(frozenset(wanted))
    await eventually(lambda: "a" in holdings.held)
    await eventually(lambda: len(server.names(f"{PATH}/items/a")) == 1)

    holdings.close(in_use=(), reason="the test is over")
    await eventually(lambda: server.names(f"{PATH}/items/a") == [])


async def test_who_does_not_want_an_item_any_more_does_not_queue_for_it(
    connect: Connect, server: FakeServer
) -> None:
    first, second = [Holdings(await connect(), f"{PATH}/items") for _ in range(2)]
    first.want(frozenset({"a"}))
    await eventually(lambda: "a" in first.held)
    second.want(frozenset({"a"}))
    await eventually(lambda: len(server.names(f"{PATH}/items/a")) == 2)
    second.want(frozenset())

    await eventually(lambda: len(server.names(f"{PATH}/items/a")) == 1)
    first.close(in_use=(), reason="the test is over")


async def test_a_member_whose_node_somebody_deleted_is_a_member_again(
    connect: Connect, server: FakeServer, begin: Begin
) -> None:
    first, second = begin(partitioner(await connect(), "a")), begin(partitioner(await connect(), "b"))
    both = plan("a", "b")
    await eventually(lambda: first.works_on(both["a"]) and second.works_on(both["b"]))
    server.delete(f"{PATH}/members/b")
    await eventually(lambda: sorted(server.names(f"{PATH}/members")) == ["a", "b"])

    await eventually(lambda: first.works_on(both["a"]) and second.works_on(both["b"]))


# ---------------------------------------------------------------------------------------------
# Changes, one by one


async def test_what_is_revoked_goes_to_the_next_only_when_it_is_released(
    connect: Connect, begin: Begin
) -> None:
    async with partitioner(await connect(), "a") as member, changes_of(member) as queue:
        assigned = [await next_change(queue) for _ in ITEMS]
        assert all(isinstance(change, Assigned) for change in assigned)
        assert assigned == [Assigned(item, member.owned[item]) for item in member.owned]
        second = begin(partitioner(await connect(), "b"))
        theirs = plan("a", "b")["b"]
        revoked = [await next_change(queue) for _ in theirs]
        for number, change in enumerate(revoked):
            assert isinstance(change, Revoked)
            assert not change.handle.lost
            assert "another member" in change.handle.revoke_requested.reason
            assert len(second.member.owned) == number
            await change.handle.release()
            await eventually(lambda: len(second.member.owned) == number + 1)  # noqa: B023  # in this round only

        assert {change.item for change in revoked if isinstance(change, Revoked)} == theirs


async def test_what_nobody_was_told_of_moves_without_anybody(connect: Connect, begin: Begin) -> None:
    """Nobody follows the changes of the first member, so nobody works on its items."""
    async with partitioner(await connect(), "a") as member:
        await eventually(lambda: len(member.owned) == len(ITEMS))
        second = begin(partitioner(await connect(), "b"))
        both = plan("a", "b")
        await eventually(lambda: second.works_on(both["b"]))

        async with changes_of(member) as queue:
            told = [await next_change(queue) for _ in both["a"]]
            assert {change.item for change in told if isinstance(change, Assigned)} == both["a"]
            assert queue.empty()


async def test_what_is_given_back_unasked_is_assigned_again(client: AsyncClient) -> None:
    async with AsyncPartitioner(client, PATH, ["only"], settle=0) as member, changes_of(member) as queue:
        first = await next_change(queue)
        assert isinstance(first, Assigned)
        await first.handle.release()
        second = await next_change(queue)

        assert isinstance(second, Assigned)
        assert second.handle.token > first.handle.token


async def test_nobody_is_told_to_stop_what_they_have_given_back(
    client: AsyncClient, server: FakeServer
) -> None:
    async with AsyncPartitioner(client, PATH, ["only"], settle=0) as member:
        first = await anext(member.changes())
        server.delete(first.handle.path)
        await eventually(lambda: first.handle.lost)
        await first.handle.release()

        assert isinstance(await anext(member.changes()), Assigned)


async def test_a_lost_session_revokes_everything(connect: Connect, server: FakeServer) -> None:
    client = await connect()
    async with partitioner(client, "a") as member, changes_of(member) as queue:
        for _ in ITEMS:
            await next_change(queue)
        server.expire(client.session_id)
        for _ in ITEMS:
            change = await next_change(queue)
            assert isinstance(change, Revoked)
            await eventually(lambda: change.handle.lost)  # noqa: B023  # in this round only
            await change.handle.release()
        for _ in ITEMS:
            assert isinstance(await next_change(queue), Assigned)


async def test_only_one_follows_the_changes(client: AsyncClient) -> None:
    async def work(item: str, handle: AsyncPartitionHandle) -> None:
        raise AssertionError("nothing is to be worked on")

    member = partitioner(client, "a")
    with pytest.raises(ClientStateError, match="with statement"):
        await member.run(work)
    async with member, changes_of(member) as queue:
        await next_change(queue)
        with pytest.raises(ClientStateError, match="only one"):
            await member.run(work)
    with pytest.raises(ClientStateError, match="once"):
        await member.__aenter__()


# ---------------------------------------------------------------------------------------------
# Joining and leaving


async def test_who_leaves_leaves_nothing(client: AsyncClient, server: FakeServer) -> None:
    assert client._driver is not None
    tasks_before, listeners_before = len(asyncio.all_tasks()), len(client._driver._listeners)
    async with partitioner(client, "a") as member:
        await eventually(lambda: len(member.owned) == len(ITEMS))
    await eventually(lambda: client.janitor.task_count == 0 and server.watch_count() == 0)

    assert server.names(f"{PATH}/members") == []
    assert tokens(server) == {}
    assert member.owned == {}
    assert len(asyncio.all_tasks()) == tasks_before
    assert len(client._driver._listeners) == listeners_before


async def test_who_leaves_while_it_waits_for_items_leaves_no_contender(
    connect: Connect, server: FakeServer, begin: Begin
) -> None:
    holder = begin(partitioner(await connect(), "a"))
    await eventually(lambda: holder.works_on(set(ITEMS)))
    holder.may_stop.clear()
    client = await connect()
    async with partitioner(client, "b"):
        theirs = next(iter(plan("a", "b")["b"]))
        await eventually(lambda: len(server.names(f"{PATH}/items/{theirs}")) == 2)
    await eventually(lambda: client.janitor.task_count == 0)

    assert len(server.names(f"{PATH}/items/{theirs}")) == 1


async def test_other_items_at_the_same_path_are_refused(
    connect: Connect, server: FakeServer, begin: Begin
) -> None:
    worker = begin(partitioner(await connect(), "a"))
    await eventually(lambda: worker.works_on(set(ITEMS)))
    client = await connect()

    with pytest.raises(MismatchError, match="member a divides other items"):
        await partitioner(client, "b", ITEMS[1:]).__aenter__()
    await eventually(lambda: client.janitor.task_count == 0)
    assert server.names(f"{PATH}/members") == ["a"]
    assert worker.works_on(set(ITEMS))


async def test_strangers_in_the_group_get_nothing(
    client: AsyncClient, connect: Connect, begin: Begin
) -> None:
    other = await connect()
    await other.create(f"{PATH}/members/observer", b"not JSON", ephemeral=True, parents=True)
    worker = begin(partitioner(client, "a"))

    await eventually(lambda: worker.works_on(set(ITEMS)))


async def test_members_that_divide_other_items_get_none_of_ours(
    connect: Connect, begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    """They came at the same moment, or while we were without a session."""
    client, other = await connect(), await connect()
    worker = begin(partitioner(client, "a"))
    await eventually(lambda: worker.works_on(set(ITEMS)))
    await other.create(f"{PATH}/members/b", payload_of("of other items"), ephemeral=True)
    await eventually(lambda: "other items are divided here by b" in caplog.text)

    assert worker.owns(set(ITEMS))


async def test_a_name_that_stays_taken_is_refused(connect: Connect, begin: Begin) -> None:
    begin(partitioner(await connect(), "a"))
    second = await connect(session_timeout=0.5)
    await eventually(lambda: second.state is State.CONNECTED)
    while not (await partitioner(second, "x").members()).members:
        await second.sync()

    with pytest.raises(MemberNameTakenError):
        await partitioner(second, "a").__aenter__()


@pytest.mark.parametrize(
    "wrong", [{"path": "/"}, {"path": "shards"}, {"items": []}, {"items": "abc"}, {"settle": -1}]
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, str]) -> None:
    arguments = {"path": PATH, "items": ITEMS, **wrong}
    with pytest.raises((InvalidArgumentError, InvalidPathError)):
        AsyncPartitioner(AsyncClient(), **arguments)  # type: ignore[arg-type]  # that is what is tested


async def test_joining_cancelled_at_any_await_leaves_nothing(connect: Connect, server: FakeServer) -> None:
    """Cancelled after one step of the event loop, after two, and so on until it has joined in time."""
    client = await connect()
    steps = 0
    is_joined = False
    while not is_joined:
        steps += 1
        joining = asyncio.create_task(partitioner(client, "a").__aenter__())
        for _ in range(steps):
            await asyncio.sleep(0)
        joining.cancel()
        await asyncio.wait([joining])
        is_joined = not joining.cancelled()
        if is_joined:
            await joining.result().__aexit__(None, None, None)
        await eventually(lambda: client.janitor.task_count == 0)
        assert server.names(f"{PATH}/members") == []
        await eventually(lambda: server.watch_count() == 0)

    assert steps > 5

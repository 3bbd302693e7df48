"""Partitioner: every item is owned by somebody, none by two, and no more than must be changes hands."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from coordclient import (
    AsyncClient,
    Client,
    ClientClosedError,
    ClientStateError,
    GuardFailedError,
    InvalidArgumentError,
    InvalidPathError,
    LockLostError,
    State,
)
from coordclient.errors import MemberNameTakenError, MismatchError
from coordclient.recipes.partition_holdings import Holdings
from coordclient.recipes.partition_plan import node_name, owner_of
from coordclient.recipes.partitioner import (
    Assigned,
    AsyncPartitioner,
    AsyncPartitionHandle,
    Partitioner,
    PartitionHandle,
    Revoked,
)
from coordsvc.testing import Server, running_server
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import Code, FakeServer

PATH = "/shards"
ITEMS = [f"item-{number}" for number in range(12)]


def partitioner(client: AsyncClient, name: str, items: list[str] | None = None) -> AsyncPartitioner:
    return AsyncPartitioner(client, PATH, items or ITEMS, name=name, settle=0.01)


def plan(*names: str) -> dict[str, set[str]]:
    """Return what each member should own."""
    return {name: {item for item in ITEMS if owner_of(item, names) == name} for name in names}


def tokens(server: FakeServer) -> dict[str, int]:
    """Return the token of who holds each item, as the service sees it."""
    held = {}
    for item in ITEMS:
        directory = f"{PATH}/items/{node_name(item)}"
        nodes = [server.tree.nodes[f"{directory}/{name}"] for name in server.names(directory)]
        if nodes:
            held[item] = min(node.stat.czxid for node in nodes)
    return held


class Worker:
    """A member that works: notes what it works on, and that nobody else does."""

    busy: dict[str, str]  # by item, of all members of a test

    def __init__(self, member: AsyncPartitioner, busy: dict[str, str]) -> None:
        self.member = member
        self.begun: list[str] = []
        self.tokens: dict[str, list[int]] = {}
        self.may_stop = asyncio.Event()
        self.may_stop.set()  # Cleared: work goes on after it was cancelled, until this is set again.
        self._busy = busy
        self.running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self.member:
            await self.member.run(self._work)

    async def _work(self, item: str, handle: AsyncPartitionHandle) -> None:
        assert item not in self._busy, f"{self.member.name} begins on what {self._busy[item]} works on"
        self._busy[item] = self.member.name
        self.begun.append(item)
        self.tokens.setdefault(item, []).append(handle.token)
        try:
            await asyncio.Event().wait()
        finally:
            await self.may_stop.wait()
            del self._busy[item]

    def owns(self, items: set[str]) -> bool:
        return set(self.member.owned) == items

    def works_on(self, items: set[str]) -> bool:
        return {item for item, name in self._busy.items() if name == self.member.name} == items

    async def end(self) -> None:
        self.may_stop.set()
        self.running.cancel()
        await asyncio.wait([self.running])
        failure = None if self.running.cancelled() else self.running.exception()
        assert failure is None or isinstance(failure, ClientClosedError), failure


Begin = Callable[..., Worker]


@pytest.fixture
async def begin() -> AsyncIterator[Begin]:
    """Begin members that work; they are ended after the test, and must not have failed."""
    busy: dict[str, str] = {}
    async with AsyncExitStack() as stack:

        def begin_one(member: AsyncPartitioner) -> Worker:
            worker = Worker(member, busy)
            stack.push_async_callback(worker.end)
            return worker

        yield begin_one
    assert busy == {}


@asynccontextmanager
async def changes_of(member: AsyncPartitioner) -> AsyncIterator[asyncio.Queue[object]]:
    """Collect what a member is told, without doing anything about it."""
    queue: asyncio.Queue[object] = asyncio.Queue()

    async def collect() -> None:
        async for change in member.changes():
            queue.put_nowait(change)

    task = asyncio.create_task(collect())
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.wait([task])


async def next_change(queue: asyncio.Queue[object]) -> object:
    async with asyncio.timeout(10):
        return await queue.get()


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
# Work


async def test_work_that_takes_its_time_to_stop_keeps_its_item_until_it_ends(
    connect: Connect, begin: Begin
) -> None:
    first = begin(partitioner(await connect(), "a"))
    await eventually(lambda: first.works_on(set(ITEMS)))
    first.may_stop.clear()
    second = begin(partitioner(await connect(), "b"))
    both = plan("a", "b")
    await eventually(lambda: first.owns(both["a"]))
    assert first.works_on(set(ITEMS))
    assert second.works_on(set())
    first.may_stop.set()

    await eventually(lambda: second.works_on(both["b"]) and first.works_on(both["a"]))


async def test_work_that_is_stopping_is_not_cancelled_again(connect: Connect, begin: Begin) -> None:
    """Its item was revoked, then the whole run is stopped: what it does to end must not be disturbed."""
    first = begin(partitioner(await connect(), "a"))
    await eventually(lambda: first.works_on(set(ITEMS)))
    first.may_stop.clear()
    begin(partitioner(await connect(), "b"))
    both = plan("a", "b")
    await eventually(lambda: first.owns(both["a"]))
    await first.member.stop()
    await eventually(
        lambda: first.member.owned and all(h.revoke_requested for h in first.member.owned.values())
    )
    assert first.works_on(set(ITEMS))
    first.may_stop.set()

    await eventually(lambda: first.works_on(set()))
    await first.running


async def test_work_that_takes_its_time_keeps_its_item_though_run_is_cancelled_twice(
    connect: Connect, server: FakeServer, begin: Begin
) -> None:
    first = begin(partitioner(await connect(), "a"))
    await eventually(lambda: first.works_on(set(ITEMS)))
    first.may_stop.clear()
    second = begin(partitioner(await connect(), "b"))
    for _ in range(3):
        first.running.cancel()
        await asyncio.wait([first.running], timeout=0.01)
    assert first.running.cancelled()
    assert first.works_on(set(ITEMS))
    await eventually(lambda: server.names(f"{PATH}/members") == ["b"])
    assert second.works_on(set())
    first.may_stop.set()

    await eventually(lambda: second.works_on(set(ITEMS)))


async def test_work_that_returns_keeps_its_item_and_is_not_called_again(
    connect: Connect, server: FakeServer, begin: Begin
) -> None:
    calls = []

    async def work(item: str, handle: AsyncPartitionHandle) -> None:
        calls.append(item)

    async with partitioner(await connect(), "a") as member:
        running = asyncio.create_task(member.run(work))
        await eventually(lambda: len(calls) == len(ITEMS))
        assert set(member.owned) == set(ITEMS)
        second = begin(partitioner(await connect(), "b"))
        await eventually(lambda: second.works_on(plan("a", "b")["b"]))
        assert sorted(calls) == sorted(ITEMS)
        await member.stop()
        await running


async def test_an_error_of_the_work_comes_out_and_all_work_is_stopped(
    client: AsyncClient, server: FakeServer
) -> None:
    stopped = []

    async def work(item: str, handle: AsyncPartitionHandle) -> None:
        if item == "item-3":
            await eventually(lambda: len(member.owned) == len(ITEMS))
            raise ZeroDivisionError
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(item)

    async with partitioner(client, "a") as member:
        with pytest.raises(ZeroDivisionError):
            await member.run(work)
        assert sorted(stopped) == sorted(item for item in ITEMS if item != "item-3")
    await eventually(lambda: client.janitor.task_count == 0)
    assert tokens(server) == {}


@pytest.mark.parametrize("notices", ["by asking", "by a guarded write"])
async def test_work_that_finds_its_item_lost_is_no_error(
    client: AsyncClient, server: FakeServer, notices: str
) -> None:
    handles: list[AsyncPartitionHandle] = []

    async def work(item: str, handle: AsyncPartitionHandle) -> None:
        handles.append(handle)
        if notices == "by asking":
            await handle.wait_lost()
            handle.check()
        while True:
            await client.set("/output", b"", guard=handle)

    await client.create("/output")
    member = AsyncPartitioner(client, PATH, ["only"], settle=0)
    async with member:
        running = asyncio.create_task(member.run(work))
        await eventually(lambda: len(handles) == 1)
        server.delete(handles[0].path)
        await eventually(lambda: len(handles) == 2)
        await member.stop()
        await running


async def test_requests_that_go_with_the_session_are_no_error(
    client: AsyncClient, server: FakeServer
) -> None:
    """The work hears of the loss by the failure of its own request, before it could be cancelled."""
    handles: list[AsyncPartitionHandle] = []

    async def work(item: str, handle: AsyncPartitionHandle) -> None:
        handles.append(handle)
        while True:
            await client.get("/")

    member = AsyncPartitioner(client, PATH, ["only"], settle=0)
    async with member:
        running = asyncio.create_task(member.run(work))
        for number in range(5):
            await eventually(lambda: len(handles) == number + 1)  # noqa: B023  # in this round only
            server.expire(client.session_id)
        await eventually(lambda: len(handles) == 6)
        await member.stop()
        await running


async def test_who_left_the_changes_can_run(client: AsyncClient) -> None:
    async with AsyncPartitioner(client, PATH, ["only"], settle=0) as member:
        async for change in member.changes():
            await change.handle.release()
            break
        begun = asyncio.Event()

        async def work(item: str, handle: AsyncPartitionHandle) -> None:
            begun.set()
            await asyncio.Event().wait()

        running = asyncio.create_task(member.run(work))
        await begun.wait()
        await member.stop()
        await running


async def test_a_client_that_is_closed_ends_the_work(connect: Connect, begin: Begin) -> None:
    client = await connect()
    worker = begin(partitioner(client, "a"))
    await eventually(lambda: worker.works_on(set(ITEMS)))
    await client.close()

    with pytest.raises(ClientClosedError):
        await worker.running
    assert worker.works_on(set())


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
    tasks_before = len(asyncio.all_tasks())
    async with partitioner(client, "a") as member:
        await eventually(lambda: len(member.owned) == len(ITEMS))
    await eventually(lambda: client.janitor.task_count == 0 and server.watch_count() == 0)

    assert server.names(f"{PATH}/members") == []
    assert tokens(server) == {}
    assert member.owned == {}
    assert len(asyncio.all_tasks()) == tasks_before


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


# ---------------------------------------------------------------------------------------------
# With a real server


async def test_through_lost_sessions_and_cut_connections_no_old_owner_writes_after_a_newer() -> None:
    """A session that an operator ends is lost before its owner knows: it may work on, its writes may not."""
    chance = random.Random(20)
    shares = plan("a", "b", "c")
    async with running_server() as server, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(AsyncClient(server.endpoints)) for _ in range(4)]
        observer = clients.pop()
        for item in ITEMS:
            await observer.create(f"/output/{item}", parents=True)

        async def write(client: AsyncClient, handle: AsyncPartitionHandle) -> None:
            while True:
                await client.set(f"/output/{handle.item}", str(handle.token).encode(), guard=handle)

        def begin(client: AsyncClient, member: AsyncPartitioner) -> None:
            running = asyncio.create_task(member.run(lambda _, handle: write(client, handle)))
            stack.push_async_callback(asyncio.wait, [running])
            stack.push_async_callback(member.stop)

        members = [partitioner(client, name) for client, name in zip(clients, "abc", strict=True)]
        for client, member in zip(clients, members, strict=True):
            begin(client, await stack.enter_async_context(member))
        for _ in range(12):
            written = await observer.sync()
            while await observer.sync() < written + 50:
                pass
            session_id = chance.choice(clients).session_id
            if chance.random() < 0.5 or not session_id:
                server.link.cut()
            else:
                await server.expire_session(session_id)
        await eventually(lambda: [set(member.owned) for member in members] == list(shares.values()))

        tokens: dict[str, list[int]] = {item: [] for item in ITEMS}
        async for event in observer.history("/output"):
            if event.value:
                tokens[event.path.rpartition("/")[2]].append(int(event.value))
    assert all(written == sorted(written) for written in tokens.values())
    assert len({token for written in tokens.values() for token in written}) > 2 * len(ITEMS)


# ---------------------------------------------------------------------------------------------
# For threads


class ThreadCrew:
    """What the threads of a member are doing."""

    def __init__(self, member: Partitioner) -> None:
        self.changed = threading.Condition()
        self.busy: set[str] = set()
        self.failures: list[Exception] = []
        self.may_stop = threading.Event()
        self.may_stop.set()
        self._member = member
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._member.run(self.work)
        except ZeroDivisionError as failure:
            self.failures.append(failure)

    def work(self, item: str, handle: PartitionHandle) -> None:
        assert handle.item == item
        self._note(self.busy.add, item)
        handle.revoke_requested.wait()
        self.may_stop.wait()
        self._note(self.busy.discard, item)

    def _note(self, change: Callable[[str], None], item: str) -> None:
        with self.changed:
            change(item)
            self.changed.notify_all()

    def wait_for(self, items: set[str]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.busy == items, timeout=10), self.busy


def test_threads_work_until_they_are_told_to_stop() -> None:
    with Server() as server, Client(server.endpoints) as client, Client(server.endpoints) as other:
        both = plan("a", "b")
        with Partitioner(client, PATH, ITEMS, name="a", settle=0.01) as first:
            crew = ThreadCrew(first)
            crew.wait_for(set(ITEMS))
            assert {item for item, handle in first.owned.items() if handle.remaining > 0} == set(ITEMS)
            crew.may_stop.clear()
            with Partitioner(other, PATH, ITEMS, name="b", settle=0.01) as second:
                second_crew = ThreadCrew(second)
                assert second.members().members.keys() == {"a", "b"}
                crew.may_stop.set()
                second_crew.wait_for(both["b"])
                crew.wait_for(both["a"])
                second.stop()
                second_crew.thread.join(10)
                assert not second_crew.busy
            crew.wait_for(set(ITEMS))
            server.expire_session(client.session_id)
            crew.wait_for(set())
            crew.wait_for(set(ITEMS))
        assert not crew.busy
        crew.thread.join(10)
        assert not crew.thread.is_alive()


def test_an_error_in_a_thread_comes_out_of_run() -> None:
    def work(item: str, handle: PartitionHandle) -> None:
        if item == "item-3":
            raise ZeroDivisionError
        handle.revoke_requested.wait()

    with (
        Server() as server,
        Client(server.endpoints) as client,
        Partitioner(client, PATH, ITEMS, settle=0) as member,
        pytest.raises(ZeroDivisionError),
    ):
        member.run(work)


def test_threads_follow_changes_one_by_one() -> None:
    with (
        Server() as server,
        Client(server.endpoints) as client,
        Partitioner(client, PATH, ["only"], settle=0) as member,
    ):
        changes = member.changes()
        first = next(changes)
        assert isinstance(first, Assigned)
        assert first.handle.token == member.owned["only"].token
        server.expire_session(client.session_id)
        second = next(changes)
        assert isinstance(second, Revoked)
        second.handle.release()
        third = next(changes)
        assert isinstance(third, Assigned)
        assert third.handle.token > first.handle.token

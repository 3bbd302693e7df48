"""The work of a partitioner: it ends before its item moves, and what goes wrong in it comes out."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from coordclient import (
    AsyncClient,
    Client,
    ClientClosedError,
    GuardFailedError,
)
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
from tests.unit.client.fake_server import FakeServer
from tests.unit.client.recipes.partition_workers import (
    ITEMS,
    PATH,
    Begin,
    beginning,
    partitioner,
    plan,
    tokens,
)


@pytest.fixture
async def begin() -> AsyncIterator[Begin]:
    async with beginning() as begin_one:
        yield begin_one


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
    await eventually(lambda: all(len(server.names(f"{PATH}/items/{item}")) == 2 for item in ITEMS))
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


async def test_a_further_run_works_on_everything_again(client: AsyncClient) -> None:
    calls = []

    async def work(item: str, handle: AsyncPartitionHandle) -> None:
        calls.append((item, handle.token))

    async with partitioner(client, "a") as member:
        for rounds in (1, 2):
            running = asyncio.create_task(member.run(work))
            await eventually(lambda: len(calls) == rounds * len(ITEMS))  # noqa: B023  # in this round only
            await member.stop()
            await running
    assert len(set(calls)) == 2 * len(ITEMS)


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


@pytest.mark.parametrize("notices", ["by asking", "by a guarded write", "before the client"])
async def test_work_that_finds_its_item_lost_is_no_error(
    client: AsyncClient, server: FakeServer, notices: str
) -> None:
    handles: list[AsyncPartitionHandle] = []

    async def work(item: str, handle: AsyncPartitionHandle) -> None:
        handles.append(handle)
        if notices == "before the client":
            raise_once(handle)
        if notices == "by asking":
            await handle.wait_lost()
            handle.check()
        while True:
            await client.set("/output", b"", guard=handle)

    def raise_once(handle: AsyncPartitionHandle) -> None:
        if handle is handles[0]:
            raise GuardFailedError("the lock is gone", path=handle.path)

    await client.create("/output")
    member = AsyncPartitioner(client, PATH, ["only"], settle=0)
    async with member:
        running = asyncio.create_task(member.run(work))
        await eventually(lambda: handles)
        if notices != "before the client":
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
            theirs = next(handle for item, handle in first.owned.items() if item in both["b"])
            with Partitioner(other, PATH, ITEMS, name="b", settle=0.01) as second:
                second_crew = ThreadCrew(second)
                assert second.members().members.keys() == {"a", "b"}
                assert theirs.revoke_requested.wait(10)
                for _ in range(20):
                    assert client.exists(theirs.path), "given back before its thread has ended"
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

"""Group: members that come back by themselves, and views that two processes can compare."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from coordclient import AsyncClient, Client, ClientClosedError, InvalidArgumentError, InvalidPathError, State
from coordclient.errors import MemberNameTakenError
from coordclient.recipes.group import AsyncGroup, Group, GroupView
from coordproto.v1 import coordination_pb2
from coordsvc.testing import Server, running_server
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import Code, FakeServer

PATH = "/groups/workers"


class Views:
    """What somebody who watches a group has seen."""

    def __init__(self, client: AsyncClient) -> None:
        self.seen: list[GroupView] = []
        self.failure: BaseException | None = None
        self.task = asyncio.create_task(self._follow(client))

    async def _follow(self, client: AsyncClient) -> None:
        async for view in AsyncGroup(client, PATH).watch():
            self.seen.append(view)

    @property
    def last(self) -> GroupView | None:
        return self.seen[-1] if self.seen else None

    def shows(self, *names: str, is_stale: bool = False) -> bool:
        return self.last is not None and (*self.last.members,) == names and self.last.is_stale is is_stale


@asynccontextmanager
async def watching(client: AsyncClient) -> AsyncIterator[Views]:
    views = Views(client)
    try:
        yield views
    finally:
        views.task.cancel()
        await asyncio.wait([views.task])


async def lose_session(client: AsyncClient, server: FakeServer) -> int:
    """Let the client give its session up; the service has not yet."""
    session_id = client.session_id
    server.refuse_attaches = [Code.NO_LEADER] * 1000
    server.drop_connections()
    await eventually(lambda: client.state is State.LOST)
    return session_id


# ---------------------------------------------------------------------------------------------
# Being a member


async def test_a_member_is_seen_until_it_leaves(client: AsyncClient, server: FakeServer) -> None:
    group = AsyncGroup(client, PATH)
    membership = await group.join("a", b"here")
    view = await group.members()

    assert dict(view.members) == {"a": b"here"}
    assert repr(membership) == f"<Membership {PATH}/a member>"
    assert server.tree.nodes[f"{PATH}/a"].stat.ephemeral_owner == client.session_id

    await membership.leave()
    await membership.leave()
    assert not membership.is_member
    assert len(await group.members()) == 0


async def test_a_member_needs_no_name(client: AsyncClient, server: FakeServer) -> None:
    group = AsyncGroup(client, PATH)
    async with await group.join() as first, await group.join() as second:
        assert first.name != second.name
        assert sorted(server.names(PATH)) == sorted([first.name, second.name])

    assert server.names(PATH) == []


@pytest.mark.parametrize("name", ["", "a/b", ".", ".."])
async def test_a_name_that_is_no_name_is_refused(client: AsyncClient, name: str) -> None:
    with pytest.raises(InvalidArgumentError):
        await AsyncGroup(client, PATH).join(name)


@pytest.mark.parametrize("path", ["/", "groups", ""])
def test_a_path_that_is_no_groups_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidPathError):
        AsyncGroup(AsyncClient(), path)


async def test_a_name_belongs_to_one_session(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(), await connect()
    await AsyncGroup(first, PATH).join("a", b"first")

    with pytest.raises(MemberNameTakenError):
        await AsyncGroup(second, PATH).join("a", b"second")
    with pytest.raises(MemberNameTakenError):
        await AsyncGroup(first, PATH).join("a", b"again")
    assert server.tree.nodes[f"{PATH}/a"].value == b"first"
    await eventually(lambda: second.janitor.task_count == 0)


async def test_one_who_may_wait_gets_the_name_when_it_is_free(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(), await connect()
    await AsyncGroup(first, PATH).join("a", b"crashed")
    joining = asyncio.create_task(AsyncGroup(second, PATH).join("a", b"restarted", timeout=None))
    await eventually(lambda: server.watch_count() == 2)  # the member's own, and that of the one who waits
    assert not joining.done()
    server.refuse_attaches = [Code.NO_LEADER] * 1000  # The crashed one does not come back.
    server.expire(first.session_id)

    assert (await joining).is_member
    assert server.tree.nodes[f"{PATH}/a"].value == b"restarted"


async def test_one_whose_time_is_over_does_not_get_the_name_later(
    connect: Connect, server: FakeServer
) -> None:
    first, second = await connect(), await connect()
    membership = await AsyncGroup(first, PATH).join("a")
    with pytest.raises(MemberNameTakenError):
        await AsyncGroup(second, PATH).join("a", timeout=0.05)
    await membership.leave()
    await eventually(lambda: second.janitor.task_count == 0)

    assert server.names(PATH) == []


# ---------------------------------------------------------------------------------------------
# Sessions that end


async def test_a_member_comes_back_in_the_next_session(client: AsyncClient, server: FakeServer) -> None:
    membership = await AsyncGroup(client, PATH).join("a", b"1")
    await membership.update(b"2")
    former = client.session_id
    server.expire(former)
    await eventually(lambda: client.session_id not in (0, former) and membership.is_member)

    assert server.tree.nodes[f"{PATH}/a"].value == b"2"


async def test_the_newest_value_is_announced_after_a_suspension(connect: Connect, server: FakeServer) -> None:
    """The session stays the same; the update was given up by its caller long before."""
    client = await connect(request_timeout=0.05, session_timeout=30)
    membership = await AsyncGroup(client, PATH).join("a", b"1")
    server.refuse_attaches = [Code.NO_LEADER] * 1000
    server.drop_connections()
    await eventually(lambda: client.state is State.SUSPENDED)
    await membership.update(b"2")
    await membership.update(b"3")
    assert server.tree.nodes[f"{PATH}/a"].value == b"1"
    server.refuse_attaches.clear()

    await eventually(lambda: server.tree.nodes[f"{PATH}/a"].value == b"3")


async def test_one_who_leaves_without_a_session_does_not_come_back(
    connect: Connect, server: FakeServer
) -> None:
    client = await connect(session_timeout=0.5)
    membership = await AsyncGroup(client, PATH).join("a")
    former = await lose_session(client, server)
    await membership.leave()
    server.expire(former)
    server.refuse_attaches.clear()
    await eventually(lambda: client.state is State.CONNECTED)
    await client.sync()

    assert server.names(PATH) == []


async def test_who_leaves_while_joining_leaves_nothing(client: AsyncClient, server: FakeServer) -> None:
    await client.create(PATH, parents=True)
    server.holds_answers = True
    joining = asyncio.create_task(AsyncGroup(client, PATH).join("a"))
    await eventually(lambda: server.names(PATH) == ["a"])
    joining.cancel()
    await asyncio.wait([joining])
    assert joining.cancelled()
    server.release_answers()
    await eventually(lambda: client.janitor.task_count == 0)

    assert server.names(PATH) == []
    assert server.watch_count() == 0


# ---------------------------------------------------------------------------------------------
# Views


async def test_a_group_that_nobody_has_joined_is_empty(client: AsyncClient) -> None:
    assert await AsyncGroup(client, PATH).members() == GroupView()


async def test_strangers_are_no_members(client: AsyncClient, server: FakeServer) -> None:
    await AsyncGroup(client, PATH).join("a")
    server.set(f"{PATH}/left-by-an-operator", b"")

    assert list((await AsyncGroup(client, PATH).members()).members) == ["a"]


async def test_a_view_cannot_be_changed(client: AsyncClient) -> None:
    await AsyncGroup(client, PATH).join("a")
    view = await AsyncGroup(client, PATH).members()

    with pytest.raises(TypeError):
        view.members["b"] = b""  # type: ignore[index]  # that is what is tested
    with pytest.raises(AttributeError):
        view.generation = 0  # type: ignore[misc]  # that is what is tested


async def test_views_follow_joins_updates_and_leaves(connect: Connect) -> None:
    client, other = await connect(), await connect()
    group = AsyncGroup(other, PATH)
    async with watching(client) as views:
        await eventually(lambda: views.shows())
        first = await group.join("b", b"1")
        await eventually(lambda: views.shows("b"))
        second = await group.join("a")
        await eventually(lambda: views.shows("a", "b"))
        await first.update(b"2")
        await eventually(lambda: views.last is not None and views.last.members["b"] == b"2")
        await second.leave()
        await eventually(lambda: views.shows("b"))
        await first.leave()
        await eventually(lambda: views.shows())

        generations = [view.generation for view in views.seen]
    assert generations == sorted(set(generations))


async def test_two_processes_that_see_the_same_generation_see_the_same_members(connect: Connect) -> None:
    """One has followed every event, the other reads the group now and then."""
    client, other = await connect(), await connect()
    group = AsyncGroup(other, PATH)
    read = [await group.members()]
    async with watching(client) as views:
        first = await group.join("a", b"1")
        for change in (group.join("b", b"1"), first.update(b"2"), first.leave()):
            await change
            read.append(await group.members())
            await eventually(lambda: views.last is not None and views.last == read[-1])

    assert [view.generation for view in read] == sorted({view.generation for view in read})


async def test_a_view_is_kept_while_suspended_and_says_that_it_is_stale(
    connect: Connect, server: FakeServer
) -> None:
    client, other = await connect(session_timeout=30), await connect(session_timeout=30)
    await AsyncGroup(other, PATH).join("a")
    async with watching(client) as views:
        await eventually(lambda: views.shows("a"))
        server.refuse_attaches = [Code.NO_LEADER] * 1000
        server.drop_connections()
        await eventually(lambda: views.shows("a", is_stale=True))
        server.refuse_attaches.clear()
        await eventually(lambda: views.shows("a"))


async def test_a_view_is_stale_until_the_service_has_confirmed_it(
    connect: Connect, server: FakeServer
) -> None:
    """To be connected again is not enough."""
    client, other = await connect(session_timeout=30), await connect(session_timeout=30)
    await AsyncGroup(other, PATH).join("a")
    async with watching(client) as views:
        await eventually(lambda: views.shows("a"))
        server.refuse_attaches = [Code.NO_LEADER] * 1000
        server.drop_connections()
        await eventually(lambda: views.shows("a", is_stale=True))
        server.holds_answers = True
        asked = len(server.frames)
        server.refuse_attaches.clear()
        await eventually(lambda: client.state is State.CONNECTED)
        await eventually(lambda: any(frame.reads for frame in server.frames[asked:]))
        assert views.shows("a", is_stale=True)
        server.release_answers()
        await eventually(lambda: views.shows("a"))


async def test_a_group_that_changes_while_it_is_read_is_read_again(
    client: AsyncClient, server: FakeServer
) -> None:
    await AsyncGroup(client, PATH).join("a")
    lists: list[coordination_pb2.Read] = []

    def change(frame: coordination_pb2.ClientFrame) -> None:
        lists.extend(read for read in frame.reads if read.HasField("list_children"))
        if len(lists) == 1 and f"{PATH}/stranger" not in server.tree.nodes:
            asyncio.get_running_loop().call_soon(server.set, f"{PATH}/stranger", b"")

    server.on_frame = change
    view = await AsyncGroup(client, PATH).members()

    assert len(lists) == 2
    assert view.generation == server.tree.nodes[f"{PATH}/stranger"].stat.czxid


async def test_a_view_catches_up_after_a_lost_session(connect: Connect, server: FakeServer) -> None:
    client, other = await connect(session_timeout=0.5), await connect(session_timeout=30)
    await AsyncGroup(other, PATH).join("a")
    async with watching(client) as views:
        await eventually(lambda: views.shows("a"))
        await lose_session(client, server)
        await eventually(lambda: views.shows("a", is_stale=True))
        server.refuse_attaches.clear()
        await AsyncGroup(other, PATH).join("b")
        await eventually(lambda: views.shows("a", "b"))


async def test_a_view_is_read_anew_when_history_is_gone(connect: Connect, server: FakeServer) -> None:
    client, other = await connect(), await connect()
    await AsyncGroup(other, PATH).join("a")
    async with watching(client) as views:
        await eventually(lambda: views.shows("a"))
        server.drop_connections()
        await AsyncGroup(other, PATH).join("b")
        server.tree.zxid = server.history_begins_after = 100
        server.tree.changes.clear()
        await eventually(lambda: views.shows("a", "b"))


async def test_that_all_have_gone_is_confirmed_by_a_read(connect: Connect, server: FakeServer) -> None:
    """An event says so; while the service does not answer, nobody is told."""
    client, other = await connect(session_timeout=30), await connect()
    await AsyncGroup(other, PATH).join("a")
    async with watching(client) as views:
        await eventually(lambda: views.shows("a"))
        asked = len(server.frames)
        server.holds_answers = True
        server.refuse_attaches = [Code.NO_LEADER] * 1000
        server.expire(other.session_id)
        await eventually(lambda: any(frame.reads for frame in server.frames[asked:]))
        assert views.shows("a")
        server.release_answers()
        await eventually(lambda: views.shows())


async def test_who_stops_watching_leaves_no_watch_and_no_task(
    client: AsyncClient, server: FakeServer
) -> None:
    assert client._driver is not None
    tasks_before, listeners_before = len(asyncio.all_tasks()), len(client._driver._listeners)
    for _ in range(3):
        async with watching(client) as views:
            await eventually(lambda: views.seen)
    await eventually(lambda: server.watch_count() == 0)

    assert len(asyncio.all_tasks()) == tasks_before
    assert len(client._driver._listeners) == listeners_before


async def test_watching_ends_with_its_client(client: AsyncClient) -> None:
    views = Views(client)
    await eventually(lambda: views.shows())
    await client.close()

    with pytest.raises(ClientClosedError):
        await views.task


# ---------------------------------------------------------------------------------------------
# Cancellation


async def test_joining_cancelled_at_any_await_leaves_nothing(connect: Connect, server: FakeServer) -> None:
    """Cancelled after one step of the event loop, after two, and so on until it has joined in time."""
    client = await connect()
    steps = 0
    is_joined = False
    while not is_joined:
        steps += 1
        joining = asyncio.create_task(AsyncGroup(client, PATH).join("a"))
        for _ in range(steps):
            await asyncio.sleep(0)
        joining.cancel()
        await asyncio.wait([joining])
        is_joined = not joining.cancelled()
        if is_joined:
            await joining.result().leave()
        await eventually(lambda: client.janitor.task_count == 0)
        assert server.names(PATH) == []
        await eventually(lambda: server.watch_count() == 0)

    assert steps > 5


async def test_leaving_is_carried_out_though_its_caller_is_cancelled(
    client: AsyncClient, server: FakeServer
) -> None:
    membership = await AsyncGroup(client, PATH).join("a")
    server.holds_answers = True
    leaving = asyncio.create_task(membership.leave())
    await asyncio.wait([leaving], timeout=0)
    leaving.cancel()
    await asyncio.wait([leaving])
    server.release_answers()

    await eventually(lambda: server.names(PATH) == [])


async def test_an_update_is_carried_out_though_its_caller_is_cancelled(
    client: AsyncClient, server: FakeServer
) -> None:
    membership = await AsyncGroup(client, PATH).join("a", b"1")
    server.holds_answers = True
    updating = asyncio.create_task(membership.update(b"2"))
    await asyncio.wait([updating], timeout=0)
    updating.cancel()
    await asyncio.wait([updating])
    server.release_answers()

    await eventually(lambda: server.tree.nodes[f"{PATH}/a"].value == b"2")
    await membership.update(b"3")
    assert server.tree.nodes[f"{PATH}/a"].value == b"3"


# ---------------------------------------------------------------------------------------------
# With a real server


async def test_the_real_service_gives_views_the_same_generations() -> None:
    async with (
        running_server() as server,
        AsyncClient(server.endpoints) as client,
        AsyncClient(server.endpoints) as other,
        watching(client) as views,
    ):
        group = AsyncGroup(other, PATH)
        membership = await group.join("a", b"1")
        await group.join("b", b"1")
        await membership.update(b"2")
        former = other.session_id
        await server.expire_session(former)
        await eventually(lambda: other.session_id != former and membership.is_member)
        await membership.leave()
        await eventually(lambda: views.shows("b"))
        read = await AsyncGroup(client, PATH).members()

        assert views.last == read
        assert read.generation > 0


# ---------------------------------------------------------------------------------------------
# For threads


def test_threads_join_watch_and_leave() -> None:
    with Server() as server, Client(server.endpoints) as client, Client(server.endpoints) as other:
        group = Group(client, PATH)
        with group.join("a", b"1") as membership:
            assert membership.is_member
            with pytest.raises(MemberNameTakenError):
                Group(other, PATH).join("a")
            views = group.watch()
            assert dict(next(views).members) == {"a": b"1"}
            membership.update(b"2")
            assert dict(next(views).members) == {"a": b"2"}
            assert membership.value == b"2"
            before = group.members().generation
            server.expire_session(client.session_id)
            while (view := next(views)).generation <= before or "a" not in view:
                pass
            assert dict(view.members) == {"a": b"2"}
            views.close()  # type: ignore[attr-defined]  # a generator
        assert group.members().members == {}
        assert not membership.is_member

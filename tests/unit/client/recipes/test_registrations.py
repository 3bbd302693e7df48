"""Registrations: the node that announces us is there whenever it can be, and not once it is taken back."""

from __future__ import annotations

import asyncio

import pytest

from coordclient import AsyncClient, InvalidArgumentError, LimitExceededError, State
from coordclient.errors import MemberNameTakenError, RecipeTimeoutError
from coordclient.recipes import registrations
from coordclient.recipes.registrations import Announcement
from coordproto.v1 import coordination_pb2, data_pb2
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import Code, FakeServer
from tests.unit.client.fake_tree import RefusedError

PATH = "/here/x"


def announcement(client: AsyncClient, value: bytes = b"1") -> Announcement:
    return Announcement(client, PATH, value, taken=MemberNameTakenError)


def value_on(server: FakeServer) -> bytes | None:
    node = server.tree.nodes.get(PATH)
    return None if node is None else node.value


async def give_up_session(client: AsyncClient, server: FakeServer) -> None:
    """Let the client give its session up; the service has not yet. Nobody can attach after this."""
    server.refuse_attaches = [Code.NO_LEADER] * 1000
    server.drop_connections()
    await eventually(lambda: client.state is State.LOST)


async def test_a_node_that_somebody_deleted_comes_back(client: AsyncClient, server: FakeServer) -> None:
    ours = announcement(client)
    await ours.open()
    await ours.update(b"2")
    former = ours.czxid
    server.delete(PATH)
    await eventually(lambda: value_on(server) == b"2")
    await eventually(lambda: ours.czxid > former)
    server.delete(PATH)
    await eventually(lambda: value_on(server) == b"2")


async def test_a_node_that_was_deleted_before_it_was_watched_comes_back(
    client: AsyncClient, server: FakeServer
) -> None:
    await client.create("/here")
    server.holds_answers = True
    ours = announcement(client)
    opening = asyncio.create_task(ours.open())
    await eventually(lambda: value_on(server) == b"1")
    server.delete(PATH)
    server.release_answers()
    await opening

    assert value_on(server) == b"1"
    assert ours.is_announced
    assert ours.czxid == server.tree.nodes[PATH].stat.czxid


async def test_a_change_while_the_node_is_made_is_announced(client: AsyncClient, server: FakeServer) -> None:
    ours = announcement(client)
    await ours.open()
    server.holds_answers = True
    server.delete(PATH)
    await eventually(lambda: value_on(server) == b"1")  # Made again; we do not know yet.
    await ours.update(b"2")
    server.release_answers()

    await eventually(lambda: value_on(server) == b"2")


async def test_a_change_does_not_touch_what_another_has_put_there(
    client: AsyncClient, server: FakeServer
) -> None:
    """It was deleted and made by another in a moment, and we have not heard of it yet."""
    ours = announcement(client)
    await ours.open()
    server.delete(PATH)
    server.set(PATH, b"other")
    await ours.update(b"2")
    assert value_on(server) == b"other"
    server.delete(PATH)

    await eventually(lambda: value_on(server) == b"2")


async def test_what_another_puts_in_the_place_of_our_former_node_is_not_removed(
    connect: Connect, server: FakeServer
) -> None:
    """It comes between our look at the node and its removal."""
    client = await connect(session_timeout=0.5)
    ours = announcement(client)
    await ours.open()
    await give_up_session(client, server)
    swapped: list[coordination_pb2.ClientFrame] = []

    def swap(frame: coordination_pb2.ClientFrame) -> None:
        if not swapped and any(write.HasField("delete") for write in frame.writes.writes):
            swapped.append(frame)
            server.delete(PATH)
            server.set(PATH, b"other")

    server.on_frame = swap
    server.refuse_attaches.clear()
    await eventually(lambda: swapped and server.watch_count() == 1)
    assert value_on(server) == b"other"
    assert not ours.is_announced
    server.delete(PATH)

    await eventually(lambda: value_on(server) == b"1")


async def test_what_any_session_of_ours_left_is_replaced(connect: Connect, server: FakeServer) -> None:
    """The second session made the node, did not hear of it, and is lost; the service has it still."""
    client = await connect(session_timeout=0.5)
    ours = announcement(client)
    await ours.open()
    first = client.session_id
    server.holds_answers = True
    server.expire(first)
    await eventually(lambda: PATH in server.tree.nodes)
    second = server.tree.nodes[PATH].stat.ephemeral_owner
    assert second == client.session_id != first
    await give_up_session(client, server)
    server.release_answers()
    server.refuse_attaches.clear()
    await eventually(lambda: ours.is_announced)

    assert server.tree.nodes[PATH].stat.ephemeral_owner == client.session_id != second


async def test_closing_does_not_remove_what_another_has_put_there(
    connect: Connect, server: FakeServer
) -> None:
    client, other = await connect(), await connect()
    ours = announcement(client)
    await ours.open()
    server.drop_before_apply = 1
    closing = asyncio.create_task(ours.close())
    await eventually(lambda: ours.is_closed)
    server.delete(PATH)
    theirs = announcement(other, b"other")
    await theirs.open()
    await closing

    assert value_on(server) == b"other"


async def test_a_value_that_is_refused_leaves_the_one_before(
    client: AsyncClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = announcement(client)
    await ours.open()

    def refuse(_: object) -> None:
        raise RefusedError(Code.LIMIT_EXCEEDED, PATH)

    with monkeypatch.context() as patch:
        patch.setattr(server.tree, "_set", refuse)
        with pytest.raises(LimitExceededError):
            await ours.update(b"too large")
    former = client.session_id
    server.expire(former)
    await eventually(lambda: client.session_id not in (0, former) and ours.is_announced)

    assert value_on(server) == ours.value == b"1"


async def test_a_refusal_in_a_later_session_is_sat_out(
    client: AsyncClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrations, "PAUSE_SECONDS", 0.001)
    ours = announcement(client)
    await ours.open()
    refused = []

    def refuse(*_: object) -> None:
        refused.append(1)
        raise RefusedError(Code.LIMIT_EXCEEDED, PATH)

    with monkeypatch.context() as patch:
        patch.setattr(server.tree, "_create", refuse)
        server.expire(client.session_id)
        await eventually(lambda: len(refused) >= 3)
    await eventually(lambda: ours.is_announced)


async def test_a_refusal_of_the_first_is_the_callers(
    client: AsyncClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RefusedError(Code.LIMIT_EXCEEDED, PATH)

    monkeypatch.setattr(server.tree, "_create", refuse)
    ours = announcement(client)

    with pytest.raises(LimitExceededError):
        await ours.open()
    assert ours.is_closed


async def test_nothing_can_be_announced_after_the_end(client: AsyncClient, server: FakeServer) -> None:
    ours = announcement(client)
    await ours.open()
    await ours.close()

    with pytest.raises(InvalidArgumentError):
        await ours.update(b"2")
    assert value_on(server) is None
    await eventually(lambda: server.watch_count() == 0)


async def test_one_who_cannot_reach_the_service_in_time_is_told(connect: Connect, server: FakeServer) -> None:
    client = await connect(session_timeout=30)
    server.is_silent = True
    server.drop_connections()
    await eventually(lambda: client.state is State.SUSPENDED)
    ours = announcement(client)

    with pytest.raises(RecipeTimeoutError):
        await ours.open(0.05)
    server.is_silent = False
    await eventually(lambda: client.janitor.task_count == 0)
    assert value_on(server) is None


@pytest.mark.parametrize("frame_number", range(1, 5))
@pytest.mark.parametrize("is_applied", [False, True])
async def test_a_connection_cut_anywhere_changes_nothing(
    client: AsyncClient, server: FakeServer, frame_number: int, is_applied: bool
) -> None:
    """Making the directory, making the node, watching it: each may be sent twice and is applied once."""
    seen = []

    def cut(frame: coordination_pb2.ClientFrame) -> None:
        if frame.writes.writes or frame.reads:
            seen.append(frame)
        if len(seen) == frame_number:
            seen.append(frame)
            server.drop_after_apply, server.drop_before_apply = int(is_applied), int(not is_applied)

    server.on_frame = cut
    ours = announcement(client)
    await ours.open()

    assert server.tree.nodes[PATH].stat.czxid == ours.czxid
    await ours.close()
    assert value_on(server) is None


@pytest.mark.parametrize("frame_number", range(1, 6))
async def test_a_session_that_ends_anywhere_changes_nothing(
    client: AsyncClient, server: FakeServer, frame_number: int
) -> None:
    seen = []

    def expire(frame: coordination_pb2.ClientFrame) -> None:
        if frame.writes.writes or frame.reads:
            seen.append(frame)
        if len(seen) == frame_number:
            seen.append(frame)
            server.holds_answers = True
            asyncio.get_running_loop().call_soon(server.expire, client.session_id)
            asyncio.get_running_loop().call_soon(server.release_answers)

    server.on_frame = expire
    ours = announcement(client)
    await ours.open()
    await eventually(lambda: ours.is_announced)
    await eventually(lambda: PATH in server.tree.nodes and server.tree.nodes[PATH].stat.czxid == ours.czxid)
    await ours.close()

    assert value_on(server) is None


async def test_one_whose_time_is_over_waits_no_more(connect: Connect, server: FakeServer) -> None:
    first, second = await connect(), await connect()
    await announcement(first).open()

    with pytest.raises(MemberNameTakenError):
        await announcement(second).open(0.05)
    await eventually(lambda: second.janitor.task_count == 0)
    await eventually(lambda: server.watch_count() == 1)  # of the one who has the path


async def test_changes_while_nobody_answers_wait_together_and_the_newest_is_announced(
    connect: Connect, server: FakeServer
) -> None:
    client = await connect(request_timeout=0.001, session_timeout=30)
    ours = announcement(client)
    await ours.open()
    await eventually(lambda: client.janitor.task_count == 0)
    server.holds_answers = True
    for number in range(2, 50):
        await ours.update(str(number).encode())
    assert client.janitor.task_count <= 2  # one announces, and one may be watching the node again
    server.release_answers()

    await eventually(lambda: value_on(server) == b"49")
    await eventually(lambda: client.janitor.task_count == 0)
    assert server.tree.nodes[PATH].stat.version == 2


async def test_a_node_that_nobody_owns_is_not_removed_by_one_who_began_without_a_session(
    connect: Connect, server: FakeServer
) -> None:
    client = await connect(session_timeout=0.5)
    server.set(PATH, b"of an operator")
    await give_up_session(client, server)
    opening = asyncio.create_task(announcement(client).open())
    await asyncio.sleep(0)
    server.refuse_attaches.clear()

    with pytest.raises(MemberNameTakenError):
        await opening
    assert value_on(server) == b"of an operator"


async def test_a_value_that_is_refused_in_the_next_session_does_not_keep_us_away(
    connect: Connect, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked for when nobody could say that it is too large."""
    monkeypatch.setattr(registrations, "PAUSE_SECONDS", 0.001)
    client = await connect(session_timeout=0.5)
    ours = announcement(client)
    await ours.open()
    create, change = server.tree._create, server.tree._set

    def limited_create(message: data_pb2.Create, session_id: int) -> data_pb2.Created:
        if len(message.value) > 1:
            raise RefusedError(Code.LIMIT_EXCEEDED, PATH)
        return create(message, session_id)

    def limited_set(message: data_pb2.Set) -> data_pb2.Stat:
        if len(message.value) > 1:
            raise RefusedError(Code.LIMIT_EXCEEDED, PATH)
        return change(message)

    monkeypatch.setattr(server.tree, "_create", limited_create)
    monkeypatch.setattr(server.tree, "_set", limited_set)
    await give_up_session(client, server)
    await ours.update(b"too large")
    server.refuse_attaches.clear()
    await eventually(lambda: ours.is_announced and ours.value == b"1")
    await ours.update(b"2")

    assert value_on(server) == b"2"


async def test_one_who_may_not_watch_who_has_the_path_looks_again(
    client: AsyncClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrations, "PAUSE_SECONDS", 0.001)
    server.set(PATH, b"other")
    refused: list[str] = []

    async def refuse(path: str, *_: object, **__: object) -> None:
        refused.append(path)
        raise LimitExceededError("a session may have so many watches", path=path)

    with monkeypatch.context() as patch:
        patch.setattr(client, "exists_with", refuse)
        opening = asyncio.create_task(announcement(client).open(None))
        await eventually(lambda: refused)
    server.delete(PATH)
    await opening

    assert value_on(server) == b"1"

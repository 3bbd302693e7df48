"""DoubleBarrier: nobody in early, nobody out early, and nobody counted who is not in."""

from __future__ import annotations

import asyncio
import json

import pytest

from coordclient import (
    AsyncClient,
    ClientStateError,
    InvalidArgumentError,
    InvalidPathError,
    LockLostError,
    State,
)
from coordclient.errors import (
    ClientClosedError,
    InvalidValueError,
    LockRevokedError,
    MismatchError,
    RecipeTimeoutError,
)
from coordclient.recipes.barrier_entry import AsyncBarrierRound
from coordclient.recipes.double_barrier import AsyncDoubleBarrier
from coordproto.v1 import coordination_pb2, data_pb2
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import FakeServer

PATH = "/barriers/phase"


def members(server: FakeServer, number: int = 0) -> list[str]:
    return server.names(f"{PATH}/round-{number}")


def present_round(server: FakeServer) -> int:
    return int(json.loads(server.tree.nodes[PATH].value)["round"])


async def party(connect: Connect, parties: int = 3) -> AsyncDoubleBarrier:
    return AsyncDoubleBarrier(await connect(), PATH, parties)


async def entering(
    barrier: AsyncDoubleBarrier, server: FakeServer, *, timeout: float | None = None
) -> asyncio.Task[AsyncBarrierRound]:
    """Start to enter; return when the service counts one more."""
    number = present_round(server) if PATH in server.tree.nodes else 0
    count = len(members(server, number))
    task = asyncio.create_task(barrier.enter(timeout=timeout))
    await eventually(lambda: len(members(server, number)) > count)
    return task


async def settled(client: AsyncClient) -> None:
    """Return when everything that has been sent so far was answered, and everything it led to was sent."""
    for _ in range(5):
        await client.sync()


async def test_nobody_is_in_before_all_are_there(connect: Connect, server: FakeServer) -> None:
    barriers = [await party(connect) for _ in range(3)]
    first, second = await entering(barriers[0], server), await entering(barriers[1], server)
    await settled(await connect())
    assert not first.done()
    assert not second.done()
    rounds = await asyncio.gather(first, second, barriers[2].enter())

    assert {entered.number for entered in rounds} == {0}
    assert present_round(server) == 1
    assert len({entered.token for entered in rounds}) == 3


async def test_nobody_is_out_before_all_have_left(connect: Connect, server: FakeServer) -> None:
    barriers = [await party(connect) for _ in range(3)]
    rounds = await asyncio.gather(*(barrier.enter() for barrier in barriers))
    leaving = [asyncio.create_task(entered.leave()) for entered in rounds[:2]]
    await eventually(lambda: len(members(server)) == 1)
    await settled(await connect())
    assert not any(task.done() for task in leaving)
    await barriers[2].leave()
    await asyncio.gather(*leaving)

    await eventually(lambda: server.names(PATH) == [])


async def test_a_single_party_waits_for_nobody(client: AsyncClient, server: FakeServer) -> None:
    barrier = AsyncDoubleBarrier(client, PATH, 1)
    async with barrier as entered:
        assert entered.number == 0
        entered.check()
    async with barrier as entered:
        assert entered.number == 1

    await eventually(lambda: server.names(PATH) == [])


async def test_what_a_former_round_left_behind_lets_nobody_in(
    client: AsyncClient, server: FakeServer
) -> None:
    """A latch among the members that are counted once let a single client through."""
    server.set(f"{PATH}/round-0/ready", b"")
    server.set(PATH, b'{"parties": 2, "round": 0}')
    task = await entering(AsyncDoubleBarrier(client, PATH, 2), server)
    await settled(client)
    assert not task.done()
    server.set(f"{PATH}/ready", b"")
    await settled(client)
    assert not task.done()
    task.cancel()


async def test_many_rounds_with_the_same_barrier(connect: Connect, server: FakeServer) -> None:
    inside = 0
    most = []

    async def work(barrier: AsyncDoubleBarrier) -> list[int]:
        nonlocal inside
        numbers = []
        for _ in range(6):
            async with barrier as entered:
                numbers.append(entered.number)
                inside += 1
                most.append(inside)
                await asyncio.sleep(0)
                inside -= 1
        return numbers

    barriers = [await party(connect) for _ in range(3)]
    numbers = await asyncio.gather(*map(work, barriers))

    assert numbers == [list(range(6))] * 3
    assert max(most) <= 3
    await eventually(lambda: server.names(PATH) == [])


async def test_who_is_late_to_wake_has_entered_although_the_others_have_left_again(
    connect: Connect, server: FakeServer
) -> None:
    """Counting again after the latch would make it wait for those who wait for it."""
    late, quick = await party(connect, 2), await party(connect, 2)
    task = await entering(late, server)
    late_session = server.sessions[late._client.session_id]
    connection = late_session.connection
    assert connection is not None
    held: list[list[coordination_pb2.ServerItem]] = []
    connection.send = lambda *items: held.append(list(items))  # type: ignore[method-assign]  # it hears nothing now
    entered = await quick.enter()
    await entered.release()
    assert len(members(server)) == 1
    assert not task.done()
    del connection.send
    for items in held:
        connection.send(*items)

    assert (await task).number == 0


async def test_a_timeout_takes_the_party_back(connect: Connect, server: FakeServer) -> None:
    barrier = await party(connect, 2)
    with pytest.raises(RecipeTimeoutError, match=PATH) as caught:
        await barrier.enter(timeout=0.05)
    assert not caught.value.may_have_been_applied
    assert members(server) == []
    other = await entering(await party(connect, 2), server)
    await settled(await connect())
    assert not other.done()
    rounds = await asyncio.gather(other, barrier.enter())
    assert {entered.number for entered in rounds} == {0}


async def test_who_times_out_when_the_others_have_seen_it_enter_has_entered(
    connect: Connect, server: FakeServer
) -> None:
    barrier, other = await party(connect, 2), await party(connect, 2)
    task = await entering(barrier, server, timeout=0.1)
    # Before it can take itself back, the other party arrives.
    undone: list[asyncio.Task[AsyncBarrierRound]] = []

    def arrive(frame: coordination_pb2.ClientFrame) -> None:
        for write in frame.writes.writes:
            if any(operation.HasField("delete") for operation in write.transaction.success) and not undone:
                server.set(PATH, b'{"parties": 2, "round": 1}')
                undone.append(task)

    server.on_frame = arrive
    entered = await task

    assert undone
    assert entered.number == 0
    assert members(server) != []
    server.on_frame = None
    await entered.leave()
    assert other.parties == 2


async def test_a_timeout_is_kept_although_nobody_answers(
    connect: Connect, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordclient.recipes.double_barrier.UNDO_SECONDS", 0.02)
    barrier = await party(connect, 2)
    task = await entering(barrier, server, timeout=0.1)
    server.holds_answers = True
    with pytest.raises(RecipeTimeoutError) as caught:
        await task
    assert caught.value.may_have_been_applied
    server.release_answers()

    await eventually(lambda: members(server) == [])


async def test_leaving_in_time_although_others_stay(connect: Connect, server: FakeServer) -> None:
    first, second = await party(connect, 2), await party(connect, 2)
    await asyncio.gather(first.enter(), second.enter())
    with pytest.raises(RecipeTimeoutError):
        await first.leave(timeout=0.05)

    assert len(members(server)) == 1
    await second.leave()


@pytest.mark.parametrize("answers", range(7))
async def test_who_is_cancelled_at_any_await_is_not_counted(
    connect: Connect, server: FakeServer, answers: int
) -> None:
    client = await connect()
    barrier = AsyncDoubleBarrier(client, PATH, 2)
    frames = iter(range(answers))

    def hold(frame: coordination_pb2.ClientFrame) -> None:
        server.holds_answers = next(frames, None) is None

    server.on_frame = hold
    task = asyncio.create_task(barrier.enter())
    await eventually(lambda: server.holds_answers or (members(server) and server.watch_count()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.on_frame = None
    server.release_answers()

    await eventually(lambda: client.janitor.task_count == 0)
    assert members(server) == []
    await settled(client)
    await eventually(lambda: server.watch_count() == 0)


async def test_who_dies_while_it_waits_is_not_counted(connect: Connect, server: FakeServer) -> None:
    dead, other = await connect(), await party(connect, 2)
    task = await entering(AsyncDoubleBarrier(dead, PATH, 2), server)
    task.cancel()
    await dead.close()
    await eventually(lambda: members(server) == [])
    waiting = await entering(other, server)
    await settled(await connect())
    assert not waiting.done()
    await asyncio.gather(waiting, (await party(connect, 2)).enter())


async def test_who_loses_its_session_while_it_waits_is_counted_once_in_the_next(
    connect: Connect, server: FakeServer
) -> None:
    client = await connect()
    barrier = AsyncDoubleBarrier(client, PATH, 3)
    task = await entering(barrier, server)
    session = server.sessions.pop(client.session_id)
    # The client is told that its session is over, and the service has not removed what it made yet.
    assert session.connection is not None
    old = members(server)
    session.connection.outgoing.put_nowait(None)
    await eventually(lambda: client.session_id not in (0, session.session_id))
    await eventually(
        lambda: (
            [server.tree.nodes[f"{PATH}/round-0/{name}"].stat.ephemeral_owner for name in members(server)]
            == [client.session_id]
        )
    )
    assert members(server) == old
    second = await entering(await party(connect), server)
    await settled(client)
    assert not task.done()
    rounds = await asyncio.gather(task, second, (await party(connect)).enter())
    assert {entered.number for entered in rounds} == {0}


async def test_who_leaves_between_the_count_and_the_opening_keeps_it_shut(
    connect: Connect, server: FakeServer
) -> None:
    first = await entering(await party(connect, 2), server)
    (gone,) = members(server)

    def leave(frame: coordination_pb2.ClientFrame) -> None:
        for write in frame.writes.writes:
            if any(operation.HasField("set") for operation in write.transaction.success):
                server.on_frame = None
                server.delete(f"{PATH}/round-0/{gone}")

    server.on_frame = leave
    second = asyncio.create_task((await party(connect, 2)).enter())
    with pytest.raises(LockRevokedError):
        await first
    await settled(await connect())

    assert present_round(server) == 0
    assert not second.done()
    second.cancel()


def lose_next_member(server: FakeServer, *, is_applied: bool, owner: int = 0) -> list[data_pb2.Write]:
    """Let the next creation of a member go unanswered, applied or not, and its session be over.

    Returns:
        The write, once it has been sent: to be delivered late.
    """
    lost: list[data_pb2.Write] = []

    def take(frame: coordination_pb2.ClientFrame) -> None:
        for write in frame.writes.writes:
            if any(operation.HasField("create") for operation in write.transaction.success):
                server.on_frame = None
                lost.append(write)
                if is_applied:
                    server.tree.write(write, owner)
                server.drop_before_apply = 1
                server.sessions.pop(owner)

    server.on_frame = take
    return lost


async def test_a_member_that_is_made_after_the_timeout_is_not_made(
    connect: Connect, server: FakeServer
) -> None:
    """The service may carry out what a session sent until it has expired there, too."""
    client = await connect()
    server.set(PATH, b'{"parties": 2, "round": 0}')
    server.set(f"{PATH}/round-0", b"")
    lost = lose_next_member(server, is_applied=False, owner=client.session_id)
    with pytest.raises(RecipeTimeoutError):
        await AsyncDoubleBarrier(client, PATH, 2).enter(timeout=0.3)
    await eventually(lambda: client.janitor.task_count == 0)
    assert members(server) == []
    server.write(lost[0])

    assert members(server) == []


async def test_who_was_counted_by_the_others_has_entered_although_it_was_never_told_that_it_is_a_member(
    connect: Connect, server: FakeServer
) -> None:
    client, other = await connect(), await connect()
    server.set(PATH, b'{"parties": 2, "round": 0}')
    server.set(f"{PATH}/round-0", b"")
    lose_next_member(server, is_applied=True, owner=client.session_id)
    task = asyncio.create_task(AsyncDoubleBarrier(client, PATH, 2).enter())
    await eventually(lambda: members(server))
    theirs = await AsyncDoubleBarrier(other, PATH, 2).enter()
    mine = await task

    assert mine.number == theirs.number == 0
    assert mine.lost
    theirs.abandon()


async def test_who_dies_inside_has_left(connect: Connect, server: FakeServer) -> None:
    client, other = await connect(), await party(connect, 2)
    mine, theirs = await asyncio.gather(AsyncDoubleBarrier(client, PATH, 2).enter(), other.enter())
    leaving = asyncio.create_task(theirs.leave())
    await eventually(lambda: len(members(server)) == 1)
    server.expire(client.session_id)
    await leaving
    await eventually(lambda: mine.lost)

    await mine.leave()


async def test_the_body_is_cancelled_when_the_session_is_lost(connect: Connect, server: FakeServer) -> None:
    client = await connect()

    async def work() -> None:
        async with AsyncDoubleBarrier(client, PATH, 1):
            server.expire(client.session_id)
            await asyncio.Event().wait()

    with pytest.raises(LockLostError):
        await work()


async def test_who_loses_its_session_after_the_round_began_has_entered(
    connect: Connect, server: FakeServer
) -> None:
    client, other = await connect(), await party(connect, 2)
    task = await entering(AsyncDoubleBarrier(client, PATH, 2), server)
    connection = server.sessions[client.session_id].connection
    assert connection is not None
    connection.send = lambda *_: None  # type: ignore[method-assign]  # it hears nothing any more
    theirs = await other.enter()
    server.expire(client.session_id)
    connection.outgoing.put_nowait(None)
    mine = await task

    assert mine.number == theirs.number == 0
    assert mine.lost
    await asyncio.gather(mine.leave(), theirs.leave())


async def test_waiting_goes_on_over_a_reconnection(connect: Connect, server: FakeServer) -> None:
    client = await connect()
    task = await entering(AsyncDoubleBarrier(client, PATH, 2), server)
    server.drop_connections()
    await eventually(lambda: client.state is State.CONNECTED and len(server.attaches) >= 2)
    other = await (await party(connect, 2)).enter()
    entered = await task
    leaving = asyncio.create_task(entered.leave())
    await eventually(lambda: len(members(server)) == 1)
    server.drop_connections()
    await other.leave()
    await leaving


async def test_a_member_that_somebody_deleted_is_told(connect: Connect, server: FakeServer) -> None:
    task = await entering(await party(connect, 2), server)
    (name,) = members(server)
    server.delete(f"{PATH}/round-0/{name}")

    with pytest.raises(LockRevokedError):
        await task


async def test_a_barrier_that_is_deleted_under_its_parties_is_told(
    connect: Connect, server: FakeServer
) -> None:
    task = await entering(await party(connect, 2), server)
    server.write(data_pb2.Write(delete=data_pb2.Delete(path=PATH, recursive=True)))

    with pytest.raises(LockRevokedError):
        await task


async def test_the_end_of_the_client_ends_the_waiting(connect: Connect, server: FakeServer) -> None:
    client = await connect()
    task = await entering(AsyncDoubleBarrier(client, PATH, 2), server)
    await client.close()

    with pytest.raises(ClientClosedError):
        await task


async def test_an_exception_inside_leaves_without_waiting(connect: Connect, server: FakeServer) -> None:
    first, second = await party(connect, 2), await party(connect, 2)
    other = await entering(second, server)

    async def fail() -> None:
        async with first:
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert len(members(server)) == 1
    await (await other).leave()


async def test_all_must_agree_on_the_parties(connect: Connect, server: FakeServer) -> None:
    task = await entering(await party(connect, 2), server)
    with pytest.raises(MismatchError, match="for 2 parties, not for 3"):
        await (await party(connect, 3)).enter()
    task.cancel()


async def test_the_parties_may_be_changed_while_nobody_is_there(connect: Connect, server: FakeServer) -> None:
    async with await party(connect, 1):
        pass
    await eventually(lambda: server.names(PATH) == [])
    entered = await asyncio.gather(*[(await party(connect, 2)).enter() for _ in range(2)])

    assert [one.number for one in entered] == [1, 1]
    assert json.loads(server.tree.nodes[PATH].value) == {"parties": 2, "round": 2}


async def test_what_makes_no_sense_is_refused(client: AsyncClient, server: FakeServer) -> None:
    with pytest.raises(InvalidPathError):
        AsyncDoubleBarrier(client, "/", 2)
    with pytest.raises(InvalidArgumentError):
        AsyncDoubleBarrier(client, PATH, 0)
    with pytest.raises(ClientStateError, match="no round"):
        await AsyncDoubleBarrier(client, PATH, 2).leave()
    server.set(PATH, b"something else")
    with pytest.raises(InvalidValueError):
        await AsyncDoubleBarrier(client, PATH, 2).enter()


async def test_a_barrier_that_all_have_left_can_be_used_by_another_number(client: AsyncClient) -> None:
    """What stands for the last round is removed later; it does not mean that anybody is in."""
    for parties in (1, 2, 1):
        barriers = [AsyncDoubleBarrier(client, PATH, parties) for _ in range(parties)]
        rounds = await asyncio.gather(*(barrier.enter(timeout=10) for barrier in barriers))
        await asyncio.gather(*(entered.leave(timeout=10) for entered in rounds))


async def test_so_can_one_at_which_all_have_given_up(connect: Connect, server: FakeServer) -> None:
    waiting = await entering(await party(connect, 2), server)
    waiting.cancel()
    await eventually(lambda: not members(server))

    alone = await party(connect, 1)
    assert (await alone.enter(timeout=10)).number == 0


async def test_what_others_put_there_is_neither_removed_nor_counted(
    connect: Connect, server: FakeServer
) -> None:
    client = await connect()
    await (await AsyncDoubleBarrier(client, PATH, 1).enter()).leave()
    await client.create(f"{PATH}/note")
    with pytest.raises(MismatchError):
        await AsyncDoubleBarrier(client, PATH, 2).enter()

    assert "note" in server.names(PATH)

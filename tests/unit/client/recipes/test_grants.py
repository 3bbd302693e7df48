"""What a holder hears of: the loss, and the wish of others that it lets go; in tasks and in threads."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from coordclient import AsyncClient, Client, LockLostError, clock
from coordclient.recipes.grants import Loss
from coordclient.recipes.lock import AsyncLock, Lock
from coordclient.recipes.signals import Signal
from coordsvc.testing import Server, running_server
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import FakeServer

PATH = "/locks/a"


# ---------------------------------------------------------------------------------------------
# Signals


def test_a_signal_is_set_once_and_for_good() -> None:
    signal = Signal()
    heard: list[str] = []
    signal.add_callback(lambda: heard.append(signal.reason))
    assert not signal
    assert not signal.wait(0)
    signal.set("first")
    signal.set("second")
    signal.add_callback(lambda: heard.append("late"))

    assert signal.is_set()
    assert signal.wait()
    assert signal.reason == "first"
    assert heard == ["first", "late"]
    assert repr(signal) == "<Signal: first>"
    assert repr(Loss()) == "<Loss: not set>"


def test_a_callback_can_be_taken_back() -> None:
    signal = Signal()
    heard: list[int] = []
    callback = lambda: heard.append(1)  # noqa: E731  # it is compared
    signal.add_callback(callback)
    signal.remove_callback(callback)
    signal.remove_callback(callback)
    signal.set("")

    assert heard == []


def test_a_callback_that_fails_keeps_nobody_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    signal = Signal()
    heard: list[int] = []
    signal.add_callback(lambda: 1 // 0)
    signal.add_callback(lambda: heard.append(1))
    with caplog.at_level(logging.ERROR):
        signal.set("")

    assert heard == [1]
    assert "a callback failed" in caplog.text


# ---------------------------------------------------------------------------------------------
# Revocation


async def test_a_holder_is_asked_to_let_go_and_need_not(connect: Connect, server: FakeServer) -> None:
    holder, other = await connect(), await connect()
    assert not await AsyncLock(other, PATH).request_revoke(), "nobody holds it"
    held = await AsyncLock(holder, PATH).acquire()
    assert not held.revoke_requested
    assert await AsyncLock(other, PATH).request_revoke("deploying")

    assert await held.wait_revoke_requested() == "deploying"
    assert held.revoke_requested.is_set()
    held.check()
    await held.release()
    assert server.names(PATH) == []


async def test_only_the_holder_hears_that_it_is_asked(connect: Connect, server: FakeServer) -> None:
    holder, first, second = await connect(), await connect(), await connect()
    held = await AsyncLock(holder, PATH).acquire()
    task = asyncio.create_task(AsyncLock(first, PATH).acquire())
    await eventually(lambda: len(server.names(PATH)) == 2)
    await AsyncLock(second, PATH).request_revoke()
    await held.wait_revoke_requested()
    assert held.revoke_requested.reason == ""
    await held.release()

    following = await task
    assert not following.revoke_requested


async def test_who_is_asked_again_is_told_once_and_still_notices_its_loss(
    connect: Connect, server: FakeServer
) -> None:
    holder, other = await connect(), await connect()
    held = await AsyncLock(holder, PATH).acquire()
    heard: list[str] = []
    held.revoke_requested.add_callback(lambda: heard.append(held.revoke_requested.reason))
    for reason in ("one", "two"):
        await AsyncLock(other, PATH).request_revoke(reason)
        await held.wait_revoke_requested()
        await holder.sync()
    await eventually(lambda: holder.janitor.task_count == 0)
    server.delete(held.path)
    await held.wait_lost()

    assert heard == ["one"]


async def test_the_contender_that_was_asked_still_says_who_it_is(connect: Connect) -> None:
    holder, other = await connect(name="holder"), await connect()
    async with AsyncLock(holder, PATH) as held:
        await AsyncLock(other, PATH).request_revoke("x")
        await held.wait_revoke_requested()
        (contender,) = await AsyncLock(other, PATH).contenders()

    assert (contender.client, contender.is_holder) == ("holder", True)


async def test_a_lock_that_can_be_acquired_again_tells_every_level(connect: Connect) -> None:
    holder, other = await connect(), await connect()
    lock = AsyncLock(holder, PATH, reentrant=True)
    async with lock as outer, lock as inner:
        await AsyncLock(other, PATH).request_revoke("x")
        assert await inner.wait_revoke_requested() == await outer.wait_revoke_requested() == "x"


# ---------------------------------------------------------------------------------------------
# Lock delay


async def test_after_a_lost_session_the_lock_stays_taken_for_the_delay() -> None:
    async with (
        running_server() as server,
        AsyncClient(server.endpoints) as holder,
        AsyncClient(server.endpoints) as other,
    ):
        await AsyncLock(holder, PATH, lock_delay=1.0).acquire()
        task = asyncio.create_task(AsyncLock(other, PATH).acquire())
        while len(await AsyncLock(other, PATH).contenders()) < 2:
            await other.sync()
        await server.expire_session(holder.session_id)
        grave, waiter = await AsyncLock(other, PATH).contenders()
        assert (grave.session_id, grave.is_holder, waiter.is_holder) == (0, True, False)
        assert await AsyncLock(other, PATH).try_acquire(owner="another") is None
        assert not await AsyncLock(other, PATH).request_revoke(), "nobody is there to be asked"

        held = await task
        assert [c.session_id for c in await AsyncLock(other, PATH).contenders()] == [other.session_id]
        held.check()


async def test_a_release_hands_over_at_once_and_so_does_a_client_that_is_closed() -> None:
    async with running_server() as server, AsyncClient(server.endpoints) as other:
        async with AsyncClient(server.endpoints) as holder:
            held = await AsyncLock(holder, PATH, lock_delay=1000.0).acquire()
            await held.release()
            async with asyncio.timeout(10), AsyncLock(other, PATH):
                pass
            await AsyncLock(holder, PATH, lock_delay=1000.0).acquire()
        async with asyncio.timeout(10), AsyncLock(other, PATH):
            pass


async def test_a_waiter_whose_session_is_lost_delays_nobody() -> None:
    """It has never held the lock, so nothing of it can still be under way."""
    async with (
        running_server() as server,
        AsyncClient(server.endpoints) as holder,
        AsyncClient(server.endpoints) as lost,
        AsyncClient(server.endpoints) as other,
    ):
        lock = AsyncLock(other, PATH, lock_delay=1000.0)
        held = await AsyncLock(holder, PATH, lock_delay=1000.0).acquire()
        waiting = asyncio.create_task(AsyncLock(lost, PATH, lock_delay=1000.0).acquire())
        while len(await lock.contenders()) < 2:
            await other.sync()
        last = asyncio.create_task(lock.acquire())
        while len(await lock.contenders()) < 3:
            await other.sync()
        await server.expire_session(lost.session_id)
        while len(await lock.contenders()) < 3:  # It queues again, behind the other.
            await other.sync()
        await held.release()
        async with asyncio.timeout(10):
            await (await last).release()
            await (await waiting).release()
            assert await lock.contenders() == []
            assert await lock.try_acquire() is not None


async def test_a_body_that_outlasts_its_session_is_told_even_if_nobody_had_the_time_to_cancel_it(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process was stopped, or the body blocked the loop: its end comes before the loss is noticed."""

    async def work() -> None:
        async with client.lock(PATH) as held:
            much_later = held.valid_until + 1
            monkeypatch.setattr(clock, "now", lambda: much_later)

    with pytest.raises(LockLostError, match="not be renewed"):
        await work()
    monkeypatch.undo()
    await client.sync()  # Nobody is cancelled any more.


async def test_who_waits_to_be_asked_hears_of_the_loss(client: AsyncClient, server: FakeServer) -> None:
    held = await client.lock(PATH).acquire()
    waiting = asyncio.create_task(held.wait_revoke_requested())
    await client.sync()
    server.delete(held.path)

    with pytest.raises(LockLostError, match="deleted"):
        await waiting


def test_so_does_a_thread() -> None:
    with Server() as server, Client(server.endpoints) as client, Client(server.endpoints) as other:
        held = client.lock(PATH).acquire()
        other.delete(held.path)
        with pytest.raises(LockLostError, match="deleted"):
            held.wait_revoke_requested()


async def test_a_delay_is_a_number_of_seconds(client: AsyncClient) -> None:
    with pytest.raises(ValueError, match="lock_delay"):
        AsyncLock(client, PATH, lock_delay=-1)


# ---------------------------------------------------------------------------------------------
# For threads


def test_threads_are_called_back_where_they_may_block() -> None:
    with Server() as server, Client(server.endpoints) as client, Client(server.endpoints) as other:
        lock = Lock(client, PATH)
        called = threading.Event()
        threads: list[str] = []

        with lock as held:

            def asked() -> None:
                client.sync()  # A blocking call: on the event loop it would be refused.
                threads.append(threading.current_thread().name)
                called.set()

            taken_back = threading.Event()
            held.revoke_requested.add_callback(asked)
            held.lost.add_callback(taken_back.set)
            held.lost.remove_callback(taken_back.set)
            assert not held.lost.wait(0)
            assert Lock(other, PATH).request_revoke("please")
            assert held.wait_revoke_requested() == "please"
            assert held.revoke_requested.wait(0)
            assert called.wait(10)
            assert threads != ["coordclient loop"]
            assert held.revoke_requested.reason == "please"


def test_the_handles_of_threads_say_their_own_class() -> None:
    with Server() as server, Client(server.endpoints) as client:
        with client.lock(PATH) as held, client.election("/elections/AsyncLockHandle").lead() as term:
            assert repr(held) == f"<LockHandle {held.path} token={held.token} held>"
            assert repr(term) == f"<LeaderTerm {term.path} token={term.token} held>"
        assert repr(held).endswith(" released>")


def test_a_thread_is_called_back_when_the_lock_is_lost() -> None:
    with Server() as server, Client(server.endpoints) as client, Client(server.endpoints) as other:
        held = Lock(client, PATH).acquire()
        called = threading.Event()

        def note() -> None:
            client.sync()
            called.set()

        held.lost.add_callback(note)
        other.delete(held.path)
        assert held.lost.wait(10)
        assert called.wait(10)
        assert held.lost.reason == "its node was deleted"
        late = threading.Event()
        held.lost.add_callback(late.set)
        assert late.wait(10)
        held.release()


def test_a_thread_that_outlasts_its_session_is_told_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(client: Client) -> None:
        with client.lock(PATH) as held:
            much_later = held.valid_until + 1
            monkeypatch.setattr(clock, "now", lambda: much_later)

    with Server() as server, Client(server.endpoints) as client:
        with pytest.raises(LockLostError, match="renewed"):
            work(client)
        monkeypatch.undo()

"""Wrong use of the SDK: it fails at once and says what to do instead. It never hangs, and never pretends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from coordclient import (
    AsyncClient,
    Client,
    ClientClosedError,
    ClientStateError,
    NotConnectedError,
    WrongLoopError,
)
from coordclient.recipes.grants import Loss
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import FakeServer

Call = Callable[[AsyncClient], Awaitable[object]]


async def first(client: AsyncClient) -> object:
    return await anext(client.tree_cache("/a").changes())


CALLS: dict[str, Call] = {
    "get": lambda client: client.get("/a"),
    "transaction": lambda client: client.transaction().commit(),
    "watch": lambda client: client.watch("/a").start(),
    "lock": lambda client: client.lock("/a").acquire(),
    "read-write lock": lambda client: client.read_write_lock("/a").write().acquire(),
    "semaphore": lambda client: client.semaphore("/a", 2).acquire(),
    "election": lambda client: client.election("/a").campaign(),
    "observe": lambda client: anext(client.election("/a").observe()),
    "barrier": lambda client: client.barrier("/a").wait(),
    "double barrier": lambda client: client.double_barrier("/a", 2).enter(),
    "counter": lambda client: client.counter("/a").add(),
    "queue": lambda client: client.queue("/a").get(),
    "work queue": lambda client: client.work_queue("/a").claim(),
    "group": lambda client: client.group("/a").join("m"),
    "partitioner": lambda client: client.partitioner("/a", ["x"]).__aenter__(),
    "config": lambda client: client.config("/a").start(),
    "config changed": lambda client: client.config("/a").changed(),
    "tree cache": lambda client: client.tree_cache("/a").start(),
    "tree cache changes": first,
    "register": lambda client: client.services.register("api", "h", 1),
    "discover": lambda client: client.services.discover("api"),
    "pool": lambda client: client.services.pool("api").start(),
    "pool wait": lambda client: client.services.pool("api").wait_for_instance(),
    "atomic commit": lambda client: client.atomic_commit("/a").propose(["x"]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_client_that_never_connected_is_of_no_use_to_any_recipe(call: Call) -> None:
    with pytest.raises(ClientStateError, match=r"connect\(\)|`with`|start\(\)"):
        await asyncio.wait_for(call(AsyncClient()), 5)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_nor_is_one_that_was_closed(call: Call, connect: Connect) -> None:
    client = await connect()
    await client.close()

    with pytest.raises(ClientStateError, match=r"make a new one|start\(\)|`with`"):
        await asyncio.wait_for(call(client), 5)


async def test_a_cache_that_was_not_started_does_not_say_that_there_is_nothing(client: AsyncClient) -> None:
    cache = client.tree_cache("/")
    reads: list[Callable[[], object]] = [lambda: cache.get("/"), lambda: cache.children("/"), cache.nodes]
    for read in reads:
        with pytest.raises(ClientStateError, match="start"):
            read()

    await cache.start()
    await cache.close()
    assert cache.nodes()  # It stays when the cache is closed.


async def test_another_loop_can_neither_use_nor_close_a_client(client: AsyncClient) -> None:
    """It cannot even try: what is closed half would keep its session."""

    async def use() -> None:
        for call in (client.get("/"), client.connect(), client.close()):
            with pytest.raises(WrongLoopError, match="make one here"):
                await asyncio.wait_for(call, 5)

    await asyncio.to_thread(lambda: asyncio.run(use()))

    assert (await client.get("/")).path == "/"


async def test_to_block_for_a_signal_in_a_running_loop_is_refused(client: AsyncClient) -> None:
    async with client.lock("/lock") as held:
        with pytest.raises(ClientStateError, match="wait_lost"):
            held.lost.wait()
        with pytest.raises(ClientStateError, match="wait_revoke_requested"):
            held.revoke_requested.wait(1)
        assert not held.lost.wait(0)  # That only asks.


def test_a_thread_may_block_for_a_signal() -> None:
    loss = Loss()
    assert not loss.wait(0.001)
    loss.set("gone")
    assert loss.wait()


async def test_a_coroutine_as_callback_of_a_blocking_client_is_told_what_to_do(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    def use() -> None:
        client = Client(server.address)

        async def listener(_: object) -> None:
            client.get("/")

        client.add_listener(listener)
        with client:
            client.sync()

    await asyncio.to_thread(use)
    await eventually(lambda: "client.asynchronous" in caplog.text)


def test_errors_of_wrong_use_say_what_to_do() -> None:
    for kind in (NotConnectedError, ClientClosedError, WrongLoopError):
        assert ":" in str(kind())


# ---------------------------------------------------------------------------------------------
# After a fork

HOLDER = """
import os, sys, time
from coordclient import Client, ClientStateError, ForkedClientError, LockLostError, State

client = Client(sys.argv[1]).connect()
held = client.lock("/lock").acquire()
cache = client.tree_cache("/").start()
config = client.config("/value", default=1).start()
group = client.group("/group").join("me")
registration = client.services.register("api", "h", 1)
pool = client.services.pool("api").start()

def fails(kind, use):
    try:
        use()
    except kind:
        return
    sys.exit(f"{use} was not refused")

def in_child():
    begun = time.monotonic()
    fails(LockLostError, held.check)
    assert held.lost and held.remaining == 0, held
    assert client.state is State.CLOSED and client.session_id == 0
    assert not group.is_member and not registration.is_registered
    assert cache.is_stale and config.is_stale and pool.is_stale
    for use in (held.lost.wait, held.release, cache.nodes, lambda: config.value, pool.pick, group.leave):
        fails(ForkedClientError, use)
    fails(ForkedClientError, Client(sys.argv[1]).connect)  # gRPC was in use
    assert time.monotonic() - begun < 5, "it waited"

child = os.fork()
if child == 0:
    try:
        in_child()
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(3)
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
held.check()
client.close()
os._exit(code)
"""

FORKED_BEFORE = """
import os, sys
from coordclient import Client

unused = Client(sys.argv[1])
unused.portal
if os.fork() == 0:
    with Client(sys.argv[1]) as client:
        client.sync()
    os._exit(0)
os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


async def run(program: str, address: str) -> tuple[int, str]:
    def run_it() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, address]
        return subprocess.run(command, timeout=60, capture_output=True, check=False, text=True)

    done = await asyncio.to_thread(run_it)
    return done.returncode, done.stderr


async def test_a_child_holds_nothing_of_what_its_parent_holds(server: FakeServer) -> None:
    code, errors = await run(HOLDER, server.address)

    assert code == 0, errors


async def test_a_client_that_is_made_after_a_fork_works(server: FakeServer) -> None:
    code, errors = await run(FORKED_BEFORE, server.address)

    assert code == 0, errors

"""Counters, config values, caches and barriers in threads: the same names, which wait."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordclient import Client, EventType, LockLostError
from coordclient.errors import (
    BadVersionError,
    ClientStateError,
    CompareFailedError,
    CounterRangeError,
    RecipeTimeoutError,
)
from coordclient.portal import shared_portal
from coordclient.recipes.barrier import AsyncBarrier, Barrier
from coordclient.recipes.barrier_entry import AsyncBarrierRound
from coordclient.recipes.config_value import AsyncConfigValue, ConfigValue
from coordclient.recipes.counter import AsyncCounter, Counter
from coordclient.recipes.double_barrier import AsyncDoubleBarrier, BarrierRound, DoubleBarrier
from coordclient.recipes.tree_cache import AsyncTreeCache, TreeCache
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import FakeServer


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A fake server on the loop of the clients for threads."""

    async def start() -> FakeServer:
        fake = FakeServer()
        await fake.start()
        return fake

    fake = shared_portal().run(start())
    yield fake
    shared_portal().run(fake.stop())


@pytest.fixture
def client(fake: FakeServer) -> Iterator[Client]:
    with Client(fake.address) as client:
        yield client


def on_the_loop(act: Callable[[], object]) -> None:
    async def run() -> None:
        act()

    shared_portal().run(run())


def wait(condition: Callable[[], object]) -> None:
    shared_portal().run(eventually(condition))


@pytest.mark.parametrize(
    ("face", "core"),
    [
        (Barrier, AsyncBarrier),
        (Counter, AsyncCounter),
        (ConfigValue, AsyncConfigValue),
        (TreeCache, AsyncTreeCache),
        (DoubleBarrier, AsyncDoubleBarrier),
        (BarrierRound, AsyncBarrierRound),
    ],
)
def test_both_faces_have_the_same_names_with_the_same_arguments(face: type, core: type) -> None:
    def public(kind: type) -> dict[str, Any]:
        members = {name: getattr(kind, name) for name in dir(kind) if name[0] != "_"}
        return {name: value for name, value in members.items() if not inspect.isclass(value)}

    mine, theirs = public(face), public(core)
    for name, value in mine.items():
        if inspect.isfunction(value) and name in vars(face):
            mine_too, theirs_too = inspect.signature(value), inspect.signature(theirs[name])
            assert list(mine_too.parameters) == list(theirs_too.parameters), name
            defaults = [parameter.default for parameter in mine_too.parameters.values()]
            assert defaults == [parameter.default for parameter in theirs_too.parameters.values()], name
    missing = {name for name in vars(core) if name in theirs} - set(mine) - {"enter_unnoted"}
    assert missing == set()


def test_counting(client: Client) -> None:
    counter = Counter(client, "/counters/a", maximum=20)
    with ThreadPoolExecutor(8) as threads:
        changes = list(threads.map(lambda _: counter.add(), range(16)))

    assert sorted(change.after for change in changes) == list(range(1, 17))
    assert counter.value() == 16
    assert counter.set(20, expected=16).before == 16
    with pytest.raises(CounterRangeError):
        counter.add(timeout=5)
    with pytest.raises(CompareFailedError):
        counter.set(1, expected=2)


def test_a_barrier_holds_threads_up(client: Client, fake: FakeServer) -> None:
    barrier = Barrier(client, "/barriers/a")
    assert barrier.create(value=b"wait")
    with pytest.raises(RecipeTimeoutError):
        barrier.wait(timeout=0.02)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(barrier.wait)
        wait(lambda: fake.watch_count() == 1)
        assert barrier.is_up()
        assert barrier.lift()
        waiting.result(timeout=10)


def test_threads_enter_and_leave_together(client: Client) -> None:
    barrier = DoubleBarrier(client, "/barriers/phase", 3)
    together = threading.Barrier(3)

    def work(_: int) -> list[int]:
        numbers = []
        for _round in range(3):
            with barrier as entered:
                numbers.append(entered.number)
                entered.check()
                together.wait(timeout=10)
        return numbers

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(work, range(3))) == [[0, 1, 2]] * 3


def test_a_thread_that_waits_in_vain_is_told(client: Client) -> None:
    barrier = DoubleBarrier(client, "/barriers/phase", 2)
    with pytest.raises(RecipeTimeoutError):
        barrier.enter(timeout=0.05)
    with pytest.raises(ClientStateError):
        barrier.leave()


def test_a_thread_inside_learns_that_its_session_is_lost(client: Client, fake: FakeServer) -> None:
    def work() -> None:
        with DoubleBarrier(client, "/barriers/phase", 1) as entered:
            on_the_loop(lambda: fake.expire(client.session_id))
            assert entered.lost.wait(10)

    with pytest.raises(LockLostError):
        work()


def test_a_config_value_follows(client: Client) -> None:
    config = ConfigValue(client, "/config/a", default=0)
    with config:
        values = config.watch()
        assert next(values) == 0
        version = config.set(1, expected_version=0)
        assert next(values) == 1 == config.value
        assert config.version == version
        assert config.update(lambda value: value + 1) == 2
        with pytest.raises(BadVersionError):
            config.set(9, expected_version=version)
        assert not config.is_stale
        assert config.error is None
        assert "version" in repr(config)
        with ThreadPoolExecutor(1) as threads:
            changed = threads.submit(config.changed)
            while not changed.done():
                config.update(lambda value: value + 1)
            assert changed.result() > 2
    assert list(values) == []


def test_a_cache_follows(client: Client) -> None:
    client.create("/app/a", b"1", parents=True)
    with TreeCache(client, "/app") as cache:
        changes = cache.changes()
        stat = client.set("/app/a", b"2")
        cache.wait_for(stat.mzxid, timeout=10)
        node = cache.get("/app/a")
        assert node is not None
        assert node.value == b"2"
        assert cache.children("/app") == ["a"]
        assert list(cache.nodes()) == ["/app", "/app/a"]
        assert cache.zxid >= stat.mzxid
        assert not cache.is_stale
        assert "fresh" in repr(cache)
        change = next(changes)
        assert (change.type, change.path) == (EventType.CHANGED, "/app/a")
    assert list(changes) == []

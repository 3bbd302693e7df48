"""The load that the drivers in Python make."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from bench.drivers import load as load_module
from bench.drivers.load import Load, Window, drive, load_of
from bench.measuring import BenchError

ARGUMENTS = ["--endpoints", "a:1,b:2,c:3", "--operation", "mixed", "--keys", "8", "--seconds", "0.05"]


@pytest.fixture(autouse=True)
def no_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "WARM_UP_S", 0.0)


def load_with(*arguments: str) -> Load:
    return load_of([*ARGUMENTS, *arguments])


def test_connections_are_spread_over_the_endpoints_the_first_to_the_first() -> None:
    load = load_with("--connections", "4")

    assert [load.endpoint(connection) for connection in range(4)] == ["a:1", "b:2", "c:3", "a:1"]


def test_workers_begin_at_keys_far_apart() -> None:
    load = load_with("--connections", "2", "--in-flight", "2")

    assert [load.path(load.first_key(worker)) for worker in range(4)] == [
        "/bench/0",
        "/bench/2",
        "/bench/4",
        "/bench/6",
    ]


def test_a_mixed_load_has_its_share_of_reads() -> None:
    load, dice = load_with("--read-share", "0.9"), random.Random(1)
    drawn = [load.drawn(dice) for _ in range(10_000)]

    assert 0.88 < drawn.count("read") / len(drawn) < 0.92
    assert set(drawn) == {"read", "write"}


async def test_as_many_operations_are_under_way_as_asked_for() -> None:
    load = load_with("--connections", "3", "--in-flight", "2", "--operation", "write")
    under_way: dict[int, int] = dict.fromkeys(range(3), 0)
    most = dict(under_way)

    async def operation(connection: int, kind: str, key: int) -> None:
        assert kind == "write"
        under_way[connection] += 1
        most[connection] = max(most[connection], under_way[connection])
        await asyncio.sleep(0)
        under_way[connection] -= 1

    window = await drive(load, operation)

    assert most == {0: 2, 1: 2, 2: 2}
    assert json.loads(window.line())["operations"] == len(window.latencies_s) > 0


async def test_an_operation_that_fails_ends_the_load() -> None:
    async def operation(connection: int, kind: str, key: int) -> None:
        raise BenchError("refused")

    with pytest.raises(ExceptionGroup) as caught:
        await drive(load_with(), operation)

    assert caught.group_contains(BenchError, match="refused")


def test_only_what_is_answered_within_the_window_counts() -> None:
    window = Window(seconds=60.0)
    window.note(window.begins_s - 1)
    assert len(window.latencies_s) == 1

    window.ends_s = window.begins_s
    window.note(window.begins_s)

    assert len(window.latencies_s) == 1
    assert window.is_over()


def test_a_load_without_answers_prints_nothing() -> None:
    with pytest.raises(BenchError, match="no operation was answered"):
        Window(seconds=1.0).line()

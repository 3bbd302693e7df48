"""The storage thread: in order, and never again after a failure."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial

import pytest

from coordsvc.storage.errors import DiskFullError, DiskNotTrustedError, SnapshotRefused
from coordsvc.storage.storage_thread import StorageThread


@pytest.fixture
async def storage() -> AsyncIterator[StorageThread]:
    thread = StorageThread()
    yield thread
    await thread.close()


def fail(error: Exception) -> None:
    raise error


async def test_work_is_done_in_order_on_one_thread_that_is_not_the_loops(storage: StorageThread) -> None:
    done: list[tuple[int, int]] = []

    def work(number: int) -> int:
        done.append((number, threading.get_ident()))
        return number * 2

    futures = [storage.submit(partial(work, number)) for number in range(100)]

    assert [await future for future in futures] == [number * 2 for number in range(100)]
    assert [number for number, _ in done] == list(range(100))
    assert len({thread for _, thread in done}) == 1
    assert threading.get_ident() not in {thread for _, thread in done}


async def test_the_loop_goes_on_while_the_disk_is_waited_for(storage: StorageThread) -> None:
    released = threading.Event()
    future = storage.submit(partial(released.wait, 30))

    await asyncio.sleep(0)
    assert not future.done()
    released.set()

    assert await future is True


async def test_whoever_does_not_wait_is_called_on_the_loop_with_the_result_or_with_the_error(
    storage: StorageThread,
) -> None:
    loop = asyncio.get_running_loop()
    told: list[tuple[object, int]] = []
    over: asyncio.Future[BaseException] = loop.create_future()

    def then(result: str) -> None:
        told.append((result, threading.get_ident()))

    def break_down() -> str:
        raise error

    error = DiskFullError("full")
    storage.carry_out(lambda: "done", then, over.set_result)
    storage.carry_out(break_down, then, over.set_result)

    assert await over is error
    assert told == [("done", threading.get_ident())]


@pytest.mark.parametrize("error", [DiskFullError("full"), AssertionError("a fault of ours")])
async def test_after_a_failure_nothing_is_carried_out(storage: StorageThread, error: Exception) -> None:
    done: list[int] = []
    failing = storage.submit(partial(fail, error))
    queued = storage.submit(partial(done.append, 1))

    with pytest.raises(type(error), match=str(error)):
        await failing
    with pytest.raises(DiskNotTrustedError, match=str(error)):
        await queued
    with pytest.raises(DiskNotTrustedError, match=str(error)):
        await storage.submit(partial(done.append, 2))
    assert done == []


async def test_a_refused_snapshot_is_no_failure_of_the_disk(storage: StorageThread) -> None:
    with pytest.raises(SnapshotRefused):
        await storage.submit(partial(fail, SnapshotRefused("a gap")))

    assert await storage.submit(lambda: "still working") == "still working"


async def test_work_that_nobody_waits_for_any_more_is_still_done(storage: StorageThread) -> None:
    released = threading.Event()
    done: list[int] = []
    blocking = storage.submit(partial(released.wait, 30))
    abandoned = storage.submit(partial(done.append, 1))
    abandoned.cancel()
    released.set()

    await blocking
    await storage.submit(lambda: None)

    assert done == [1]


async def test_closing_carries_out_what_is_queued(storage: StorageThread) -> None:
    done: list[int] = []
    for number in range(10):
        storage.submit(partial(done.append, number))

    await storage.close()

    assert done == list(range(10))

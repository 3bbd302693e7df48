"""Threads for callbacks: used again, and as many as are blocked."""

from __future__ import annotations

import asyncio
import threading

import pytest

from coordclient.callback_threads import CallbackThreads


async def test_a_thread_is_used_again() -> None:
    threads = CallbackThreads()
    seen: set[threading.Thread] = set()
    for _ in range(200):
        await threads.run(lambda: seen.add(threading.current_thread()))
    # The end of one run is told before its thread is idle again, so that now and then two take turns.
    assert len(seen) < 20
    assert all(thread.daemon for thread in seen)


async def test_one_that_is_blocked_holds_up_nobody() -> None:
    threads = CallbackThreads()
    is_over = threading.Event()
    seen: list[int] = []

    def block() -> None:
        is_over.wait()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(threads.run(block))
        await threads.run(lambda: seen.append(1))
        is_over.set()
    assert seen == [1]


async def test_whoever_waits_may_be_cancelled_and_the_work_goes_on() -> None:
    threads = CallbackThreads()
    may_end = threading.Event()
    has_ended = threading.Event()

    def work() -> None:
        may_end.wait()
        has_ended.set()

    waiting = asyncio.create_task(threads.run(work))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    may_end.set()
    assert waiting.cancelled()
    assert await asyncio.to_thread(has_ended.wait, 10)


async def test_a_thread_that_was_idle_ends_and_the_next_work_gets_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("coordclient.callback_threads.IDLE_SECONDS", 0.01)
    threads = CallbackThreads()
    seen: list[threading.Thread] = []
    await threads.run(lambda: seen.append(threading.current_thread()))
    await asyncio.to_thread(seen[0].join, 10)
    assert not seen[0].is_alive()
    await threads.run(lambda: seen.append(threading.current_thread()))
    assert len(seen) == 2

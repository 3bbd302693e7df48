"""Callbacks: in order, one at a time, each subscriber for itself."""

from __future__ import annotations

import asyncio
import threading

import pytest

from coordclient.callbacks import Callbacks
from tests.unit.client.eventually import eventually


async def test_a_subscriber_is_called_in_order_and_one_at_a_time() -> None:
    callbacks = Callbacks(in_threads=False)
    running = 0
    seen: list[int] = []

    async def note(number: int) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        seen.append(number)
        running -= 1

    subscriber = callbacks.subscriber(note)
    for number in range(10):
        subscriber.push(number)
    await eventually(lambda: len(seen) == 10)

    assert seen == list(range(10))


async def test_one_subscriber_does_not_hold_up_another() -> None:
    callbacks = Callbacks(in_threads=False)
    seen: list[int] = []
    stuck: asyncio.Event = asyncio.Event()

    async def wait(number: int) -> None:
        await stuck.wait()

    callbacks.subscriber(wait).push(1)
    callbacks.subscriber(seen.append).push(2)
    await eventually(lambda: seen == [2])
    await callbacks.close()


async def test_plain_functions_run_in_threads_if_asked_to() -> None:
    callbacks = Callbacks(in_threads=True)
    threads: list[threading.Thread] = []

    def note(number: int) -> None:
        threads.append(threading.current_thread())

    subscriber = callbacks.subscriber(note)
    subscriber.push(1)
    await eventually(lambda: threads)

    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon


@pytest.mark.parametrize("in_threads", [False, True])
async def test_a_failing_callback_is_logged_and_called_again(
    caplog: pytest.LogCaptureFixture, in_threads: bool
) -> None:
    callbacks = Callbacks(in_threads=in_threads)
    seen: list[int] = []

    def fail(number: int) -> None:
        seen.append(number)
        raise ValueError("my mistake")

    subscriber = callbacks.subscriber(fail)
    subscriber.push(1)
    subscriber.push(2)
    await eventually(lambda: seen == [1, 2])
    await eventually(lambda: len(caplog.records) == 2)


async def test_nothing_runs_when_there_is_nothing_to_say() -> None:
    callbacks = Callbacks(in_threads=False)
    done: list[int] = []
    subscriber = callbacks.subscriber(done.append)
    before = len(asyncio.all_tasks())
    subscriber.push(1)
    await eventually(lambda: done == [1] and len(asyncio.all_tasks()) == before)
    subscriber.push(2)
    await eventually(lambda: done == [1, 2])

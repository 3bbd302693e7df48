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


async def test_plain_functions_on_the_loop_cost_no_task() -> None:
    """A thousand watchers of one node are called in one pass of the loop."""
    callbacks = Callbacks(in_threads=False)
    seen: list[int] = []
    before = len(asyncio.all_tasks())
    for number in range(1000):
        callbacks.subscriber(seen.append).push(number)
    assert (seen, len(asyncio.all_tasks())) == ([], before)
    await eventually(lambda: len(seen) == 1000)
    assert seen == list(range(1000))


async def test_many_calls_leave_the_loop_time_for_its_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordclient.callbacks.SLICE_SECONDS", 0.0)
    callbacks = Callbacks(in_threads=False)
    seen: list[int] = []
    for number in range(100):
        callbacks.subscriber(seen.append).push(number)
    await asyncio.sleep(0)
    assert 0 < len(seen) < 100
    await eventually(lambda: seen == list(range(100)))


async def test_calls_keep_their_order_when_some_have_to_be_awaited() -> None:
    callbacks = Callbacks(in_threads=False)
    seen: list[int] = []

    async def note_later(number: int) -> None:
        await asyncio.sleep(0)
        seen.append(number)

    def note(number: int) -> object:
        if number % 2:
            return note_later(number)
        seen.append(number)
        return None

    subscriber = callbacks.subscriber(note)
    for number in range(6):
        subscriber.push(number)
    await eventually(lambda: len(seen) == 6)
    assert seen == list(range(6))


@pytest.mark.parametrize("in_threads", [False, True])
async def test_who_has_stopped_pushing_hears_when_all_calls_were_made(in_threads: bool) -> None:
    callbacks = Callbacks(in_threads=in_threads)
    seen: list[str] = []

    async def drained() -> None:
        seen.append("drained")

    subscriber = callbacks.subscriber(seen.append)
    subscriber.push("one")
    subscriber.push("two")
    subscriber.when_drained = drained
    await eventually(lambda: seen == ["one", "two", "drained"])
    subscriber.push("three")
    await eventually(lambda: seen[-1] == "three")
    assert not subscriber.waiting


@pytest.mark.parametrize("in_threads", [False, True])
async def test_a_closed_subscriber_is_called_no_more(in_threads: bool) -> None:
    callbacks = Callbacks(in_threads=in_threads)
    seen: list[int] = []
    is_under_way = threading.Event()
    may_go_on = threading.Event()

    def note(number: int) -> None:
        seen.append(number)
        is_under_way.set()
        if in_threads:
            may_go_on.wait()

    subscriber = callbacks.subscriber(note)
    subscriber.push(1)
    subscriber.push(2)
    if in_threads:
        assert await asyncio.to_thread(is_under_way.wait, 10)
    await subscriber.close()
    may_go_on.set()
    await callbacks.close()
    assert seen == ([1] if in_threads else [])


def test_a_callback_that_ends_the_program_does_not_silence_the_others() -> None:
    """What is left is called while the program cleans up."""
    loop = asyncio.new_event_loop()
    callbacks = Callbacks(in_threads=False)
    seen: list[int] = []

    def interrupt(number: int) -> None:
        seen.append(number)
        if number == 1:
            raise KeyboardInterrupt

    async def push() -> None:
        first = callbacks.subscriber(interrupt)
        first.push(1)
        first.push(2)
        callbacks.subscriber(seen.append).push(3)
        await asyncio.sleep(0)

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(push())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert sorted(seen) == [1, 2, 3]

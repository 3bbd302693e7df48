"""The portal: results and errors come back, interrupted calls are undone, forks are noticed."""

from __future__ import annotations

import asyncio
import threading

import pytest

from coordclient import ClientStateError, ForkedClientError, forks
from coordclient.portal import Portal, _Call, shared_portal


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def fail() -> None:
    raise KeyError("mine")


def test_results_and_errors_come_back() -> None:
    portal = shared_portal()

    assert portal.run(double(21)) == 42
    with pytest.raises(KeyError, match="mine"):
        portal.run(fail())


def test_there_is_one_loop_for_the_process() -> None:
    assert shared_portal() is shared_portal()


def test_a_blocking_call_on_the_loop_is_refused() -> None:
    portal = shared_portal()

    async def call_from_the_loop() -> int:
        return portal.run(double(1))

    with pytest.raises(ClientStateError):
        portal.run(call_from_the_loop())


def test_the_portal_of_the_parent_is_refused_in_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    portal = shared_portal()
    with monkeypatch.context() as child:
        child.setattr(forks._Process, "generation", forks.generation() + 1)
        with pytest.raises(ForkedClientError):
            portal.run(double(1))


@pytest.mark.parametrize("is_done", [False, True])
async def test_a_result_that_comes_too_late_is_undone(is_done: bool) -> None:
    """The caller is interrupted before the result is there, or when it is there and was not taken."""
    undone: list[int] = []
    given_up = asyncio.Event()

    async def work() -> int:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            given_up.set()
        return 7

    call = _Call(asyncio.get_running_loop(), work(), undone.append)
    call.begin()
    if is_done:
        await asyncio.sleep(0.01)
        assert call.outcome.done()
    else:
        await asyncio.sleep(0)
    call.give_up()
    await asyncio.sleep(0.01)

    assert undone == [7]
    assert given_up.is_set() != is_done


def test_harmless_noise_of_grpc_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    portal = Portal()
    done = threading.Event()

    def provoke() -> None:
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": "poller", "exception": BlockingIOError()})
        loop.call_exception_handler({"message": "something else", "exception": KeyError()})
        done.set()

    portal.call_soon(provoke)
    assert done.wait(10)

    assert "poller" not in caplog.text
    assert "something else" in caplog.text

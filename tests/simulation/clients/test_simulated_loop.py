"""The simulated event loop: time jumps, order repeats, a program that cannot go on is reported."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.simulation.clients.client_clock import ClientClock
from tests.simulation.clients.simulated_loop import DeadlockError, SimulatedLoop, SpinningError
from tests.simulation.clients.stepping import counting_awaits
from tests.simulation.world import SECOND, World


def loop_in(world: World, name: str = "program", **options: bool) -> SimulatedLoop:
    return SimulatedLoop(world, name, ClientClock(world), **options)  # type: ignore[abstract]  # see there


async def order_of_ten(loop: SimulatedLoop) -> list[int]:
    """Let ten tasks run at one moment; return the order in which they did."""
    order: list[int] = []

    async def work(number: int) -> None:
        order.append(number)

    await asyncio.wait([loop.create_task(work(number)) for number in range(10)])
    return order


def test_time_jumps_over_what_nobody_needs() -> None:
    world = World(1)
    loop = loop_in(world)
    began = world.now_ns

    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    before = time.process_time()
    assert loop.run_until_complete(main()) >= 3600
    assert world.now_ns - began >= 3600 * SECOND
    assert time.process_time() - before < 60


def test_callbacks_run_in_order_or_in_the_order_of_the_dice() -> None:
    def order(seed: int, *, is_shuffled: bool) -> list[int]:
        loop = loop_in(World(seed), is_shuffled=is_shuffled)
        return loop.run_until_complete(order_of_ten(loop))

    assert order(1, is_shuffled=False) == list(range(10))
    assert order(1, is_shuffled=True) == order(1, is_shuffled=True)
    assert len({tuple(order(seed, is_shuffled=True)) for seed in range(10)}) > 5


def test_a_program_that_nothing_can_wake_is_reported_by_name() -> None:
    loop = loop_in(World(1))

    async def main() -> None:
        lost = loop.create_task(asyncio.Event().wait(), name="waits for nobody")
        await asyncio.wait([lost])

    with pytest.raises(DeadlockError, match="waits for nobody"):
        loop.run_until_complete(main())
    loop.kill()


def test_a_program_that_spins_is_reported() -> None:
    loop = loop_in(World(1))

    async def main() -> None:
        while True:  # noqa: ASYNC110  # that is the mistake
            await asyncio.sleep(0)

    with pytest.raises(SpinningError):
        loop.run_until_complete(main())
    loop.kill()


def test_a_paused_program_stands_still_while_its_clock_goes_on() -> None:
    world = World(1)
    loop = loop_in(world)
    woken: list[float] = []

    async def main() -> None:
        began = loop.time()
        await asyncio.sleep(1)
        woken.append(loop.time() - began)

    loop.create_task(main())
    world.run_until(world.now_ns + SECOND // 2)
    loop.pause()
    world.run_until(world.now_ns + 10 * SECOND)
    assert not woken
    loop.resume()
    world.run_until(world.now_ns + 1)
    assert woken
    assert woken[0] >= 10


def test_a_killed_program_is_unwound_at_once() -> None:
    world = World(1)
    loop = loop_in(world)
    unwound: list[str] = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(5)  # as a careful program may
            unwound.append("main")

    loop.create_task(main())
    world.run_until(world.now_ns + SECOND)
    loop.kill()
    assert unwound == ["main"]
    assert loop.waiting() == []


def test_exceptions_that_nobody_handles_are_kept() -> None:
    world = World(1)
    loop = loop_in(world)

    def fail() -> None:
        raise ValueError("nobody expects this")

    async def main() -> None:
        loop.call_soon(fail)
        await asyncio.sleep(1)

    loop.run_until_complete(main())
    assert len(loop.failures) == 1
    assert "nobody expects this" in loop.failures[0]


@pytest.mark.parametrize("stop_at", range(4))
def test_a_coroutine_is_cancelled_at_each_of_its_awaits(stop_at: int) -> None:
    loop = loop_in(World(1))
    reached: list[int] = []

    async def work() -> None:
        for step in range(4):
            reached.append(step)
            await asyncio.sleep(1)

    async def main() -> None:
        stops = 0

        def stopped() -> None:
            nonlocal stops
            if stops == stop_at:
                loop.call_soon(task.cancel)
            stops += 1

        async def counted() -> None:
            await counting_awaits(work(), stopped)

        task = loop.create_task(counted())
        await asyncio.wait([task])
        assert task.cancelled()

    loop.run_until_complete(main())
    assert reached == list(range(stop_at + 1))

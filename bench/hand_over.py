"""`make bench ARGS=hand-over`: how long a lock takes from its release in one process to a holder in another.

Two processes share one lock on three members. Each holds it for a moment, while the other waits in the queue;
measured is from just before `release()` is called to just after `acquire()` has returned, on the clock that
all processes of the machine share.

Rule of this file: each process notes its own moments; nothing is sent between them but the lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.cluster import running_cluster
from coordclient import AsyncClient, clock

LOCK = "/bench/hand-over"
HAND_OVERS = 500
WARM_UP = 50
LINE_UP_S = 0.02  # how long a holder holds at least, so that the other has come to rest in the queue


async def take_turns(endpoints: str, turns: int) -> None:
    """Hold the lock `turns` times; print when each began, and when it was about to end."""
    async with AsyncClient(endpoints, session_timeout=30.0) as client:
        lock = client.lock(LOCK)
        moments = []
        for _ in range(turns):
            handle = await lock.acquire()
            granted_s = clock.now()
            while len(await lock.contenders()) < 2:
                if clock.now() > granted_s + 1.0:
                    break  # The other one has had its turns.
            await asyncio.sleep(LINE_UP_S)
            moments.append((handle.token, granted_s, clock.now()))
            await handle.release()
        for moment in moments:
            print(*moment)


@contextmanager
def other_process(endpoints: str, turns: int) -> Iterator[subprocess.Popen[str]]:
    """Run `take_turns` in a process of its own."""
    command = [sys.executable, "-m", "bench.hand_over", endpoints, str(turns)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        yield process
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
        process.kill()


def hand_overs_ms(outputs: list[str]) -> list[float]:
    """Return how long each hand-over from one process to the other took."""
    turns = sorted(
        (int(token), float(granted), float(released), process)
        for process, output in enumerate(outputs)
        for token, granted, released in (line.split() for line in output.splitlines())
    )
    return [
        (later[1] - earlier[2]) * 1000
        for earlier, later in zip(turns[WARM_UP:], turns[WARM_UP + 1 :], strict=False)
        if earlier[3] != later[3]
    ]


def measure(endpoints: str, hand_overs: int) -> list[float]:
    """Return the durations of that many hand-overs, in milliseconds, sorted."""
    turns = (hand_overs + WARM_UP) // 2
    with other_process(endpoints, turns) as one, other_process(endpoints, turns) as other:
        outputs = [process.communicate(timeout=300)[0] for process in (one, other)]
    return sorted(hand_overs_ms(outputs))


def run(endpoints: str | None, hand_overs: int) -> None:
    """Measure, on a cluster that runs or on one of its own, and print the figures."""
    if endpoints:
        durations = measure(endpoints, hand_overs)
    else:
        with running_cluster() as endpoints:
            durations = measure(endpoints, hand_overs)
    p50, p99 = (durations[min(len(durations) - 1, int(len(durations) * part))] for part in (0.5, 0.99))
    print(f"{len(durations)} hand-overs between two processes: p50 {p50:.2f} ms, p99 {p99:.2f} ms")


if __name__ == "__main__":
    asyncio.run(take_turns(sys.argv[1], int(sys.argv[2])))

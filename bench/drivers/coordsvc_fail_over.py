"""Driver: writes without a pause while members die, through the SDK. Prints a line for each acknowledgement.

A line is `WRITER BEGUN ACKNOWLEDGED`, the times in nanoseconds since the epoch. Writers 0 to 2 have one
member each, and begin a write every 20 ms whether or not earlier ones were answered; writer 3 knows all
members and writes one at a time, as an ordinary program does. It goes on until it is killed. A client that
had to leave its member stays where it went; writers 0 to 2 get a new one as soon as their member is back.

Rule of this file: what fails is tried again, as the SDK does it; a failure is no line.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import uvloop

from coordclient import AsyncClient, ConnectionLostError, CoordError

INTERVAL_S = 0.02
OUTSTANDING_MAX = 500
PAUSE_S = 0.002
LOOK_EVERY_S = 0.5
VALUE = b"v" * 100


async def _write(client: AsyncClient, writer: int) -> None:
    begun_ns = time.time_ns()
    try:
        await client.set(f"/fail-over-{writer}", VALUE)
    except CoordError as error:
        print(f"writer {writer}: {error}", file=sys.stderr)
        return
    sys.stdout.write(f"{writer} {begun_ns} {time.time_ns()}\n")
    sys.stdout.flush()


class _Pinned:
    """A writer that is attached to one member whenever that runs."""

    def __init__(self, endpoint: str, writer: int) -> None:
        self._endpoint = endpoint
        self._writer = writer
        self._client = AsyncClient(endpoint)

    async def run(self) -> None:
        await self._client.connect()
        await self._client.ensure_path(f"/fail-over-{self._writer}")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._go_back(self._client.member))
            tasks.create_task(self._write_at_intervals())

    async def _write_at_intervals(self) -> None:
        outstanding: set[asyncio.Task[None]] = set()
        while True:
            if len(outstanding) < OUTSTANDING_MAX:
                task = asyncio.create_task(_write(self._client, self._writer))
                outstanding.add(task)
                task.add_done_callback(outstanding.discard)
            await asyncio.sleep(INTERVAL_S)

    async def _go_back(self, member: str) -> None:
        """Begin anew with the own member once it can be reached again."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._client.member == member:
                continue
            fresh = AsyncClient(self._endpoint, connect_timeout=1.0)
            try:
                await fresh.connect()
            except ConnectionLostError:
                continue  # It is not back yet.
            former, self._client = self._client, fresh
            await former.close()


async def _write_one_at_a_time(endpoints: str, writer: int) -> None:
    async with AsyncClient(endpoints) as client:
        await client.ensure_path(f"/fail-over-{writer}")
        while True:
            await _write(client, writer)
            await asyncio.sleep(PAUSE_S)


async def _run(endpoints: str) -> None:
    addresses = endpoints.split(",")
    async with asyncio.TaskGroup() as writers:
        for writer, address in enumerate(addresses):
            writers.create_task(_Pinned(address, writer).run())
        writers.create_task(_write_one_at_a_time(endpoints, len(addresses)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", required=True)
    uvloop.run(_run(parser.parse_args().endpoints))

"""Shares a lock and does guarded work while it holds it: `lock_holder.py NAME ENDPOINTS TIMEOUT_S`.

Says `held` and `lost` with the time of the machine's monotonic clock, which all programs on it share.
"""

from __future__ import annotations

import asyncio
import sys
import time

from coordclient import AsyncClient
from coordclient.errors import GuardFailedError, LockLostError, SessionExpiredError

LOCK = "/locks/shared"
WORK = "/guarded"


async def run(name: str, endpoints: str, timeout_s: float) -> None:
    async with AsyncClient(endpoints, session_timeout=timeout_s) as client:
        await client.ensure_path(WORK)
        while True:
            print("waiting", flush=True)
            try:
                await work(client, name)
            except (GuardFailedError, LockLostError, SessionExpiredError) as error:
                print(f"lost at={time.monotonic()} {type(error).__name__}", flush=True)


async def work(client: AsyncClient, name: str) -> None:
    async with client.lock(LOCK) as held:
        print(f"held token={held.token} at={time.monotonic()}", flush=True)
        has_worked = False
        while True:
            held.check()
            await client.set(WORK, f"{name} {held.token}".encode(), guard=held)
            if not has_worked:
                print(f"working token={held.token}", flush=True)
            has_worked = True
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], float(sys.argv[3])))

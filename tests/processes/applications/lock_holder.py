"""Shares a lock and does guarded work while it holds it: `lock_holder.py NAME ENDPOINTS TIMEOUT_S`.

Says `held` with the moment, and `lost` with the moment after which it did not believe in the lock any more,
both on the SDK's clock, which all programs on a machine share.
"""

from __future__ import annotations

import asyncio
import sys

from coordclient import AsyncClient, clock
from coordclient.errors import GuardFailedError, LockLostError, SessionExpiredError

LOCK = "/locks/shared"
WORK = "/guarded"


async def run(name: str, endpoints: str, timeout_s: float) -> None:
    async with AsyncClient(endpoints, session_timeout=timeout_s) as client:
        await client.ensure_path(WORK)
        while True:
            print("waiting", flush=True)
            belief = Belief()
            try:
                await work(client, name, belief)
            except (GuardFailedError, LockLostError, SessionExpiredError) as error:
                print(f"lost until={belief.until} {type(error).__name__}", flush=True)


class Belief:
    """Until when the program has believed in its lock."""

    until = 0.0


async def work(client: AsyncClient, name: str, belief: Belief) -> None:
    async with client.lock(LOCK) as held:
        print(f"held token={held.token} at={clock.now()}", flush=True)
        has_worked = False
        while True:
            held.check()
            belief.until = max(belief.until, held.valid_until)
            await client.set(WORK, f"{name} {held.token}".encode(), guard=held)
            if not has_worked:
                print(f"working token={held.token}", flush=True)
            has_worked = True
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], float(sys.argv[3])))

"""Owns ephemeral nodes until it is killed: `ephemeral_owner.py ENDPOINTS TIMEOUT_S PATH...`."""

from __future__ import annotations

import asyncio
import sys

from coordclient import AsyncClient


async def run(endpoints: str, timeout_s: float, paths: list[str]) -> None:
    async with AsyncClient(endpoints, session_timeout=timeout_s) as client:
        for path in paths:
            await client.create(path, ephemeral=True, parents=True)
        print(f"session {client.session_id}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], float(sys.argv[2]), sys.argv[3:]))

"""Driver: durable writes one at a time through the SDK, with the moments at which each passed the client.

    coordsvc_traced --endpoints A --writes N

Prints one line of JSON: for each write the moment (ns of CLOCK_MONOTONIC) when `set` was called, when its
frame was given to gRPC, when the frame with its answer came, and when the caller went on.

Rule of this file: the SDK is wrapped from outside and never changed.
"""

from __future__ import annotations

import argparse
import json
from time import monotonic_ns

import uvloop

from coordclient import AsyncClient
from coordclient.connection import Connection

PATH = "/bench-traced"
WARM_UP_WRITES = 200
SESSION_TIMEOUT_S = 30.0


class Moments:
    """When the last frame was given to gRPC, and when the last one came."""

    sent_ns = 0
    answered_ns = 0


def trace(moments: Moments) -> None:
    """Have the SDK's connections note when a frame leaves and comes."""
    send, receive = Connection.send, Connection.receive

    async def noting_send(connection: Connection, frame: bytes) -> None:
        moments.sent_ns = monotonic_ns()
        await send(connection, frame)

    async def noting_receive(connection: Connection) -> bytes:
        frame = await receive(connection)
        moments.answered_ns = monotonic_ns()
        return frame

    setattr(Connection, "send", noting_send)  # noqa: B010  wrapped, which a type checker minds
    setattr(Connection, "receive", noting_receive)  # noqa: B010


async def run(endpoints: str, writes: int, value: bytes) -> list[tuple[int, int, int, int]]:
    found = []
    moments = Moments()
    trace(moments)
    async with AsyncClient(endpoints, session_timeout=SESSION_TIMEOUT_S) as client:
        await client.ensure_path(PATH)
        for number in range(WARM_UP_WRITES + writes):
            called_ns = monotonic_ns()
            await client.set(PATH, value)
            returned_ns = monotonic_ns()
            if number >= WARM_UP_WRITES:
                found.append((called_ns, moments.sent_ns, moments.answered_ns, returned_ns))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--writes", type=int, default=500)
    parser.add_argument("--value-bytes", type=int, default=100)
    options = parser.parse_args()
    print(json.dumps(uvloop.run(run(options.endpoints, options.writes, b"v" * options.value_bytes))))


if __name__ == "__main__":
    main()

"""A member that notes when a write passes its fixed points: `python -m bench.traced_member FILE serve ...`.

It is an ordinary `coordsvc serve`, except that some functions of its shells note the time before they go on.
The notes are kept in memory and written to FILE, one line of JSON each, when the member has stopped. A
note costs less than a microsecond.

Rule of this file: the product is wrapped from outside and never changed. The clock is CLOCK_MONOTONIC, which
all processes of one machine share.
"""

# ruff: noqa: SLF001, B010 - the fixed points are not public, and are replaced, which is what this file is for

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from time import monotonic_ns
from typing import Any

# First of all, as in the program: it tells gRPC how to run before gRPC is imported.
from coordsvc.cli import main as coordsvc_main

# isort: split
from coordproto.v1 import peer_pb2
from coordsvc.api import session_stream
from coordsvc.api.session_stream import SessionService
from coordsvc.raft.messages import MessageType
from coordsvc.raft.ready import Persist
from coordsvc.raft.types import Entry
from coordsvc.replica.applying import Applier
from coordsvc.replica.core import Replica
from coordsvc.server.member import Member
from coordsvc.storage.log_store import LogStore
from coordsvc.transport import listener, outgoing

# What a note says: the point, when it was passed (ns), and the peer or the index that tells which one it was.
Note = tuple[str, int, Any]

DECODE, PERSIST, DISK_BEGIN, DISK_END, PERSISTED = "decode", "persist", "disk-begin", "disk-end", "persisted"
LINK_OUT, LINK_IN, APPLY, APPLIED, ANSWER = "link-out", "link-in", "apply", "applied", "answer"
FORWARDED, ACKNOWLEDGED, APPENDED = "forwarded", "acknowledged", "appended"  # what came over a link

notes: list[Note] = []


def trace() -> None:
    """Wrap the fixed points of the member's shells."""
    _before(SessionService, "_decode", lambda _service, data: (DECODE, len(data)))
    _trace_what_is_packed()
    _around(LogStore, "write", DISK_BEGIN, DISK_END, _last_index_written)
    _before(Member, "_persisted", _persisted)
    _around(Applier, "apply", APPLY, APPLIED, lambda _applier, entry: entry.index)
    _before(session_stream, "join_items", lambda items: (ANSWER, len(items)))
    _before(outgoing._Connection, "_flush", lambda connection: (LINK_OUT, connection._peer))
    _trace_what_comes_in()


def _persisted(_member: Member, persist: Persist, _nothing: None) -> tuple[str, int] | None:
    return (PERSISTED, persist.entries[-1].index) if persist.entries else None


def _last_index_written(
    _log: LogStore, _hard_state: object, entries: Sequence[Entry], _snapshot: object, **_options: bool
) -> int | None:
    return entries[-1].index if entries else None


def _before(owner: Any, name: str, described: Callable[..., tuple[str, Any] | None]) -> None:
    """Note, before each call, what `described` makes of its arguments; None is not noted."""
    original = getattr(owner, name)

    @wraps(original)
    def noting(*args: Any, **kwargs: Any) -> Any:
        passed_ns = monotonic_ns()
        found = described(*args, **kwargs)
        if found is not None:
            notes.append((found[0], passed_ns, found[1]))
        return original(*args, **kwargs)

    setattr(owner, name, noting)


def _around(owner: Any, name: str, begin: str, end: str, identified: Callable[..., int | None]) -> None:
    """Note when each call begins and ends."""
    original = getattr(owner, name)

    @wraps(original)
    def noting(*args: Any, **kwargs: Any) -> Any:
        identity = identified(*args, **kwargs)
        begun_ns = monotonic_ns()
        result = original(*args, **kwargs)
        if identity is not None:
            notes.append((begin, begun_ns, identity))
            notes.append((end, monotonic_ns(), identity))
        return result

    setattr(owner, name, noting)


def _trace_what_is_packed() -> None:
    """Note when there is something for the disk: it is sent first, and handed to the disk right after."""
    take_ready = Replica.take_ready

    @wraps(take_ready)
    def taking(replica: Replica) -> Persist | None:
        persist = take_ready(replica)
        if persist is not None and persist.entries:
            notes.append((PERSIST, monotonic_ns(), persist.entries[-1].index))
        return persist

    setattr(Replica, "take_ready", taking)


def _trace_what_comes_in() -> None:
    """Note, for what matters to a write, when its bytes came over the link, and what it was."""
    data_received, on_frames = listener._Connection.data_received, Member._on_frames
    arrived_ns = 0

    @wraps(data_received)
    def receiving(connection: listener._Connection, data: bytes) -> None:
        nonlocal arrived_ns
        arrived_ns = monotonic_ns()
        data_received(connection, data)

    @wraps(on_frames)
    def taking_in(member: Member, peer: str, frames: list[peer_pb2.PeerFrame]) -> None:
        for frame in frames:
            if frame.HasField("forward"):
                notes.append((FORWARDED, arrived_ns, peer))
            elif frame.HasField("raft") and frame.raft.type == MessageType.APPEND_RESPONSE:
                if not frame.raft.reject:
                    notes.append((ACKNOWLEDGED, arrived_ns, (peer, frame.raft.index)))
            elif frame.HasField("raft") and frame.raft.type == MessageType.APPEND:
                last_index = frame.raft.index + len(frame.raft.entries)
                notes.append((APPENDED, arrived_ns, (last_index, frame.raft.commit)))
        on_frames(member, peer, frames)

    setattr(listener._Connection, "data_received", receiving)
    setattr(Member, "_on_frames", taking_in)


def main() -> None:
    file = Path(sys.argv.pop(1))
    trace()
    try:
        coordsvc_main()
    finally:
        file.write_text("".join(f"{json.dumps(note)}\n" for note in notes), encoding="ascii")


if __name__ == "__main__":
    main()

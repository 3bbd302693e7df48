"""Streaming the tree to a follower that fell behind the log. Design section 7.

Rule of this file: a small window of chunks is in flight, each read on the background thread, so that neither
the event loop nor memory is held; a stream that does not get on is given up and reported to consensus.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from coordproto.v1 import peer_pb2
from coordsvc.codec.peer_messages import encode_snapshot_metadata
from coordsvc.raft.types import Configuration, SnapshotMetadata
from coordsvc.server.logs import log
from coordsvc.server.pacing import at_ease
from coordsvc.storage.errors import SnapshotRefused
from coordsvc.storage.tree_chunks import TreeChunk
from coordsvc.storage.tree_store import TreeSnapshot

if TYPE_CHECKING:
    from coordsvc.server.member import Member

_CHUNK_BYTES = 64 << 10  # reading or sending one holds the interpreter well below a millisecond
_WINDOW_CHUNKS = 48
_WINDOW_BYTES = _WINDOW_CHUNKS * _CHUNK_BYTES  # a chunk is larger where a value is
_GIVE_UP_AFTER_S = 30.0
_REST = 1.5  # after reading a chunk, as a multiple of what that took
_CATCH_UP_WITHIN_S = 120.0  # how long the log waits for a peer that has installed a snapshot


class _StreamEndedError(Exception):
    """The stream cannot go on: the link is down, or the receiver refused."""


@dataclass(slots=True, eq=False)
class _Stream:
    peer: str
    index: int
    term: int
    configuration: Configuration
    snapshot: TreeSnapshot
    received: int = 0
    under_way: deque[tuple[int, int]] = field(default_factory=deque)  # number and bytes: sent, not received
    done: bool = False
    failed: bool = False
    progress: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Arrival:
    """A peer that has installed a snapshot, and has yet to fetch what was written meanwhile."""

    index: int
    until_s: float


class SnapshotSenders:
    """At most one stream to each peer."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._streams: dict[str, _Stream] = {}
        self._arrivals: dict[str, _Arrival] = {}
        self._queue: asyncio.Queue[_Stream] = asyncio.Queue()

    def start(self, peer: str) -> None:
        """Begin a stream of the tree as it is now. One that is under way goes on instead."""
        if peer in self._streams:
            return
        member = self._member
        machine = member.replica.state.machine
        stream = _Stream(
            peer,
            machine.applied_index,
            machine.applied_term,
            member.replica.roster.applied.raft,
            member.opened.tree.snapshot(),
        )
        self._streams[peer] = stream
        self._arrivals.pop(peer, None)
        self._queue.put_nowait(stream)

    def trimmable_index(self, wanted: int) -> int:
        """Return up to where the log may be trimmed: `wanted`, or less if streams or arrivals need more.

        A peer whose stream took long lacks all that was written meanwhile. If that went from the log the
        moment that the stream ends, it would need another snapshot, and under load one after the other.
        """
        streamed = [stream.index for stream in self._streams.values()]
        return min([wanted, *streamed, *self._still_needed(wanted)])

    def _still_needed(self, wanted: int) -> list[int]:
        """Return up to where each arrival has the log. One that has as much as `wanted` is none any more."""
        if not self._arrivals:
            return []
        followers = self._member.replica.state.raft.status().followers
        needed = []
        for peer, arrival in list(self._arrivals.items()):
            follower = followers.get(peer)
            has = max(arrival.index, follower.match) if follower is not None else wanted
            if has >= wanted or time.monotonic() > arrival.until_s:
                del self._arrivals[peer]
            else:
                needed.append(has)
        return needed

    def take(self, peer: str, status: peer_pb2.SnapshotStatus) -> None:
        """Take in what the receiver says of its progress."""
        stream = self._streams.get(peer)
        if stream is None or status.index != stream.index:
            return
        stream.received = max(stream.received, status.received)
        stream.done = stream.done or status.done
        stream.failed = stream.failed or status.failed
        stream.progress.set()

    def link_down(self, peer: str) -> None:
        self._arrivals.pop(peer, None)
        stream = self._streams.get(peer)
        if stream is not None:
            stream.failed = True
            stream.progress.set()

    def old_tree_gone(self) -> None:
        """The tree was replaced: streams of the old one end before its database closes."""
        for stream in self._streams.values():
            stream.failed = True
            stream.snapshot.close()
            stream.progress.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                stream = await self._queue.get()
                tasks.create_task(self._serve(stream), name=f"snapshot-to-{stream.peer}")

    async def _serve(self, stream: _Stream) -> None:
        member = self._member
        log(logging.INFO, "snapshot_sending", to=stream.peer, index=stream.index)
        try:
            await self._send_chunks(stream)
        except (_StreamEndedError, SnapshotRefused, TimeoutError) as error:
            log(logging.WARNING, "snapshot_failed", to=stream.peer, index=stream.index, reason=repr(error))
            member.replica.state.raft.report_snapshot(stream.peer, ok=False)
        else:
            log(logging.INFO, "snapshot_sent", to=stream.peer, index=stream.index, chunks=stream.received)
            self._arrivals[stream.peer] = _Arrival(stream.index, time.monotonic() + _CATCH_UP_WITHIN_S)
            member.replica.state.raft.report_snapshot(stream.peer, ok=True)
        finally:
            del self._streams[stream.peer]
            stream.snapshot.close()
            member.changed()

    async def _send_chunks(self, stream: _Stream) -> None:
        background = self._member.background
        chunks = await background.submit(lambda: stream.snapshot.chunks(_CHUNK_BYTES))
        while True:
            chunk = await at_ease(background, lambda: next(chunks), _REST)
            await self._wait(stream, partial(_has_room, stream, chunk))
            self._send(stream, chunk)
            stream.under_way.append((chunk.number, len(chunk.data)))
            if chunk.last:
                break
        await self._wait(stream, lambda: stream.done)

    async def _wait(self, stream: _Stream, condition: Callable[[], bool]) -> None:
        while not condition():
            if stream.failed:
                raise _StreamEndedError("the receiver refused it, or the link is down")
            stream.progress.clear()
            async with asyncio.timeout(_GIVE_UP_AFTER_S):
                await stream.progress.wait()
        if stream.failed:
            raise _StreamEndedError("the receiver refused it, or the link is down")

    def _send(self, stream: _Stream, chunk: TreeChunk) -> None:
        message = peer_pb2.SnapshotChunk(
            index=stream.index,
            term=stream.term,
            number=chunk.number,
            data=chunk.data,
            checksum=chunk.checksum,
            last=chunk.last,
        )
        if chunk.last:
            message.raft_term = self._member.replica.state.raft.term
            metadata = SnapshotMetadata(stream.index, stream.term, stream.configuration)
            message.metadata.CopyFrom(encode_snapshot_metadata(metadata))
        frame = peer_pb2.PeerFrame(snapshot_chunk=message).SerializeToString()
        if not self._member.links.send(stream.peer, [frame]):
            raise _StreamEndedError("the link is down or its queue is full")


def _has_room(stream: _Stream, chunk: TreeChunk) -> bool:
    under_way = stream.under_way
    while under_way and under_way[0][0] < stream.received:
        under_way.popleft()
    if not under_way:
        return True
    ahead_bytes = sum(size for _, size in under_way)
    return len(under_way) < _WINDOW_CHUNKS and ahead_bytes + len(chunk.data) <= _WINDOW_BYTES

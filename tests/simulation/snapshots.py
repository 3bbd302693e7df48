"""Streaming a tree from one simulated member to another: what the server's snapshot senders and receiver do.

The chunks are those of `coordsvc.storage.tree_chunks`; a window of them is in flight; the receiver builds a
tree beside its own, verifies it, offers it to consensus, and switches to it when consensus has accepted.

Rule of this file: step for step as `coordsvc.server.snapshot_sending` and `snapshot_receiving`; where they
wait, this goes on with the next event.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordproto.v1 import peer_pb2
from coordsvc.codec.peer_messages import (
    MalformedFrame,
    decode_snapshot_metadata,
    encode_snapshot_metadata,
)
from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.ready import Persist
from coordsvc.raft.types import Configuration, SnapshotMetadata
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.machine import StateMachine
from coordsvc.storage.errors import SnapshotRefused
from coordsvc.storage.tree_chunks import ChunkReader, TreeChunk, encode_chunks
from tests.simulation.disk import LogChange, SimulatedTree, TreeFiles
from tests.simulation.world import SECOND

if TYPE_CHECKING:
    from tests.simulation.members import SimulatedMember

_GIVE_UP_AFTER_NS = 30 * SECOND
_TREE_BYTES_MAX = 1 << 30


@dataclass(slots=True, eq=False)
class _Stream:
    peer: str
    index: int
    term: int
    configuration: Configuration
    chunks: Iterator[TreeChunk]
    next_chunk: TreeChunk | None
    received: int = 0
    is_all_sent: bool = False
    patience: int = 0  # counts signs of progress


class SnapshotSenders:
    """At most one stream to each peer."""

    def __init__(self, member: SimulatedMember) -> None:
        self._member = member
        self._streams: dict[str, _Stream] = {}

    def start(self, peer: str) -> None:
        """Begin a stream of the tree as it is now. One that is under way goes on instead."""
        if peer in self._streams:
            return
        member = self._member
        machine = member.replica.state.machine
        records = sorted(member.tree.records.items())
        chunks = encode_chunks(records, member.plan.cluster.chunk_bytes)
        stream = _Stream(
            peer,
            machine.applied_index,
            machine.applied_term,
            member.replica.roster.applied.raft,
            chunks,
            next(chunks),
        )
        self._streams[peer] = stream
        member.world.trace(member.name, "snapshot-to", peer, stream.index)
        self._go_on(stream)
        self._have_patience(stream)

    def oldest_index(self, applied: int) -> int:
        """Return the index up to which streams allow the log to be trimmed."""
        return min([applied, *(stream.index for stream in self._streams.values())])

    def take(self, peer: str, status: peer_pb2.SnapshotStatus) -> None:
        """Take in what the receiver says of its progress."""
        stream = self._streams.get(peer)
        if stream is None or status.index != stream.index:
            return
        stream.received = max(stream.received, status.received)
        stream.patience += 1
        if status.failed:
            self._end(stream, ok=False)
        elif status.done and stream.is_all_sent:
            self._end(stream, ok=True)
        else:
            self._go_on(stream)

    def link_down(self, peer: str) -> None:
        stream = self._streams.get(peer)
        if stream is not None:
            self._end(stream, ok=False)

    def old_tree_gone(self) -> None:
        """The tree was replaced: streams of the old one end."""
        for stream in list(self._streams.values()):
            self._end(stream, ok=False)

    def _go_on(self, stream: _Stream) -> None:
        """Send chunks as long as the window has room; each is read on the storage thread first."""
        chunk = stream.next_chunk
        if chunk is None or chunk.number >= stream.received + self._member.plan.cluster.chunk_window:
            return
        stream.next_chunk = None
        member = self._member
        member.on_storage_thread([(member.write_ns(), _read_it)], lambda: self._send(stream, chunk))

    def _send(self, stream: _Stream, chunk: TreeChunk) -> None:
        if self._streams.get(stream.peer) is not stream:
            return
        member = self._member
        message = peer_pb2.SnapshotChunk(
            index=stream.index,
            term=stream.term,
            number=chunk.number,
            data=chunk.data,
            checksum=chunk.checksum,
            last=chunk.last,
        )
        if chunk.last:
            stream.is_all_sent = True
            message.raft_term = member.replica.state.raft.term
            configuration = stream.configuration
            metadata = SnapshotMetadata(stream.index, stream.term, configuration)
            message.metadata.CopyFrom(encode_snapshot_metadata(metadata))
        else:
            stream.next_chunk = next(stream.chunks)
        frame = peer_pb2.PeerFrame(snapshot_chunk=message).SerializeToString()
        if not member.send(stream.peer, [frame]):
            self._end(stream, ok=False)
            return
        self._go_on(stream)

    def _have_patience(self, stream: _Stream) -> None:
        member = self._member
        process, seen = member.process(), stream.patience

        def look() -> None:
            if self._streams.get(stream.peer) is not stream:
                return
            if stream.patience == seen:
                self._end(stream, ok=False)
            else:
                self._have_patience(stream)

        member.world.at(_GIVE_UP_AFTER_NS, lambda: member.feed(process, look))

    def _end(self, stream: _Stream, *, ok: bool) -> None:
        if self._streams.get(stream.peer) is not stream:
            return
        del self._streams[stream.peer]
        member = self._member
        member.world.trace(
            member.name, "snapshot-sent" if ok else "snapshot-failed", stream.peer, stream.index
        )
        if not ok:
            member.ledger.probes.hit("a snapshot stream failed")
        member.replica.state.raft.report_snapshot(stream.peer, ok=ok)


@dataclass(slots=True)
class _Incoming:
    peer: str
    index: int
    reader: ChunkReader
    files: TreeFiles


class SnapshotReceiver:
    """One snapshot at a time; a new one takes the place of one that was not finished."""

    def __init__(self, member: SimulatedMember) -> None:
        self._member = member
        self._incoming: _Incoming | None = None
        self._finishing: _Incoming | None = None
        self._offered: tuple[SnapshotMetadata, _Incoming] | None = None
        self._last_answer: tuple[str, bytes] | None = None

    def link_up(self, peer: str) -> None:
        """Say again what was said last."""
        if self._last_answer is not None and self._last_answer[0] == peer:
            self._member.send(peer, [self._last_answer[1]])

    def take(self, peer: str, chunk: peer_pb2.SnapshotChunk) -> None:
        """Take in a chunk."""
        member = self._member
        member.on_storage_thread([(member.write_ns(), _read_it)], lambda: self._take(peer, chunk))

    def _take(self, peer: str, chunk: peer_pb2.SnapshotChunk) -> None:
        if self._offered is not None or self._finishing is not None:
            return
        try:
            self._add(peer, chunk)
        except (SnapshotRefused, MalformedFrame) as refused:
            self._member.world.trace(self._member.name, "snapshot-refused", peer, str(refused))
            self._incoming = None
            self._answer(peer, chunk.index, failed=True)

    def _add(self, peer: str, chunk: peer_pb2.SnapshotChunk) -> None:
        if chunk.number == 0:
            self._incoming = _Incoming(peer, chunk.index, ChunkReader(_TREE_BYTES_MAX), TreeFiles())
        incoming = self._incoming
        if incoming is None or (incoming.peer, incoming.index) != (peer, chunk.index):
            raise SnapshotRefused(f"chunk {chunk.number} belongs to no snapshot that was begun")
        records = incoming.reader.read(chunk.number, chunk.data, chunk.checksum)
        if records:
            incoming.files.unsynced.append((records, ()))
        self._answer(peer, chunk.index, received=chunk.number + 1)
        if chunk.last:
            if not incoming.reader.complete:
                raise SnapshotRefused("the snapshot ended before its end")
            metadata = decode_snapshot_metadata(chunk.metadata)
            self._incoming, self._finishing = None, incoming
            member = self._member
            files = incoming.files
            steps = [(member.sync_ns(), lambda: files.keep(len(files.unsynced)))]
            member.on_storage_thread(steps, lambda: self._finish(incoming, metadata, chunk.raft_term))

    def _finish(self, incoming: _Incoming, metadata: SnapshotMetadata, raft_term: int) -> None:
        member = self._member
        self._finishing = None
        try:
            self._verify(incoming, metadata)
        except SnapshotRefused as refused:
            member.world.trace(member.name, "snapshot-refused", incoming.peer, str(refused))
            self._answer(incoming.peer, incoming.index, failed=True)
            return
        self._offered = (metadata, incoming)
        message = Message(
            MessageType.SNAPSHOT,
            source=incoming.peer,
            target=member.name,
            term=raft_term,
            index=metadata.index,
            log_term=metadata.term,
            snapshot=metadata,
        )
        member.replica.step_snapshot(message)
        if member.replica.state.raft.pending_snapshot != metadata:
            self._offered = None
            member.ledger.probes.hit("a snapshot was not wanted any more")
            self._answer(incoming.peer, incoming.index, done=True)

    def _verify(self, incoming: _Incoming, metadata: SnapshotMetadata) -> None:
        """Check that the received tree is what it claims to be."""
        try:
            machine = StateMachine(SimulatedTree(incoming.files, _no_check), self._member.limits)
            is_at = (machine.applied_index, machine.applied_term)
            if metadata.index < 1 or is_at != (metadata.index, metadata.term):
                raise SnapshotRefused(f"the received tree is at {is_at}, and not where the sender said")
            machine.verify()
        except CorruptStateError as error:
            raise SnapshotRefused(f"the received tree is damaged: {error}") from error

    def install(self, persist: Persist) -> None:
        """Consensus accepted the snapshot that was offered: make it ours."""
        member = self._member
        assert self._offered is not None, "only an offered snapshot is accepted"
        metadata, incoming = self._offered
        assert persist.snapshot == metadata, "the offered snapshot is the accepted one"
        disk = member.disk
        change = LogChange(persist.hard_state, list(persist.entries), metadata)
        steps = [
            (member.sync_ns(), lambda: disk.switch_tree(incoming.files, metadata.index, metadata.term)),
            (member.write_ns(), lambda: disk.write_log(change)),
            (member.sync_ns(), disk.sync_log),
        ]
        member.is_installing = True
        member.on_storage_thread(steps, lambda: self._installed(persist, incoming))

    def _installed(self, persist: Persist, incoming: _Incoming) -> None:
        member = self._member
        member.log.write(persist.hard_state, persist.entries, persist.snapshot)
        member.replica.persisted(persist)
        member.replace_tree(incoming.files)
        self._offered = None
        member.is_installing = False
        member.world.trace(member.name, "snapshot-installed", incoming.index)
        self._answer(incoming.peer, incoming.index, done=True)
        member.sender.old_tree_gone()

    def _answer(
        self, peer: str, index: int, *, received: int = 0, done: bool = False, failed: bool = False
    ) -> None:
        status = peer_pb2.SnapshotStatus(index=index, received=received, done=done, failed=failed)
        self._last_answer = (peer, peer_pb2.PeerFrame(snapshot_status=status).SerializeToString())
        self._member.send(peer, [self._last_answer[1]])


def _read_it() -> None:
    """The work of reading a chunk from the disk, or of writing it, is its latency."""


def _no_check() -> None:
    """A tree under construction is no business of the disk's faults."""

"""Taking in a tree that the leader streams, and putting it in the place of ours. Design section 7.

Rule of this file: the live tree serves on until the new one is whole, verified, durable, and accepted by
consensus; then pointer, log and state machine follow in an order that every crash in between survives.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from coordproto.v1 import peer_pb2
from coordsvc.codec.cluster_configuration import decode_raft_configuration
from coordsvc.codec.peer_messages import MalformedFrame, decode_snapshot_metadata
from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.ready import Persist
from coordsvc.raft.types import SnapshotMetadata
from coordsvc.server.logs import log
from coordsvc.server.pacing import at_ease, take_steps
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.machine import StateMachine
from coordsvc.statemachine.types import Limits
from coordsvc.storage.errors import SnapshotRefused
from coordsvc.storage.snapshot_install import SnapshotBuilder
from coordsvc.storage.tree_store import TreeStore

if TYPE_CHECKING:
    from coordsvc.server.member import Member

_QUEUE_CHUNKS = 128  # what a sender that is gone has left, and the window of the next one
_REST_STORING = 1.5  # after storing a chunk, as a multiple of what that took; the leader reads meanwhile
_REST_VERIFYING = 0.5  # after a step of verifying: nobody else works for it then
_TELL_EVERY_S = 5.0  # well below the time after which a sender that hears nothing gives up


@dataclass(slots=True)
class _Incoming:
    peer: str
    index: int
    builder: SnapshotBuilder


@dataclass(slots=True)
class _Offered:
    """A tree that is whole and verified, with the state machine over it: loading one again takes long."""

    metadata: SnapshotMetadata
    incoming: _Incoming
    machine: StateMachine


class SnapshotReceiver:
    """One snapshot at a time; a new one takes the place of one that was not finished."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._queue: asyncio.Queue[tuple[str, peer_pb2.SnapshotChunk]] = asyncio.Queue(_QUEUE_CHUNKS)
        self._incoming: _Incoming | None = None
        self._offered: _Offered | None = None
        self._last_answer: tuple[str, bytes] | None = None

    def link_up(self, peer: str) -> None:
        """Say again what was said last: a sender that never hears the end waits long, and sends no log."""
        if self._last_answer is not None and self._last_answer[0] == peer:
            self._member.links.send(peer, [self._last_answer[1]])

    def take(self, peer: str, chunk: peer_pb2.SnapshotChunk) -> None:
        """Take in a chunk. The sender keeps a small window: if the queue is full it breaks the rules."""
        if self._queue.full():
            self._answer(peer, chunk.index, failed=True)
            return
        self._queue.put_nowait((peer, chunk))

    async def run(self) -> None:
        while True:
            peer, chunk = await self._queue.get()
            try:
                await self._take(peer, chunk)
            except (SnapshotRefused, MalformedFrame) as refused:
                log(logging.WARNING, "snapshot_refused", sender=peer, index=chunk.index, reason=str(refused))
                await self._drop()
                self._answer(peer, chunk.index, failed=True)

    async def _take(self, peer: str, chunk: peer_pb2.SnapshotChunk) -> None:
        member = self._member
        background = member.background
        if self._offered is not None:
            return  # The one before is just being installed; consensus asks again if it needs more.
        if chunk.number == 0:
            await self._drop()
            builder = await background.submit(member.opened.directory.new_tree)
            self._incoming = _Incoming(peer, chunk.index, builder)
            log(logging.INFO, "snapshot_receiving", sender=peer, index=chunk.index)
        incoming = self._incoming
        if incoming is None or (incoming.peer, incoming.index) != (peer, chunk.index):
            raise SnapshotRefused(f"chunk {chunk.number} belongs to no snapshot that was begun")
        add = partial(incoming.builder.add_chunk, chunk.number, chunk.data, chunk.checksum)
        await at_ease(background, add, _REST_STORING)
        self._answer(peer, chunk.index, received=chunk.number + 1)
        if chunk.last:
            await self._finish(incoming, chunk)

    async def _finish(self, incoming: _Incoming, chunk: peer_pb2.SnapshotChunk) -> None:
        member = self._member
        metadata = decode_snapshot_metadata(chunk.metadata)
        tell = partial(self._answer, incoming.peer, incoming.index, received=chunk.number + 1)
        machine = await self._verify(incoming.builder, metadata, tell)
        self._incoming = None
        self._offered = _Offered(metadata, incoming, machine)
        message = Message(
            MessageType.SNAPSHOT,
            source=incoming.peer,
            target=member.name,
            term=chunk.raft_term,
            index=metadata.index,
            log_term=metadata.term,
            snapshot=metadata,
        )
        member.replica.step_snapshot(message)
        if member.replica.state.raft.pending_snapshot != metadata:
            # Not wanted any more: the log has caught up meanwhile, or the sender leads no longer.
            self._offered = None
            await member.background.submit(incoming.builder.abort)
            self._answer(incoming.peer, incoming.index, done=True)
        member.changed()

    async def _verify(
        self, builder: SnapshotBuilder, metadata: SnapshotMetadata, tell: Callable[[], None]
    ) -> StateMachine:
        """Make the received tree durable, and check that it is what it claims to be.

        A large one takes minutes: `tell` is called now and then, so that the sender does not give up.

        Raises:
            SnapshotRefused: It is not.
        """
        background = self._member.background
        load = partial(_load, builder, metadata, self._member.opened.limits)
        loading = background.submit(load)
        while not (await asyncio.wait([loading], timeout=_TELL_EVERY_S))[0]:
            tell()
        machine = loading.result()
        steps = _refusing(machine.verification(builder.store))
        told_s = time.monotonic()
        while not await at_ease(background, partial(take_steps, steps), _REST_VERIFYING):
            if time.monotonic() - told_s >= _TELL_EVERY_S:
                tell()
                told_s = time.monotonic()
        return machine

    def install(self, persist: Persist) -> None:
        """Consensus accepted the snapshot that was offered: make it ours."""
        member = self._member
        assert self._offered is not None, "only an offered snapshot is accepted"
        offered = self._offered
        metadata, incoming = offered.metadata, offered.incoming
        assert persist.snapshot == metadata, "the offered snapshot is the accepted one"

        def work() -> TreeStore:
            opened = member.opened
            tree = opened.directory.switch_tree(incoming.builder, metadata.index, metadata.term)
            opened.log.write(persist.hard_state, persist.entries, metadata, sync=True)
            return tree

        member.on_storage_thread(work, partial(self._installed, persist, offered))

    def _installed(self, persist: Persist, offered: _Offered, tree: TreeStore) -> None:
        member = self._member
        opened = member.opened
        old_tree, opened.tree = opened.tree, tree
        opened.log.adopt(persist.hard_state, persist.entries, persist.snapshot)
        member.replica.persisted(persist)
        member.replica.replace_machine(offered.machine)
        self._offered = None
        log(logging.INFO, "snapshot_installed", index=offered.incoming.index)
        self._answer(offered.incoming.peer, offered.incoming.index, done=True)

        def work() -> None:
            old_tree.close()
            opened.directory.remove_old_trees()

        # Whatever still reads the old tree does so on the background thread, so before this work.
        member.sender.old_tree_gone()
        member.verifier.old_tree_gone()
        member.on_background_thread(work, _nothing_more)

    async def _drop(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            await self._member.background.submit(incoming.builder.abort)

    def _answer(
        self, peer: str, index: int, *, received: int = 0, done: bool = False, failed: bool = False
    ) -> None:
        status = peer_pb2.SnapshotStatus(index=index, received=received, done=done, failed=failed)
        self._last_answer = (peer, peer_pb2.PeerFrame(snapshot_status=status).SerializeToString())
        self._member.links.send(peer, [self._last_answer[1]])


def _load(builder: SnapshotBuilder, metadata: SnapshotMetadata, limits: Limits) -> StateMachine:
    """Make the received tree durable, and open it. Background thread."""
    builder.finish()
    try:
        machine = StateMachine(builder.store, limits)
        is_at = (machine.applied_index, machine.applied_term)
        if metadata.index < 1 or is_at != (metadata.index, metadata.term):
            raise SnapshotRefused(f"the received tree is at {is_at}, and not where the sender said")
        if decode_raft_configuration(machine.configuration) != metadata.configuration:
            raise SnapshotRefused("the received tree is of another configuration than the sender said")
    except CorruptStateError as error:
        raise _refusal(error) from error
    return machine


def _refusing(steps: Iterator[None]) -> Iterator[None]:
    """Verify, and take what is found for the sender's fault: ours is not damaged by it."""
    try:
        yield from steps
    except CorruptStateError as error:
        raise _refusal(error) from error


def _refusal(error: CorruptStateError) -> SnapshotRefused:
    return SnapshotRefused(f"the received tree is damaged: {error}")


def _nothing_more(_: None) -> None:
    pass

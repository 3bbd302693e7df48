"""A running member: feeds the replica, carries out what it wants, and waits for the disk beside it.

One pass of `_pump` does, in this order: send what may be sent; hand what must be written to the storage
thread; apply committed entries for a few milliseconds; wake the clients that have answers. Inputs that come
meanwhile share the next pass, so batches form by themselves under load.

Rule of this file: no decision about consensus, sessions or trees is made here. Any failure ends the member.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from coordproto.v1 import coordination_pb2, peer_pb2
from coordsvc.api.gateway import Arguments, ClientHandle, Result, TransferRefusedError
from coordsvc.codec.addresses import split_host_and_port
from coordsvc.codec.cluster_configuration import MemberRecord
from coordsvc.config import ServerConfig, split_address
from coordsvc.raft.ready import Persist
from coordsvc.replica.changes import Change, ChangeRequest
from coordsvc.replica.effects import Effects
from coordsvc.server.log_trimming import LogTrimmer
from coordsvc.server.logs import log
from coordsvc.server.membership import MembershipDesk
from coordsvc.server.metrics import MemberMetrics
from coordsvc.server.opening import OpenedMember
from coordsvc.server.snapshot_receiving import SnapshotReceiver
from coordsvc.server.snapshot_sending import SnapshotSenders
from coordsvc.server.status import describe, is_ready
from coordsvc.server.verifying import TreeVerifier
from coordsvc.statemachine.results import ErrorCode
from coordsvc.storage.storage_thread import StorageThread
from coordsvc.transport.handshake import Identity
from coordsvc.transport.links import PeerLinks

APPLY_SLICE_S = 0.005
_SECRET_BYTES = 16

Done = TypeVar("Done")


class MemberStopsError(Exception):
    """The member cannot go on; the message is one line for people."""


class Member:
    """Implements `coordsvc.api.gateway.Gateway`. Made, run and used on one event loop."""

    def __init__(self, config: ServerConfig, opened: OpenedMember) -> None:
        self.config = config
        self.name = opened.identity.member
        self.cluster_id = opened.identity.cluster_id
        self.replica = opened.replica
        self.opened = opened
        self.handles: dict[int, ClientHandle] = {}
        self.frame_bytes_max = config.frame_bytes_max
        self.started_s = time.monotonic()
        self.metrics = MemberMetrics(self)
        self.storage = StorageThread()
        self.background = StorageThread("background")
        self._loop = asyncio.get_running_loop()
        self._pump_scheduled = False
        self._stopping = False
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._leader_changed = asyncio.Event()
        self.readiness_changed = asyncio.Event()
        self._was_ready = False
        self.removed: asyncio.Future[str] = self._loop.create_future()
        self.membership = MembershipDesk(self)
        self.links = PeerLinks(
            identity=Identity(
                self.cluster_id,
                self.name,
                config.advertise_client,
                opened.identity.member_id,
                config.advertise_peer,
                lambda: self.replica.roster.known_index,
            ),
            listen=split_address("peer_listen", config.peer_listen),
            peers={},
            admit=self.membership.admit,
            on_refused=self.membership.refused,
            on_frames=self._on_frames,
            on_link_up=self._on_link_up,
            on_link_down=self._on_link_down,
            on_peer_gone=self._on_peer_gone,
            dice=random.Random(secrets.randbits(64)),
        )
        self.sender = SnapshotSenders(self)
        self.receiver = SnapshotReceiver(self)
        self.trimmer = LogTrimmer(self)
        self.verifier = TreeVerifier(self, opened.verification)

    # -----------------------------------------------------------------------------------------
    # Life

    async def run(self) -> None:
        """Serve until cancelled. Raises whatever ended the member."""
        self.changed()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.links.run(), name="peer-links")
            tasks.create_task(self._tick_forever(), name="ticks")
            tasks.create_task(self.sender.run(), name="snapshot-sending")
            tasks.create_task(self.receiver.run(), name="snapshot-receiving")
            tasks.create_task(self.verifier.run(), name="verifying")
            tasks.create_task(self._watch_failure(), name="failure")

    async def _watch_failure(self) -> None:
        await self._failed

    def fail(self, error: BaseException) -> None:
        """End the member with this reason. The first one counts."""
        if not self._failed.done():
            self._failed.set_exception(error)

    async def _tick_forever(self) -> None:
        """Tick by the monotonic clock. Late ticks are not made up for: the replica sees the gap."""
        interval_s = self.config.tick_ms / 1000
        due_s = time.monotonic() + interval_s
        while True:
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            now_s = time.monotonic()
            due_s = max(due_s + interval_s, now_s + interval_s / 2)
            self.replica.tick(int(now_s * 1000), int(time.time() * 1000))
            self.changed()

    async def stop_gracefully(self) -> None:
        """Send the clients elsewhere and hand leadership over, within an election timeout."""
        self._stopping = True
        self.replica.ask_to_move("this member is stopping")
        self.changed()
        raft = self.replica.state.raft
        if raft.is_leader and raft.configuration.voters != (self.name,):
            try:
                await self.transfer_leadership("")
            except TransferRefusedError as refused:
                log(logging.WARNING, "leadership_not_handed_over", reason=str(refused))

    def end_session_streams(self) -> None:
        """Tell the clients that are still attached to go elsewhere, and end their streams."""
        self._stopping = True
        state = self.replica.state
        for connection in list(state.by_session.values()):
            message = "this member has stopped; attach to another one, nothing is lost"
            state.fail_connection(connection, ErrorCode.SHUTTING_DOWN, message)
        for handle in list(self.handles.values()):
            handle.wake()

    async def close(self) -> None:
        """Finish what the disk has begun, and close the data directory."""
        await self.storage.close()
        await self.background.close()
        self.opened.close()

    # -----------------------------------------------------------------------------------------
    # Gateway: what the gRPC services use

    def feed(
        self, take_in: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        try:
            self._set_time()
            result = take_in(*args, **kwargs)
        except Exception as error:
            self.fail(error)
            raise
        self.changed()
        return result

    def is_stopping(self) -> bool:
        return self._stopping

    def fresh_secret(self) -> bytes:
        return secrets.token_bytes(_SECRET_BYTES)

    def status(self) -> coordination_pb2.StatusResponse:
        return describe(self)

    async def transfer_leadership(self, member: str) -> str:
        """Hand leadership to `member`, or to the most up-to-date voter. Returns who leads then."""
        raft = self.replica.state.raft
        if not raft.is_leader:
            leader = self.replica.state.leader
            raise TransferRefusedError(
                f"{self.name} does not lead, {leader or 'nobody'} does; ask the leader", ErrorCode.NO_LEADER
            )
        target = member or self._best_successor()
        if target == self.name:
            return target
        if target not in raft.configuration.voters:
            voters = ", ".join(raft.configuration.voters)
            raise TransferRefusedError(f"{target!r} is not a voting member; choose one of {voters}")
        self._leader_changed.clear()
        raft.transfer_leader(target)
        self.changed()
        try:
            async with asyncio.timeout(2 * self.config.election_ms / 1000):
                while raft.leader in (None, self.name):
                    await self._leader_changed.wait()
                    self._leader_changed.clear()
        except TimeoutError:
            message = f"{target} did not take over within {2 * self.config.election_ms} ms; is it up?"
            raise TransferRefusedError(message) from None
        return str(raft.leader)

    def _best_successor(self) -> str:
        successor = self.replica.best_successor()
        if successor is None:
            raise TransferRefusedError("no other voting member is connected")
        return successor

    async def change_membership(self, change: Change, *, force: bool, within_s: float) -> ChangeRequest:
        return await self.membership.change(change, force=force, within_s=within_s)

    # -----------------------------------------------------------------------------------------
    # Peers

    def _on_frames(self, peer: str, frames: list[peer_pb2.PeerFrame]) -> None:
        self._set_time()
        ordinary = []
        for frame in frames:
            kind = frame.WhichOneof("body")
            if kind == "snapshot_chunk":
                self.receiver.take(peer, frame.snapshot_chunk)
            elif kind == "snapshot_status":
                self.sender.take(peer, frame.snapshot_status)
            else:
                ordinary.append(frame)
        self.replica.receive(peer, ordinary)
        self.changed()

    def _on_link_up(self, peer: str, client_address: str) -> None:
        self.replica.peer_up(peer, client_address)
        self.receiver.link_up(peer)
        self.changed()

    def _on_link_down(self, peer: str) -> None:
        self.replica.peer_down(peer)
        self.sender.link_down(peer)
        self.changed()

    def _on_peer_gone(self, peer: str) -> None:
        self.replica.peer_gone(peer)
        self.changed()

    # -----------------------------------------------------------------------------------------
    # The pump

    def changed(self) -> None:
        """The replica was fed: let it speak at the end of this pass of the event loop."""
        if not self._pump_scheduled:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump)

    def _set_time(self) -> None:
        self.replica.set_time(int(time.monotonic() * 1000), int(time.time() * 1000))

    def _pump(self) -> None:
        self._pump_scheduled = False
        if self._failed.done():
            return
        try:
            self._set_time()
            self._let_speak()
            if self._apply_for_a_while():
                self._let_speak()
            if is_ready(self) is not self._was_ready:
                self._was_ready = not self._was_ready
                self.readiness_changed.set()
        except Exception as error:  # noqa: BLE001 - the top of the member: whatever it is ends it
            self.fail(error)

    def _let_speak(self) -> None:
        # First what the followers write to their disks, which takes longest. And the thread that writes to
        # ours would hold up the sending once it is woken: one thread at a time can have the interpreter.
        persist = self.replica.take_ready()
        self._carry_out(self.replica.take_effects())
        if persist is not None:
            self.start_persist(persist)

    def _apply_for_a_while(self) -> bool:
        """Apply what is committed. Returns whether there was anything."""
        replica = self.replica
        if not replica.has_work:
            return False
        until_s = time.monotonic() + APPLY_SLICE_S
        while replica.has_work:
            replica.apply_next()
            if time.monotonic() > until_s:
                self.changed()
                break
        return True

    def _carry_out(self, effects: Effects) -> None:
        for event, fields in effects.notes:
            log(logging.INFO, event, **fields)
            if event == "leader_changed":
                self._leader_changed.set()
        if effects.members is not None:
            self._link_to(effects.members)
        for peer, frames in effects.frames.items():
            self.links.send(peer, frames)
        for number in effects.connections:
            handle = self.handles.get(number)
            if handle is not None:
                handle.wake()
        for peer in effects.snapshots:
            self.sender.start(peer)
        for request in effects.settled:
            self.membership.settled(request)
        if effects.removed and not self.removed.done():
            self.removed.set_result(effects.removed)
        if effects.stop:
            raise MemberStopsError(effects.stop)

    def _link_to(self, members: dict[str, MemberRecord]) -> None:
        self.links.set_members(
            {name: split_host_and_port(record.peer_address) for name, record in members.items()}
        )

    # -----------------------------------------------------------------------------------------
    # Disk

    def on_storage_thread(self, work: Callable[[], Done], then: Callable[[Done], None]) -> None:
        """Do `work` on the storage thread, then `then` with its result here. A failure ends the member."""
        self.storage.carry_out(work, partial(self._after, then), self.fail)

    def on_background_thread(self, work: Callable[[], Done], then: Callable[[Done], None]) -> None:
        """Do the same with what takes long, and must not hold up the writes to the log."""
        self.background.carry_out(work, partial(self._after, then), self.fail)

    def _after(self, then: Callable[[Done], None], result: Done) -> None:
        try:
            then(result)
        except Exception as failure:  # noqa: BLE001 - as in _pump
            self.fail(failure)
            return
        self.changed()

    def start_persist(self, persist: Persist) -> None:
        """Write to disk what consensus wants written, on the storage thread."""
        if persist.snapshot is not None:
            self.receiver.install(persist)
            return
        self.metrics.count_persist(persist)
        work = partial(
            self.opened.log.write, persist.hard_state, persist.entries, None, sync=persist.must_sync
        )
        self.on_storage_thread(work, partial(self._persisted, persist))

    def _persisted(self, persist: Persist, _: None) -> None:
        self.opened.log.adopt(persist.hard_state, persist.entries, persist.snapshot)
        self.replica.persisted(persist)
        self.trimmer.consider()

"""One simulated member: a disk, and a process over it that does what `coordsvc.server.member` does.

One pass of `_pump` takes what must be written and gives it to the storage thread, sends what may be sent,
applies committed entries for a slice, and wakes the clients that have answers; one write is outstanding at a
time. Opening follows `coordsvc.server.opening`, trimming `coordsvc.server.log_trimming`.

Rule of this file: like the shell that it stands for, it decides nothing about consensus, sessions or trees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from coordproto.v1 import peer_pb2
from coordsvc.raft.ready import Persist
from coordsvc.raft.types import Entry, Index
from coordsvc.replica.changes import ChangeRequest
from coordsvc.replica.core import Replica
from coordsvc.replica.effects import Effects
from coordsvc.statemachine.types import Limits
from tests.simulation.client_links import ServerEnd
from tests.simulation.clocks import MemberClock
from tests.simulation.disk import (
    DiskFailedError,
    LogChange,
    LogImage,
    PowerCutError,
    SimulatedDisk,
    SimulatedTree,
    StorageThread,
    TreeFiles,
)
from tests.simulation.ledger import Ledger, WatchedMachine
from tests.simulation.network import Greeting, PeerNetwork
from tests.simulation.opening import client_address, open_replica, peer_address
from tests.simulation.plan import Plan
from tests.simulation.snapshots import SnapshotReceiver, SnapshotSenders
from tests.simulation.world import MICROSECOND, SECOND, World

RESTART_AFTER_NS = SECOND // 2  # a supervisor starts a member that stopped with an error


_PROBES_OF_NOTES = {
    "leader_was_asleep": "a leader noticed that it was asleep",
    "disk_stalled": "a disk stall moved leadership",
    "leadership_handed_over": "a leader that is to go handed over first",
}


class Watcher(Protocol):
    """Who looks at every step of every member: the invariants."""

    def started(self, member: SimulatedMember) -> None: ...

    def stepped(self, member: SimulatedMember) -> None: ...

    def ended(self, member: SimulatedMember) -> None: ...

    def said(self, member: SimulatedMember, message: peer_pb2.RaftMessage) -> None: ...

    def applying(self, member: SimulatedMember, entry: Entry) -> None: ...

    def applied(self, member: SimulatedMember) -> None: ...

    def received(self, member: SimulatedMember) -> None: ...

    def stopped_itself(self, member: SimulatedMember, reason: str) -> None: ...


class SimulatedMember:
    """`is_up`: the process runs (it may stand still). The disk outlives it."""

    def __init__(
        self,
        world: World,
        plan: Plan,
        network: PeerNetwork,
        name: str,
        clock: MemberClock,
        watcher: Watcher,
        ledger: Ledger,
    ) -> None:
        self.world = world
        self.plan = plan
        self.network = network
        self.name = name
        self.clock = clock
        self.ledger = ledger
        self.disk = SimulatedDisk(world, name)
        self._disks = 1
        self.log: LogImage
        self.tree: SimulatedTree
        self.machine: WatchedMachine
        self.is_up = False
        self.is_retired = False  # removed, or its disk is lost: this name does not come back
        self.is_impostor = False  # it came back under its name, with an empty disk
        self.is_held_down = False  # nobody can start it at present
        self.is_stopping = False
        self.server_ends: dict[int, ServerEnd] = {}
        self.disk_factor = 1  # everything takes so many times longer
        self.late_ticks_ms = 0  # ticks come up to so much late
        self.peers: dict[str, None] = {}
        self.limits = Limits(
            session_timeout_ms_min=1_000,
            history_changes=plan.cluster.history_changes,
            results_per_session=plan.cluster.results_per_session,
        )
        self.on_point: Callable[[SimulatedMember, str], None] = _no_point
        self.on_change: Callable[[SimulatedMember], None] = _not_minded
        self.last_error = ""
        self.on_settled: Callable[[ChangeRequest], None] = _nobody_waits
        self.crash_after = 0  # not 0: so many steps of the disk, and then a crash
        self.crash_at_install = False  # the next installation of a snapshot ends in the middle
        self.is_installing = False
        self.crash_loses_power = True
        self._watcher = watcher
        self._process = 0
        self._replica: Replica | None = None
        self._paused = False
        self._is_waking = False  # it has stood still, and handles what has gathered
        self._resumes = 0
        self._held: list[tuple[int, Callable[[], None]]] = []
        self._pump_scheduled = False
        self._secrets = 0
        self._delays = 0

    # -----------------------------------------------------------------------------------------
    # Life

    @property
    def replica(self) -> Replica:
        assert self._replica is not None, f"{self.name} was never started"
        return self._replica

    def is_running(self) -> bool:
        return self.is_up

    def has_peer(self, name: str) -> bool:
        return name in self.peers

    def is_listening(self) -> bool:
        return self.is_up and not self.is_stopping

    def process(self) -> int:
        return self._process

    def start(self) -> None:
        """Start a process over what the disk holds."""
        assert not self.is_up, f"{self.name} is up"
        if self.disk.is_full or self.is_held_down:
            return
        self._process += 1
        self.is_up = True
        self.is_stopping = False
        self.peers = {}
        self.is_installing = False
        self._paused = False
        self._is_waking = False
        self._held.clear()
        self._pump_scheduled = False
        self.storage = StorageThread(self.world, self._storage_failed)
        self.storage.after_step = self._after_disk_step
        self.sender = SnapshotSenders(self)
        self.receiver = SnapshotReceiver(self)
        self._trim_under_way = False
        self.world.trace(self.name, "start", self._process)
        self._replica = open_replica(self)
        self._set_time()
        self._watcher.started(self)
        process = self._process
        first_ns = self.world.draw_below(self._tick_ns(), "first-tick", self.name, process)
        self.world.at(first_ns, lambda: self.feed(process, self._tick))
        self.changed()

    def election_draw(self, bound: int) -> int:
        self._delays += 1
        return self.world.draw_below(bound, "election", self.name, self._process, self._delays)

    def crash(self, *, loses_power: bool, is_told: bool = True) -> None:
        """The process is gone. With the power, what was not synced may be lost too."""
        if not self.is_up:
            return
        self.world.trace(self.name, "crash", loses_power)
        self._end(is_told=is_told)
        log_lost, tree_lost = self.disk.crash(loses_power=loses_power)
        if log_lost:
            self.ledger.probes.hit("a crash lost writes to the log")
        if tree_lost:
            self.ledger.probes.hit("a crash took back applied entries")

    def _end(self, *, is_told: bool) -> None:
        self._watcher.ended(self)
        self.is_up = False
        self._process += 1
        self.storage.kill()
        self._held.clear()
        self.network.process_ended(self.name, is_told=is_told)
        ends, self.server_ends = self.server_ends, {}
        for end in ends.values():
            end.process_ended(is_told=is_told)

    def fail(self, reason: str) -> None:
        """The member stops by itself; whoever runs it starts it again after a while."""
        if not self.is_up:
            return
        self.world.trace(self.name, "stops", reason)
        self.last_error = reason
        self.crash(loses_power=False)
        self.world.at(RESTART_AFTER_NS, self._restart)

    def come_back_empty(self) -> None:
        """Somebody starts this lost member again with an empty disk: the others must turn it away."""
        self.is_impostor = True
        self.wipe()
        self.start()

    def wipe(self) -> None:
        """The machine of this member, which is down, gets an empty disk."""
        self._disks += 1
        self.disk = SimulatedDisk(self.world, self.name, number=self._disks)

    def _restart(self) -> None:
        if not self.is_up and not self.is_retired:
            self.start()

    def pause(self) -> None:
        """The whole member stands still; what reaches it waits."""
        self.world.trace(self.name, "pause")
        self._paused = True

    def resume(self) -> None:
        if not self._paused or not self.is_up:
            self._paused = False
            return
        self.world.trace(self.name, "resume")
        self._paused = False
        self._resumes += 1
        self._wake_up(self._process, self._resumes)

    def _wake_up(self, process: int, resumes: int) -> None:
        """Handle what has gathered in its order, in passes as an event loop does; what comes now waits."""
        if process != self._process or self._paused or resumes != self._resumes:
            return
        self._is_waking = bool(self._held)
        if not self._held:
            return
        most = max(8, len(self._held))
        count = 1 + self.world.draw_below(most, "wake up", self.name, resumes, len(self._held))
        now, self._held = self._held[:count], self._held[count:]
        for number, handler in now:
            self._handle(number, handler)
        delay_ns = self.plan.cluster.pump_delay_us * MICROSECOND
        self.world.at(delay_ns, lambda: self._wake_up(process, resumes))

    @property
    def is_paused(self) -> bool:
        return self._paused

    def stop_gracefully(self) -> None:
        """Send the clients elsewhere and hand leadership over, as at SIGTERM. `crash` ends it."""
        if not self.is_up or self._paused:
            return
        self.world.trace(self.name, "stopping")
        self.is_stopping = True
        replica = self.replica
        raft = replica.state.raft

        def begin() -> None:
            replica.ask_to_move("this member is stopping")
            successor = replica.best_successor()
            if raft.is_leader and successor is not None:
                raft.transfer_leader(successor)

        self.feed(self._process, begin)

    # -----------------------------------------------------------------------------------------
    # Inputs

    def feed(self, process: int, handler: Callable[[], None]) -> None:
        """Have this process handle an input; when it stands still, later; never in another process."""
        if process != self._process or not self.is_up:
            return
        if self._paused or self._is_waking:
            self._held.append((process, handler))
            return
        self._handle(process, handler)

    def _handle(self, process: int, handler: Callable[[], None]) -> None:
        if process != self._process or not self.is_up:
            return
        self._guarded(handler)
        if process == self._process:  # It may have ended meanwhile.
            self.changed()

    def _guarded(self, handler: Callable[[], None]) -> None:
        """Run a piece of the member; whatever ends it ends only the member."""
        self._set_time()
        try:
            handler()
        except DiskFailedError as failure:
            self._storage_failed(failure)
        except PowerCutError:
            self.crash(loses_power=self.crash_loses_power)
        else:
            if self.is_up:
                self._watcher.stepped(self)

    def _set_time(self) -> None:
        self.replica.set_time(self.clock.monotonic_ms(), self.clock.wall_ms())

    def _tick_ns(self) -> int:
        return self.clock.delay_ns(self.plan.cluster.tick_ms)

    def _tick(self) -> None:
        process = self._process
        self.replica.tick(self.clock.monotonic_ms(), self.clock.wall_ms())
        self.world.at(self._tick_ns() + self.late_tick_ns(), lambda: self.feed(process, self._tick))

    def late_tick_ns(self) -> int:
        """How much later than due the next tick comes: the machine is busy."""
        if not self.late_ticks_ms:
            return 0
        self._delays += 1
        return self.world.draw_below(self.late_ticks_ms, "late", self.name, self._delays) * 1_000_000

    def frames(self, peer: str, frames: list[peer_pb2.PeerFrame]) -> None:
        """Frames of a peer have arrived."""
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

    def link_up(self, peer: str, client_address: str) -> None:
        self.replica.peer_up(peer, client_address)
        self.receiver.link_up(peer)

    def link_down(self, peer: str) -> None:
        self.replica.peer_down(peer)
        self.sender.link_down(peer)

    def peer_gone(self, peer: str) -> None:
        if self.replica.state.raft.leader == peer:
            is_alive = self.network.is_running(peer)
            probe = "so of a leader that lived" if is_alive else "that the leader's process has ended"
            self.ledger.probes.hit(f"a follower heard {probe}")
        self.replica.peer_gone(peer)

    def greeting(self) -> Greeting:
        return Greeting(
            self.disk.member_id,
            peer_address(self.name),
            client_address(self.name),
            self.replica.roster.known_index,
        )

    def greeted(self, peer: str, greeting: Greeting) -> tuple[int, int] | None:
        """Say whether a peer that greets so may be linked to us, as the server's membership desk does."""
        replica = self.replica
        refused = replica.check_greeting(peer, greeting.member_id, greeting.configuration_index)
        if refused is not None:
            return refused.cause, refused.configuration_index

        def remember() -> None:
            replica.peer_greeted(
                peer,
                greeting.member_id,
                greeting.peer_address,
                greeting.client_address,
                greeting.configuration_index,
            )

        self.feed(self._process, remember)
        return None

    def refused(self, peer: str, cause: int, configuration_index: int) -> None:
        self.replica.peer_refused(cause, configuration_index)

    def fresh_secret(self) -> bytes:
        self._secrets += 1
        return self.world.draw("secret", self.name, self._process, self._secrets).to_bytes(8, "big") * 2

    # -----------------------------------------------------------------------------------------
    # The pump

    def changed(self) -> None:
        """The replica was fed: let it speak soon; what comes meanwhile shares the pass."""
        if not self._pump_scheduled:
            self._pump_scheduled = True
            process = self._process
            self.world.at(self.plan.cluster.pump_delay_us * MICROSECOND, lambda: self._pump_if(process))

    def _pump_if(self, process: int) -> None:
        if process != self._process or not self.is_up:
            return
        if self._paused:
            self._held.append((process, self._pump))
            return
        self._guarded(self._pump)

    def _pump(self) -> None:
        self._pump_scheduled = False
        self._let_speak()
        self._apply_for_a_while()
        self._let_speak()

    def _let_speak(self) -> None:
        if not self.is_up:
            return
        replica = self.replica
        persist = replica.take_ready()
        self._carry_out(replica.take_effects())
        if persist is not None and self.is_up:
            self._start_persist(persist)

    def _apply_for_a_while(self) -> None:
        if not self.is_up:
            return
        replica = self.replica
        for _ in range(self.plan.cluster.apply_slice):
            if not replica.has_work:
                return
            committed = replica._committed
            entry = committed[0] if committed else None
            if entry is not None:
                self._watcher.applying(self, entry)
            replica.apply_next()
            if entry is not None:
                self._watcher.applied(self)
        if replica.has_work:
            self.ledger.probes.hit("an apply slice ended early")
            self.changed()

    def _carry_out(self, effects: Effects) -> None:
        for event, fields in effects.notes:
            probe = _PROBES_OF_NOTES.get(event)
            if probe is not None:
                self.ledger.probes.hit(probe)
            self.world.trace(self.name, event, *fields.values())
            if event == "configuration_proposed":
                self.on_change(self)
        if effects.members is not None:
            self._link_to(dict.fromkeys(effects.members))
        for peer, frames in effects.frames.items():
            self.send(peer, frames)
        for number in effects.connections:
            end = self.server_ends.get(number)
            if end is not None:
                end.wake()
        for peer in effects.snapshots:
            self.sender.start(peer)
        for request in effects.settled:
            self.on_settled(request)
        if effects.removed:
            self._leave()
        if effects.stop:
            self._watcher.stopped_itself(self, effects.stop)
            self.fail(effects.stop)

    def _leave(self) -> None:
        """The cluster goes on without this member: it stops in good order, for good."""
        self.world.trace(self.name, "removed")
        self.ledger.probes.hit("a member stopped because it was removed")
        self.is_retired = True
        self.crash(loses_power=False)

    def _link_to(self, peers: dict[str, None]) -> None:
        """Keep links to these and to nobody else, as `PeerLinks.set_members`."""
        for peer in self.peers:
            if peer not in peers:
                self.network.unlink(self.name, peer)
        self.peers = peers
        for peer in peers:
            self.network.link(self.name, peer).dial()

    def send(self, peer: str, frames: list[bytes]) -> bool:
        """Send encoded frames to a peer. False if they were dropped."""
        decoded = []
        for data in frames:
            frame = peer_pb2.PeerFrame.FromString(data)
            if frame.HasField("raft"):
                self._watcher.said(self, frame.raft)
            decoded.append(frame)
        return peer in self.peers and self.network.link(self.name, peer).send(decoded)

    # -----------------------------------------------------------------------------------------
    # Disk

    def latency_ns(self, mean_us: int) -> int:
        """Draw how long the disk takes."""
        self._delays += 1
        draw = self.world.draw("disk", self.name, self._process, self._delays)
        base_ns = mean_us * MICROSECOND
        return (base_ns // 2 + draw % (base_ns + 1)) * self.disk_factor

    def write_ns(self) -> int:
        return self.latency_ns(self.plan.disk.write_us)

    def sync_ns(self) -> int:
        return self.latency_ns(self.plan.disk.sync_us)

    def on_storage_thread(
        self, steps: list[tuple[int, Callable[[], None]]], then: Callable[[], None]
    ) -> None:
        """Do the steps on the storage thread, then `then` in the member."""
        process = self._process
        self.storage.submit(steps, lambda: self.feed(process, then))

    def _start_persist(self, persist: Persist) -> None:
        if persist.snapshot is not None:
            self.receiver.install(persist)
            return
        disk = self.disk
        change = LogChange(persist.hard_state, list(persist.entries))
        steps = [(self.write_ns(), lambda: disk.write_log(change))]
        if persist.must_sync:
            steps.append((self.sync_ns(), disk.sync_log))
        self.on_point(self, "before write")
        self.on_storage_thread(steps, lambda: self._persisted(persist))

    def _persisted(self, persist: Persist) -> None:
        if persist.entries and persist.entries[0].index <= self.log.last_index():
            self.ledger.probes.hit("a divergent tail was truncated")
        self.log.write(persist.hard_state, persist.entries, persist.snapshot)
        self.replica.persisted(persist)
        self._consider_trimming()
        self.on_point(self, "before message")

    def _after_disk_step(self, is_last: bool) -> None:
        if self.crash_at_install and self.is_installing and not is_last:
            self.crash_at_install = False
            raise PowerCutError
        if self.crash_after:
            self.crash_after -= 1
            if not self.crash_after:
                raise PowerCutError
        self.on_point(self, "after sync" if is_last else "after write")

    def replace_tree(self, files: TreeFiles) -> None:
        """A received tree takes the place of ours, in memory; on disk it has already."""
        self.tree = SimulatedTree(files, lambda: self.disk.check("write"))
        self.machine = WatchedMachine(self.tree, self.limits, self.plan.cluster.cache_bytes, self.ledger)
        self.replica.replace_machine(self.machine)
        self._watcher.received(self)

    def _storage_failed(self, failure: Exception) -> None:
        if isinstance(failure, PowerCutError):
            self.crash(loses_power=self.crash_loses_power)
        else:
            self.ledger.probes.hit("a member stopped because of its disk")
            self.fail(str(failure))

    def _consider_trimming(self) -> None:
        """Trim the log behind a synced tree, as `LogTrimmer` does."""
        cluster, log = self.plan.cluster, self.log
        length = log.last_index() - log.first_index() + 1
        if self._trim_under_way or length <= cluster.log_trim_entries:
            return
        applied = self.replica.state.machine.applied_index
        index = min(applied, log.last_index() - cluster.log_keep_entries, self.sender.oldest_index(applied))
        if index < log.first_index():
            return
        self._trim_under_way = True
        disk = self.disk
        steps = [
            (self.sync_ns(), disk.sync_tree),
            (self.write_ns(), lambda: disk.write_log(LogChange(trim=index))),
        ]
        self.on_storage_thread(steps, lambda: self._trimmed(index))

    def _trimmed(self, index: Index) -> None:
        self._trim_under_way = False
        self.ledger.probes.hit("the log was trimmed")
        self.log.trim(index)
        self.replica.state.raft.log_trimmed()


def _nobody_waits(_request: ChangeRequest) -> None:
    """A change of the membership has ended, and nobody asked for it here."""


def _not_minded(_member: SimulatedMember) -> None:
    """The member proposes a configuration, and nothing goes wrong because of that."""


def _no_point(_member: SimulatedMember, _point: str) -> None:
    """Nothing happens at the points where the disk could be caught."""

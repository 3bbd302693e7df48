"""A whole cluster of pure replicas in one process: a virtual network, instant disks, a clock of ours.

Nothing happens unless a test says so. Frames are encoded and decoded as on the wire; clients speak the same
frames as the SDK.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from coordproto.v1 import coordination_pb2, data_pb2, peer_pb2
from coordsvc.raft.node import RaftConfig, RaftNode
from coordsvc.raft.types import Configuration, HardState
from coordsvc.replica.connections import Connection
from coordsvc.replica.core import Replica
from coordsvc.replica.settings import ReplicaSettings
from coordsvc.statemachine.machine import StateMachine
from coordsvc.statemachine.types import Limits
from tests.stores import MemoryStore
from tests.unit.raft.memory_log import MemoryLog

TICK_MS = 100
STEPS_MAX = 20_000


class Member:
    """One replica with its disk. The disk outlives `Cluster.restart`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.log = MemoryLog()
        self.store = MemoryStore()
        self.hard_state = HardState()
        self.replica: Replica
        self.snapshots_wanted: list[str] = []


class Cluster:
    """`names` are all voters. `settings` and `limits` are for all."""

    def __init__(
        self,
        *names: str,
        settings: ReplicaSettings | None = None,
        limits: Limits | None = None,
        seed: int = 7,
    ) -> None:
        self.settings = settings or ReplicaSettings()
        self.limits = limits or Limits()
        self.dice = random.Random(seed)
        self.now_ms = 1_000_000
        self.members = {name: Member(name) for name in names}
        self.links: dict[tuple[str, str], list[bytes]] = {}
        self.cut: set[tuple[str, str]] = set()
        self.down: set[str] = set()
        self.stalled: set[str] = set()  # their disks complete nothing
        self.drop: Callable[[str, str, peer_pb2.PeerFrame], bool] = lambda _source, _target, _frame: False
        self.notes: list[tuple[str, str, dict[str, object]]] = []
        for name in names:
            self.start(name)

    def start(self, name: str) -> None:
        """Start a member from what its disk holds."""
        member = self.members[name]
        machine = StateMachine(member.store, self.limits)
        raft = RaftNode(
            RaftConfig(name),
            member.log,
            member.hard_state,
            Configuration(tuple(sorted(self.members))),
            machine.applied_index,
            lambda bound: self.dice.randrange(bound),
        )
        member.replica = Replica(
            name,
            raft,
            machine,
            self.settings,
            client_address=f"{name}:7400",
            first_number=self.dice.randrange(1 << 40),
        )
        member.replica.set_time(self.now_ms, self.now_ms)
        self.down.discard(name)

    def kill(self, name: str) -> None:
        """The process dies: what was not on disk, and what was on its links, is gone."""
        self.down.add(name)
        for link in list(self.links):
            if name in link:
                del self.links[link]

    def restart(self, name: str) -> None:
        self.kill(name)
        self.start(name)

    def isolate(self, name: str) -> None:
        for other in self.members:
            self.cut |= {(name, other), (other, name)}

    def heal(self) -> None:
        """Links come up again, and both ends are told."""
        was_cut, self.cut = self.cut, set()
        for source, target in sorted(was_cut):
            if source != target and source not in self.down and target not in self.down:
                self.replica(source).peer_up(target, f"{target}:7400")
        self.settle()

    # -----------------------------------------------------------------------------------------
    # Time passes

    def replica(self, name: str) -> Replica:
        return self.members[name].replica

    def up(self) -> list[Member]:
        return [member for name, member in sorted(self.members.items()) if name not in self.down]

    def settle(self) -> None:
        """Deliver everything and write everything until nothing moves."""
        for _ in range(STEPS_MAX):
            moved = False
            for member in self.up():
                moved |= self._speak(member)
            moved |= self._deliver()
            if not moved:
                return
        raise AssertionError("the cluster does not come to rest")

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.now_ms += TICK_MS
            for member in self.up():
                member.replica.tick(self.now_ms, self.now_ms)
            self.settle()

    def elect(self) -> str:
        """Tick until exactly one live leader is known to all who are up and connected."""
        for _ in range(200):
            self.tick()
            leaders = [member.name for member in self.up() if member.replica.state.raft.is_leader]
            if len(leaders) == 1 and self._majority_follows(leaders[0]):
                return leaders[0]
        raise AssertionError(f"no leader: {[member.replica.state.raft for member in self.up()]}")

    def _majority_follows(self, leader: str) -> bool:
        followers = [member for member in self.up() if member.replica.state.leader == leader]
        return len(followers) > len(self.members) // 2

    def _speak(self, member: Member) -> bool:
        replica = member.replica
        persist = replica.take_ready()
        moved = persist is not None
        self._carry_out(member)
        if persist is not None and member.name not in self.stalled:
            if persist.hard_state is not None:
                member.hard_state = persist.hard_state
            member.log.adopt(persist)
            replica.persisted(persist)
        for _ in range(STEPS_MAX):
            if not replica.has_work:
                break
            replica.apply_next()
            moved = True
        assert not replica.has_work, "a replica does not come to rest"
        self._carry_out(member)
        return moved

    def _carry_out(self, member: Member) -> None:
        effects = member.replica.take_effects()
        assert not effects.stop, effects.stop
        for peer, frames in effects.frames.items():
            if peer in self.down or (member.name, peer) in self.cut:
                continue
            self.links.setdefault((member.name, peer), []).extend(frames)
        member.snapshots_wanted += effects.snapshots
        self.notes += [(member.name, event, fields) for event, fields in effects.notes]

    def _deliver(self) -> bool:
        links, self.links = self.links, {}
        for (source, target), encoded in sorted(links.items()):
            if target in self.down or (source, target) in self.cut:
                continue
            frames = [peer_pb2.PeerFrame.FromString(data) for data in encoded]
            kept = [frame for frame in frames if not self.drop(source, target, frame)]
            self.replica(target).receive(source, kept)
        return bool(links)

    # -----------------------------------------------------------------------------------------
    # Clients

    def client(self, member: str, **attach: object) -> Client:
        """Attach a new session at `member` and let the cluster settle."""
        client = Client(self, member)
        client.attach(member, **attach)
        self.settle()
        return client

    def digests(self) -> set[tuple[int, int, int]]:
        """(applied index, zxid, digest) of every member that is up: one if they agree."""
        machines = [member.replica.state.machine for member in self.up()]
        return {(machine.applied_index, machine.zxid, machine.digest) for machine in machines}


class Client:
    """A client that sends frames and keeps what it received, in order."""

    def __init__(self, cluster: Cluster, member: str) -> None:
        self.cluster = cluster
        self.member = member
        self.session_id = 0
        self.secret = b""
        self.next_sequence = 1
        self.next_read = 1
        self.received: list[coordination_pb2.ServerItem] = []
        self.connection: Connection

    def attach(self, member: str, **fields: object) -> None:
        """Attach (again) at `member`."""
        attach = coordination_pb2.Attach(session_id=self.session_id, secret=self.secret, timeout_ms=5_000)
        attach.MergeFrom(coordination_pb2.Attach(**fields))  # type: ignore[arg-type]  # fields of the message
        self.member = member
        replica = self.cluster.replica(member)
        self.connection = replica.open_connection(attach, b"secret of 16 byt")

    def hang_up(self) -> None:
        """The client's process dies, or its link does."""
        self.cluster.replica(self.member).close_connection(self.connection)

    def frame(self, **fields: object) -> None:
        """Send one frame as it is."""
        frame = coordination_pb2.ClientFrame(**fields)  # type: ignore[arg-type]  # fields of the message
        self.cluster.replica(self.member).client_frame(self.connection, frame)

    def write(self, *writes: data_pb2.Write) -> None:
        """Send writes with the next sequences, in one frame."""
        self.frame(first_sequence=self.next_sequence, writes=data_pb2.WriteBatch(writes=writes))
        self.next_sequence += len(writes)

    def read(self, **operation: object) -> int:
        """Send one read after everything sent so far; returns its id."""
        read_id = self.next_read
        self.next_read += 1
        fields: dict[str, object] = {"id": read_id, "after_sequence": self.next_sequence - 1}
        self.frame(reads=[coordination_pb2.Read(**(fields | operation))])  # type: ignore[arg-type]
        return read_id

    def take(self) -> list[coordination_pb2.ServerItem]:
        """Return what has come since the last time, and remember the session."""
        items = [coordination_pb2.ServerItem.FromString(item) for item in self.connection.take()]
        self.cluster.replica(self.member).taken(self.connection)
        for item in items:
            if item.WhichOneof("item") == "attached":
                self.session_id, self.secret = item.attached.session_id, item.attached.secret
        self.received += items
        return items

    def settled(self) -> list[coordination_pb2.ServerItem]:
        """Let the cluster settle, then take."""
        self.cluster.settle()
        return self.take()


def create(path: str, value: bytes = b"", **fields: object) -> data_pb2.Write:
    return data_pb2.Write(create=data_pb2.Create(path=path, value=value, **fields))  # type: ignore[arg-type]


def set_value(path: str, value: bytes) -> data_pb2.Write:
    return data_pb2.Write(set=data_pb2.Set(path=path, value=value))


def delete(path: str) -> data_pb2.Write:
    return data_pb2.Write(delete=data_pb2.Delete(path=path))


def get(path: str) -> data_pb2.Get:
    return data_pb2.Get(path=path)


def kinds(items: list[coordination_pb2.ServerItem]) -> list[str]:
    """Name what came: w1 (result of sequence 1), r2 (result of read 2), CREATED /a, error CODE, ..."""
    return [_kind(item) for item in items]


def _kind(item: coordination_pb2.ServerItem) -> str:
    kind = item.WhichOneof("item")
    if kind == "write":
        return f"w{item.write.sequence}"
    if kind == "read":
        return f"r{item.read.id}"
    if kind == "delivery":
        event = item.delivery.event
        return f"{data_pb2.EventType.Name(event.type)} {event.path} @{event.zxid}"
    if kind == "error":
        return f"error {data_pb2.ErrorCode.Name(item.error.code)}"
    return str(kind)

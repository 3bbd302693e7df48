"""Three simulated members and the real client, in a world in which everything takes always equally long.

What is counted is what the members and the clients do, as on real machines: writes and fsyncs of the log,
batches of the tree, frames between members, and between them and their clients. Nothing is drawn that would
change a count, and no tick falls into what is counted, so the same code gives the same numbers everywhere.

Rule of this file: it counts, and asserts nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

from coordclient import AsyncClient
from coordproto.v1 import peer_pb2
from coordsvc.raft.messages import MessageType
from coordsvc.raft.ready import Persist
from tests.simulation.client_links import ClientLink, ClientNetwork
from tests.simulation.clients.client_clock import ClientClock
from tests.simulation.clients.notebook import Notebook
from tests.simulation.clients.simulated_async_client import SimulatedAsyncClient, surround
from tests.simulation.clients.simulated_loop import SimulatedLoop
from tests.simulation.clocks import MemberClock
from tests.simulation.invariants import Invariants
from tests.simulation.members import SimulatedMember
from tests.simulation.network import PeerNetwork
from tests.simulation.plan import ClusterPlan, DiskPlan, NetworkPlan, Plan
from tests.simulation.probes import Probes
from tests.simulation.world import MICROSECOND, MILLISECOND, SECOND, World

T = TypeVar("T")

SEED = 1
NAMES = ("a", "b", "c")
# So rare that a workload fits between two; its elections and sessions have the patience for that.
RARE_TICK_MS = 20_000
SESSION_TIMEOUT_S = 600.0
QUIET_NS = SECOND  # before and after a workload: what was set off has come to its end
_GAP_NS = 6 * SECOND  # between two ticks of any member; three members leave one of a third of RARE_TICK_MS
_ELECTED_WITHIN_NS = 3_600 * SECOND
_TRAVEL_NS = 100 * MICROSECOND


class CountedMember(SimulatedMember):
    """Counts what it writes and what it says to other members."""

    counts: Counter[str]
    ticked_ns = 0

    def latency_ns(self, mean_us: int) -> int:
        return mean_us * MICROSECOND

    def send(self, peer: str, frames: list[bytes]) -> bool:
        self.counts["packets between members"] += 1
        for encoded in frames:
            self.counts["messages between members"] += 1
            self.counts["bytes between members"] += len(encoded)
            self.counts[f"messages between members: {_kind_of(encoded)}"] += 1
        return super().send(peer, frames)

    def _start_persist(self, persist: Persist) -> None:
        self.counts["fsyncs of the log"] += persist.must_sync
        self.counts["writes to the log"] += 1
        self.counts["entries in the logs"] += len(persist.entries)
        self.counts["bytes in the logs"] += sum(len(entry.data) for entry in persist.entries)
        super()._start_persist(persist)

    def _tick(self) -> None:
        self.counts["ticks"] += 1
        self.ticked_ns = self.world.now_ns
        super()._tick()

    def tree_writes(self) -> Counter[str]:
        """Everything that was written to the tree so far; it is never synced here."""
        batches = self.disk.tree.unsynced
        return Counter(
            {
                "batches of the tree": len(batches),
                "records in the trees": sum(len(puts) + len(deletes) for puts, deletes in batches),
                "bytes in the trees": sum(
                    len(key) + len(value) for puts, _ in batches for key, value in puts
                ),
            }
        )


def _kind_of(encoded: bytes) -> str:
    frame = peer_pb2.PeerFrame.FromString(encoded)
    if frame.HasField("raft"):
        return MessageType(frame.raft.type).name.lower()
    return str(frame.WhichOneof("body"))


class CountedLink(ClientLink):
    """Counts what a client and its member say to each other."""

    counts: Counter[str]

    def send(self, frame: bytes) -> None:
        self.counts["frames of clients"] += 1
        self.counts["bytes of clients"] += len(frame)
        super().send(frame)

    def items(self, items: list[bytes]) -> None:
        self.counts["frames to clients"] += 1
        self.counts["items to clients"] += len(items)
        self.counts["bytes to clients"] += sum(map(len, items))
        super().items(items)


class CountedNetwork(ClientNetwork):
    counts: Counter[str]

    def connect(self, client: str, member: str) -> ClientLink:
        self._number += 1
        link = self.links[self._number] = CountedLink(self, client, self.hosts[member], self._number)
        link.counts = self.counts
        return link


class CountedCluster:
    """Has a leader when it is made. `leader` and `followers` are names of members."""

    def __init__(self, tick_ms: int = RARE_TICK_MS) -> None:
        self.world = world = World(SEED)
        self.counts: Counter[str] = Counter()
        plan = Plan(
            SEED,
            cluster=ClusterPlan(tick_ms=tick_ms, disk_stall_ms=30 * tick_ms),
            network=NetworkPlan(latency_ns_min=_TRAVEL_NS, latency_ns_mean=1),
            disk=DiskPlan(write_us=100, sync_us=1000),
        )
        invariants = Invariants(Probes())
        invariants.ledger.clock = lambda: world.now_ns
        peers = PeerNetwork(world, plan.network)
        self.members: dict[str, CountedMember] = {}
        for name in NAMES:
            clock = MemberClock(world, 1.0, 0)
            member = CountedMember(world, plan, peers, name, clock, invariants, invariants.ledger)
            member.counts = self.counts
            self.members[name] = member
            peers.add(member)
        network = CountedNetwork(world, self.members)
        network.counts = self.counts
        world.gateway = network
        self.loop = SimulatedLoop(world, "clients", ClientClock(world))  # type: ignore[abstract]  # it has what the SDK asks of a loop
        surround(self.loop)
        for member in self.members.values():
            member.start()
        assert world.run_until(world.now_ns + _ELECTED_WITHIN_NS, self._is_led), "nobody was elected"
        self.leader = next(name for name, member in self.members.items() if _leads(member))
        self.followers = [name for name in NAMES if name != self.leader]

    def close(self) -> None:
        """End the process of the clients; nothing of it is left pending."""
        self.loop.kill()

    def _is_led(self) -> bool:
        known = {member.replica.state.leader for member in self.members.values()}
        return known != {None} and len(known) == 1

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Let the world go on until this is done."""
        return self.loop.run_until_complete(work)

    def client(self, member: str, session_timeout_s: float = SESSION_TIMEOUT_S) -> AsyncClient:
        """Return a client that is connected to this member; a workload closes none."""
        client = SimulatedAsyncClient(self.loop, [member], Notebook(), session_timeout=session_timeout_s)
        return self.run(client.connect(timeout=SESSION_TIMEOUT_S))

    def count(self, work: Coroutine[Any, Any, object]) -> Counter[str]:
        """Do this work; count what happens meanwhile and what follows from it, between two ticks."""
        world = self.world
        assert world.run_until(world.now_ns + _ELECTED_WITHIN_NS, self._is_before_a_gap), "ticks everywhere"
        world.run_until(world.now_ns + QUIET_NS)
        before = self._begin()
        self.run(work)
        world.run_until(world.now_ns + QUIET_NS)
        assert not self.counts["ticks"], "a tick fell into what was counted: make the workload shorter"
        return self._counted_since(before)

    def count_time(self, seconds: int, work: Coroutine[Any, Any, object] | None = None) -> Counter[str]:
        """Count what happens in so many seconds, ticks included; nobody wants anything but this work."""
        self.world.run_until(self.world.now_ns + QUIET_NS)
        before = self._begin()
        task = None if work is None else self.loop.create_task(work)
        self.world.run_until(self.world.now_ns + seconds * SECOND)
        assert task is None or task.done(), "the work takes longer: count for more seconds"
        return self._counted_since(before)

    def _begin(self) -> Counter[str]:
        self.counts.clear()
        return self._written()

    def _counted_since(self, before: Counter[str]) -> Counter[str]:
        return self.counts + (self._written() - before)

    def _is_before_a_gap(self) -> bool:
        """Whether no member ticks for a while: each has a rhythm of its own."""
        last_ns = [member.ticked_ns for member in self.members.values()]
        next_ns = min(last_ns) + RARE_TICK_MS * MILLISECOND
        return next_ns - self.world.now_ns > _GAP_NS

    def _written(self) -> Counter[str]:
        return sum((member.tree_writes() for member in self.members.values()), Counter())


def _leads(member: SimulatedMember) -> bool:
    return member.replica.state.raft.is_leader

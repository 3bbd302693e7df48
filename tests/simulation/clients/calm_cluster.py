"""A cluster without faults in the simulated world, to try clients on: instant disks, a clock that ticks.

Rule of this file: it is for the tests of the clients. What the campaign runs is the members' business.
"""

from __future__ import annotations

from collections.abc import Callable

from coordsvc.replica.core import Replica
from tests.checkers.history import History, MemberDigest
from tests.simulation.client_links import ClientNetwork, ServerEnd, Weather
from tests.simulation.world import MILLISECOND, World
from tests.unit.replica.cluster import TICK_MS, Cluster


class CalmHost:
    """One member as clients reach it."""

    def __init__(self, calm: CalmCluster, name: str) -> None:
        self.name = name
        self.server_ends: dict[int, ServerEnd] = {}
        self._calm = calm
        self._secrets = 0

    @property
    def replica(self) -> Replica:
        return self._calm.cluster.replica(self.name)

    def is_listening(self) -> bool:
        return True

    def process(self) -> int:
        return 1

    def feed(self, process: int, handler: Callable[[], None]) -> None:
        handler()
        self._calm.settle()

    def fresh_secret(self) -> bytes:
        self._secrets += 1
        return f"{self.name}{self._secrets:015d}".encode()


class CalmCluster:
    """Members that elect a leader before anything else happens."""

    def __init__(self, world: World, *names: str, weather: Weather | None = None) -> None:
        self.world = world
        self.names = names
        self.cluster = Cluster(*names)
        self.cluster.elect()
        self.hosts = {name: CalmHost(self, name) for name in names}
        self.network = ClientNetwork(world, dict(self.hosts), weather)
        world.gateway = self.network
        world.at(TICK_MS * MILLISECOND, self._tick)

    def _tick(self) -> None:
        self.cluster.tick()
        self._wake()
        self.world.at(TICK_MS * MILLISECOND, self._tick)

    def settle(self) -> None:
        self.cluster.settle()
        self._wake()

    def _wake(self) -> None:
        for host in self.hosts.values():
            for end in list(host.server_ends.values()):
                end.wake()

    def complete(self, history: History) -> History:
        """Fill in what the members hold."""
        self.cluster.tick(2)
        for name in self.names:
            machine = self.cluster.replica(name).state.machine
            digest = MemberDigest(name, machine.applied_index, machine.zxid, machine.digest)
            history.digests.append(digest)
        machine = self.cluster.replica(self.names[0]).state.machine
        history.committed = machine.history(0, 1 << 30) or []
        history.facts.healed_ns = 0
        history.facts.finished_ns = self.world.now_ns
        history.facts.oldest_zxid = 1
        return history

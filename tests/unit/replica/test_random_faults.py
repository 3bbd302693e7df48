"""Replicas under random faults: frames lost, links cut, members killed and restarted, clients moved about.

Whatever happens, each client's writes are applied exactly once and in order (G4, G5), nothing acknowledged
is lost (G3), a watcher sees every change once (G6), and all members end up equal. Every run replays from
its seed.
"""

from __future__ import annotations

import random

import pytest

from coordproto.v1 import data_pb2, peer_pb2
from coordsvc.replica.settings import ReplicaSettings
from coordsvc.statemachine.commands import ListChildren
from tests.unit.replica.cluster import Client, Cluster, create

NAMES = ("a", "b", "c")
WRITES = 40


class StubbornClient(Client):
    """Sends its numbered writes until each is answered, on whatever member it finds."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        super().__init__(cluster, "a")
        self.number = number
        self.answers: dict[int, data_pb2.WriteResult] = {}
        self.sent = 0
        self.is_live = False

    def unanswered(self) -> list[int]:
        return [sequence for sequence in range(1, self.sent + 1) if sequence not in self.answers]

    def command(self, sequence: int) -> data_pb2.Write:
        path = f"/c{self.number}-"
        return create(path, str(sequence).encode(), mode=data_pb2.PERSISTENT_SEQUENTIAL)

    def look(self) -> None:
        """Take in what came; once attached, send everything that has no answer again."""
        for item in self.take():
            kind = item.WhichOneof("item")
            if kind == "attached":
                self.is_live = True
                self.send(self.unanswered())
            elif kind == "write":
                known = self.answers.setdefault(item.write.sequence, item.write)
                assert known.created.path == item.write.created.path, "a repeat gets the first answer"
        if self.connection.is_closed:
            self.is_live = False

    def send(self, sequences: list[int]) -> None:
        if sequences:
            writes = [self.command(sequence) for sequence in sequences]
            self.frame(
                first_sequence=sequences[0],
                writes=data_pb2.WriteBatch(writes=writes),
                acknowledged_sequence=min(self.unanswered()) - 1,
            )

    def go_on(self) -> None:
        if self.is_live and self.sent < WRITES and not self.connection.is_closed:
            self.sent += 1
            self.send([self.sent])


class Watcher(Client):
    """Follows all changes, resuming after the last one that it saw."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, "a")
        self.seen: list[tuple[int, str]] = []

    def follow(self, member: str) -> None:
        last = self.seen[-1][0] if self.seen else 0
        watch = data_pb2.Watch(watch_id=1, path="/", kind=data_pb2.STREAM_RECURSIVE, since=last)
        self.session_id, self.secret = 0, b""  # a new session each time: only `since` carries over
        self.attach(member, watches=[watch], last_zxid=last)

    def look(self) -> None:
        for item in self.take():
            if item.WhichOneof("item") == "delivery":
                self.seen.append((item.delivery.event.zxid, item.delivery.event.path))


class World:
    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        settings = ReplicaSettings(resend_after_ms=500, confirm_retry_ms=300, catch_up_changes=3)
        self.cluster = Cluster(*NAMES, settings=settings, seed=seed)
        self.loss = self.dice.choice([0.0, 0.02, 0.2])
        self.cluster.drop = self.lose
        self.clients = [StubbornClient(self.cluster, number) for number in range(3)]
        self.watcher = Watcher(self.cluster)
        for client in self.clients:
            client.attach("a", timeout_ms=600_000)
        self.watcher.follow("a")

    def lose(self, _source: str, _target: str, _frame: peer_pb2.PeerFrame) -> bool:
        return self.dice.random() < self.loss

    def hurt(self) -> None:
        cluster = self.cluster
        what = self.dice.random()
        victim = self.dice.choice(NAMES)
        if what < 0.15 and not cluster.down:
            cluster.kill(victim)
        elif what < 0.35 and cluster.down:
            cluster.start(min(cluster.down))
        elif what < 0.45:
            cluster.isolate(victim)
        elif what < 0.55:
            other = self.dice.choice(NAMES)
            cluster.cut.add((victim, other))
        elif what < 0.8:
            cluster.heal()

    def step(self) -> None:
        if self.dice.random() < 0.2:
            self.hurt()
        for client in self.clients:
            self.reconnect(client)
            if self.dice.random() < 0.5:
                client.go_on()
        self.reconnect(self.watcher)
        self.cluster.tick()
        self.look()

    def look(self) -> None:
        connected: tuple[StubbornClient | Watcher, ...] = (*self.clients, self.watcher)
        for client in connected:
            if client.member not in self.cluster.down:
                client.look()

    def reconnect(self, client: StubbornClient | Watcher) -> None:
        """Clients go elsewhere when their member is gone, when they are refused, and now and then."""
        is_gone = client.member in self.cluster.down or client.connection.is_closed
        if not is_gone and self.dice.random() > 0.05:
            return
        up = [name for name in NAMES if name not in self.cluster.down]
        if client.member in up and not client.connection.is_closed:
            client.hang_up()
        member = self.dice.choice(up)
        if isinstance(client, Watcher):
            client.follow(member)
            return
        client.is_live = False
        client.attach(member, timeout_ms=600_000)

    def end_well(self) -> None:
        """Faults stop; everything must come to its end."""
        self.loss = 0.0
        self.cluster.heal()
        for name in sorted(self.cluster.down):
            self.cluster.start(name)
        for _ in range(60):
            for client in self.clients:
                if client.connection.is_closed:
                    self.reconnect(client)
                client.go_on()
            if self.watcher.connection.is_closed:
                self.reconnect(self.watcher)
            self.cluster.tick()
            self.look()
            if all(len(client.answers) == WRITES for client in self.clients):
                break
        self.cluster.tick(20)
        self.watcher.look()


@pytest.mark.parametrize("seed", range(60))
def test_exactly_once_in_order_and_nothing_lost(seed: int) -> None:
    world = World(seed)
    for _ in range(150):
        world.step()
    world.end_well()

    assert len(world.cluster.digests()) == 1, "all members hold the same"
    machine = world.cluster.replica("a").state.machine
    listing = machine.list_children(ListChildren("/", with_nodes=True))
    in_order = sorted(listing.nodes, key=lambda node: node.stat.czxid)  # type: ignore[union-attr]
    for client in world.clients:
        made = [node for node in in_order if node.path.startswith(f"/c{client.number}-")]
        assert [int(node.value) for node in made] == list(range(1, WRITES + 1))
        assert [client.answers[int(node.value)].created.path for node in made] == [node.path for node in made]
    assert world.watcher.seen == [(node.stat.czxid, node.path) for node in in_order]

"""Random schedules of faults. All invariants are checked after every step by the cluster itself.

A disk keeps a prefix of the batches that it was given: a crash loses the batch that is being written, or
keeps it without having said so. Messages are lost, repeated and reordered at will.
"""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest

from coordsvc.raft.node import ProposalDropped, RaftConfig, RaftNode
from coordsvc.raft.progress import ProgressState
from coordsvc.raft.types import Index
from tests.unit.raft.cluster import Cluster

STEPS = 4_000


class Storm:
    """One run: a cluster and a source of trouble, both from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        chance = self.random.random
        names = ["a", "b", "c", "d", "e"][: self.random.choice([1, 2, 3, 3, 3, 5])]
        config = RaftConfig(
            "each",
            election_ticks=self.random.choice([5, 10]),
            append_bytes_max=self.random.choice([1, 20, 1 << 20]),
            inflight_messages_max=self.random.choice([1, 3, 256]),
            committed_bytes_max=self.random.choice([1, 10, 4 << 20]),
            cached_bytes_max=self.random.choice([1, 600, 8 << 20]),
            pre_vote=chance() < 0.7,
            check_quorum=chance() < 0.7,
        )
        learners = ["y"] if chance() < 0.3 else []
        self.cluster = Cluster(names, learners=learners, seed=seed, config=config)
        for member in self.cluster.members.values():
            member.slow_disk = True
            member.slow_apply = True
        self.loss = self.random.choice([0.0, 0.05, 0.3])
        self.crash = self.random.choice([0.0, 0.002, 0.02])
        self.haste = self.random.choice([0.05, 0.1, 0.2])  # of time, compared with everything else
        self.promptness = self.random.choice([0.0, 0.5, 0.9])  # of the disks
        self.numbers = 0
        self.reads: dict[int, Index] = {}

    def step(self) -> None:
        name = self.random.choice(sorted(self.cluster.members))
        if self.random.random() < self.haste:
            self.cluster.tick(name)
            return
        roll = self.random.random()
        if roll < self.crash:
            self.restart(name)
        elif roll < 0.27:
            self.work(name)
        elif roll < 0.4:
            self.cluster.finish_write(name)
        elif roll < 0.45:
            self.cluster.apply(name)
        elif roll < 0.88:
            for _ in range(3):
                self.deliver()
        elif roll < 0.94:
            self.propose(name)
        else:
            self.disturb(name)
        self.check_reads(name)

    def work(self, name: str) -> None:
        """Let `name` do its work: one Ready, or, where the disk is prompt, all that it can."""
        while self.cluster.pump(name) and self.random.random() < self.promptness:
            self.cluster.finish_write(name)
            self.cluster.apply(name)

    def leaders(self) -> list[str]:
        return [name for name in sorted(self.cluster.members) if self.cluster[name].is_leader]

    def deliver(self) -> None:
        network = self.cluster.network
        if not network:
            return
        position = self.random.randrange(len(network)) if self.random.random() < 0.2 else 0
        message = network.pop(position)
        if self.random.random() < 0.02:
            network.append(replace(message))
        if self.random.random() >= self.loss:
            self.cluster.deliver(message)

    def propose(self, name: str) -> None:
        proposer = self.random.choice(self.leaders() or [name])
        self.numbers += 1
        # A node that does not lead, or that hands over, says so and has appended nothing.
        with suppress(ProposalDropped):
            self.cluster.propose(proposer, f"{self.numbers}".encode())

    def disturb(self, name: str) -> None:
        other = self.random.choice(sorted(self.cluster.members))
        member = self.cluster.members[name]
        choice = self.random.randrange(12)
        if choice == 0:
            self.cluster.act(name, lambda node: node.transfer_leader(other))
        elif choice == 1:
            self.cluster.act(name, lambda node: node.report_unreachable(other))
        elif choice == 2:
            self.cluster.act(name, lambda node: node.report_snapshot(other, self.random.random() < 0.5))
        elif choice == 3:
            self.cluster.act(name, lambda node: node.report_leader_lost(other))
        elif choice in (4, 5) and member.applied and member.applied[-1].index > member.storage.snapshot_index:
            first, last = member.storage.first_index(), member.applied[-1].index
            member.storage.compact(min(self.random.randint(first, last), member.storage.last_index()))
        elif choice == 6 and self.random.random() < 0.3:
            self.cluster.campaign(name)
        elif choice == 7:
            self.cluster.isolate(self.random.choice(self.leaders() or [name]))
        elif choice in (8, 9):
            self.cluster.heal()
        elif choice > 9:
            self.read(name)

    def read(self, name: str) -> None:
        self.numbers += 1
        number = self.numbers
        newest = max(self.cluster.checker.committed, default=0)
        if self.cluster.act(name, lambda node: node.read_index(number)):
            self.reads[number] = newest

    def check_reads(self, name: str) -> None:
        member = self.cluster.members[name]
        for read in member.reads:
            newest = self.reads.get(read.context)
            assert newest is None or read.index >= newest, "G11: a read is as new as what was committed"
        member.reads.clear()

    def restart(self, name: str) -> None:
        member = self.cluster.members[name]
        if member.writing is not None and self.random.random() < 0.5:
            self.cluster.finish_write(name)
        if self.random.random() < 0.5:
            # Nothing rests on the stored commit index.
            member.storage.hard_state = replace(member.storage.hard_state, commit=0)
        fresh = self.cluster.restart(name, applied_lost=self.random.choice([0, 1, 5]))
        fresh.slow_disk = fresh.slow_apply = True

    def calm(self) -> None:
        """Stop all trouble, and let the cluster find itself."""
        self.cluster.heal()
        for name, member in self.cluster.members.items():
            member.slow_disk = member.slow_apply = False
            self.cluster.finish_write(name)
            self.cluster.apply(name)
        for _ in range(20 * self.cluster.config.election_ticks):
            self.cluster.tick_all()
            self.end_snapshot_streams()

    def end_snapshot_streams(self) -> None:
        """A host notices at last that a stream has ended, and takes it for failed."""
        for name, member in self.cluster.members.items():
            for other, follower in member.node.status().followers.items():
                if follower.state is ProgressState.SNAPSHOT:
                    self.cluster.act(name, partial(RaftNode.report_snapshot, node=other, ok=False))


@pytest.mark.parametrize("seed", range(40))
def test_safety_holds_in_a_storm_and_the_cluster_recovers_after_it(seed: int) -> None:
    storm = Storm(seed)
    for _ in range(STEPS):
        storm.step()

    storm.calm()

    leader = storm.cluster.leader()
    storm.cluster.propose(leader.state.node_id, b"after the storm")
    storm.cluster.settle()
    storm.cluster.tick_all(3)
    histories = {tuple(member.applied_data()) for member in storm.cluster.members.values()}
    assert len(histories) == 1, "G4: all members have applied the same"
    assert histories.pop()[-1] == b"after the storm"

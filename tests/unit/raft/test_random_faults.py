"""Random schedules of faults and of changes of the membership.

All invariants are checked after every step by the cluster itself.

A disk keeps a prefix of the batches that it was given: a crash loses the batch that is being written, or
keeps it without having said so. Messages are lost, repeated and reordered at will.
"""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest

from coordsvc.raft.membership import is_joint, leave, plan
from coordsvc.raft.node import ProposalDropped, RaftConfig, RaftNode
from coordsvc.raft.progress import ProgressState
from coordsvc.raft.types import Configuration, Index
from tests.unit.raft.cluster import Cluster
from tests.unit.raft.configuration_text import encode

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
        self.churn = self.random.choice([0.0, 0.01, 0.04])  # of the membership
        self.cluster = Cluster(names, learners=learners, seed=seed, config=config)
        if self.churn:
            for newcomer in ("v", "w"):
                self.cluster.join(newcomer)
        for member in self.cluster.members.values():
            member.slow_disk = True
            member.slow_apply = True
        self.loss = self.random.choice([0.0, 0.05, 0.3])
        self.crash = self.random.choice([0.0, 0.002, 0.02])
        self.haste = self.random.choice([0.05, 0.1, 0.2])  # of time, compared with everything else
        self.promptness = self.random.choice([0.0, 0.5, 0.9])  # of the disks
        self.numbers = 0
        self.changes = 0
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
        elif roll < 0.94 + self.churn:
            self.change(self.random.choice(self.leaders() or [name]))
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

    def change(self, name: str) -> None:
        """Let `name` propose another membership, or the end of a joint one."""
        current = self.cluster[name].configuration
        if is_joint(current):
            following = leave(current)
        else:
            roles = {each: self.random.choice("vvvl-") for each in self.cluster.members}
            if self.random.random() < 0.5:
                # All but one stay what they are.
                odd = self.random.choice(sorted(roles))
                before = dict.fromkeys(current.voters, "v") | dict.fromkeys(current.learners, "l")
                roles = {each: role if each == odd else before.get(each, "-") for each, role in roles.items()}
            voters = {each for each, role in roles.items() if role == "v"}
            if not voters:
                return
            following = plan(current, voters, {each for each, role in roles.items() if role == "l"})
        with suppress(ProposalDropped):
            self.cluster.change(name, encode(following).decode())
            self.changes += 1

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
            self.finish_changes()
            self.stop_the_removed()

    def finish_changes(self) -> None:
        for name in self.leaders():
            node = self.cluster[name]
            if is_joint(node.configuration):
                with suppress(ProposalDropped):
                    self.cluster.change(name, encode(leave(node.configuration)).decode())

    def stop_the_removed(self) -> None:
        """Cut off whom no configuration names that may still count: their links are refused."""
        committed = self.cluster.checker.configuration or self.cluster.configuration
        named = names_of(committed)
        for name in names_of(committed):
            named |= names_of(self.cluster[name].configuration)
        for name in self.cluster.members:
            if name not in named:
                self.cluster.isolate(name)

    def end_snapshot_streams(self) -> None:
        """A host notices at last that a stream has ended, and takes it for failed."""
        for name, member in self.cluster.members.items():
            for other, follower in member.node.status().followers.items():
                if follower.state is ProgressState.SNAPSHOT:
                    self.cluster.act(name, partial(RaftNode.report_snapshot, node=other, ok=False))


def names_of(configuration: Configuration) -> set[str]:
    return {*configuration.voters, *configuration.voters_outgoing, *configuration.learners}


@pytest.mark.parametrize("seed", range(60))
def test_safety_holds_in_a_storm_and_the_cluster_recovers_after_it(seed: int) -> None:
    storm = Storm(seed)
    for _ in range(STEPS):
        storm.step()

    storm.calm()

    leader = storm.cluster.leader()
    storm.cluster.propose(leader.state.node_id, b"after the storm")
    storm.cluster.settle()
    storm.cluster.tick_all(3)
    members = names_of(leader.configuration)
    histories = {tuple(storm.cluster.members[name].applied_data()) for name in members}
    assert len(histories) == 1, "G4: all members have applied the same"
    assert histories.pop()[-1] == b"after the storm"

"""A whole cluster in one process that moves only when told to, and checks the invariants at every step.

Rule of this file: nothing happens by itself. Messages wait in `network`, disk writes in `Member.writing`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from coordsvc.raft.invariants import ClusterChecker, Observation, check_node, check_step, observe
from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.node import RaftConfig, RaftNode
from coordsvc.raft.ready import Persist, ReadState, Ready
from coordsvc.raft.types import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Index,
    NodeId,
    SnapshotMetadata,
    Term,
)
from tests.unit.raft.configuration_text import decode
from tests.unit.raft.memory_log import MemoryLog

ROUNDS_MAX = 2_000
DEFAULTS = RaftConfig("each")


@dataclass(slots=True)
class Member:
    """One node with its disk and its state machine: the entries that it has applied."""

    node: RaftNode
    storage: MemoryLog
    applied: list[Entry] = field(default_factory=list)
    reads: list[ReadState] = field(default_factory=list)
    writing: Persist | None = None
    slow_disk: bool = False
    slow_apply: bool = False
    unapplied: list[Entry] = field(default_factory=list)

    def applied_data(self) -> list[bytes]:
        """Return what was applied, without the empty entries of new leaders."""
        return [entry.data for entry in self.applied if entry.data and entry.kind is EntryKind.NORMAL]


class Cluster:
    def __init__(
        self,
        voters: Iterable[NodeId] = ("a", "b", "c"),
        *,
        learners: Iterable[NodeId] = (),
        outgoing: Iterable[NodeId] = (),
        logs: dict[NodeId, MemoryLog] | None = None,
        seed: int = 1,
        config: RaftConfig = DEFAULTS,
    ) -> None:
        self.configuration = Configuration(
            voters=tuple(sorted(voters)),
            voters_outgoing=tuple(sorted(outgoing)),
            learners=tuple(sorted(learners)),
        )
        self.config = config
        self.random = random.Random(seed)
        self.network: list[Message] = []
        self.checker = ClusterChecker()
        self.members: dict[NodeId, Member] = {}
        self.lost: list[Message] = []
        self.joined: dict[NodeId, tuple[Term, Index]] = {}
        self._cut: set[tuple[NodeId, NodeId]] = set()
        self._dropped: set[MessageType] = set()
        configuration = self.configuration
        names = {*configuration.voters, *configuration.voters_outgoing, *configuration.learners}
        for name in sorted(names):
            self.start(name, (logs or {}).get(name) or MemoryLog())

    # --- members ---------------------------------------------------------------------------------

    def join(self, name: NodeId, at: tuple[Term, Index] = (0, 0)) -> Member:
        """Start `name`, which knows nothing but the (term, index) at which it was taken in, if it was."""
        self.joined[name] = at
        return self.start(name, MemoryLog())

    def start(self, name: NodeId, storage: MemoryLog, applied: list[Entry] | None = None) -> Member:
        """Start `name` from what its disk holds."""
        applied_index = applied[-1].index if applied else storage.snapshot_index
        node = RaftNode(
            replace(self.config, node_id=name),
            storage,
            storage.hard_state,
            self._configuration_as_of(name, storage, applied or []),
            applied_index,
            self.draw(name),
            decode,
            self.joined.get(name, (0, 0)),
        )
        member = Member(node, storage, list(applied or []))
        self.members[name] = member
        self.checker.forget(name)
        return member

    def _configuration_as_of(self, name: NodeId, storage: MemoryLog, applied: list[Entry]) -> Configuration:
        """Return what the state machine of `name` holds, which has applied `applied`."""
        for entry in reversed(applied):
            if entry.kind is EntryKind.CONFIGURATION:
                return decode(entry.data)
        if storage.configuration is not None:
            return storage.configuration
        return Configuration(()) if name in self.joined else self.configuration

    def draw(self, name: NodeId) -> Callable[[int], int]:
        """Return the dice of `name`; overridden where a test needs to load them."""
        del name
        return self.random.randrange

    def restart(self, name: NodeId, *, applied_lost: int = 0) -> Member:
        """Crash `name` and start it again: what was not durable is gone.

        The state machine is not synced, so it may lose its last entries, but never any that the log
        does not hold any more.
        """
        member = self.members[name]
        keep = max(len(member.applied) - applied_lost, member.storage.snapshot_index)
        return self.start(name, member.storage, member.applied[:keep])

    def __getitem__(self, name: NodeId) -> RaftNode:
        return self.members[name].node

    def leader(self) -> RaftNode:
        """Return the leader of the highest term."""
        leaders = [member.node for member in self.members.values() if member.node.is_leader]
        assert leaders, "no leader"
        return max(leaders, key=lambda node: node.term)

    # --- hooks for who writes down what happens -----------------------------------------------------

    def note_ready(self, name: NodeId, ready: Ready) -> None:
        """`name` has handed out `ready`."""

    def note_step(self, name: NodeId, before: Observation) -> None:
        """Something has happened to `name`, which was as `before`."""

    def note_delivery(self, message: Message) -> None:
        """`message` is about to arrive."""

    # --- the network -----------------------------------------------------------------------------

    def cut(self, first: NodeId, second: NodeId) -> None:
        """Lose everything between the two."""
        self._cut |= {(first, second), (second, first)}

    def isolate(self, name: NodeId) -> None:
        for other in self.members:
            if other != name:
                self.cut(name, other)

    def drop(self, *types: MessageType) -> None:
        """Lose all messages of these types."""
        self._dropped |= set(types)

    def heal(self) -> None:
        self._cut.clear()
        self._dropped.clear()

    def take(self, *types: MessageType, target: NodeId | None = None) -> list[Message]:
        """Take messages out of the network: of these types, or all; for `target`, or for all."""
        taken = [
            message
            for message in self.network
            if (not types or message.type in types) and target in (None, message.target)
        ]
        self.network = [message for message in self.network if not any(message is one for one in taken)]
        return taken

    # --- steps -----------------------------------------------------------------------------------

    def act(self, name: NodeId, action: Callable[[RaftNode], object]) -> object:
        """Let `action` happen to `name`, and check everything that must hold."""
        node = self.members[name].node
        before = observe(node)
        result = action(node)
        check_node(node)
        check_step(before, observe(node), node)
        self.note_step(name, before)
        storages = {key: member.storage for key, member in self.members.items()}
        self.checker.check((member.node for member in self.members.values()), storages)
        return result

    def tick(self, name: NodeId, count: int = 1) -> None:
        for _ in range(count):
            self.act(name, RaftNode.tick)

    def tick_all(self, count: int = 1) -> None:
        """Tick every node, and let everything settle in between."""
        for _ in range(count):
            for name in self.members:
                self.tick(name)
            self.settle()

    def campaign(self, name: NodeId) -> None:
        self.act(name, RaftNode.campaign)

    def propose(self, name: NodeId, *data: bytes) -> Index:
        index = self.act(name, lambda node: node.propose(list(data)))
        assert isinstance(index, int)
        return index

    def change(self, name: NodeId, text: str) -> Index:
        """Let `name` propose the configuration `text`."""
        index = self.act(name, lambda node: node.propose_configuration(text.encode()))
        assert isinstance(index, int)
        return index

    def elect(self, name: NodeId) -> None:
        """Make `name` the leader, with everything settled."""
        self.campaign(name)
        self.settle()
        assert self[name].is_leader, f"{self[name]} was not elected"

    def pump(self, name: NodeId) -> bool:
        """Carry out one Ready of `name`; False if there is none."""
        member = self.members[name]
        if not member.node.has_ready():
            return False
        ready = member.node.ready()
        self.note_ready(name, ready)
        for message in ready.messages:
            _check_promise(member.storage, message)
        if member.writing is None:
            member.writing = ready.persist
        else:
            assert ready.persist is None, "one batch is outstanding at most"
        self.network.extend(ready.messages)
        member.reads.extend(ready.reads)
        member.unapplied.extend(ready.committed)
        if not member.slow_disk:
            self.finish_write(name)
        if not member.slow_apply:
            self.apply(name)
        return True

    def finish_write(self, name: NodeId) -> None:
        """Let the outstanding disk write of `name` become durable."""
        member = self.members[name]
        persist, member.writing = member.writing, None
        if persist is None:
            return
        self._check_batch(member, persist)
        member.storage.adopt(persist)
        if persist.snapshot is not None:
            self._install(member, persist.snapshot)
        self.act(name, lambda node: node.persisted(persist))

    def apply(self, name: NodeId) -> None:
        """Apply what was handed out to `name`."""
        member = self.members[name]
        entries, member.unapplied = member.unapplied, []
        for entry in entries:
            expected = member.applied[-1].index + 1 if member.applied else entry.index
            assert entry.index == expected, "R10: applied entries are consecutive"
            member.applied.append(entry)
        if entries:
            self.act(name, lambda node: node.applied(entries[-1].index))

    def deliver(self, message: Message) -> None:
        """Hand one message over, or lose it."""
        is_cut = (message.source, message.target) in self._cut
        if is_cut or message.type in self._dropped or message.target not in self.members:
            self.lost.append(message)
            return
        self.note_delivery(message)
        self.act(message.target, lambda node: node.step(replace(message)))

    def settle(self) -> None:
        """Carry on until nothing is left to do. Disks and state machines that are slow stay behind."""
        for _ in range(ROUNDS_MAX):
            busy = False
            for name in self.members:
                while self.pump(name):
                    busy = True
            messages, self.network = self.network, []
            for message in messages:
                self.deliver(message)
            if not busy and not messages:
                return
        raise AssertionError("the cluster does not settle")

    def _install(self, member: Member, snapshot: SnapshotMetadata) -> None:
        """Take over the snapshot's data: all that was ever committed up to its index."""
        committed = self.checker.committed
        member.applied = [Entry(each, *committed[each]) for each in range(1, snapshot.index + 1)]
        member.unapplied = []
        changes = [entry.data for entry in member.applied if entry.kind is EntryKind.CONFIGURATION]
        expected = decode(changes[-1]) if changes else snapshot.configuration
        assert snapshot.configuration == expected, "R12: a snapshot has the configuration as of its index"

    @staticmethod
    def _check_batch(member: Member, persist: Persist) -> None:
        old, new = member.storage.hard_state, persist.hard_state or member.storage.hard_state
        assert new.term >= old.term, "R1: the durable term never decreases"
        if new.term == old.term:
            assert old.vote in (None, new.vote), "R2: one durable vote a term"


def _check_promise(storage: MemoryLog, message: Message) -> None:
    """R9: what a message promises is durable when the message leaves."""
    kind = message.type
    hard_state = storage.hard_state
    if kind is MessageType.VOTE or (kind is MessageType.VOTE_RESPONSE and not message.reject):
        voted_for = message.source if kind is MessageType.VOTE else message.target
        assert hard_state.term >= message.term, "R9: a vote is durable before it leaves"
        if hard_state.term == message.term:
            assert hard_state.vote == voted_for, "R9: a vote is durable before it leaves"
    if kind is MessageType.APPEND_RESPONSE:
        assert hard_state.term >= message.term, "R9: a term is durable before it is acknowledged"
        if not message.reject:
            assert storage.last_index() >= message.index, (
                "R9: entries are durable before they are acknowledged"
            )


def log_of(node: RaftNode) -> list[tuple[Index, int]]:
    """Return (index, term) of every entry that `node` can read."""
    log = node.state.log
    return [(index, log.term(index)) for index in range(log.first_index(), log.last_index + 1)]


def stored(*terms: int, term: int | None = None) -> MemoryLog:
    """Return a disk whose log has entries of these terms from index 1 on, and that was last in `term`."""
    storage = MemoryLog([Entry(index, each) for index, each in enumerate(terms, 1)])
    storage.hard_state = HardState(term if term is not None else (terms[-1] if terms else 0))
    return storage

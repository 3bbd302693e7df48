"""One node on the bench: the test plays the other members, the disk is prompt unless told otherwise.

Rule of this file: it adds nothing to what the node says; `say` hands in, `hear` hands out.
"""

from __future__ import annotations

from collections.abc import Iterable

from coordsvc.raft.invariants import Observation, check_node, check_step, observe
from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.node import RaftConfig, RaftNode, Role
from coordsvc.raft.ready import Persist, ReadState
from coordsvc.raft.types import Configuration, Entry, HardState, Index, NodeId, SnapshotMetadata, Term
from tests.unit.raft.configuration_text import decode, encode
from tests.unit.raft.memory_log import MemoryLog

DEFAULTS = RaftConfig("a", pre_vote=False, check_quorum=False)


class Bench:
    """Node `a` among others. `roll` is what its dice show each time."""

    def __init__(
        self,
        voters: tuple[NodeId, ...] = ("a", "b", "c"),
        *,
        log: MemoryLog | None = None,
        config: RaftConfig = DEFAULTS,
        term: Term | None = None,
        vote: NodeId | None = None,
        commit: Index = 0,
        applied: Index | None = None,
        learners: tuple[NodeId, ...] = (),
        outgoing: tuple[NodeId, ...] = (),
        roll: int = 0,
    ) -> None:
        self.storage = log or MemoryLog()
        self.roll = roll
        self.writing: Persist | None = None
        self.batches: list[Persist] = []
        self.applied: list[Entry] = []
        self.reads: list[ReadState] = []
        self.node = RaftNode(
            config,
            self.storage,
            HardState(self.storage.hard_state.term if term is None else term, vote, commit),
            Configuration(voters, voters_outgoing=outgoing, learners=learners),
            self.storage.snapshot_index if applied is None else applied,
            lambda sides: min(self.roll, sides - 1),
            decode,
        )

    # --- inputs ----------------------------------------------------------------------------------

    def say(
        self,
        kind: MessageType,
        source: NodeId,
        *,
        term: Term | None = None,
        index: Index = 0,
        log_term: Term = 0,
        commit: Index = 0,
        entries: Iterable[Entry] = (),
        reject: bool = False,
        hint: Index = 0,
        context: int = 0,
        transfer: bool = False,
        snapshot: SnapshotMetadata | None = None,
        is_notice: bool = False,
    ) -> None:
        """Hand in a message from `source`, of the node's own term unless told otherwise."""
        self.step(
            Message(
                kind,
                source,
                "a",
                self.node.term if term is None else term,
                log_term,
                index,
                commit,
                list(entries),
                reject,
                hint,
                context,
                transfer,
                snapshot,
                is_notice,
            )
        )

    def step(self, message: Message) -> None:
        before = observe(self.node)
        self.node.step(message)
        self.check(before)

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            before = observe(self.node)
            self.node.tick()
            self.check(before)

    def propose(self, *data: bytes) -> Index:
        return self.node.propose(list(data))

    def change(self, text: str) -> Index:
        """Propose the configuration `text`."""
        before = observe(self.node)
        index = self.node.propose_configuration(text.encode())
        self.check(before)
        return index

    def configuration(self) -> str:
        """Return the configuration in force."""
        return encode(self.node.configuration).decode()

    def check(self, before: Observation) -> None:
        check_node(self.node)
        check_step(before, observe(self.node), self.node)

    # --- outputs ---------------------------------------------------------------------------------

    def hear(self, *kinds: MessageType, is_durable: bool = True) -> list[Message]:
        """Carry out what is ready, and return the messages that left, of these kinds only if any are named.

        With `is_durable=False` a disk write is begun and stays under way until `finish_write`.
        """
        heard: list[Message] = []
        while self.node.has_ready():
            ready = self.node.ready()
            heard += ready.messages
            self.reads += ready.reads
            self.applied += ready.committed
            if ready.persist is not None:
                assert self.writing is None, "one batch is outstanding at most"
                self.writing = ready.persist
                self.batches.append(ready.persist)
            if is_durable:
                self.finish_write()
            if ready.committed:
                self.node.applied(ready.committed[-1].index)
            check_node(self.node)
        return [message for message in heard if not kinds or message.type in kinds]

    def finish_write(self) -> None:
        """Let the disk write that is under way become durable."""
        persist, self.writing = self.writing, None
        if persist is not None:
            self.storage.adopt(persist)
            before = observe(self.node)
            self.node.persisted(persist)
            self.check(before)

    # --- ways to begin ---------------------------------------------------------------------------

    def follow(self, leader: NodeId, term: Term) -> None:
        """Hear from `leader` in `term`."""
        self.say(MessageType.HEARTBEAT, leader, term=term)
        self.hear()
        assert self.node.leader == leader

    def lead(self, *, acknowledged: bool = True) -> None:
        """Win an election; with `acknowledged`, every other member also has the first entry of the term."""
        self.node.campaign()
        self.hear()
        for voter in self.node.state.members.electorate:
            if self.node.role is Role.PRE_CANDIDATE:
                self.say(MessageType.PRE_VOTE_RESPONSE, voter, term=self.node.term + 1)
                self.hear()
        for voter in self.node.state.members.electorate:
            if self.node.role is Role.CANDIDATE and voter != "a":
                self.say(MessageType.VOTE_RESPONSE, voter)
        assert self.node.is_leader
        self.hear()
        if acknowledged:
            for follower in self.node.state.members.followers:
                self.acknowledge(follower.node)
            self.hear()

    def acknowledge(self, source: NodeId, index: Index | None = None) -> None:
        """Let `source` have everything up to `index`, or up to the end."""
        last = self.node.last_index if index is None else index
        self.say(MessageType.APPEND_RESPONSE, source, index=last)

    def append(
        self,
        source: NodeId,
        *entries: Entry,
        after: tuple[Index, Term] = (0, 0),
        commit: Index = 0,
        term: Term,
    ) -> None:
        """Hand in an append from the leader `source`, whose previous entry is `after`."""
        self.say(
            MessageType.APPEND,
            source,
            term=term,
            index=after[0],
            log_term=after[1],
            entries=entries,
            commit=commit,
        )

    def log(self) -> list[tuple[Index, Term]]:
        """Return (index, term) of every entry that can be read."""
        log = self.node.state.log
        return [(index, log.term(index)) for index in range(log.first_index(), log.last_index + 1)]


def snapshot_at(
    index: Index, term: Term, *voters: NodeId, learners: tuple[NodeId, ...] = ()
) -> SnapshotMetadata:
    return SnapshotMetadata(index, term, Configuration(voters or ("a", "b", "c"), learners=learners))
